"""L6: every metric through the layers, after the final norm (logit lens) and in the residual stream.

The residual stream is measured with its own covariance H (Ledoit–Wolf, over the contexts): λ-side aᵀH⁻¹b, γ-side aᵀHb.
There a word direction is w ⊙ ḡ, w the gain of the final norm, so that δᵀ(w ⊙ ḡ) is the change of the log-odds up to a
positive factor. Each number has its null beside it: random word pairs, mismatched concepts, flips of templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linrep.geometry import clusters, metrics, nulls
from linrep.geometry.alignment import random_word_directions
from linrep.geometry.probes import auc, auc_interval
from linrep.geometry.steering import covariance_roots
from linrep.studies.experiments.setting import Row, Setting, Weights, against, finite, number
from linrep.studies.result import Progress

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

RESIDUAL = "own covariance"
_DRAWS = 199  # redraws per layer and concept: a curve of many points, each of which need not reach p = 0.001


@dataclass(frozen=True)
class _Words:
    """Raw word directions of the judged concepts, and random ones for each context concept."""

    own: np.ndarray
    random: Mapping[str, np.ndarray]


def through_layers(
    setting: Setting,
    weights: Weights,
    model: TransformersModel,
    states: Mapping[int, np.ndarray],
    progress: Progress,
) -> tuple[list[Row], list[Row]]:
    """One row a layer, context concept and space; and the rows of the tidy table."""
    words = _words(setting, weights)
    gain = model.final_gain()
    product = weights.under("causal").inner_product
    table: list[Row] = []
    rows: list[Row] = []
    for i, (layer, hidden) in enumerate(sorted(states.items())):
        progress(i / len(states), f"layer {layer}")
        lens = model.logit_lens(np.asarray(hidden))
        root, inverse = covariance_roots(np.asarray(hidden))
        for name in setting.pairs.names:
            if not _enough(setting, name):
                continue
            facts = {"layer": layer, "concept": name}
            pairs = setting.pairs.of(name)
            states_of, lens_of = (np.asarray(x)[pairs].astype(np.float64) for x in (hidden, lens))
            d = states_of[:, 1] - states_of[:, 0]
            for space, differences in (("euclidean", d), (RESIDUAL, d @ inverse)):
                line, found = _parallel(setting, name, differences, layer, space)
                table.append(facts | {"space": space, "n_pairs": len(pairs)} | line)
                rows += found
            if name not in setting.partner:
                continue
            if gain is not None:
                carried = _Words(own=(words.own * gain) @ root, random={name: (words.random[name] * gain) @ root})
                line, found = _aligned(setting, name, (d @ inverse).mean(axis=0), carried, layer, RESIDUAL)
                table[-1] |= line
                rows += found
            delta = product.embeddings((lens_of[:, 1] - lens_of[:, 0]).mean(axis=0))
            under = product.unembeddings
            carried = _Words(own=under(words.own), random={name: under(words.random[name])})
            line, found = _aligned(setting, name, delta, carried, layer, "logit lens, causal")
            probed, probe_rows = _probed(setting, name, lens, words, layer)
            table.append(facts | {"space": "logit lens, causal", "n_pairs": len(pairs)} | line | probed)
            rows += [*found, *probe_rows]
    return table, rows


def _enough(setting: Setting, name: str) -> bool:
    return len(np.unique(setting.pairs.groups_of(name))) >= 2


def _words(setting: Setting, weights: Weights) -> _Words:
    vectors = weights.under("euclidean").vectors
    random = {}
    for name, concept in setting.partner.items():
        n = int(setting.tokens.n_pairs[setting.tokens.index(concept)])
        random[name] = random_word_directions(vectors, n, _DRAWS, setting.stream("layers", name)).astype(np.float64)
    own = [setting.word_direction(weights.gamma, n) for n in setting.judged]
    return _Words(np.stack(own) if own else np.zeros((0, weights.gamma.shape[1])), random)


def _parallel(setting: Setting, name: str, d: np.ndarray, layer: int, space: str) -> tuple[Row, list[Row]]:
    """Parallelism of context differences of different templates, against flips of templates."""
    group = setting.pairs.groups_of(name)
    value = clusters.parallelism_between(d, group)
    low, high = clusters.parallelism_between_interval(d, group)
    flips = clusters.parallelism_between_flips(d, group, _DRAWS, setting.stream("flips", name, str(layer), space))
    row = number(
        "parallelism_between", value, "cosine", low=low, high=high, layer=layer, concept=name, side="embedding",
        inner_product=space, n_pairs=len(d),
    )  # fmt: skip
    line = {"parallelism": finite(value), "parallelism_low": finite(low), "parallelism_high": finite(high)}
    line |= {"parallelism_flip_p": finite(nulls.p_value(value, flips))}
    return line, [row, against(row, "template flip", flips)]


def _aligned(
    setting: Setting, name: str, delta: np.ndarray, words: _Words, layer: int, space: str
) -> tuple[Row, list[Row]]:
    """Alignment of the mean difference with the own word direction, against mismatched and random ones."""
    partner = setting.partner[name]
    unit = metrics.unit(delta)
    cosines = metrics.unit(words.own) @ unit
    value = float(cosines[setting.judged.index(partner)])
    random = metrics.unit(words.random[name]) @ unit
    others = np.abs(cosines[setting.others(partner)])
    row = number(
        "alignment", value, "cosine", layer=layer, concept=name, concept_other=partner, side="both", estimator="mean",
        inner_product=space, n_pairs=int(setting.pairs.n_pairs[setting.pairs.index(name)]),
    )  # fmt: skip
    line = {
        "alignment": finite(value),
        "mismatched": finite(float(others.mean())) if len(others) else None,
        "alignment_random_high": finite(float(np.quantile(random, 0.95))),
        "alignment_random_p": finite(nulls.p_value(value, random)),
        "top1": bool(value > others.max(initial=-1.0)),
    }
    return line, [row, against(row, "mismatched", others), against(row, "random word pairs", random)]


def _probed(setting: Setting, name: str, lens: np.ndarray, words: _Words, layer: int) -> tuple[Row, list[Row]]:
    """Area under the curve of λ·ḡ of this layer's λ, against random word directions."""
    negative, positive = setting.sides(name)
    group = setting.templates(name)
    own = words.own[setting.judged.index(setting.partner[name])]
    a, b = (lens[side].astype(np.float64) for side in (negative, positive))
    value = float(auc(a @ own, b @ own))
    groups = [np.array([group[r] for r in side.tolist()]) for side in (negative, positive)]
    low, high = auc_interval(a @ own, b @ own, *groups)
    null = auc(a @ words.random[name].T, b @ words.random[name].T)
    row = number(
        "probe_auc", value, "AUC", low=low, high=high, layer=layer, concept=name, concept_other=setting.partner[name],
        side="both", estimator="mean", n_pairs=int(setting.pairs.n_pairs[setting.pairs.index(name)]),
    )  # fmt: skip
    line = {"auc": finite(value), "auc_low": finite(low), "auc_high": finite(high)}
    line |= {"auc_random_high": finite(float(np.quantile(null, 0.95)))}
    line |= {"auc_random_p": finite(nulls.p_value(value, null))}
    return line, [row, against(row, "random word pairs", null)]
