"""Concepts that mean nothing, of every kind known to fool a null, and planted ones whose strength is known.

Everything is drawn from a model's own vocabulary, so that the nonsense is as clustered, as frequent and as long as its
real words. This file makes pairs; it neither tests nor judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from linrep.errors import InvalidInputError
from linrep.geometry import metrics, nulls
from linrep.geometry.inner_products import InnerProduct
from linrep.geometry.representations import Representations
from linrep.geometry.verdicts import MIN_PAIRS

N_PAIRS = 30  # of every nonsense concept: the built-in lists have 12 to 130
_TRIES = 50  # at two lists that are not of the same words


@dataclass(frozen=True)
class Vocabulary:
    """What nonsense is drawn from: the words of a model under one inner product, and the columns of real lists.

    Parameters
    ----------
    model
        Words of the vocabulary in the common space, and what carries any token there.
    text
        Every token as it stands in running text.
    lists
        Distinct words (rows of γ) of each column of the real lists.
    """

    model: nulls.NullModel
    text: tuple[str, ...]
    lists: tuple[np.ndarray, ...] = ()

    @classmethod
    def of(
        cls,
        representations: Representations,
        inner_product: InnerProduct,
        pool: nulls.WordPool,
        real: Sequence[np.ndarray] = (),
    ) -> Vocabulary:
        """Build from representations and the pairs of the real lists."""
        columns = [np.unique(pairs[:, k]) for pairs in real for k in (0, 1)]
        text = representations.tokens or tuple(map(str, range(representations.n_tokens)))
        lists = tuple(c for c in columns if len(c) >= MIN_PAIRS)
        return cls(nulls.NullModel.of(representations, inner_product, pool), text, lists)

    def rows(self, surface: str | None = None) -> Int[np.ndarray, "word"]:
        """Rows of γ of the words, of one case if asked, by increasing frequency."""
        pool = self.model.pool
        if surface is None:
            return pool.rows[pool.by_frequency]
        return pool.rows[pool.by_class.get(surface, np.zeros(0, dtype=np.int64))]

    @cached_property
    def unit_words(self) -> Float[np.ndarray, "word dim"]:
        """Every word of the pool at unit length, as it is stored (not centred)."""
        return metrics.unit(self.model.carry(self.model.pool.rows)).astype(np.float32)

    def nearest(self, words: Int[np.ndarray, "pair"], among: Int[np.ndarray, "word"]) -> Int[np.ndarray, "pair 2"]:
        """Each word with the most similar other word among some; nobody twice, never the same letters."""
        position = self.model.pool.rows.searchsorted
        cosines = self.unit_words[position(words)] @ self.unit_words[position(among)].T
        pairs, taken = [], set(words.tolist())
        for word, row in zip(words.tolist(), cosines, strict=True):
            same = self.text[word].lower()
            order = among[np.argsort(-row)].tolist()
            other = next((o for o in order if o not in taken and self.text[o].lower() != same), None)
            if other is None:
                raise InvalidInputError(f"fewer than {len(words)} words are left to pair with")
            taken.add(other)
            pairs.append((word, other))
        return np.array(pairs)


Maker = Callable[[Vocabulary, np.random.Generator], np.ndarray]


def _choose(rng: np.random.Generator, words: np.ndarray, n: int, what: str) -> np.ndarray:
    if len(words) < n:
        raise InvalidInputError(f"needs {n} {what}; the vocabulary has {len(words)}")
    return rng.choice(words, n, replace=False)


def _two_groups(rng: np.random.Generator, a: np.ndarray, b: np.ndarray, what: str) -> np.ndarray:
    """Random pairs, negatives from a and positives from b, no word twice."""
    first = _choose(rng, a, N_PAIRS, what)
    return np.stack([first, _choose(rng, np.setdiff1d(b, first), N_PAIRS, what)], axis=1)


def _quarters(v: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Lower-case words: the least and the most frequent quarter."""
    lower = v.rows("lower")
    quarter = len(lower) // 4
    return lower[:quarter], lower[len(lower) - quarter :]


def random_words(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Unrelated words."""
    return _two_groups(rng, v.rows(), v.rows(), "words")


def case_gap(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Unrelated words, lower case to capitalised."""
    return _two_groups(rng, v.rows("lower"), v.rows("capitalised"), "words of each case")


def frequency_gap(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Unrelated lower-case words, most frequent quarter to least frequent quarter."""
    rare, frequent = _quarters(v)
    return _two_groups(rng, frequent, rare, "lower-case words in each quarter of frequency")


def two_lists(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Words of two lists without any pairing: the columns of two real concepts (up to 30 pairs)."""
    if len(v.lists) < 2:
        raise InvalidInputError(f"needs two real lists of {MIN_PAIRS} words; there are {len(v.lists)}")
    for i, j in (rng.choice(len(v.lists), 2, replace=False) for _ in range(_TRIES)):
        a, b = rng.permutation(v.lists[i]), rng.permutation(np.setdiff1d(v.lists[j], v.lists[i]))
        if (n := min(len(a), len(b), N_PAIRS)) >= MIN_PAIRS:
            return np.stack([a[:n], b[:n]], axis=1)
    raise InvalidInputError("the real lists have nearly the same words")


def hub(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """One word against thirty unrelated ones, on either side."""
    words = _choose(rng, v.rows(), N_PAIRS + 1, "words")
    pairs = np.stack([np.full(N_PAIRS, words[0]), words[1:]], axis=1)
    return pairs if rng.random() < 0.5 else pairs[:, ::-1]


def hubs_on_both_sides(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Three words against fifteen unrelated ones, and fifteen others against three."""
    words = _choose(rng, v.rows(), N_PAIRS + 6, "words")
    half = N_PAIRS // 2
    left = np.stack([np.repeat(words[:3], half // 3), words[6 : 6 + half]], axis=1)
    right = np.stack([words[6 + half :], np.repeat(words[3:6], half // 3)], axis=1)
    return np.concatenate([left, right])


def one_to_many(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Five words, each against six unrelated ones."""
    words = _choose(rng, v.rows(), N_PAIRS + 5, "words")
    return np.stack([words[5:], np.repeat(words[:5], N_PAIRS // 5)], axis=1)


def nearest_word(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Each word with its most similar word."""
    return v.nearest(_choose(rng, v.rows(), N_PAIRS, "words"), v.rows())


def related_case_gap(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Lower-case words, each with its most similar capitalised other word."""
    first = _choose(rng, v.rows("lower"), N_PAIRS, "lower-case words")
    return v.nearest(first, v.rows("capitalised"))


def related_frequency_gap(v: Vocabulary, rng: np.random.Generator) -> Int[np.ndarray, "pair 2"]:
    """Frequent words, each with its most similar infrequent word."""
    rare, frequent = _quarters(v)
    return v.nearest(_choose(rng, frequent, N_PAIRS, "lower-case words in each quarter of frequency"), rare)


RANDOM = "random words"
TWO_LISTS = "two lists"

# Kind -> maker. Random words are honest for every null; of the others each breaks some.
NONSENSE: dict[str, Maker] = {
    RANDOM: random_words,
    "case gap": case_gap,
    "frequency gap": frequency_gap,
    TWO_LISTS: two_lists,
    "hub word": hub,
    "hubs on both sides": hubs_on_both_sides,
    "one-to-many": one_to_many,
    "nearest word": nearest_word,
    "related, case gap": related_case_gap,
    "related, frequency gap": related_frequency_gap,
}


def planted(
    v: Vocabulary, strengths: Sequence[float], count: int, rng: np.random.Generator
) -> tuple[nulls.NullModel, dict[float, list[np.ndarray]]]:
    """Return a model with extra tokens, and for each strength concepts with one direction at that expected cosine.

    The noise is realistic: differences of nearest words. To each is added a part along one random direction, of length
    √(s/(1−s)) times its own, in the common space. A planted token has the case and frequency of the word it is made of.
    """
    base, pool = v.model, v.model.pool
    n = len(base.unembeddings)
    extra, origin, concepts = [], [], {}
    for strength in strengths:
        for _ in range(count):
            pairs = nearest_word(v, rng)
            direction = metrics.unit(rng.standard_normal(base.inner_product.dim))
            ends = base.carry(pairs)
            length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
            # The roots of the two sides are inverse to each other: the λ-side root leads back to γ's coordinates.
            parts = direction * length[:, None] * np.sqrt(strength / (1 - strength))
            extra.append(base.unembeddings[pairs[:, 1]] + base.inner_product.embeddings(parts))
            rows = np.arange(n, n + len(pairs))
            n += len(pairs)
            origin += pairs[:, 1].tolist()
            concepts.setdefault(strength, []).append(np.stack([pairs[:, 0], rows], axis=1))
    gamma = np.asarray(base.unembeddings)
    words = replace(
        pool,
        surface=pool.surface + tuple(pool.surface[o] for o in origin),
        frequency=np.concatenate([pool.frequency, pool.frequency[origin]]),
    )
    grown = np.concatenate([gamma, *(e.astype(gamma.dtype) for e in extra)])
    return replace(base, unembeddings=grown, pool=words), concepts
