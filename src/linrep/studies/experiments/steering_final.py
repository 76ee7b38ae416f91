"""L5 at the final layer: λ + α C⁻¹ḡ, ḡ scaled to ḡᵀC⁻¹ḡ = 1, read on held-out word pairs.

The log-odds of a pair change by α ḡᵀC⁻¹Δ whatever the context: this is arithmetic on γ, and every row says so. Each
direction comes from one half of a concept's pairs and is read on the other half, and the other way round.
"""

from __future__ import annotations

import numpy as np

from linrep.geometry import clusters, metrics, nulls
from linrep.geometry.steering import halves, off_over_on
from linrep.studies.experiments.setting import Row, Setting, Weights, against, finite, number

ARITHMETIC = "arithmetic on γ"


def steer_final(setting: Setting, weights: Weights) -> tuple[list[Row], list[Row]]:
    """One row a concept, and the steered × read matrix as rows of the tidy table."""
    product = weights.under("causal").inner_product
    names = setting.judged
    if not names:
        return [], []
    pairs = [_word_differences(setting, weights, n) for n in names]
    group = [setting.tokens.groups_of(n) for n in names]
    first = [_first_half(setting, n) for n in names]
    folds = [[m if k == 0 else ~m for m in first] for k in (0, 1)]  # pairs that give the direction
    testable = np.array([m.any() and not m.all() for m in first])
    matrix, held_out = np.zeros((len(names), len(names))), [np.full(len(d), np.nan) for d in pairs]
    for train in folds:
        directions = np.stack([_mean(d, m) for d, m in zip(pairs, train, strict=True)])
        reads = np.stack([_mean(d, ~m) for d, m in zip(pairs, train, strict=True)])
        matrix += metrics.steering_specificity(directions, reads) / 2
        for i, m in enumerate(train):
            held_out[i][~m] = pairs[i][~m] @ metrics.unit(directions[i])
    other = np.stack([setting.others(n) for n in names])
    ratio = off_over_on(matrix, np.arange(len(names)), other)
    table, rows = [], []
    common = {"inner_product": "causal", "inner_product_rank": product.rank, "side": "embedding", "estimator": "mean"}
    for i, name in enumerate(names):
        n_pairs = len(pairs[i])
        random = metrics.unit(setting.stream("steer", name).standard_normal((setting.draws, pairs[i].shape[1])))
        null = random @ pairs[i].mean(axis=0)
        low, high = clusters.mean_interval(held_out[i], group[i])
        value = float(matrix[i, i]) if testable[i] else None
        for j, read in enumerate(names):
            columns = common | {"concept": name, "concept_other": read, "n_pairs": n_pairs, "split": "test"}
            ends = {"low": low, "high": high} if i == j else {}
            row = number(
                "steering_specificity", float(matrix[i, j]) if testable[i] and testable[j] else None,
                "nats per unit", strength=1.0, **columns, **ends,
            )  # fmt: skip
            rows += [row, against(row, "random directions of equal norm", null)] if i == j else [row]
        table.append(
            {
                "concept": name, "kind": ARITHMETIC, "n_pairs": n_pairs, "on_target": finite(value), "low": finite(low),
                "high": finite(high), "held_out_pairs_moved_right": finite(float(np.mean(held_out[i] > 0))),
                "off_over_on": finite(float(ratio[i])) if testable[i] else None,
                "random_mean_abs": finite(float(np.abs(null).mean())),
                "random_p": None if value is None else finite(nulls.p_value(value, null)),
                "status": "ok" if testable[i] else "pairs share their words: no held-out half",
            }
        )  # fmt: skip
    return table, rows


def _first_half(setting: Setting, name: str) -> np.ndarray:
    return halves(setting.tokens.groups_of(name), setting.stream("halves", name))


def training_words(setting: Setting, name: str) -> np.ndarray | None:
    """Which word pairs of a concept give its direction, the others being held out; None if they share their words."""
    first = _first_half(setting, name)
    return first if first.any() and not first.all() else None


def _word_differences(setting: Setting, weights: Weights, name: str) -> np.ndarray:
    ends = weights.under("causal").carry(setting.tokens.of(name))
    return ends[:, 1] - ends[:, 0]


def _mean(d: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return d[chosen].mean(axis=0) if chosen.any() else np.zeros(d.shape[1])
