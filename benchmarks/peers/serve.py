"""What every driver here shares: time one middle layer, then all, and save the states.

Run as ``python run_NAME.py FOLDER ANSWERS`` in the library's environment, with batches of texts as JSON on standard
input; the last line printed is the two CPU times in seconds.
"""

import json
import sys
import time

import numpy as np


def serve(extract, n_layers):
    """`extract(batches, layers)` gives states at the last token, (layer, text, width), numbered from 1."""
    batches, seconds, states = json.load(sys.stdin), [], []
    for layers in ([n_layers // 2], list(range(1, n_layers + 1))):
        extract(batches[-1:], layers)  # the warm-up
        start = time.process_time()
        states.append(extract(batches, layers))
        seconds.append(time.process_time() - start)
    np.savez(sys.argv[2], middle=states[0], all=states[1])
    print(json.dumps(seconds))
