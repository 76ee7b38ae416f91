"""Real models: files (γ, vocabulary) without torch, and forward passes (λ, hidden states) through transformers.

`source.open_model` is the door. Only `transformers_model`, its hooks and
`steering` may import torch.
"""
