"""Checks that graphs, context laws and worlds share, so that each refusal has one wording.

An array that is too large is refused before it is allocated: the limit is on one array, and the callers keep
their temporary arrays of about the same size. This file must not allocate anything itself.
"""

from __future__ import annotations

import numpy as np

from linrep.errors import InvalidInputError

# Complete contexts fit up to 16 concepts, the dense p(token | context) of complete contexts up to 10.
MEMORY_LIMIT = 2**30


def check_memory(what: str, n_bytes: int, advice: str) -> None:
    """Raise `InvalidInputError` with the estimated size if an array would exceed `MEMORY_LIMIT` bytes."""
    if n_bytes > MEMORY_LIMIT:
        raise InvalidInputError(
            f"{what} would take {n_bytes / 2**30:.3g} GiB where at most {MEMORY_LIMIT / 2**30:g} GiB is allowed: "
            f"{advice}"
        )


def check_n_concepts(n_concepts: int) -> None:
    """Raise `InvalidInputError` unless there is at least one concept."""
    if n_concepts < 1:
        raise InvalidInputError(f"n_concepts is {n_concepts}: a world needs at least 1 concept")


def generator(seed: int) -> np.random.Generator:
    """NumPy's default generator of a seed, or one clear line on a negative seed."""
    if seed < 0:
        raise InvalidInputError(f"the seed is {seed}: it must be a whole number of at least 0")
    return np.random.default_rng(seed)
