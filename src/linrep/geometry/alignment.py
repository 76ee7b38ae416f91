"""Alignment of the directions read from contexts with those that write tokens, against its three nulls.

A matched cosine is judged against mismatched concepts of other families, against directions of random word pairs,
and against an untrained model. Context pairs from one template are one sampling unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import t as student_t

from linrep.errors import UnknownNameError
from linrep.geometry import metrics, nulls
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations


@dataclass(frozen=True)
class Sources:
    """Representations with their words in the common space; the same for an untrained model, if there is one."""

    representations: Representations
    model: nulls.NullModel
    untrained: Representations | None = None
    untrained_model: nulls.NullModel | None = None


def matrix(
    representations: Representations, model: nulls.NullModel, tokens: ConceptPairs, contexts: ConceptPairs
) -> Float[np.ndarray, "context_concept token_concept"]:
    """cos(mean δ_i, mean Δ_j) for every context concept i and token concept j; NaN where one has no pair."""
    delta = np.stack([_mean(_context_differences(representations, model, contexts, n)) for n in contexts.names])
    token = np.stack([_mean(_token_differences(model, tokens, n)) for n in tokens.names])
    return metrics.unit(delta) @ metrics.unit(token).T


def rows(
    sources: Sources,
    tokens: ConceptPairs,
    contexts: ConceptPairs,
    matched: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """One row for every context × token concept; interval and null rows on the matched ones.

    ``matched`` maps a context concept to its token concept; one that is absent matches its own name if there is one.

    Raises
    ------
    UnknownNameError
        If ``matched`` names a context or token concept that is not measured.
    """
    for name in matched:
        contexts.index(name)
    cosines = matrix(sources.representations, sources.model, tokens, contexts)
    plain = None
    if (
        sources.untrained is not None
        and sources.untrained_model is not None
        and sources.untrained.embeddings is not None
    ):
        plain = matrix(sources.untrained, sources.untrained_model, tokens, contexts)
    product = sources.model.inner_product
    table = []
    for i, name in enumerate(contexts.names):
        partner = matched.get(name, name)
        if name in matched and partner not in tokens.names:
            raise UnknownNameError("token concept", partner, tokens.names)
        for j, other in enumerate(tokens.names):
            row = {
                "metric": "alignment", "unit": "cosine", "side": "both", "estimator": "mean", "split": "all",
                "inner_product": product.name, "inner_product_rank": product.rank,
                "concept": name, "concept_other": other, "n_pairs": int(contexts.n_pairs[i]),
                "value": None if np.isnan(cosines[i, j]) else float(cosines[i, j]),
                "status": "ok" if np.isfinite(cosines[i, j]) else "no pairs",
            }  # fmt: skip
            if other != partner or np.isnan(cosines[i, j]):
                table.append(row)
                continue
            low, high = _interval(sources, tokens, contexts, other, name)
            row |= {"low": low, "high": high, "split": "matched"}
            table.append(row)
            table += _nulls(sources, tokens, contexts, cosines[i], (i, j), row, draws, seed)
            if plain is not None:
                table.append(row | {"null": "untrained", "null_value": float(plain[i, j])})
    return table


def _nulls(
    sources: Sources,
    tokens: ConceptPairs,
    contexts: ConceptPairs,
    cosines: Float[np.ndarray, "token_concept"],
    cell: tuple[int, int],
    row: dict[str, Any],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Null rows of one matched cell: other families' concepts, and random word pairs."""
    i, j = cell
    family = np.array(tokens.families)
    # A mismatched concept has no sign of its own, so its absolute cosine is what a matched one must beat.
    others = np.abs(cosines[(family != family[j]) & np.isfinite(cosines)])
    delta = metrics.unit(
        _mean(_context_differences(sources.representations, sources.model, contexts, contexts.names[i]))
    )
    vectors = sources.model.vectors
    n = int(tokens.n_pairs[j])
    rng = np.random.default_rng([seed, *contexts.names[i].encode()])
    random = metrics.unit(random_word_directions(vectors, n, draws, rng).astype(np.float64)) @ delta
    out = []
    for null, sample in (("mismatched", others), ("random word pairs", random)):
        if len(sample):
            out.append(
                row
                | {"null": null, "null_value": float(sample.mean()), "null_high": float(np.quantile(sample, 0.95))}
                | {"p_value": nulls.p_value(float(cosines[j]), sample)}
            )
    return out


def random_word_directions(
    vectors: Float[np.ndarray, "word dim"], n_pairs: int, draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw dim"]:
    """Summed difference of `n_pairs` pairs of distinct random words (as many as there are words for), each draw."""
    n = min(n_pairs, len(vectors) // 2)
    return np.stack(
        [vectors[w[:n]].sum(axis=0) - vectors[w[n:]].sum(axis=0)
         for w in (rng.choice(len(vectors), 2 * n, replace=False) for _ in range(draws))]
    )  # fmt: skip


def _interval(
    sources: Sources, tokens: ConceptPairs, contexts: ConceptPairs, token: str, context: str
) -> tuple[float | None, float | None]:
    """95 % jackknife interval of the matched cosine, leaving out one template or one word group at a time.

    Not a bootstrap: resampling adds a second helping of noise to both means, which lowers every resampled cosine, so
    that a percentile interval need not even contain its own value.
    """
    delta, d_groups = _group_sums(
        _context_differences(sources.representations, sources.model, contexts, context), contexts.groups_of(context)
    )
    word, w_groups = _group_sums(_token_differences(sources.model, tokens, token), tokens.groups_of(token))
    if d_groups < 3 or w_groups < 3:
        return (None, None)
    d_sum, w_sum = delta.sum(axis=0), word.sum(axis=0)
    variance = sum(
        (len(left) - 1) / len(left) * np.square(left - left.mean()).sum()
        for left in (
            metrics.unit(d_sum - delta) @ metrics.unit(w_sum),
            metrics.unit(w_sum - word) @ metrics.unit(d_sum),
        )
    )
    value = float(metrics.cosine(d_sum, w_sum))
    reach = float(student_t.ppf(0.975, min(d_groups, w_groups) - 1) * np.sqrt(variance))
    return (max(value - reach, -1.0), min(value + reach, 1.0))


def _group_sums(
    differences: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"]
) -> tuple[Float[np.ndarray, "group dim"], int]:
    labels, index = np.unique(group, return_inverse=True)
    sums = np.zeros((len(labels), differences.shape[1]))
    np.add.at(sums, index, differences)
    return sums, len(labels)


def _mean(differences: Float[np.ndarray, "pair dim"]) -> Float[np.ndarray, "dim"]:
    return differences.mean(axis=0) if len(differences) else np.full(differences.shape[1], np.nan)


def _token_differences(model: nulls.NullModel, pairs: ConceptPairs, name: str) -> Float[np.ndarray, "pair dim"]:
    ends = model.carry(pairs.of(name))
    return ends[:, 1] - ends[:, 0]


def _context_differences(
    representations: Representations, model: nulls.NullModel, pairs: ConceptPairs, name: str
) -> Float[np.ndarray, "pair dim"]:
    assert representations.embeddings is not None  # noqa: S101 - the door (measure) has checked it
    ends = model.inner_product.embeddings(representations.embeddings[pairs.of(name)])
    return ends[:, 1] - ends[:, 0]
