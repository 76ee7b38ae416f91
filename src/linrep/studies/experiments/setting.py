"""What every experiment on a real model is given, and how its numbers become rows.

A model enters as arrays (`Weights`) and pairs; only steering also runs it. Every row of the tidy table that holds a
value is followed by rows of the nulls it is held against, made by `against`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from linrep.concepts.load import ContextSet
from linrep.geometry import nulls
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
from linrep.geometry.verdicts import MIN_PAIRS

Row = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """γ, and λ of every text, of one model; with them its words in the common space of an inner product.

    Parameters
    ----------
    representations
        γ, λ (or none) and the tokens.
    pool
        Words that nulls draw from; the same for a model and its untrained twin.
    """

    representations: Representations
    pool: nulls.WordPool

    @cached_property
    def _models(self) -> dict[str, nulls.NullModel]:
        return {}

    def under(self, inner_product: str) -> nulls.NullModel:
        """Words carried into the common space of an inner product; made once."""
        if inner_product not in self._models:
            product = INNER_PRODUCTS[inner_product](self.gamma)
            self._models[inner_product] = nulls.NullModel.of(self.representations, product, self.pool)
        return self._models[inner_product]

    @property
    def gamma(self) -> Any:
        """γ as stored: an array, or something whose rows are arrays; only rows are asked for."""
        return self.representations.unembeddings

    @property
    def lam(self) -> Float[np.ndarray, "context dim"]:
        """λ of every text."""
        assert self.representations.embeddings is not None  # noqa: S101 - experiments on contexts run after the pass
        return self.representations.embeddings


@dataclass(frozen=True)
class Setting:
    """The concepts of one model, and how nulls are drawn.

    Parameters
    ----------
    tokens
        Word pairs as rows of γ.
    texts, pairs
        Distinct contexts, and context pairs as rows of them, grouped by template.
    contexts
        The sets the pairs come from.
    draws, seed
        Redraws per null, and the seed of all of them.
    """

    tokens: ConceptPairs
    texts: tuple[str, ...]
    pairs: ConceptPairs
    contexts: tuple[ContextSet, ...]
    draws: int
    seed: int

    @cached_property
    def partner(self) -> dict[str, str]:
        """Word concept of each context concept: named by the set, measured, and with enough pairs to be judged."""
        wanted = {c.name: c.unembedding_concept for c in self.contexts}
        enough = dict(zip(self.tokens.names, self.tokens.n_pairs >= MIN_PAIRS, strict=True))
        many = dict(zip(self.pairs.names, self.pairs.n_pairs >= MIN_PAIRS, strict=True))
        return {n: w for n, w in wanted.items() if w is not None and enough.get(w, False) and many.get(n, False)}

    @cached_property
    def unmatched(self) -> dict[str, str]:
        """Context sets that name a word concept and have no part in L3 to L5, and why."""
        words = dict(zip(self.tokens.names, self.tokens.n_pairs.tolist(), strict=True))
        pairs = dict(zip(self.pairs.names, self.pairs.n_pairs.tolist(), strict=True))
        found = {}
        for c in self.contexts:
            if c.unembedding_concept is None or c.name in self.partner:
                continue
            if c.unembedding_concept not in words:
                found[c.name] = f"not in L3 to L5: its word concept {c.unembedding_concept} is not measured"
            elif (n := words[c.unembedding_concept]) < MIN_PAIRS:
                found[c.name] = (
                    f"not in L3 to L5: {c.unembedding_concept} has {n} of {MIN_PAIRS} single-token pairs needed"
                )
            else:
                found[c.name] = f"not in L3 to L5: {pairs.get(c.name, 0)} of {MIN_PAIRS} context pairs needed"
        return found

    @cached_property
    def judged(self) -> tuple[str, ...]:
        """Word concepts with enough pairs."""
        return tuple(n for n, k in zip(self.tokens.names, self.tokens.n_pairs, strict=True) if k >= MIN_PAIRS)

    def family(self, concept: str) -> str:
        """Family of a word concept."""
        return self.tokens.families[self.tokens.index(concept)]

    def others(self, concept: str) -> Bool[np.ndarray, "judged"]:
        """Which of the judged word concepts are of another family."""
        return np.array([self.family(n) != self.family(concept) for n in self.judged])

    def stream(self, *names: str) -> np.random.Generator:
        """Random numbers of one null of one concept: what else is measured changes nothing."""
        return np.random.default_rng([self.seed, *" / ".join(names).encode()])

    def word_direction(self, gamma: Any, concept: str) -> Float[np.ndarray, "dim"]:
        """Raw mean difference ḡ of the word pairs of a concept, in the coordinates of γ."""
        return _mean_difference(gamma, self.tokens.of(concept))

    def sides(self, context: str) -> tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]:
        """Rows of the texts of value 0 and of value 1, each text once."""
        rows = self.pairs.of(context)
        return np.unique(rows[:, 0]), np.unique(rows[:, 1])

    def templates(self, context: str) -> dict[int, int]:
        """Template of each text of a context concept, by its row."""
        group = self.pairs.groups_of(context)
        return {int(r): int(g) for pair, g in zip(self.pairs.of(context), group, strict=True) for r in pair}


def _mean_difference(vectors: Any, pairs: np.ndarray) -> np.ndarray:
    ends = vectors[pairs].astype(np.float64)
    return (ends[:, 1] - ends[:, 0]).mean(axis=0)


def finite(x: float | None) -> float | None:
    """The number, or None for NaN and infinity: tables say nothing where there is nothing."""
    return None if x is None or not np.isfinite(x) else float(x)


def number(metric: str, value: float | None, unit: str, **columns: Any) -> Row:
    """One row of the tidy table."""
    ok = finite(value) is not None
    low, high = (finite(columns.pop(end, None)) for end in ("low", "high"))
    row = {"metric": metric, "value": finite(value), "unit": unit, "low": low, "high": high, "split": "all"}
    return row | {"status": "ok" if ok else "no value"} | columns


def against(row: Row, null: str, sample: Float[np.ndarray, "draw"]) -> Row:
    """The row of one null: its mean, its 95 % point and the p-value of the value."""
    if len(sample) == 0 or row["value"] is None:
        return row | {"null": null}
    facts = {"null_value": finite(float(sample.mean())), "null_high": finite(float(np.quantile(sample, 0.95)))}
    return row | {"null": null} | facts | {"p_value": finite(nulls.p_value(row["value"], sample))}


def beside(row: Row, null: str, value: float) -> Row:
    """The row of a null that is one number: an untrained model, an exact value."""
    return row | {"null": null, "null_value": finite(value)}


def stamp(rows: list[Row], facts: Mapping[str, Any]) -> list[Row]:
    """Rows with the same facts in front: which model, how it is stored, which checkpoint."""
    return [dict(facts) | row for row in rows]
