"""L4: the unembedding direction as a probe: λ(x)·ḡ for contexts of value 0 against value 1.

The direction comes from word pairs alone, so every context is held out. λ·ḡ needs no inner product: it is the model's
own log-odds of the mean pair.
"""

from __future__ import annotations

import re

import numpy as np

from linrep.geometry.alignment import random_word_directions
from linrep.geometry.nulls import p_value
from linrep.geometry.probes import auc, auc_interval
from linrep.studies.experiments.setting import Row, Setting, Weights, against, beside, finite, number


def probe(setting: Setting, trained: Weights, untrained: Weights | None) -> tuple[list[Row], list[Row]]:
    """The table of the experiment, one row a context concept, and the rows of the tidy table."""
    table, rows = [], []
    for name, concept in setting.partner.items():
        negative, positive = setting.sides(name)
        group = setting.templates(name)
        groups = [np.array([group[r] for r in side.tolist()]) for side in (negative, positive)]
        scores = trained.lam.astype(np.float64) @ setting.word_direction(trained.gamma, concept)
        value = float(auc(scores[negative], scores[positive]))
        low, high = auc_interval(scores[negative], scores[positive], *groups)
        n = int(setting.tokens.n_pairs[setting.tokens.index(concept)])
        random = random_word_directions(
            trained.under("euclidean").vectors, n, setting.draws, setting.stream("probe", name)
        )
        null = auc(trained.lam[negative] @ random.T, trained.lam[positive] @ random.T)
        plain = None
        if untrained is not None:
            flat = untrained.lam.astype(np.float64) @ setting.word_direction(untrained.gamma, concept)
            plain = float(auc(flat[negative], flat[positive]))
        row = number(
            "probe_auc", value, "AUC", low=low, high=high, concept=name, concept_other=concept, side="both",
            estimator="mean", n_pairs=int(setting.pairs.n_pairs[setting.pairs.index(name)]),
        )  # fmt: skip
        rows += [row, against(row, "random word pairs", null)]
        rows += [] if plain is None else [beside(row, "untrained", plain)]
        table.append(
            {
                "concept": name, "word_concept": concept, "n_word_pairs": n, "n_negative": len(negative),
                "n_positive": len(positive), "n_templates": len(set(group.values())), "auc": finite(value),
                "low": finite(low), "high": finite(high), "random_words": finite(float(null.mean())),
                "random_words_high": finite(float(np.quantile(null, 0.95))), "random_words_p": p_value(value, null),
                "untrained": finite(plain),
            }
            | _without_shared(setting, trained, concept, negative, positive)
        )  # fmt: skip
    return table, rows


def _without_shared(
    setting: Setting, trained: Weights, concept: str, negative: np.ndarray, positive: np.ndarray
) -> Row:
    """The same with word pairs left out of which a word stands in one of the contexts."""
    said = {w for r in np.concatenate([negative, positive]) for w in re.findall(r"\w+", setting.texts[r].casefold())}
    tokens = trained.representations.tokens
    assert tokens is not None  # noqa: S101 - a model on disk has a vocabulary
    pairs = setting.tokens.of(concept)
    free = np.array([not {tokens[a].strip().casefold(), tokens[b].strip().casefold()} & said for a, b in pairs])
    shared = int((~free).sum())
    if not shared or not free.any():
        return {"n_shared_words": shared, "auc_without_shared": None}
    ends = trained.gamma[pairs[free]].astype(np.float64)
    scores = trained.lam @ (ends[:, 1] - ends[:, 0]).mean(axis=0)
    return {"n_shared_words": shared, "auc_without_shared": finite(float(auc(scores[negative], scores[positive])))}
