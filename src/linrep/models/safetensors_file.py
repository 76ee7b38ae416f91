"""Tensors of a model folder read one at a time from safetensors, without torch and without reading the rest.

The format is a length, a JSON header and raw little-endian data, so the header is read here directly: that gives
bfloat16 without torch, one clear line for a damaged file, and a γ that is mapped from disk instead of copied.
This file knows nothing about models: names, shapes and numbers only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from linrep.errors import ModelFileError
from linrep.geometry.rows import StoredRows

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Bytes an entry. Other types (integers, 8-bit floats) are codes that need a scale: not weights as they stand.
_FLOAT_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


def read_json(path: Path) -> dict[str, Any]:
    """JSON object in a file of a model folder; `ModelFileError` when it is anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from e
    except ValueError as e:
        raise ModelFileError(f"{path}: not a JSON file ({e}); fetch it again") from e
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: a JSON object is needed, not a {type(content).__name__}")
    return content


@dataclass(frozen=True)
class TensorInfo:
    """Type, shape and place of one tensor, as the header says."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of one safetensors file, from its header alone.

    Raises
    ------
    ModelFileError
        When the file is foreign, truncated, or its header contradicts itself.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if size < 8 or length > size - 8:
                raise ModelFileError(f"{path}: not a safetensors file, or truncated ({size} bytes); fetch it again")
            return parse_header(f.read(length), size, path)
    except OSError as e:
        raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from e


def parse_header(text: bytes, size: int, path: Path) -> dict[str, TensorInfo]:
    """Every tensor of a safetensors file of `size` bytes, from the text of its header (see `read_header`)."""
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        data = 8 + len(text)
        tensors = {
            name: TensorInfo(path, t["dtype"], tuple(t["shape"]), data + t["data_offsets"][0])
            for name, t in header.items()
        }
        end = max((data + t["data_offsets"][1] for t in header.values()), default=0)
        lengths = {name: t["data_offsets"][1] - t["data_offsets"][0] for name, t in header.items()}
        wrong = [n for n, t in tensors.items() if t.dtype in _FLOAT_BYTES and tensor_bytes(n, t) != lengths[n]]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as e:
        raise ModelFileError(f"{path}: not a safetensors file (its header does not parse); fetch it again") from e
    if end > size:
        raise ModelFileError(f"{path}: truncated ({size} bytes of {end}); fetch it again")
    for name in wrong:
        t = tensors[name]
        raise ModelFileError(
            f"{path}: tensor {name!r} of shape {t.shape} and type {t.dtype} cannot have {lengths[name]} bytes"
        )
    return tensors


def tensor_bytes(name: str, info: TensorInfo) -> int:
    """Bytes of a tensor of plain floats; `ModelFileError` for one of codes, which need a scale."""
    if info.dtype not in _FLOAT_BYTES:
        raise ModelFileError(
            f"{info.file}: tensor {name!r} has type {info.dtype}, which is not a plain float "
            f"({', '.join(_FLOAT_BYTES)}); use the model before it was quantised, or its GGUF file"
        )
    return math.prod(info.shape) * _FLOAT_BYTES[info.dtype]


def read_tensor(name: str, info: TensorInfo) -> Float[np.ndarray, "..."]:
    """One tensor as float32 (float64 if stored so): a read-only map of the file, or an exact widening."""
    return _WIDEN[info.dtype](_mapped(name, info))


def read_rows(name: str, info: TensorInfo) -> Float[np.ndarray, "..."] | StoredRows:
    """The same, but a matrix of 16-bit numbers stays as it is in the file until rows of it are asked for."""
    mapped = _mapped(name, info)
    if mapped.ndim != 2 or info.dtype not in ("F16", "BF16"):
        return _WIDEN[info.dtype](mapped)
    return StoredRows(mapped, mapped.shape[1], _WIDEN[info.dtype])


def _mapped(name: str, info: TensorInfo) -> np.ndarray:
    """One tensor as it is stored, bfloat16 as whole numbers of 16 bits."""
    n_bytes = tensor_bytes(name, info)
    raw_type = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}[info.dtype]
    if not n_bytes:
        return np.zeros(info.shape, raw_type)  # an empty tensor cannot be mapped
    return np.asarray(np.memmap(info.file, raw_type, "r", info.start, info.shape))


def _bfloat16(stored: np.ndarray) -> np.ndarray:
    """The upper half of a float32."""
    return np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)


_WIDEN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "F64": lambda stored: stored,
    "F32": lambda stored: stored,
    "F16": lambda stored: stored.astype(np.float32),
    "BF16": _bfloat16,
}


@dataclass(frozen=True)
class SafetensorsFolder:
    """The tensors of a model folder, in one file or in shards with an index."""

    folder: Path

    @cached_property
    def files(self) -> Mapping[str, Path] | None:
        """File of each tensor as the index says, or None when the folder has a single file."""
        index = self.folder / INDEX
        if not index.is_file():
            return None
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
            raise ModelFileError(f"{index}: has no table 'weight_map' of tensor names to files")
        return {name: self.folder / file for name, file in weight_map.items()}

    @cached_property
    def _headers(self) -> dict[Path, dict[str, TensorInfo]]:
        return {}

    def _header(self, path: Path) -> dict[str, TensorInfo]:
        if path not in self._headers:
            if not path.is_file():
                raise ModelFileError(self._missing(path))
            self._headers[path] = read_header(path)
        return self._headers[path]

    def _missing(self, path: Path) -> str:
        if self.files is not None:
            return f"{self.folder}: shard {path.name!r} is missing though {INDEX} names it; fetch it again"
        if any(self.folder.glob("*.bin")) or any(self.folder.glob("*.pth")):
            return (
                f"{self.folder}: has only pickled weights (.bin), which can run code when read; "
                "save the model again as safetensors (save_pretrained does) and open that folder"
            )
        return f"{self.folder}: has no {SINGLE} and no {INDEX}; a model folder needs one of them"

    def info(self, name: str) -> TensorInfo | None:
        """Type, shape and place of a tensor, or None if the model has none of that name."""
        if self.files is None:
            return self._header(self.folder / SINGLE).get(name)
        if name not in self.files:
            return None
        info = self._header(self.files[name]).get(name)
        if info is None:
            raise ModelFileError(
                f"{self.files[name]}: lacks the tensor {name!r} that {INDEX} places there; fetch it again"
            )
        return info

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of some names that is a tensor of the model."""
        return next((name for name in names if self.info(name) is not None), None)

    def read(self, name: str) -> Float[np.ndarray, "..."]:
        """One tensor; only its own bytes are read."""
        return read_tensor(name, self._require(name))

    def rows(self, name: str) -> Float[np.ndarray, "..."] | StoredRows:
        """The same, or rows of it that are read when they are asked for (see `read_rows`)."""
        return read_rows(name, self._require(name))

    def _require(self, name: str) -> TensorInfo:
        info = self.info(name)
        if info is None:
            raise ModelFileError(f"{self.folder}: has no tensor {name!r}")
        return info
