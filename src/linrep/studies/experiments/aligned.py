"""L3: do the differences of context pairs point along the unembedding directions of their own concept?

Behaviour (δᵀΔ, the model's own change of log-odds) stands apart from geometry (the cosine). Matched is held against
mismatched concepts of other families, jointly by permuting labels; per concept against random word pairs and against
flips of whole templates; and against the untrained model.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import polars as pl

from linrep.geometry import alignment, clusters, matched, metrics, nulls
from linrep.geometry.measurements import Measurements
from linrep.geometry.probes import auc
from linrep.studies.experiments.setting import Row, Setting, Weights, finite


def joint(setting: Setting, trained: Weights, untrained: Weights | None, inner_products: tuple[str, ...]) -> list[Row]:
    """Permutation test of the whole matrix of families, one row an inner product and model."""
    names = [n for n in setting.pairs.names if n in setting.partner]
    rows = []
    for product in inner_products:
        for label, weights in (("trained", trained), ("untrained", untrained)):
            if weights is None or not names:
                continue
            cosines = _cosines(setting, weights, product, names)
            partner = np.array([setting.judged.index(setting.partner[n]) for n in names])
            family = np.unique([setting.family(n) for n in setting.judged], return_inverse=True)[1]
            matrix = matched.family_matrix(cosines, partner, family)
            found = matched.label_permutation(matrix, setting.draws, setting.stream("labels", product, label))
            own = cosines[np.arange(len(names)), partner]
            facts = {"inner_product": product, "weights": label, "n_context_concepts": len(names)}
            facts |= {"mean_matched": float(own.mean()), "median_matched": float(np.median(own))}
            rows.append(facts | (asdict(found) if found else {"status": "fewer than three families: not tested"}))
    return rows


def per_concept(
    setting: Setting,
    trained: Weights,
    untrained: Weights | None,
    inner_products: tuple[str, ...],
    measured: Measurements,
) -> list[Row]:
    """One row a context concept and inner product; ``measured`` holds the interval and the word-pair null."""
    rows = []
    for product in inner_products:
        own = measured.where(metric="alignment", inner_product=product, split="matched").table
        for name, partner in setting.partner.items():
            at = own.filter(concept=name, concept_other=partner)
            value = at.filter(pl.col("null").is_null()).to_dicts()[0]
            null = {r["null"]: r for r in at.drop_nulls("null").to_dicts()}
            row = {"concept": name, "word_concept": partner, "inner_product": product}
            row |= {"n_pairs": value["n_pairs"], "n_templates": len(np.unique(setting.pairs.groups_of(name)))}
            row |= {"alignment": value["value"], "low": value["low"], "high": value["high"]}
            for key, label in (("mismatched", "mismatched"), ("random word pairs", "random_words")):
                row |= {label: null.get(key, {}).get("null_value"), f"{label}_p": null.get(key, {}).get("p_value")}
            row["untrained"] = null.get("untrained", {}).get("null_value")
            rows.append(row | _template_null(setting, trained, product, name) | _pairs(setting, trained, product, name))
            if untrained is not None:
                plain = _pairs(setting, untrained, product, name)
                rows[-1] |= {f"untrained_{k}": plain[k] for k in ("auc_geometry", "auc_behaviour", "top1_share")}
    return rows


def _cosines(setting: Setting, weights: Weights, product: str, names: list[str]) -> np.ndarray:
    """cos(mean δ, mean Δ) for these context concepts × the judged word concepts."""
    whole = alignment.matrix(weights.representations, weights.under(product), setting.tokens, setting.pairs)
    columns = [setting.tokens.index(n) for n in setting.judged]
    return whole[np.ix_([setting.pairs.index(n) for n in names], columns)]


def _differences(setting: Setting, weights: Weights, product: str, name: str) -> np.ndarray:
    ends = weights.under(product).inner_product.embeddings(weights.lam[setting.pairs.of(name)])
    return ends[:, 1] - ends[:, 0]


def _directions(setting: Setting, weights: Weights, product: str) -> np.ndarray:
    """Unit directions of the judged word concepts in the common space."""
    model = weights.under(product)
    ends = [model.carry(setting.tokens.of(n)) for n in setting.judged]
    return metrics.unit(np.stack([(e[:, 1] - e[:, 0]).mean(axis=0) for e in ends]))


def _template_null(setting: Setting, weights: Weights, product: str, name: str) -> Row:
    """Is the alignment more than chance orientation of templates, and is the own direction the most aligned?"""
    d, group = _differences(setting, weights, product, name), setting.pairs.groups_of(name)
    directions = _directions(setting, weights, product)
    own = setting.judged.index(setting.partner[name])
    flips = clusters.alignment_flips(d, group, directions[own], setting.draws, setting.stream("flips", product, name))
    cosines = directions @ metrics.unit(d.mean(axis=0))
    others = np.flatnonzero(setting.others(setting.partner[name]))
    return {
        "template_flip_high": finite(float(np.quantile(flips, 0.95))),
        "template_flip_p": finite(nulls.p_value(float(cosines[own]), flips)),
        # Signed: a mismatched concept that is more aligned in either direction would make the own one not the first.
        "top1": bool(cosines[own] > np.abs(cosines[others]).max(initial=-1.0)),
        "most_aligned": setting.judged[int(np.argmax(np.abs(cosines)))],
    }


def _pairs(setting: Setting, weights: Weights, product: str, name: str) -> Row:
    """Pair by pair: the sign of δᵀΔ, and matched against mismatched, for behaviour and for geometry."""
    d = _differences(setting, weights, product, name)
    directions = _directions(setting, weights, product)
    own, others = setting.judged.index(setting.partner[name]), np.flatnonzero(setting.others(setting.partner[name]))
    # Directions have norm 1 in the common space, so δᵀΔ is nats per unit of causal norm for every concept alike.
    behaviour = matched.pair_scores(d @ directions.T, own, others)
    geometry = matched.pair_scores(metrics.unit(d) @ directions.T, own, others)
    # The other way round: this word direction read on the context pairs of other families.
    mine = d @ directions[own]
    strangers = [
        _differences(setting, weights, product, n) @ directions[own]
        for n, p in setting.partner.items()
        if setting.family(p) != setting.family(setting.partner[name])
    ]
    across = float(auc(np.concatenate(strangers), mine)) if strangers else float("nan")
    group = setting.pairs.groups_of(name)
    low, high = clusters.mean_interval((mine > 0).astype(float), group, bounds=(0.0, 1.0))
    return {
        "positive_share": finite(behaviour.positive_share),
        "positive_share_low": finite(low),
        "positive_share_high": finite(high),
        "auc_behaviour": finite(behaviour.auc),
        "auc_geometry": finite(geometry.auc),
        "auc_across_contexts": finite(across),
        "top1_share": finite(geometry.top1),
    }
