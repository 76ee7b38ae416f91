"""The arrays a model is to the geometry: unembeddings γ, embeddings λ, hidden states.

This file says what is stored and checks it. It must not know how a model was trained or read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from linrep.errors import InvalidInputError
from linrep.geometry.rows import Gamma, StoredRows, blocks


def _checked_matrix(name: str, array: Any, rows: str) -> Gamma:
    """Return `array` as a finite real matrix in its own float type, or raise one clear line."""
    if isinstance(array, StoredRows) and 0 not in array.shape:
        stored = cast(Gamma, array)
        if not all(np.isfinite(block.sum()) for block in blocks(stored)):
            raise InvalidInputError(f"{name} has NaN or infinite values: fetch the file again")
        return stored
    matrix = np.asarray(array)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InvalidInputError(
            f"{name} must be a non-empty matrix of shape ({rows}, dim), not shape {matrix.shape}; "
            "pass one seed or snapshot at a time"
        )
    if not np.issubdtype(matrix.dtype, np.floating):
        if np.issubdtype(matrix.dtype, np.complexfloating):
            raise InvalidInputError(f"{name} must hold real numbers, not {matrix.dtype}")
        try:
            matrix = matrix.astype(np.float64)
        except (TypeError, ValueError):
            raise InvalidInputError(f"{name} must hold real numbers, not {matrix.dtype}") from None
    # One pass without a mask of the whole matrix: a sum is finite only if every entry is (up to overflow,
    # which the second look rules out).
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(matrix.sum(dtype=np.float64))
    if suspicious and not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise InvalidInputError(
            f"{name} has NaN or infinite values, first in row {row}: "
            "the weights are damaged or the training diverged; measure an earlier snapshot or fetch the file again"
        )
    return matrix


@dataclass(frozen=True)
class Representations:
    """What a predictor knows, as arrays; logits are ``embeddings @ unembeddings.T``.

    Built from any arrays: ``Representations(unembeddings=W_U)`` is enough for everything that needs only
    word pairs. Arrays keep the float type they come in; the geometry computes in float64.

    Parameters
    ----------
    unembeddings
        γ, one row a token, as stored by the model (never folded or centred). Of large models it can be
        `StoredRows`, which are widened where they are indexed; ``numpy.asarray`` makes the whole matrix of them.
    embeddings
        λ, one row a context: the vector that meets γ (after any final norm).
    hidden_states
        Residual stream by layer: 0 is the input embedding, k the output of block k before the final norm.
    tokens
        What each token looks like in running text, leading space included (``" king"``).
    token_frequency
        Any increasing function of how frequent each token is: exact p(y) in a simulated world, minus the
        log rank in the vocabulary for a BPE model. Matched nulls use its order only.
    contexts
        The text (or the label) of each context.
    provenance
        Where the arrays come from, quantisation, tying: copied into every table.

    Raises
    ------
    InvalidInputError
        On a wrong shape, a non-finite value, or widths and lengths that do not agree.

    Examples
    --------
    >>> import numpy as np
    >>> r = Representations(unembeddings=np.eye(3), tokens=(" a", " b", " c"))
    >>> r.dim, r.n_tokens
    (3, 3)
    """

    unembeddings: Gamma
    embeddings: Float[np.ndarray, "context dim"] | None = None
    hidden_states: Mapping[int, Float[np.ndarray, "context width"]] = field(default_factory=dict)
    tokens: tuple[str, ...] | None = None
    token_frequency: Float[np.ndarray, "token"] | None = None
    contexts: tuple[str, ...] | None = None
    provenance: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "unembeddings", _checked_matrix("unembeddings", self.unembeddings, "token"))
        if self.tokens is not None:
            put(self, "tokens", tuple(self.tokens))
            self._check_length("tokens", len(self.tokens or ()), self.n_tokens)
        if self.token_frequency is not None:
            frequency = np.asarray(self.token_frequency, dtype=np.float64)
            if frequency.ndim != 1 or np.isnan(frequency).any():
                raise InvalidInputError(
                    f"token_frequency must be one number a token without NaN, not {frequency.shape}"
                )
            self._check_length("token_frequency", len(frequency), self.n_tokens)
            put(self, "token_frequency", frequency)
        if self.embeddings is not None:
            embeddings = _checked_matrix("embeddings", self.embeddings, "context")
            if embeddings.shape[1] != self.dim:
                raise InvalidInputError(
                    f"embeddings have width {embeddings.shape[1]} but unembeddings have {self.dim}: "
                    "λ is the vector that meets γ, after any final norm and output projection"
                )
            put(self, "embeddings", embeddings)
        states = {int(k): _checked_matrix(f"hidden state {k}", v, "context") for k, v in self.hidden_states.items()}
        put(self, "hidden_states", states)
        if self.embeddings is not None:
            for k, state in states.items():
                self._check_length(f"hidden state {k} (against embeddings)", len(state), len(self.embeddings))
        if self.contexts is not None:
            put(self, "contexts", tuple(self.contexts))
            for name, rows in [
                ("embeddings", self.embeddings),
                *((f"hidden state {k}", v) for k, v in states.items()),
            ]:
                if rows is not None:
                    self._check_length(f"contexts (against {name})", len(self.contexts or ()), len(rows))

    @staticmethod
    def _check_length(name: str, seen: int, wanted: int) -> None:
        if seen != wanted:
            raise InvalidInputError(f"{name} has {seen} entries where {wanted} are needed, one a row")

    @property
    def n_tokens(self) -> int:
        """Number of tokens, the rows of γ."""
        return self.unembeddings.shape[0]

    @property
    def dim(self) -> int:
        """Width of λ and γ."""
        return self.unembeddings.shape[1]
