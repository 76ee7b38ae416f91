"""γ of a large model: kept as it is stored, widened to floats only where rows are asked for.

A matrix of 128,000 tokens by 8,192 in 16 bits is 2 GB on disk and 8 GB as float64. The geometry needs its covariance,
which blocks of rows give, and the rows of some thousand words. This file must not know any storage format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

_ENTRIES = 8_000_000  # of one block: 64 MB as float64, whatever the width


@dataclass(frozen=True)
class StoredRows:
    """A matrix of which rows are read: ``rows[3]``, ``rows[[1, 5]]``, ``rows[10:20]`` are float arrays.

    ``numpy.asarray(rows)`` is the whole matrix; nothing here makes it.

    Parameters
    ----------
    stored
        One row of codes a token, as they are in the file (mapped, not read).
    dim
        Width of a row once it is widened.
    widen
        From rows of codes, shape (row, code), to floats, shape (row, dim).
    """

    stored: np.ndarray
    dim: int
    widen: Callable[[np.ndarray], np.ndarray]

    @property
    def shape(self) -> tuple[int, int]:
        """(tokens, dim)."""
        return len(self.stored), self.dim

    @property
    def ndim(self) -> int:
        """2, as for any matrix."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of the whole matrix as float32."""
        return 4 * len(self.stored) * self.dim

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: Any) -> Float[np.ndarray, "*rows dim"]:
        taken = self.stored[rows]
        return self.widen(taken.reshape(-1, self.stored.shape[1])).reshape(*taken.shape[:-1], self.dim)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def head(self, n: int) -> StoredRows:
        """The first rows, not widened."""
        return StoredRows(self.stored[:n], self.dim, self.widen)


# What takes γ takes either: rows are indexed, shape and length asked for. Type checkers see the array, so that users
# of small models, who always get one, need no case distinction.
if TYPE_CHECKING:
    Gamma = np.ndarray
else:
    Gamma = Float[np.ndarray, "token dim"] | StoredRows


def blocks(gamma: Gamma) -> Iterator[np.ndarray]:
    """Consecutive blocks of rows of about 64 MB, as float64 arrays of their own."""
    step = max(1, _ENTRIES // gamma.shape[1])
    for start in range(0, len(gamma), step):
        yield gamma[start : start + step].astype(np.float64)
