"""A model folder as transformers writes it: config.json, safetensors weights, a tokenizer.

Only the header, the tokenizer and the matrix asked for are read. This file must not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from linrep.errors import ModelFileError
from linrep.geometry.rows import StoredRows
from linrep.models.registry import RECORD
from linrep.models.safetensors_file import SafetensorsFolder, read_json
from linrep.models.source import AbstractModelSource
from linrep.models.vocabulary import Vocabulary, read_vocabulary


@dataclass(frozen=True)
class FolderSource(AbstractModelSource):
    """A folder with config.json, safetensors weights and a tokenizer."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return read_json(self.path / "config.json")

    @cached_property
    def _record(self) -> dict[str, Any]:
        """What `linrep get` noted about the folder; empty for a folder of other origin."""
        path = self.path / RECORD
        return read_json(path) if path.is_file() else {}

    @cached_property
    def _tensors(self) -> SafetensorsFolder:
        return SafetensorsFolder(self.path)

    @property
    def _model_type(self) -> str:
        return str(self.config.get("model_type"))

    @property
    def _width(self) -> int:
        return self._config_int(self.layout.width)

    def _config_int(self, key: str) -> int:
        part: Any = self.config
        *parents, last = key.split(".")
        for parent in parents:
            part = part.get(parent) if isinstance(part.get(parent), dict) else {}
        value = part.get(last)
        if not isinstance(value, int):
            raise ModelFileError(f"{self.path / 'config.json'}: {key!r} must be a whole number, not {value!r}")
        return value

    @property
    def _output_name(self) -> str | None:
        name = self._tensors.first(self.layout.output)
        if name is None and self.config.get("tie_word_embeddings") is False:
            raise ModelFileError(
                f"{self.path}: config.json says the output matrix is not tied, but the weights have none "
                f"({', '.join(self.layout.output)}); fetch the model again"
            )
        return name

    @property
    def _embedding_name(self) -> str | None:
        return self._tensors.first(self.layout.embedding)

    def _rows(self, name: str) -> Float[np.ndarray, "..."] | StoredRows:
        return self._tensors.rows(name)

    def _read_vocabulary(self) -> Vocabulary:
        return read_vocabulary(self.path)

    def _storage(self) -> dict[str, str | int | float | bool]:
        scale, cap, bias = self.layout.scale, self.layout.cap, self.layout.bias
        cap_value = self.config.get(*cap) if cap else None
        tokenizer_path = self.path / "tokenizer_config.json"
        tokenizer = read_json(tokenizer_path) if tokenizer_path.is_file() else {}
        bos = tokenizer.get("bos_token")
        template = (self.path / "chat_template.jinja").is_file() or bool(tokenizer.get("chat_template"))
        return {
            "format": "safetensors",
            "quantisation": self._quantisation(),
            "n_layers": self._config_int(self.layout.n_layers),
            "bos_token": str((bos["content"] if isinstance(bos, dict) else bos) or "none"),
            "chat_template": template,
            "logit_scale": float(self.config.get(*scale)) if scale else 1.0,
            "logit_cap": float(cap_value) if cap_value else "none",
            "logit_bias": bias is not None
            and (self._tensors.info(bias) is not None or self._record.get("logit_bias") is True),
            **({"partial": self._partial, "revision": str(self._record.get("revision"))} if self._partial else {}),
        }

    @property
    def _partial(self) -> str:
        """What part of the model the folder holds, or nothing if it is whole."""
        return str(self._record.get("partial", ""))

    def _tied(self) -> bool | str:
        # With one matrix there are no values to compare; what the other files list was noted when it was fetched.
        return self._record["tied"] if self._partial and "tied" in self._record else super()._tied()

    def why_not_run(self) -> str | None:
        """Why these files cannot run though γ can be read."""
        if not self._partial:
            return None
        return f"only a part of the model was fetched ({self._partial}); linrep get {self.name} fetches all of it"

    def _quantisation(self) -> str:
        if stored := self._record.get("quantisation"):
            return str(stored)
        name = self._output_name or self._embedding_name
        info = self._tensors.info(name) if name else None
        output = info.dtype if info else "no"
        method = (self.config.get("quantization_config") or {}).get("quant_method")
        return f"{method} body, {output} output" if method else output
