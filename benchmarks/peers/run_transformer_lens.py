"""TransformerLens: its bridge around the transformers model, a cache of hooks, stopped early where it can be."""

import sys

import numpy as np
import torch
from serve import serve
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer

model = TransformerBridge.boot_transformers(sys.argv[1], device="cpu")
# Its own tokenizer is made to put a beginning-of-text token first, which this model was not trained with.
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], padding_side="right")


@torch.inference_mode()
def extract(batches, layers):
    parts = []
    names = [f"blocks.{k - 1}.hook_out" for k in layers]
    stop = max(layers) if max(layers) < model.cfg.n_layers else None
    for batch in batches:
        encoded = tokenizer(batch, padding=True, return_tensors="pt")
        mask = encoded["attention_mask"]
        _, cache = model.run_with_cache(
            encoded["input_ids"], attention_mask=mask, names_filter=names, stop_at_layer=stop, return_type=None
        )
        at = torch.arange(len(batch)), mask.sum(dim=1) - 1
        parts.append(np.stack([cache[name][at].numpy() for name in names]))
    return np.concatenate(parts, axis=1)


serve(extract, model.cfg.n_layers)
