"""What each metric is: the table that `linrep list metrics` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from linrep.geometry import clusters, interchange, metrics, probes


@dataclass(frozen=True)
class Metric:
    """What one metric is: the row that `linrep list metrics` prints."""

    name: str
    function: Callable[..., Any]
    axes: str
    unit: str
    range: str
    perfect: str
    needs: str
    null: str
    invariance: str
    source: str


_LRH = "Park, Choe, Veitch 2024"
_ORIGINS = "Jiang et al. 2024"
_EITHER = "rotation (Euclidean); any invertible map (causal)"

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("parallelism", metrics.parallelism, "concept", "cosine", "[−1/(n−1), 1]", "1", "pairs",
               "sign flip, matched re-pairing, random words, untrained", _EITHER, _ORIGINS),
        Metric("parallelism_leave_one_out", metrics.parallelism_leave_one_out, "concept, pair", "cosine", "[−1, 1]",
               "1", "pairs", "partner shuffle, random words", _EITHER, _LRH),
        Metric("alignment", metrics.alignment, "concept", "cosine", "[−1, 1]", "1", "token and context pairs",
               "mismatched concepts, random word pairs, untrained", _EITHER, _ORIGINS),
        Metric("alignment_all_pairs", metrics.alignment_all_pairs, "concept", "cosine", "[−1, 1]", "1",
               "token and context pairs", "untrained", _EITHER, _ORIGINS),
        Metric("direction_cosine", metrics.direction_cosines, "concept, concept_other", "cosine", "[−1, 1]",
               "0 if unrelated", "pairs", "shared words (exact)", _EITHER, _LRH),
        Metric("orthogonality", metrics.orthogonality, "–", "mean |cosine|", "[0, 1]", "0 if unrelated", "pairs",
               "random directions √(2/πd), one component projected out", _EITHER, _ORIGINS),
        Metric("resultant_length", metrics.resultant_length, "concept", "length", "[0, 1]", "1", "pairs",
               "random words", _EITHER, "Banerjee et al. 2005"),
        Metric("spread", metrics.spread, "concept", "κ", "[0, ∞)", "∞", "pairs", "random words, about d/√n", _EITHER,
               "Banerjee et al. 2005"),
        Metric("max_margin_gap", metrics.max_margin_gap, "concept, pair", "1 − cosine", "[0, 2]", "0",
               "token and context pairs", "untrained", "rotation (Euclidean)", "Soudry et al. 2018"),
        Metric("steering_specificity", metrics.steering_specificity, "concept, concept_other", "nats per unit",
               "(−∞, ∞)", "diagonal", "pairs, split in two", "random directions of equal norm", _EITHER, _LRH),
        Metric("parallelism_between", clusters.parallelism_between, "concept, layer", "cosine", "[−1, 1]", "1",
               "context pairs of two templates", "flips of whole templates", _EITHER, _ORIGINS),
        Metric("probe_auc", probes.auc, "concept, layer", "AUC", "[0, 1]", "1", "word pairs and contexts",
               "random word pairs, untrained", "any invertible map of λ and γ", _LRH),
        Metric("log_odds_residual", interchange.log_odds_residual, "concept", "nats", "[0, ∞)", "0", "a world",
               "untrained", "any invertible map of λ and γ", _ORIGINS),
        Metric("share_in_span", interchange.share_in_span, "concept", "share of ‖Δ‖²", "[0, 1]", "1", "λ and pairs",
               "untrained", "rotation (Euclidean)", _ORIGINS),
        Metric("balancedness", interchange.balancedness, "–", "share", "[0, 1]", "0",
               "λ and γ, before and after training", "none: an identity of gradient flow",
               "rotation (Euclidean)", "Arora, Cohen, Hazan 2018"),
        Metric("interchange", interchange.interchange, "concept", "share; total variation", "[0, 1]", "1; 0", "a world",
               "random directions of equal norm, untrained", "any invertible map of λ and γ", "Geiger et al. 2021"),
    )
}  # fmt: skip
