"""One place that decides which exact arrays are too large, so that every refusal comes before the allocation.

The limit is on one array; the callers keep their temporary arrays below twice that. This file must not
allocate anything.
"""

from __future__ import annotations

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
