"""Real models: files (γ, vocabulary) without torch, and forward passes (λ, hidden states) through transformers.

`source.open_model` is the door. Only `transformers_model` may import torch or transformers.
"""
