"""A model in a GGUF file (or its parts), dequantised as it is read.

The names of the tensors and header keys are those of llama.cpp. This file must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from linrep.errors import ModelFileError
from linrep.geometry.rows import StoredRows
from linrep.models.gguf_file import GgufFile
from linrep.models.layouts import model_type_of_gguf
from linrep.models.source import AbstractModelSource
from linrep.models.vocabulary import Vocabulary, gguf_tokens, vocabulary_of_gguf

OUTPUT, EMBEDDING = "output.weight", "token_embd.weight"


@dataclass(frozen=True)
class GgufSource(AbstractModelSource):
    """One GGUF file, or the first of several parts."""

    @cached_property
    def header(self) -> GgufFile:
        """The open file."""
        return GgufFile(self.path)

    @property
    def _architecture(self) -> str:
        return str(self.header.require("general.architecture"))

    @property
    def _model_type(self) -> str:
        return model_type_of_gguf(self._architecture, str(self.path))

    @property
    def _width(self) -> int:
        return int(self.header.require(f"{self._architecture}.embedding_length"))

    @property
    def _output_name(self) -> str | None:
        return OUTPUT if OUTPUT in self.header.tensors else None

    @property
    def _embedding_name(self) -> str | None:
        return EMBEDDING if EMBEDDING in self.header.tensors else None

    def _rows(self, name: str) -> Float[np.ndarray, "..."] | StoredRows:
        return self.header.rows(name)

    def _read_vocabulary(self) -> Vocabulary:
        model, pre = self.header.require("tokenizer.ggml.model"), self.header.get("tokenizer.ggml.pre")
        return vocabulary_of_gguf(*tokens_of(self.header), model, pre, str(self.path))

    def why_not_run(self) -> str | None:
        """Why these files cannot run though γ can be read."""
        if self.header.n_parts == 1:
            return None
        return (
            f"its weights are in {self.header.n_parts} GGUF files and transformers reads one; "
            "merge them (llama-gguf-split --merge)"
        )

    def _storage(self) -> dict[str, str | int | float | bool]:
        get, architecture = self.header.get, self._architecture
        cap = get(f"{architecture}.final_logit_softcapping")
        return {
            "format": "GGUF",
            "quantisation": quantisation_of(self.header),
            "n_layers": int(self.header.require(f"{architecture}.block_count")),
            "bos_token": special_token(self.header, "bos") or "none",
            "chat_template": get("tokenizer.chat_template") is not None,
            "logit_scale": float(get(f"{architecture}.logit_scale", 1.0)),
            "logit_cap": float(cap) if cap else "none",
            "logit_bias": "output.bias" in self.header.tensors,
        }


def tokens_of(file: GgufFile) -> tuple[list[str], list[int]]:
    """Tokens and token types of the header, without padding."""
    return gguf_tokens(file.require("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.token_type"), str(file.path))


def special_token(file: GgufFile, role: str) -> str | None:
    """Token of a role (bos, eos, unknown, padding), or None if the header names none."""
    row = file.get(f"tokenizer.ggml.{role}_token_id")
    tokens, _ = tokens_of(file)
    if row is not None and not 0 <= row < len(tokens):
        raise ModelFileError(f"{file.path}: the {role} token is row {row} of {len(tokens)}; fetch it again")
    return None if row is None else tokens[row]


def quantisation_of(file: GgufFile) -> str:
    """Types of the weights, such as "Q4_1 body, Q8_0 output" (vectors, which stay float, do not count)."""
    blocks = [t for name, t in file.tensors.items() if name.startswith("blk.") and len(t.shape) > 1]
    body = "/".join(sorted({t.quantisation for t in blocks})) or "no"
    output = file.tensors.get(OUTPUT) or file.tensors.get(EMBEDDING)
    seen = output.quantisation if output else "no"
    return seen if body == seen else f"{body} body, {seen} output"
