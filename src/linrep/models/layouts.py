"""Where each family of models keeps what linrep needs: one row of one table a family.

A new family is a new row, not new code. The rows are checked when a model runs: `transformers_model` refuses a
model whose logits are not cap(scale · λ·γ + bias) with the values found here. This file must not read a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from linrep.errors import ModelFileError


@dataclass(frozen=True)
class Layout:
    """Names of one family: tensors in the files, keys in ``config.json``, paths in the transformers model.

    Parameters
    ----------
    gguf
        ``general.architecture`` of its GGUF files; None where llama.cpp has no such family.
    embedding, output
        Names of the matrices W_E and W_U in safetensors files; the first that exists is taken.
    base, blocks, final_norm
        Attribute paths from the causal language model to the model without its output matrix, to the list
        of blocks, and to the norm after the last block (None there: this member of the family has none).
    projection
        Attribute path to the linear map between that norm and λ, where a family has one (None there: as above).
    width, n_layers
        Keys of ``config.json`` (``part.key`` for nested ones) that hold the width of λ and γ and the number of blocks.
    scale, cap
        Key of ``config.json`` that multiplies the logits, or caps them by cap·tanh(logits/cap), and the
        value transformers takes where the key is missing (a cap of 0 caps nothing).
    bias
        Name of the tensor that is added to the logits.
    """

    gguf: str | None
    embedding: tuple[str, ...] = ("model.embed_tokens.weight",)
    output: tuple[str, ...] = ("lm_head.weight",)
    base: str = "model"
    blocks: str = "model.layers"
    final_norm: str = "model.norm"
    projection: str | None = None
    width: str = "hidden_size"
    n_layers: str = "num_hidden_layers"
    scale: tuple[str, float] | None = None
    cap: tuple[str, float] | None = None
    bias: str | None = None


# model_type in config.json -> layout. llama.cpp writes Mistral models under the architecture "llama".
LAYOUTS: dict[str, Layout] = {
    "llama": Layout(gguf="llama"),
    "mistral": Layout(gguf="llama"),
    "qwen2": Layout(gguf="qwen2"),
    "qwen3": Layout(gguf="qwen3"),
    "gemma": Layout(gguf="gemma"),
    "gemma2": Layout(gguf="gemma2", cap=("final_logit_softcapping", 30.0)),
    "gemma3_text": Layout(gguf="gemma3", cap=("final_logit_softcapping", 0.0)),
    # With a vision tower beside the language model; names as published, and as newer versions save them.
    "gemma3": Layout(
        gguf="gemma3",
        embedding=("language_model.model.embed_tokens.weight", "model.language_model.embed_tokens.weight"),
        output=("language_model.lm_head.weight", "lm_head.weight"),
        base="model.language_model",
        blocks="model.language_model.layers",
        final_norm="model.language_model.norm",
        width="text_config.hidden_size",
        n_layers="text_config.num_hidden_layers",
    ),
    "olmo": Layout(gguf="olmo"),
    "olmo2": Layout(gguf="olmo2"),
    "smollm3": Layout(gguf="smollm3"),
    "phi3": Layout(gguf="phi3"),
    "opt": Layout(
        gguf=None,
        embedding=("model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        blocks="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
        projection="model.decoder.project_out",
        width="word_embed_proj_dim",
    ),
    "cohere": Layout(gguf="command-r", scale=("logit_scale", 0.0625)),
    "phi": Layout(gguf="phi2", final_norm="model.final_layernorm", bias="lm_head.bias"),
    "gpt2": Layout(
        gguf="gpt2",
        embedding=("transformer.wte.weight", "wte.weight"),
        base="transformer",
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        width="n_embd",
        n_layers="n_layer",
    ),
    "gpt_neox": Layout(
        gguf="gptneox",
        embedding=("gpt_neox.embed_in.weight",),
        output=("embed_out.weight", "lm_head.weight"),
        base="gpt_neox",
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
    ),
}


def _unknown(what: str, seen: str, known: Iterable[str], where: str) -> ModelFileError:
    return ModelFileError(
        f"{where}: no layout for the {what} {seen!r} (known: {', '.join(sorted(set(known)))}); add a row to LAYOUTS "
        "in linrep/models/layouts.py with the names of its embedding and output matrices, the paths to its blocks "
        "and final norm, and the config keys that scale or cap its logits"
    )


def layout_of(model_type: str, where: str) -> Layout:
    """Layout of a ``model_type``; `ModelFileError` says what to supply for one that is not in the table."""
    if model_type not in LAYOUTS:
        raise _unknown("model_type", model_type, LAYOUTS, where)
    return LAYOUTS[model_type]


def model_type_of_gguf(architecture: str, where: str) -> str:
    """``model_type`` of a GGUF ``general.architecture`` (the first family written under that name)."""
    for model_type, layout in LAYOUTS.items():
        if layout.gguf == architecture:
            return model_type
    raise _unknown("GGUF architecture", architecture, (x.gguf for x in LAYOUTS.values() if x.gguf), where)
