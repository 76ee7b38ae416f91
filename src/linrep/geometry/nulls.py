"""What parallelism would be without a concept: the nulls, p-values, and Benjamini–Hochberg.

Every null redraws something about the pairs of one concept and recomputes the all-pairs parallelism. No single one
is enough (see docs/traps.md): each says here exactly what it keeps and what it redraws. Nothing d-dimensional
happens per draw where a Gram matrix of the words suffices. This file draws; it does not judge: see `verdicts`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.stats import false_discovery_control

from linrep.errors import InvalidInputError
from linrep.geometry import metrics
from linrep.geometry.inner_products import InnerProduct
from linrep.geometry.representations import Representations
from linrep.geometry.rows import Gamma

_POOL_LIMIT = 20_000  # words in the pool: above this more words change nothing but memory
_WINDOW = 800  # words of nearest frequency among which partners at a matching distance are sought
_CANDIDATES = 40  # matched partners per pair


def p_value(observed: float, draws: Float[np.ndarray, "draw"]) -> float:
    """One-sided permutation p-value, (1 + #{draw ≥ observed}) / (1 + #draws): never below 1/(#draws + 1).

    Source: Phipson, Smyth, "Permutation P-values should never be zero", 2010.

    Examples
    --------
    >>> p_value(0.5, np.array([0.1, 0.2, 0.3]))
    0.25
    """
    if np.isnan(observed) or np.isnan(draws).any() or len(draws) == 0:
        return float("nan")
    # A draw equal to the observed value up to rounding counts against it.
    return float((1 + np.sum(draws >= observed - 1e-12)) / (1 + len(draws)))


def benjamini_hochberg(p_values: Float[np.ndarray, "test"]) -> Float[np.ndarray, "test"]:
    """Adjusted p-values controlling the false-discovery rate; NaN entries are no tests and stay NaN."""
    adjusted = np.full(p_values.shape, np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        adjusted[tested] = false_discovery_control(p_values[tested], method="bh")
    return adjusted


def surface_class(token: str) -> str:
    """Case of a token in running text: lower, capitalised, upper, or other (digits, mixed, punctuation).

    Examples
    --------
    >>> [surface_class(t) for t in (" king", " King", " KING", " 12", "king")]
    ['lower', 'capitalised', 'upper', 'other', 'lower']
    """
    word = token.strip()
    if not word.isalpha():
        return "other"
    if word.islower():
        return "lower"
    if word.isupper() and len(word) > 1:
        return "upper"
    return "capitalised" if word[0].isupper() and (len(word) == 1 or word[1:].islower()) else "other"


@dataclass(frozen=True)
class WordPool:
    """The vocabulary's words, from which nulls draw: row, case and frequency of each.

    A word is a token of at least two letters with a leading space (running-text form). In a vocabulary without
    such tokens (a simulated world) every token is in the pool. At most 20,000 words, a seeded sample above that.
    """

    rows: Int[np.ndarray, "word"]
    surface: tuple[str, ...]  # class of every token of the vocabulary, not only of the pool
    frequency: Float[np.ndarray, "token"]  # of every token of the vocabulary

    @classmethod
    def of(cls, representations: Representations, *, seed: int = 0) -> WordPool:
        """Find the words of a vocabulary."""
        n, tokens = representations.n_tokens, representations.tokens
        rows = np.arange(n)
        if tokens is not None:
            is_word = np.array([t.startswith(" ") and len(t) > 2 and t[1:].isalpha() for t in tokens])
            rows = rows[is_word] if is_word.any() else rows
        if len(rows) > _POOL_LIMIT:
            rows = np.sort(np.random.default_rng(seed).choice(rows, _POOL_LIMIT, replace=False))
        frequency = representations.token_frequency
        return cls(
            rows=rows,
            surface=tuple(map(surface_class, tokens)) if tokens is not None else ("other",) * n,
            frequency=np.zeros(n) if frequency is None else frequency,
        )

    @cached_property
    def by_frequency(self) -> Int[np.ndarray, "word"]:
        """Positions in `rows`, by increasing frequency."""
        return np.argsort(self.frequency[self.rows], kind="stable")

    @cached_property
    def by_class(self) -> dict[str, Int[np.ndarray, "word"]]:
        """Positions in `rows` of each surface class, by increasing frequency."""
        classes = np.array([self.surface[row] for row in self.rows])
        order = self.by_frequency
        return {c: order[classes[order] == c] for c in np.unique(classes).tolist()}


@dataclass(frozen=True)
class NullModel:
    """Everything the nulls of one inner product share: the words of the vocabulary in the common space.

    Parameters
    ----------
    unembeddings, inner_product
        γ, and what carries any token of it into the common space.
    pool
        The words that nulls draw from.
    """

    unembeddings: Gamma
    inner_product: InnerProduct
    pool: WordPool

    @classmethod
    def of(cls, representations: Representations, inner_product: InnerProduct, pool: WordPool) -> NullModel:
        """Build from representations."""
        return cls(representations.unembeddings, inner_product, pool)

    @cached_property
    def centre(self) -> Float[np.ndarray, "dim"]:
        """Mean word of the pool in the common space: what the loss cannot tell (γ + v) cancels against it."""
        rows = self.pool.rows
        sums = [self.unembeddings[rows[part]].sum(axis=0, dtype=np.float64) for part in self._parts]
        return self.inner_product.unembeddings(np.sum(sums, axis=0) / len(rows))

    @property
    def _parts(self) -> list[slice]:
        """Pieces of the pool whose words stand in float64 in about 64 MB, whatever the width."""
        step = max(1, 8_000_000 // self.unembeddings.shape[1])
        return [slice(start, start + step) for start in range(0, len(self.pool.rows), step)]

    @cached_property
    def vectors(self) -> Float[np.ndarray, "word dim"]:
        """Words of the pool in the common space, centred, made when first drawn from.

        float32: a null needs no more, once a common offset is gone.
        """
        vectors = np.empty((len(self.pool.rows), self.unembeddings.shape[1]), dtype=np.float32)
        for part in self._parts:
            vectors[part] = self.carry(self.pool.rows[part]) - self.centre
        return vectors

    @cached_property
    def squares(self) -> Float[np.ndarray, "word"]:
        """Squared length of each of `vectors`."""
        return np.einsum("wk,wk->w", self.vectors, self.vectors)

    def carry(self, rows: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape dim"]:
        """Any tokens in the common space, not centred."""
        return self.inner_product.unembeddings(self.unembeddings[rows])


def _parallelism_by_gram(
    gram: np.ndarray, negative: np.ndarray, positive: np.ndarray, sign: np.ndarray | None = None
) -> np.ndarray:
    """Parallelism of each draw's pairs (indices into the Gram matrix of the words), shape (draw,).

    ‖Σ u‖² = wᵀ G w with w = Σ_j ± (e_pos − e_neg)/‖Δ_j‖: no vector of width d is touched.
    """
    draws, n = negative.shape
    own = np.diag(gram)
    square = own[positive] + own[negative] - 2 * gram[negative, positive]
    weight = np.divide(1.0, np.sqrt(np.maximum(square, 0)), out=np.zeros_like(square), where=square > 1e-12 * own.max())
    present = (weight > 0).sum(axis=1)
    if sign is not None:
        weight = weight * sign
    w = np.zeros((draws, len(gram)))
    draw = np.arange(draws)[:, None]
    np.add.at(w, (draw, positive), weight)
    np.add.at(w, (draw, negative), -weight)
    return (np.einsum("dw,dw->d", w @ gram, w) - present) / (n * (n - 1))


def _words_of(model: NullModel, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gram matrix of the distinct words of some pairs, and the pairs as indices into it."""
    words, index = np.unique(pairs, return_inverse=True)
    vectors = model.carry(words)
    # Only differences count; a large common offset would cancel badly in the squared lengths of the Gram matrix.
    vectors = vectors - vectors.mean(axis=0)
    return vectors @ vectors.T, index.reshape(pairs.shape)


def sign_flip(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """Keep the pairs; flip each one's orientation at random. Tests that differences point one way at all."""
    gram, index = _words_of(model, pairs)
    sign = rng.choice([-1.0, 1.0], size=(draws, len(pairs)))
    negative, positive = (np.broadcast_to(index[:, k], sign.shape) for k in (0, 1))
    return _parallelism_by_gram(gram, negative, positive, sign)


def partner_shuffle(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """Keep both columns; shuffle who is paired with whom.

    Tests that partners are more alike than strangers. It leaves the mean difference unchanged, so it says nothing
    about the direction, and it rejects word → nearest-word pairs, whose parallelism is 0.
    """
    gram, index = _words_of(model, pairs)
    order = rng.permuted(np.broadcast_to(np.arange(len(pairs)), (draws, len(pairs))), axis=1)
    return _parallelism_by_gram(gram, np.broadcast_to(index[:, 0], order.shape), index[order, 1])


def repairing(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """Keep the words; pair all of them anew at random, in random orientation."""
    gram, index = _words_of(model, pairs)
    order = rng.permuted(np.broadcast_to(index.reshape(-1), (draws, index.size)), axis=1)
    return _parallelism_by_gram(gram, order[:, ::2], order[:, 1::2])


def random_words(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """Replace all words by random distinct words of the vocabulary. Depends on the number of pairs only."""
    n, dim = len(pairs), model.vectors.shape[1]
    if 2 * n > len(model.vectors):
        raise InvalidInputError(f"{n} random pairs need {2 * n} words, the vocabulary has {len(model.vectors)}")
    values = np.empty(draws)
    # As many draws at a time as fit a few tens of megabytes.
    step = max(1, 4_000_000 // (n * dim))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        words = np.stack([rng.choice(len(model.vectors), 2 * n, replace=False) for _ in range(size)])
        differences = model.vectors[words[:, :n]] - model.vectors[words[:, n:]]
        length = np.sqrt(np.einsum("dpk,dpk->dp", differences, differences))
        weight = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
        sums = np.einsum("dpk,dp->dk", differences, weight)
        total = np.einsum("dk,dk->d", sums, sums, dtype=np.float64) - (weight > 0).sum(axis=1)
        values[start : start + size] = total / (n * (n - 1))
    return values


def _matched(
    model: NullModel, kept: np.ndarray, redrawn: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Parallelism of differences partner − kept, with matched random partners (the sign cancels in the metric).

    Partners match by distance, not by cosine: it does not move with γ + v, which the loss cannot tell, and in the
    causal product it is the stricter of the two on related words across a case or frequency gap.

    A word that occurs in several pairs gets one substitute a draw for all of them, so that a list that is parallel
    only because its pairs share words, on whichever side, is parallel under the null too.
    """
    ends, partners = model.carry(kept) - model.centre, model.carry(redrawn) - model.centre
    wanted = np.linalg.norm(partners - ends, axis=1)
    words, which = np.unique(redrawn, return_inverse=True)
    candidates = np.empty((len(words), _CANDIDATES), dtype=np.int64)
    for w, word in enumerate(words.tolist()):
        pairs = np.flatnonzero(which == w)
        near = _nearest_in_frequency(model.pool, word, avoid=(word, *kept[pairs].tolist()))
        # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b: no array of all the differences.
        dots = model.vectors[near] @ ends[pairs].astype(np.float32).T
        square = model.squares[near][:, None] + np.square(ends[pairs]).sum(axis=1) - 2 * dots
        mismatch = np.abs(np.sqrt(np.maximum(square, 0)) - wanted[pairs]).mean(axis=1)
        best = near[np.argpartition(mismatch, min(_CANDIDATES, len(near)) - 1)[:_CANDIDATES]]
        candidates[w] = np.resize(best, _CANDIDATES)
    units = metrics.unit(model.vectors[candidates[which]] - ends[:, None].astype(np.float32))
    n = len(kept)
    choice = rng.integers(_CANDIDATES, size=(draws, len(words)))[:, which] + np.arange(n) * _CANDIDATES
    pick = sparse.csr_array(
        (np.ones(choice.size, dtype=np.float32), choice.reshape(-1), np.arange(draws + 1) * n),
        shape=(draws, n * _CANDIDATES),
    )
    units = units.reshape(n * _CANDIDATES, -1)
    sums, own = pick @ units, pick @ np.einsum("ck,ck->c", units, units)
    return (np.einsum("dk,dk->d", sums, sums, dtype=np.float64) - own) / (n * (n - 1))


def _nearest_in_frequency(pool: WordPool, row: int, avoid: tuple[int, ...]) -> np.ndarray:
    """Positions in the pool of the words of the same case whose frequency is nearest to that of a token."""
    same = pool.by_class.get(pool.surface[row], pool.by_frequency)
    frequency = pool.frequency[pool.rows[same]]
    if frequency[0] == frequency[-1]:  # unknown: a window would be the first rows of the vocabulary, so spread out
        near = same[np.linspace(0, len(same) - 1, min(_WINDOW, len(same))).astype(np.int64)]
    else:
        centre = int(np.searchsorted(frequency, pool.frequency[row]))
        start = max(0, min(centre - _WINDOW // 2, len(same) - _WINDOW))
        near = same[start : start + _WINDOW]
    near = near[~np.isin(pool.rows[near], avoid)]
    if len(near) == 0:
        raise InvalidInputError(f"no other word of the case of token {row}: a matched null needs a larger vocabulary")
    return near


def matched_positive(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """Keep the negative words; redraw each positive among words of the same case, similar frequency, and similar
    distance from its partner. Tests that it must be these partners, not just words of that kind.
    """
    return _matched(model, pairs[:, 0], pairs[:, 1], draws, rng)


def matched_negative(
    model: NullModel, pairs: Int[np.ndarray, "pair 2"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """As `matched_positive` with the roles exchanged, so that the orientation of a list does not matter."""
    return _matched(model, pairs[:, 1], pairs[:, 0], draws, rng)


Null = Callable[[NullModel, np.ndarray, int, np.random.Generator], np.ndarray]

# Name -> function. A verdict says which of them it uses; all are shown.
NULLS: dict[str, Null] = {
    "sign flip": sign_flip,
    "matched re-pairing (positive)": matched_positive,
    "matched re-pairing (negative)": matched_negative,
    "re-pairing": repairing,
    "partner shuffle": partner_shuffle,
    "random words": random_words,
}


def shared_word_cosines(
    operators: Float[np.ndarray, "concept token"],
) -> Float[np.ndarray, "concept concept"]:
    """Cosine of mean differences expected from shared words alone, b_i·b_j / (‖b_i‖‖b_j‖), signed and exact.

    b_i is the column mean of concept i's difference operator over tokens (+1/n for each positive, −1/n for each
    negative occurrence): the cosine that independent isotropic token vectors would give. Shown beside a heat map,
    never subtracted from it.
    """
    return metrics.direction_cosines(operators)


def difference_operators(pairs_by_concept: list[np.ndarray]) -> Float[np.ndarray, "concept token"]:
    """Rows b_i of `shared_word_cosines`, over the tokens that occur in any pair."""
    words = np.unique(np.concatenate([p.reshape(-1) for p in pairs_by_concept]))
    b = np.zeros((len(pairs_by_concept), len(words)))
    for i, pairs in enumerate(pairs_by_concept):
        np.add.at(b[i], np.searchsorted(words, pairs[:, 1]), 1 / len(pairs))
        np.add.at(b[i], np.searchsorted(words, pairs[:, 0]), -1 / len(pairs))
    return b
