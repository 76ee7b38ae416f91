"""Which tokens name an assignment: all of them, or some missing, several synonyms, and tokens that name nothing.

    p(y|x) = (1 − ε) Σ_c p(c|d) s(y|c) for tokens that name an assignment, ε · zipf(y) for the others

This file knows no contexts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import generator


@dataclass(frozen=True)
class Vocabulary:
    """How tokens name assignments; the plain vocabulary has one token for each.

    Parameters
    ----------
    missing
        Share of the (reachable) assignments that no token names, chosen by the seed; p renormalises over the others.
    synonyms
        Tokens an assignment; their weights s(y|c) are drawn by the seed, uniform on the simplex, for each assignment.
    nuisance
        Number of tokens that name nothing and follow every context alike, with probabilities ∝ rank^(−zipf).
    nuisance_share
        ε, their share of all tokens in every context; used only if there are any.
    zipf
        Exponent of their probabilities.
    seed
        Of whatever is drawn.

    Raises
    ------
    InvalidInputError
        On a number outside its range.
    """

    missing: float = 0.0
    synonyms: int = 1
    nuisance: int = 0
    nuisance_share: float = 0.2
    zipf: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.missing < 1:
            raise InvalidInputError(f"the share of missing tokens is {self.missing}: it must lie in [0, 1)")
        if self.synonyms < 1:
            raise InvalidInputError(f"synonyms is {self.synonyms}: each assignment needs at least 1 token")
        if self.nuisance < 0:
            raise InvalidInputError(f"nuisance is {self.nuisance}: a number of tokens is at least 0")
        if not 0 < self.nuisance_share < 1:
            raise InvalidInputError(f"the nuisance share is {self.nuisance_share}: it must lie in (0, 1)")
        if not (math.isfinite(self.zipf) and self.zipf >= 0):
            raise InvalidInputError(f"the Zipf exponent is {self.zipf}: it must be a finite number of at least 0")

    @property
    def content_share(self) -> float:
        """1 − ε, the probability of a token that names an assignment."""
        return 1.0 - self.nuisance_share if self.nuisance else 1.0

    def named(self, reachable: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "..."]:
        """Which of the reachable assignments have tokens.

        Raises
        ------
        InvalidInputError
            If none is left.
        """
        if not self.missing:
            return reachable
        flat = np.flatnonzero(reachable)
        n_missing = round(self.missing * len(flat))
        if n_missing >= len(flat):
            raise InvalidInputError(f"missing = {self.missing} leaves no token of {len(flat)}: keep more")
        named = reachable.copy()
        named.ravel()[generator(self.seed).choice(flat, n_missing, replace=False)] = False
        return named

    def weights(self, n_named: int) -> Float64[np.ndarray, "assignment synonym"]:
        """s(y|c), rows sum to 1."""
        if self.synonyms == 1:
            return np.ones((n_named, 1))
        return np.random.default_rng([self.seed, 1]).dirichlet(np.ones(self.synonyms), size=n_named)

    def nuisance_probabilities(self) -> Float64[np.ndarray, "nuisance"]:
        """ε · zipf, what each nuisance token has in every context."""
        weights = np.arange(1, self.nuisance + 1, dtype=np.float64) ** -self.zipf
        return self.nuisance_share * weights / weights.sum() if self.nuisance else weights


PLAIN = Vocabulary()
