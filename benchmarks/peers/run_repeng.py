"""repeng: the function its training of control vectors takes hidden states from; it numbers blocks from 0."""

import sys

import numpy as np
import torch
from repeng import ControlModel
from repeng.extract import batched_get_hiddens
from serve import serve
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
plain = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
n_layers = plain.config.num_hidden_layers
model = ControlModel(plain, list(range(n_layers)))


def extract(batches, layers):
    texts = [text for batch in batches for text in batch]
    states = batched_get_hiddens(model, tokenizer, texts, [k - 1 for k in layers], len(batches[0]))
    return np.stack(list(states.values()))


serve(extract, n_layers)
