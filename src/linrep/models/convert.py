"""A GGUF file of the LLaMA architecture rewritten once as an ordinary model folder, without torch.

Weights are dequantised exactly to float32, so the folder is the same model as the file; what the weights were is kept
in linrep.json. Everything in the file must be understood: a tensor or setting that has no place in the folder is an
error, never left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from linrep.errors import ModelFileError, StorageError
from linrep.models.gguf_file import GgufFile
from linrep.models.gguf_source import EMBEDDING, OUTPUT, quantisation_of, special_token, tokens_of
from linrep.models.registry import RECORD
from linrep.models.safetensors_file import SINGLE

Progress = Callable[[str, int, int], None]

_NAMES = {
    EMBEDDING: "model.embed_tokens.weight",
    OUTPUT: "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
}
_BLOCK_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}

# How llama.cpp's tokenizer.ggml.pre splits text before BPE. "smollm" splits off each digit first; transformers'
# own GGUF loader does not know it and splits runs of spaces before a digit differently.
_PRE_TOKENIZERS: dict[str, tuple[pre_tokenizers.PreTokenizer, ...]] = {
    "gpt-2": (),
    "smollm": (pre_tokenizers.Digits(individual_digits=True),),
}


def convert_gguf(file: Path, folder: Path, *, record: Mapping[str, str], progress: Progress | None = None) -> None:
    """Write config.json, model.safetensors, the tokenizer and linrep.json of a GGUF file into a folder.

    Parameters
    ----------
    file
        A GGUF file of architecture ``llama`` with a byte-level BPE tokenizer.
    folder
        An existing folder; files of the same names are replaced. linrep.json is written last.
    record
        What linrep.json says about the origin (package, licence, hash); the quantisation is added.
    progress
        Called with (stage, done, total).

    Raises
    ------
    ModelFileError
        When the file is damaged or holds something that has no place in the folder.
    StorageError
        When the folder cannot be written (disk full, not allowed).
    """
    gguf = GgufFile(file)
    config, tokenizer, tokenizer_config = _config(gguf), _tokenizer(gguf), _tokenizer_config(gguf)
    tensors = _tensors(gguf, progress or (lambda _stage, _done, _total: None))
    try:
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
        _write_json(folder / "config.json", config)
        tokenizer.save(str(folder / "tokenizer.json"))
        _write_json(folder / "tokenizer_config.json", tokenizer_config)
        _write_json(folder / RECORD, {**record, "quantisation": quantisation_of(gguf)})
    except (OSError, SafetensorError) as e:
        reason = getattr(e, "strerror", None) or e
        raise StorageError(f"cannot write the model to {folder}: {reason}; free space or choose another folder") from e


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _config(gguf: GgufFile) -> dict[str, Any]:
    """config.json in the keys that every version of transformers reads."""
    architecture = gguf.require("general.architecture")
    if architecture != "llama":
        raise ModelFileError(
            f"{gguf.path}: architecture {architecture!r} is not converted, only 'llama'; open the GGUF file itself"
        )
    if gguf.get("llama.rope.scaling.type") not in (None, "none"):
        raise ModelFileError(f"{gguf.path}: scaled rotary positions are not converted; open the GGUF file itself")
    width, heads = gguf.require("llama.embedding_length"), gguf.require("llama.attention.head_count")
    rows = gguf.tensors[EMBEDDING].shape[0] if EMBEDDING in gguf.tensors else 0
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": gguf.require("llama.feed_forward_length"),
        "num_hidden_layers": gguf.require("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": gguf.get("llama.attention.head_count_kv", heads),
        "head_dim": gguf.get("llama.rope.dimension_count", width // heads),
        "max_position_embeddings": gguf.require("llama.context_length"),
        "rope_theta": gguf.get("llama.rope.freq_base", 10000.0),
        "rms_norm_eps": gguf.require("llama.attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": OUTPUT not in gguf.tensors,
        "vocab_size": rows,
        "bos_token_id": gguf.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": gguf.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "float32",
    }


def _tensors(gguf: GgufFile, progress: Progress) -> dict[str, Float[np.ndarray, "..."]]:
    """Every tensor, dequantised, under its name in the folder."""
    heads = gguf.require("llama.attention.head_count")
    heads_of = {"attn_q.weight": heads, "attn_k.weight": gguf.get("llama.attention.head_count_kv", heads)}
    n_layers, total = gguf.require("llama.block_count"), len(gguf.tensors)
    wanted = {EMBEDDING, "output_norm.weight"} | {
        f"blk.{layer}.{part}" for layer in range(n_layers) for part in _BLOCK_NAMES
    }
    if odd := sorted((wanted ^ set(gguf.tensors)) - {OUTPUT}):
        raise ModelFileError(
            f"{gguf.path}: tensors missing or without a place in a llama folder: {', '.join(odd[:4])} "
            f"({len(odd)} in all); fetch it again, or open the GGUF file itself"
        )
    tensors = {}
    for done, name in enumerate(gguf.tensors):
        progress("convert", done, total)
        part = name.removeprefix("blk.").partition(".")[2]
        tensor = gguf.read(name)
        if part in heads_of:
            tensor = _undo_rope_permutation(tensor, heads_of[part])
        layer = name.split(".")[1]
        folder_name = _NAMES.get(name) or f"model.layers.{layer}.{_BLOCK_NAMES[part]}"
        tensors[folder_name] = np.ascontiguousarray(tensor)
    progress("convert", total, total)
    return tensors


def _undo_rope_permutation(weight: Float[np.ndarray, "out in"], heads: int) -> Float[np.ndarray, "out in"]:
    """Query or key rows in the order of transformers.

    llama.cpp turns neighbouring rows (2i, 2i+1) of a head together, transformers rows i and i + half: the
    rows of each head are stored interleaved and are put back into halves here.
    """
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, weight.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _tokenizer(gguf: GgufFile) -> Tokenizer:
    """The tokenizer, rebuilt from the tokens and merges of the header."""
    model, pre = gguf.require("tokenizer.ggml.model"), gguf.get("tokenizer.ggml.pre", "gpt-2")
    if model != "gpt2" or pre not in _PRE_TOKENIZERS:
        raise ModelFileError(
            f"{gguf.path}: tokenizer {model!r} with pre-tokenizer {pre!r} is not converted, only 'gpt2' with "
            f"{', '.join(_PRE_TOKENIZERS)}; open the GGUF file itself"
        )
    tokens, kinds = tokens_of(gguf)
    merges = [tuple(merge.split(" ")) for merge in gguf.require("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*_PRE_TOKENIZERS[pre], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control, added = 3, 4
    for kind in (control, added):
        named = [t for t, k in zip(tokens, kinds, strict=True) if k == kind]
        entries = [AddedToken(t, special=kind == control, normalized=False) for t in named]
        (tokenizer.add_special_tokens if kind == control else tokenizer.add_tokens)(entries)
    bos = special_token(gguf, "bos")
    if bos is not None and gguf.get("tokenizer.ggml.add_bos_token", False):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokens.index(bos))]
        )
    return tokenizer


def _tokenizer_config(gguf: GgufFile) -> dict[str, Any]:
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {key: special_token(gguf, role) for key, role in roles.items()}
    template = gguf.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf.require("llama.context_length"),
        **{key: token for key, token in named.items() if token is not None},
        **({"chat_template": template} if template is not None else {}),
    }
