"""nnsight: a trace that saves the outputs of blocks at the last token, stopped after the last of them."""

import sys

import numpy as np
import torch
from nnsight.modeling.transformers import TransformersModel
from serve import serve

model = TransformersModel(sys.argv[1], task="text-generation", dispatch=True)
n_layers = model.config.num_hidden_layers


@torch.no_grad()
def extract(batches, layers):
    parts = []
    for batch in batches:
        with model.trace(batch) as tracer:
            # It pads on the left, so that the last token is the last of the row.
            saved = [model.model.layers[k - 1].output[:, -1] for k in layers].save()
            tracer.stop()
        parts.append(np.stack([value.numpy() for value in saved]))
    return np.concatenate(parts, axis=1)


serve(extract, n_layers)
