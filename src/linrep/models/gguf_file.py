"""GGUF files read without torch: header values and single tensors, dequantised to float32.

The header is walked here directly because the `gguf` package's reader makes an object of every token of the
vocabulary. Strings of large arrays are stepped over and decoded only when asked for. The package does the
dequantisation. This file knows the format and nothing about models.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from jaxtyping import Float

from linrep.errors import ModelFileError
from linrep.geometry.rows import StoredRows

# struct format of each scalar value type of the header; 8 is a string and 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class GgufTensor:
    """Type, shape (rows first) and place of one tensor."""

    quantisation: str
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class _Array:
    """An array of the header that has been stepped over: where it starts and what it holds."""

    kind: int
    length: int
    start: int


class _Cursor:
    """Reads the header front to back; every read past the end is a truncated file."""

    def __init__(self, data: mmap.mmap, start: int) -> None:
        self.data, self.at = data, start

    def scalar(self, kind: int) -> Any:
        (value,) = struct.unpack_from("<" + _SCALARS[kind], self.data, self.at)
        self.at += struct.calcsize("<" + _SCALARS[kind])
        return value

    def skip_string(self) -> None:
        (length,) = struct.unpack_from("<Q", self.data, self.at)
        self.at += 8 + length
        if self.at > len(self.data):
            raise struct.error("string runs past the end")

    def string(self) -> str:
        start = self.at + 8
        self.skip_string()
        return self.data[start : self.at].decode("utf-8")

    def value(self) -> Any:
        kind = self.scalar(4)
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(kind)
        item, length = self.scalar(4), self.scalar(10)
        array = _Array(item, length, self.at)
        if item == _STRING:
            for _ in range(length):
                self.skip_string()
        else:
            self.at += length * struct.calcsize("<" + _SCALARS[item])
        return array


class GgufFile:
    """One open GGUF model (version 2 or 3, little-endian), in one file or in the parts llama.cpp splits it into.

    Parameters
    ----------
    path
        The file; of a model in parts the first, ``NAME-00001-of-00003.gguf``, which holds the header keys.
    part
        Whether this file is opened as a later part of another.

    Raises
    ------
    ModelFileError
        When the file is foreign, of another version, truncated or inconsistent, or a part is missing.
    """

    def __init__(self, path: Path, *, part: bool = False) -> None:
        self.path = path
        try:
            with path.open("rb") as f:
                start = f.read(8)
                self._check_start(start, path.stat().st_size)
                self._data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as e:
            raise ModelFileError(f"{path}: cannot be read ({e.strerror or e})") from e
        try:
            self._values, self.tensors = self._read_header()
        except (struct.error, ArithmeticError, KeyError, TypeError, ValueError) as e:
            raise ModelFileError(f"{path}: truncated or damaged: its header does not parse; fetch it again") from e
        self._check_tensors()
        self._home: dict[str, GgufFile] = {}  # tensors that are in later parts
        self.n_parts = int(self.get("split.count", 0)) or 1
        if self.n_parts > 1 and not part:
            self._join_parts()

    def _join_parts(self) -> None:
        """Open the later parts, and list their tensors beside those of this file."""
        named = _PART.fullmatch(self.path.name)
        if named is None or int(named[3]) != self.n_parts:
            raise ModelFileError(
                f"{self.path}: one of {self.n_parts} parts, but not named NAME-00001-of-{self.n_parts:05}.gguf; "
                "give the parts their names back or merge them (llama-gguf-split --merge)"
            )
        files = [self.path.with_name(f"{named[1]}-{i:05}-of-{named[3]}.gguf") for i in range(1, self.n_parts + 1)]
        if self.path != files[0]:
            raise ModelFileError(f"{self.path}: part {int(named[2])} of {self.n_parts}; open the first, {files[0]}")
        for number, file in enumerate(files):
            if not file.is_file():
                raise ModelFileError(f"{file}: this part of {self.n_parts} is missing; fetch it again")
            part = self if number == 0 else GgufFile(file, part=True)
            if (part.get("split.no"), part.n_parts) != (number, self.n_parts):
                raise ModelFileError(
                    f"{file}: its header says part {part.get('split.no')} of {part.n_parts} (counted from 0), "
                    f"not {number} of {self.n_parts}: it belongs to another model"
                )
            if number:
                self._home |= dict.fromkeys(part.tensors, part)
        total = len(self.tensors) + len(self._home)
        self.tensors |= {name: part.tensors[name] for name, part in self._home.items()}
        stated = self.get("split.tensors.count", total)
        if not len(self.tensors) == total == stated:
            raise ModelFileError(
                f"{self.path}: its parts have {len(self.tensors)} different tensors, not {stated}: "
                "they belong to different models"
            )

    def _check_start(self, start: bytes, size: int) -> None:
        if start[:4] != b"GGUF":
            raise ModelFileError(f"{self.path}: not a GGUF file (starts with {start[:4]!r}, not b'GGUF'; {size} bytes)")
        version = int.from_bytes(start[4:8], "little")
        if version not in (2, 3):
            big = int.from_bytes(start[4:8], "big") in (2, 3)
            seen = "big-endian data" if big else f"version {version}"
            raise ModelFileError(
                f"{self.path}: GGUF with {seen}; little-endian versions 2 and 3 are read: convert it again"
            )

    def _read_header(self) -> tuple[dict[str, Any], dict[str, GgufTensor]]:
        cursor = _Cursor(self._data, 8)
        n_tensors, n_values = cursor.scalar(10), cursor.scalar(10)
        values = {cursor.string(): cursor.value() for _ in range(n_values)}
        found = []
        for _ in range(n_tensors):
            name = cursor.string()
            shape = tuple(cursor.scalar(10) for _ in range(cursor.scalar(4)))[::-1]
            kind, offset = cursor.scalar(4), cursor.scalar(10)
            found.append((name, kind, shape, offset))
        step = int(values.get("general.alignment", 32))
        data = -(-cursor.at // step) * step
        return values, {
            name: GgufTensor(self._type_name(kind), shape, data + offset) for name, kind, shape, offset in found
        }

    @staticmethod
    def _type_name(kind: int) -> str:
        try:
            return GGMLQuantizationType(kind).name
        except ValueError:
            return f"type {kind}"

    def _check_tensors(self) -> None:
        for name, tensor in self.tensors.items():
            if tensor.quantisation not in GGMLQuantizationType.__members__:
                continue  # refused by name when it is read; other tensors are fine
            if tensor.start + self._n_bytes(name) > len(self._data):
                raise ModelFileError(
                    f"{self.path}: truncated ({len(self._data)} bytes): tensor {name!r} runs past the end; "
                    "fetch it again"
                )

    def _n_bytes(self, name: str) -> int:
        tensor = self.tensors[name]
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[tensor.quantisation]]
        if not tensor.shape or tensor.shape[-1] % block:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} of shape {tensor.shape} cannot be {tensor.quantisation} "
                f"(rows must be a multiple of {block})"
            )
        return math.prod(tensor.shape) // block * size

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a header key; an array is decoded now. `default` if the file has no such key."""
        value = self._values.get(key, default)
        if not isinstance(value, _Array):
            return value
        cursor = _Cursor(self._data, value.start)
        try:
            if value.kind == _STRING:
                return [cursor.string() for _ in range(value.length)]
            numbers = "<" + _SCALARS[value.kind]
            return np.frombuffer(self._data, np.dtype(numbers), value.length, value.start).tolist()
        except (UnicodeDecodeError, ValueError) as e:
            raise ModelFileError(f"{self.path}: header key {key!r} does not decode ({e}); fetch it again") from e

    def require(self, key: str) -> Any:
        """Value of a header key that must be there."""
        value = self.get(key)
        if value is None:
            raise ModelFileError(f"{self.path}: the header lacks {key!r}; is it a language model?")
        return value

    def read(self, name: str) -> Float[np.ndarray, "..."]:
        """One tensor as float32 (float64 if stored so); only its own bytes are read."""
        rows = self.rows(name)
        return rows if isinstance(rows, np.ndarray) else rows[:].reshape(self.tensors[name].shape)

    def rows(self, name: str) -> Float[np.ndarray, "..."] | StoredRows:
        """The same, but dequantised only where rows are asked for (all axes but the last count as rows)."""
        if name not in self.tensors:
            raise ModelFileError(f"{self.path}: has no tensor {name!r}")
        if name in self._home:
            return self._home[name].rows(name)
        tensor = self.tensors[name]
        kind = GGMLQuantizationType.__members__.get(tensor.quantisation)
        if kind is None:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} has {tensor.quantisation}, unknown to the gguf package; upgrade it"
            )
        raw = np.frombuffer(self._data, np.uint8, self._n_bytes(name), tensor.start)
        if kind in _PLAIN or not raw.size:
            return raw.view(_PLAIN.get(kind, np.float32)).reshape(tensor.shape)
        rows = StoredRows(raw.reshape(math.prod(tensor.shape[:-1]), -1), tensor.shape[-1], partial(_dequantised, kind))
        try:
            rows[:1]
        except NotImplementedError as e:
            raise ModelFileError(
                f"{self.path}: tensor {name!r} is {tensor.quantisation}, which the gguf package cannot dequantise; "
                "use the file in another quantisation (F16, Q8_0)"
            ) from e
        return rows


# Types that are numbers as they stand.
_PLAIN = {GGMLQuantizationType.F64: np.float64, GGMLQuantizationType.F32: np.float32}


def _dequantised(kind: GGMLQuantizationType, codes: np.ndarray) -> np.ndarray:
    return dequantize(np.ascontiguousarray(codes), kind)
