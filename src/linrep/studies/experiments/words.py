"""Concepts with too few single tokens, measured from the embeddings of contexts that end in the word.

The smallest honest version: each listed word, of any number of tokens, stands at the end of three carrier texts, and a
pair's difference is the mean over them. It is about λ (what the model expects after the word), not about γ, and the
table says so.
"""

from __future__ import annotations

import numpy as np

from linrep.concepts.load import ConceptSet
from linrep.geometry import clusters, nulls
from linrep.geometry.pairs import ConceptPairs, shared_row_groups
from linrep.geometry.verdicts import MIN_PAIRS
from linrep.studies.experiments.setting import Row, Setting, Weights, against, finite, number

_CARRIERS = ("The word that they wrote down was", "On the list there was the word", "Next to it somebody had written")
_MOST = 60  # listed pairs of one concept that are read


def too_few(concepts: tuple[ConceptSet, ...], tokens: ConceptPairs) -> tuple[ConceptSet, ...]:
    """Concepts whose single-token pairs are too few to be judged."""
    count = dict(zip(tokens.names, tokens.n_pairs.tolist(), strict=True))
    return tuple(c for c in concepts if count[c.name] < MIN_PAIRS)


def carrier_texts(concepts: tuple[ConceptSet, ...]) -> tuple[str, ...]:
    """Every carrier with every word of these concepts at its end."""
    words = {w: None for c in concepts for pair in c.pairs[:_MOST] for w in pair}
    return tuple(f"{carrier} {word}" for word in words for carrier in _CARRIERS)


def listed(
    setting: Setting, concepts: tuple[ConceptSet, ...], weights: Weights | None, untrained: Weights | None
) -> tuple[list[Row], list[Row]]:
    """One row a word concept: single-token pairs, and parallelism of embeddings where they are too few."""
    table, rows = [], []
    few = {c.name for c in too_few(concepts, setting.tokens)}
    for concept in concepts:
        n = int(setting.tokens.n_pairs[setting.tokens.index(concept.name)])
        line: Row = {"concept": concept.name, "family": concept.family, "listed_pairs": len(concept.pairs)}
        line |= {"single_token_pairs": n, "status": "too few pairs" if concept.name in few else "ok"}
        if concept.name in few and weights is not None:
            found, some = _from_embeddings(setting, concept, weights, untrained)
            line |= found
            rows += some
        table.append(line)
    return table, rows


def _from_embeddings(
    setting: Setting, concept: ConceptSet, weights: Weights, untrained: Weights | None
) -> tuple[Row, list[Row]]:
    at = {text: i for i, text in enumerate(setting.texts)}
    pairs = list(dict.fromkeys(p for p in concept.pairs[:_MOST] if p[0] != p[1]))
    words = {w: i for i, w in enumerate(dict.fromkeys(w for p in pairs for w in p))}
    group = np.array(shared_row_groups([(words[a], words[b]) for a, b in pairs]))

    def value_of(of: Weights) -> tuple[np.ndarray, float]:
        rows = np.array([[[at[f"{c} {w}"] for c in _CARRIERS] for w in pair] for pair in pairs])
        ends = of.under("causal").inner_product.embeddings(of.lam[rows]).mean(axis=2)
        d = ends[:, 1] - ends[:, 0]
        return d, clusters.parallelism_between(d, group)

    d, value = value_of(weights)
    low, high = clusters.parallelism_between_interval(d, group)
    flips = clusters.parallelism_between_flips(d, group, setting.draws, setting.stream("words", concept.name))
    row = number(
        "parallelism_between", value, "cosine", low=low, high=high, concept=concept.name, side="embedding",
        inner_product="causal", n_pairs=len(pairs), split="words at the end of contexts",
    )  # fmt: skip
    line = {"measured_as": "embeddings of contexts that end in the word", "context_pairs": len(pairs)}
    line |= {"parallelism": finite(value), "low": finite(low), "high": finite(high)}
    line |= {"flip_p": finite(nulls.p_value(value, flips))}
    line |= {"untrained": None if untrained is None else finite(value_of(untrained)[1])}
    return line, [row, against(row, "sign flip", flips)]
