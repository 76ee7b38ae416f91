"""Exact samples of (context, token) of worlds whose contexts cannot be enumerated, and what they cost at the least.

Only the joint p(c) is held, 8 MiB for 20 binary concepts: neither the contexts, nor their normalisers, nor any row of
p(y|x) over all tokens. This file must not know predictors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import check_memory
from linrep.worlds.contexts import UNKNOWN
from linrep.worlds.hierarchy import Hierarchy
from linrep.worlds.vocabulary import PLAIN
from linrep.worlds.world import World

_CHUNK_ENTRIES = 2**20  # of the assignments that are looked at together: a few arrays of 8 MiB
# Contexts that leave more assignments open than this try tokens of p(c) first; 2^12 are summed in about 30 µs.
_WIDE = 2**12
_TRIES = 32


@dataclass(frozen=True, eq=False)
class WorldSampler:
    """Draws contexts d of the law, tokens c of p(c | d), and the entropy H(Y|d) of what was drawn.

    *Contexts*: complete and masked contexts have independent symbols. At most k known: first the number of known
    concepts, in proportion to the number of such contexts, then concept after concept whether it is known given how
    many are left (ratios of elementary symmetric polynomials of the K_i), then its value. Kept contexts are drawn
    from their list, which must fit in memory.

    *Tokens*: inverse distribution function over the assignments that agree with d,

        c = the first agreeing assignment with Σ_{c' ≤ c, c' agrees} p(c') > u Z(d),   u uniform on [0, 1),

    all contexts with equally many open assignments at once. With complete contexts that is (4/3)^m assignments a
    context on average, 315 at m = 20. Contexts that leave thousands open instead try up to 32 tokens of p(c) and take
    the first that agrees, which has the law p(c | d) however many tries it took; what is left is drawn as above. So
    both ways, and their mixture, are exact.

    Parameters
    ----------
    world
        With the plain vocabulary and without a hierarchy: every assignment has one token, whose number is its position
        in ``graph.joint().ravel()``.

    Raises
    ------
    InvalidInputError
        On another vocabulary, a hierarchy, a joint that does not fit in memory, or kept contexts whose list does not.

    Examples
    --------
    >>> import numpy as np
    >>> from linrep import ConceptGraph, ContextLaw, World
    >>> sampler = WorldSampler(World(ConceptGraph.chain(20), ContextLaw.complete()))
    >>> contexts, tokens = sampler.sample(4, np.random.default_rng(0))
    >>> contexts.shape, bool(sampler.agrees(contexts, tokens).all())
    ((4, 20), True)
    """

    world: World

    def __post_init__(self) -> None:
        if self.world.vocabulary != PLAIN or isinstance(self.world.graph, Hierarchy):
            raise InvalidInputError(
                f"{self.world.name} has a vocabulary of its own or a hierarchy: only worlds with one token for each "
                "assignment are sampled"
            )
        if sum(self._bits) > 31:
            raise InvalidInputError(f"the tokens of {self.world.name} do not fit in 31 bits: use fewer concepts")
        n = prod(self._values)
        check_memory(f"the joint of {len(self._values)} concepts", 8 * n, "use fewer concepts")
        if self.world.law.kind == "kept":
            self._kept  # noqa: B018 - refused here where it cannot be listed, and not at the first draw

    # --- contexts ----------------------------------------------------------------------------------------------

    def contexts(self, n: int, rng: np.random.Generator) -> Int8[np.ndarray, "sample concept"]:
        """`n` independent contexts of the law, −1 for ⋄."""
        law, values = self.world.law, np.array(self._values)
        if law.kind == "kept":
            return self._kept[rng.integers(len(self._kept), size=n)]
        if law.kind == "at-most":
            known = self._known_of_at_most(n, rng)
        else:
            unknown = 1 / (values + 1) if law.kind == "complete" else np.full(len(values), float(law.amount or 0))
            known = rng.random((n, len(values))) >= unknown
        return np.where(known, rng.integers(values, size=known.shape), UNKNOWN).astype(np.int8)

    @cached_property
    def _kept(self) -> Int8[np.ndarray, "context concept"]:
        return self.world.law.contexts(self._values)[0]

    @cached_property
    def _counts(self) -> Float64[np.ndarray, "position known"]:
        """Number of contexts of the concepts from position i on with exactly j known, i = 0..m."""
        m = len(self._values)
        counts = np.zeros((m + 1, m + 1))
        counts[m, 0] = 1
        for i in reversed(range(m)):
            counts[i] = counts[i + 1]
            counts[i, 1:] += self._values[i] * counts[i + 1, :-1]
        return counts

    def _known_of_at_most(self, n: int, rng: np.random.Generator) -> Bool[np.ndarray, "sample concept"]:
        most, counts = int(self.world.law.amount or 0), self._counts
        left = rng.choice(most + 1, size=n, p=counts[0, : most + 1] / counts[0, : most + 1].sum())
        known = np.zeros((n, len(self._values)), dtype=bool)
        for i, k in enumerate(self._values):
            # Of j known concepts from here on, this is one with probability K_i e_{j−1}(later) / e_j(from here).
            now = k * counts[i + 1, np.maximum(left - 1, 0)] * (left > 0)
            known[:, i] = rng.random(n) * counts[i, left] < now
            left = left - known[:, i]
        return known

    # --- tokens ------------------------------------------------------------------------------------------------

    def tokens(
        self, contexts: Int8[np.ndarray, "sample concept"], rng: np.random.Generator
    ) -> Int64[np.ndarray, "sample"]:
        """One token of p(c | d) for each context, as its number."""
        drawn = np.full(len(contexts), -1, dtype=np.int64)
        wide = np.flatnonzero(self._n_open(contexts) > _WIDE)
        for _ in range(_TRIES):
            if not len(wide):
                break
            at = np.searchsorted(self._cumulative, rng.random(len(wide)) * self._cumulative[-1], side="right")
            tried = np.minimum(at, len(self._cumulative) - 1)
            agrees = self.agrees(contexts[wide], tried)
            drawn[wide[agrees]] = tried[agrees]
            wide = wide[~agrees]
        left = np.flatnonzero(drawn < 0)
        for rows, assignments in self._agreeing(contexts[left]):
            cumulative = np.cumsum(self.p_assignment[assignments], axis=1)
            wanted = rng.random(len(rows)) * cumulative[:, -1]
            place = np.minimum((cumulative <= wanted[:, None]).sum(axis=1), assignments.shape[1] - 1)
            drawn[left[rows]] = assignments[np.arange(len(rows)), place]
        return drawn

    def sample(
        self, n: int, rng: np.random.Generator
    ) -> tuple[Int8[np.ndarray, "sample concept"], Int64[np.ndarray, "sample"]]:
        """`n` independent pairs (d, c) of p(d) p(c | d)."""
        contexts = self.contexts(n, rng)
        return contexts, self.tokens(contexts, rng)

    def entropies(self, contexts: Int8[np.ndarray, "sample concept"]) -> Float64[np.ndarray, "sample"]:
        """H(Y|d) of each context in nats: log Z(d) − Σ_{c agrees with d} p(c) log p(c) / Z(d), exact.

        It costs as many terms as assignments agree with d, never more than one row of logits has.
        """
        entropies = np.empty(len(contexts))
        for rows, assignments in self._agreeing(contexts):
            p = self.p_assignment[assignments]
            p /= p.sum(axis=1, keepdims=True)
            entropies[rows] = -np.einsum("ra,ra->r", p, np.log(p))
        return np.maximum(entropies, 0.0)  # −0.0 where everything is known

    # --- which assignments agree -------------------------------------------------------------------------------

    @property
    def _values(self) -> tuple[int, ...]:
        return self.world.graph.cardinalities

    @cached_property
    def p_assignment(self) -> Float64[np.ndarray, "token"]:
        """p(c), raveled: the token y has the weight p_assignment[y]."""
        return self.world.graph.joint().ravel()

    @cached_property
    def _cumulative(self) -> Float64[np.ndarray, "token"]:
        return np.cumsum(self.p_assignment)

    @property
    def _bits(self) -> list[int]:
        return [(k - 1).bit_length() for k in self._values]

    @cached_property
    def _offsets(self) -> Int64[np.ndarray, "concept"]:
        """Place of each concept's bits in a code, the first concept highest."""
        return np.cumsum([0, *self._bits[:0:-1]])[::-1].astype(np.int64)

    @cached_property
    def token_codes(self) -> Int32[np.ndarray, "token"]:
        """The values of each token's concepts side by side as bits; for binary concepts the token's own number."""
        codes, at = np.zeros(self.world.n_tokens, dtype=np.int32), np.arange(self.world.n_tokens)
        for k, offset in zip(reversed(self._values), self._offsets[::-1].tolist(), strict=True):
            at, digit = np.divmod(at, k)
            codes |= (digit << offset).astype(np.int32)
        return codes

    def context_codes(
        self, contexts: Int8[np.ndarray, "sample concept"]
    ) -> tuple[Int32[np.ndarray, "sample"], Int32[np.ndarray, "sample"]]:
        """Bits (known, wanted) of each context: a token agrees with it if ``token_codes & known == wanted``."""
        is_known = contexts != UNKNOWN
        known = is_known * (((1 << np.array(self._bits)) - 1) << self._offsets)
        wanted = is_known * (contexts.astype(np.int64) << self._offsets)
        return known.sum(axis=1).astype(np.int32), wanted.sum(axis=1).astype(np.int32)

    def agrees(
        self, contexts: Int8[np.ndarray, "sample concept"], tokens: Int64[np.ndarray, "sample"]
    ) -> Bool[np.ndarray, "sample"]:
        """Whether each token has the values that its context knows."""
        known, wanted = self.context_codes(contexts)
        return (self.token_codes[tokens] & known) == wanted

    def _n_open(self, contexts: Int8[np.ndarray, "sample concept"]) -> Int64[np.ndarray, "sample"]:
        """Number of assignments that agree with each context."""
        return np.where(contexts == UNKNOWN, np.array(self._values), 1).prod(axis=1, dtype=np.int64)

    def _agreeing(
        self, contexts: Int8[np.ndarray, "sample concept"]
    ) -> Iterator[tuple[Int64[np.ndarray, "row"], Int64[np.ndarray, "row open"]]]:
        """Rows of contexts that leave concepts with the same numbers of values open, and the assignments of each."""
        values, unknown = np.array(self._values), contexts == UNKNOWN
        stride = np.array([prod(self._values[i + 1 :]) for i in range(len(values))], dtype=np.int64)
        base = (np.where(unknown, 0, contexts) * stride).sum(axis=1)
        # Open concepts first, those with few values before those with many.
        order = np.argsort(np.where(unknown, values, values.max() + 1), axis=1, kind="stable")
        open_values = np.sort(np.where(unknown, values, values.max() + 1), axis=1)
        kinds, kind = np.unique(open_values, axis=0, return_inverse=True)
        for g, ks in enumerate(kinds.tolist()):
            ks = [k for k in ks if k <= values.max()]
            rows = np.flatnonzero(kind.ravel() == g)
            chunk = max(1, _CHUNK_ENTRIES // prod(ks))
            for start in range(0, len(rows), chunk):
                some = rows[start : start + chunk]
                assignments = base[some, None]
                for a, k in enumerate(ks):
                    steps = stride[order[some, a]][:, None] * np.arange(k)
                    assignments = (assignments[:, None, :] + steps[:, :, None]).reshape(len(some), -1)
                yield some, assignments


class Estimate(NamedTuple):
    """A mean over independent samples and its standard error."""

    value: float
    standard_error: float


def excess_estimate(losses: Float64[np.ndarray, "sample"], entropies: Float64[np.ndarray, "sample"]) -> Estimate:
    """Excess loss in nats and its standard error, from a sample of contexts.

        mean over sampled d of [−Σ_c p(c|d) log p̂(c|d)] − H(Y|d),   standard deviation / √n

    Unbiased for the excess under the whole context law. Each term is the divergence KL(p(·|d) ‖ p̂(·|d)), so that only
    the choice of contexts is left as noise. The other way, log p(c|d) − log p̂(c|d) at one sampled token, has the same
    mean and, as the exact term is its conditional mean given d, never a smaller variance (Rao–Blackwell); the exact
    term needs no more numbers than the logits that the loss needs anyway, so it is always affordable. NaN where a
    loss is not finite.

    Parameters
    ----------
    losses
        Cross-entropy of the predictor in each sampled context under the exact p(c|d), in nats.
    entropies
        H(Y|d) of the same contexts, see `WorldSampler.entropies`.

    Raises
    ------
    InvalidInputError
        On fewer than two contexts.

    Examples
    --------
    >>> excess_estimate(np.array([1.5, 1.25]), np.array([1.0, 1.0]))
    Estimate(value=0.375, standard_error=0.125)
    """
    if len(losses) < 2:
        raise InvalidInputError(f"{len(losses)} contexts: a standard error needs at least 2")
    if not np.isfinite(losses).all():
        return Estimate(float("nan"), float("nan"))
    excess = losses - entropies
    return Estimate(float(excess.mean()), float(excess.std(ddof=1) / np.sqrt(len(excess))))
