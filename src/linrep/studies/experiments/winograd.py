"""Winograd-style pairs: does the model prefer the right continuation, and does λ move along that pair's own Δ?

The share of right preferences is reported first and selects nothing: every direction is of all pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binomtest

from linrep.concepts.load import ContextSet, Find, continuation_rows
from linrep.geometry import clusters, metrics, nulls
from linrep.geometry.pairs import DroppedPair
from linrep.studies.experiments.setting import Row, Setting, Weights, against, beside, finite, number

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

_BLOCK = 32  # texts whose logits over the whole vocabulary stand in memory together


def preferences(
    setting: Setting, weights: Weights, untrained: Weights | None, model: TransformersModel, find: Find
) -> tuple[list[Row], list[Row], list[DroppedPair]]:
    """One row a set with continuations, the rows of the tidy table, and what was dropped."""
    table, rows, dropped = [], [], []
    for context in setting.contexts:
        if any(pair.continuations is None for pair in context.pairs):
            continue
        kept, tokens, lost = continuation_rows(context, find)
        dropped += lost
        if len(kept.pairs) < 2:
            continue
        line = {"concept": context.name} | _preferred(setting, weights, model, kept, tokens)
        aligned, found = _aligned(setting, weights, kept, tokens)
        plain = _aligned(setting, untrained, kept, tokens)[0] if untrained is not None else {}
        table.append(line | aligned | {"untrained_alignment": plain.get("alignment")})
        rows += [*_share_rows(line), *found]
    return table, rows, dropped


def _rows(setting: Setting, kept: ContextSet) -> tuple[np.ndarray, np.ndarray]:
    """Rows of λ of each pair, and its template."""
    at = {text: i for i, text in enumerate(setting.texts)}
    pairs = np.array([(at[p.negative], at[p.positive]) for p in kept.pairs])
    return pairs, np.unique([p.template for p in kept.pairs], return_inverse=True)[1]


def _preferred(
    setting: Setting, weights: Weights, model: TransformersModel, kept: ContextSet, tokens: np.ndarray
) -> Row:
    """Shares of texts and of pairs with the right preference, with exact binomial intervals."""
    pairs, group = _rows(setting, kept)
    gamma = np.asarray(weights.gamma)
    odds = np.empty((len(pairs), 2))  # of the positive text's continuation, after either text
    for start in range(0, len(pairs), _BLOCK):
        some = slice(start, start + _BLOCK)
        each, (wrong, right) = np.arange(len(pairs[some])), tokens[some].T
        for side in (0, 1):
            logits = model.logits(weights.lam[pairs[some, side]], gamma)
            odds[some, side] = logits[each, right] - logits[each, wrong]
    right = np.stack([odds[:, 0] < 0, odds[:, 1] > 0], axis=1)
    counts = {
        "texts": (int(right.sum()), right.size),
        "pairs": (int(right.all(axis=1).sum()), len(pairs)),
        "shifts": (int((odds[:, 1] > odds[:, 0]).sum()), len(pairs)),
    }
    line: Row = {"n_pairs": len(pairs), "n_templates": int(group.max()) + 1}
    for name, (k, n) in counts.items():
        interval = binomtest(k, n).proportion_ci(method="exact")
        line |= {f"right_{name}": k / n, f"right_{name}_low": interval.low, f"right_{name}_high": interval.high}
    low, high = clusters.mean_interval(right.mean(axis=1), group, bounds=(0.0, 1.0))
    line |= {"right_texts_by_template_low": finite(low), "right_texts_by_template_high": finite(high)}
    # A model that does not see the word that differs gets half of the texts right and no pair; coin flips, ¼.
    return line | {"chance_texts": 0.5, "chance_pairs": 0.25, "chance_shifts": 0.5}


def _share_rows(line: Row) -> list[Row]:
    row = number(
        "right_continuations", line["right_texts"], "share of texts", low=line["right_texts_low"],
        high=line["right_texts_high"], concept=line["concept"], side="both", n_pairs=line["n_pairs"],
    )  # fmt: skip
    return [row, beside(row, "chance", 0.5)]


def _aligned(setting: Setting, weights: Weights, kept: ContextSet, tokens: np.ndarray) -> tuple[Row, list[Row]]:
    """Mean cosine of each pair's δ with its own Δ, against the Δ of pairs of other templates."""
    pairs, group = _rows(setting, kept)
    product = weights.under("causal").inner_product
    ends, words = product.embeddings(weights.lam[pairs]), product.unembeddings(weights.gamma[tokens])
    delta, own = ends[:, 1] - ends[:, 0], words[:, 1] - words[:, 0]
    cosines = metrics.unit(delta) @ metrics.unit(own).T
    value = float(np.diag(cosines).mean())
    low, high = clusters.mean_interval(np.diag(cosines), group)
    rng = setting.stream("winograd", kept.name)
    null = np.array([cosines[np.arange(len(pairs)), _elsewhere(group, rng)].mean() for _ in range(setting.draws)])
    row = number(
        "alignment_own_pair", value, "cosine", low=low, high=high, concept=kept.name, side="both",
        inner_product="causal", inner_product_rank=product.rank, n_pairs=len(pairs),
    )  # fmt: skip
    between = clusters.parallelism_between(delta, group)
    flips = clusters.parallelism_between_flips(delta, group, setting.draws, setting.stream("flips", kept.name))
    line = {
        "alignment": finite(value), "alignment_low": finite(low), "alignment_high": finite(high),
        "other_pairs": finite(float(null.mean())), "other_pairs_p": finite(nulls.p_value(value, null)),
        "parallelism": finite(between), "parallelism_flip_p": finite(nulls.p_value(between, flips)),
    }  # fmt: skip
    return line, [row, against(row, "words of other templates", null)]


def _elsewhere(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each pair a random pair of another template (itself, where there is no other)."""
    out = rng.integers(len(group), size=len(group))
    if len(np.unique(group)) < 2:
        return np.arange(len(group))
    while (same := group[out] == group).any():
        out[same] = rng.integers(len(group), size=int(same.sum()))
    return out
