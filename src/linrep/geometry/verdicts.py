"""From parallelism and its nulls to a verdict in words, by rules that print themselves.

The rules and the effect floors come from the calibration study (`linrep study calibration`, results in LOG.md): change
one only with a new run of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from linrep.geometry.nulls import benjamini_hochberg

MIN_PAIRS = 8
LEVEL = 0.05

# Set above the largest 99.5 % point of the parallelism of nonsense whose columns differ by case, frequency or likeness
# only: .376 Euclidean, .021 causal, .020 shrunk, .035 with one component out (400 of each kind on SmolLM2-135M). The
# Euclidean one is high because one component, mostly word frequency, makes unrelated differences parallel there; the
# others do not see it. Another model may need others: `linrep study calibration MODEL` says which. A product without a
# floor here is a control, and `decide` gives no verdict under it.
EFFECT_FLOOR = {
    "euclidean": 0.4,
    "causal": 0.03,
    "shrunk": 0.03,
    "euclidean without top component": 0.04,
}

# A direction is called common only if the pairing matters. Without that the same numbers come from any two lists of
# different kinds of words, so that the verdict says no more than is true of those.
COMMON = "columns differ, pairing not shown"
SPECIFIC = "common direction, pair-specific"
NONE = "no common direction"
TOO_FEW = "too few pairs"

# The nulls that a common direction must beat, all of them.
COMMON_NULLS = ("sign flip", "matched re-pairing (positive)", "matched re-pairing (negative)")
SPECIFIC_NULL = "partner shuffle"


KNOWN_LIMIT = "two lists of different kinds of words, paired at random, are called this too"


def rule(verdict: str, inner_product: str) -> str:
    """Return the rule behind a verdict, as a sentence to print beside it."""
    common = (
        f"all-pairs parallelism above {EFFECT_FLOOR[inner_product]:g} (effect floor of the {inner_product} "
        f"product, set on SmolLM2-135M) that beats {', '.join(COMMON_NULLS)}: the largest of their "
        f"p-values is ≤ {LEVEL:g} after Benjamini–Hochberg over the run"
    )
    return {
        # The one type of nonsense that meets this rule: named wherever the verdict is printed.
        COMMON: f"{common}, but not {SPECIFIC_NULL}: {KNOWN_LIMIT}",
        SPECIFIC: f"{common}; and beats {SPECIFIC_NULL} too, by the largest of the four p-values",
        NONE: f"not: {common}",
        TOO_FEW: f"fewer than {MIN_PAIRS} distinct pairs: not judged",
    }[verdict]


@dataclass(frozen=True)
class Verdicts:
    """One verdict a concept, and the p-values of each null after its own Benjamini–Hochberg, to show beside it."""

    verdict: tuple[str, ...]
    p_adjusted: dict[str, Float[np.ndarray, "concept"]]


def decide(
    n_pairs: Int[np.ndarray, "concept"],
    parallelism: Float[np.ndarray, "concept"],
    p_values: dict[str, Float[np.ndarray, "concept"]],
    inner_product: str,
) -> Verdicts:
    """Apply the rules to the concepts of one run under one inner product.

    Parameters
    ----------
    n_pairs
        Distinct pairs of each concept.
    parallelism
        All-pairs parallelism.
    p_values
        Raw p-values by null, NaN where not tested. Without those of `COMMON_NULLS` and `SPECIFIC_NULL` there are
        adjusted p-values and no verdict.
    inner_product
        Whose effect floor applies. One without a floor was never calibrated: adjusted p-values, and no verdict.

    Returns
    -------
    Verdicts
        Concepts with fewer than `MIN_PAIRS` pairs take no part in Benjamini–Hochberg.

    Notes
    -----
    A concept must beat every null, so its p-value is the largest of theirs (an intersection–union test) and is
    adjusted once. Adjusting each null by itself and asking for all would not bound the false discoveries: concepts
    that fail one null only raise the others' thresholds.
    """
    enough = n_pairs >= MIN_PAIRS
    adjusted = {name: benjamini_hochberg(np.where(enough, p, np.nan)) for name, p in p_values.items()}
    if inner_product not in EFFECT_FLOOR or not {*COMMON_NULLS, SPECIFIC_NULL} <= set(p_values):
        return Verdicts((), adjusted)
    common_p = np.max([p_values[name] for name in COMMON_NULLS], axis=0)
    specific_p = np.maximum(common_p, p_values[SPECIFIC_NULL])
    above = enough & (parallelism > EFFECT_FLOOR[inner_product])
    common, specific = (
        above & (benjamini_hochberg(np.where(enough, p, np.nan)) <= LEVEL) for p in (common_p, specific_p)
    )
    words = np.select([~enough, specific, common], [TOO_FEW, SPECIFIC, COMMON], default=NONE)
    return Verdicts(tuple(words.tolist()), adjusted)
