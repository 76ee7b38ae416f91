"""The metrics: plain functions of arrays; `metric_table` says what each of them is.

Differences are given in the common space of an inner product (see `inner_products`), so that every cosine here is
a plain one. Leading axes (seeds, snapshots) are carried along. Nulls live in `nulls`, never here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import gammaln, stdtrit


def unit(vectors: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
    """Vectors scaled to length 1; a zero vector stays zero (it is parallel to nothing)."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length != 0)


def cosine(a: Float[np.ndarray, "*batch dim"], b: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch"]:
    """cos(a, b) along the last axis, in [−1, 1]; 0 if either vector is zero."""
    return np.asarray(np.einsum("...i,...i->...", unit(a), unit(b)))


def parallelism(
    differences: Float[np.ndarray, "*batch pair dim"], mask: Bool[np.ndarray, "pair"] | None = None
) -> Float[np.ndarray, "*batch"]:
    """Mean cosine between the differences of all pairs, mean_{j≠k} cos(Δ_j, Δ_k), in [−1/(n−1), 1].

    In O(n d) by (‖Σ u‖² − Σ ‖u‖²) / (n (n − 1)), u the unit differences. Its expectation does not depend on the
    number of pairs, so it compares across concepts and models. NaN for fewer than two pairs.

    Examples
    --------
    >>> bool(np.isclose(parallelism(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])), 1 / 3))
    True
    """
    u = _masked_units(differences, mask)
    n = u.shape[-2] if mask is None else int(mask.sum())
    if n < 2:
        return np.full(u.shape[:-2], np.nan)
    total = np.square(u.sum(axis=-2)).sum(axis=-1) - np.square(u).sum(axis=(-2, -1))
    return np.asarray(total / (n * (n - 1)))


def parallelism_leave_one_out(
    differences: Float[np.ndarray, "*batch pair dim"],
) -> Float[np.ndarray, "*batch pair"]:
    """Cosine of each difference with the sum of the others, cos(Δ_j, Σ_{k≠j} Δ_k), one value a pair.

    Its mean over pairs grows with their number (one effect: .20, .28, .31 at 8, 30, 120 pairs): a picture
    of the pairs of one concept, never compared at unequal numbers of pairs.
    """
    return cosine(differences, differences.sum(axis=-2, keepdims=True) - differences)


def _masked_units(differences: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    u = unit(np.asarray(differences, dtype=np.float64))
    return u if mask is None else u * mask[:, None]


def parallelism_interval(
    differences: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"], level: float = 0.95
) -> tuple[float, float]:
    """Jackknife interval of `parallelism`, leaving out one sampling unit (group of pairs) at a time.

    The metric is a U-statistic of order two, for which the jackknife variance is consistent, where a bootstrap
    would pair copies of one difference with themselves at cosine 1. t-quantile with (groups − 1) degrees of
    freedom; (nan, nan) for fewer than three groups.

    Source: Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics 40, 1969.
    """
    u = unit(np.asarray(differences, dtype=np.float64))
    labels, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    g, n = len(labels), len(u)
    if g < 3:
        return (float("nan"), float("nan"))
    sums = np.zeros((g, u.shape[1]))
    np.add.at(sums, index, u)
    squares = np.bincount(index, weights=np.square(u).sum(axis=1), minlength=g)
    left = n - counts
    if (left < 2).any():
        return (float("nan"), float("nan"))
    without = np.square(u.sum(axis=0) - sums).sum(axis=1) - (squares.sum() - squares)
    without = without / (left * (left - 1))
    value = float(parallelism(u))
    spread = np.sqrt((g - 1) / g * np.square(without - without.mean()).sum())
    reach = float(stdtrit(g - 1, 0.5 + level / 2) * spread)
    return (max(value - reach, -1.0), min(value + reach, 1.0))


def mean_difference(
    differences: Float[np.ndarray, "*batch pair dim"], mask: Bool[np.ndarray, "pair"] | None = None
) -> Float[np.ndarray, "*batch dim"]:
    """Mean of the raw differences, (1/n) Σ Δ_j."""
    if mask is None:
        return differences.mean(axis=-2)
    return np.einsum("...pd,p->...d", differences, mask / mask.sum())


def alignment(
    context_differences: Float[np.ndarray, "*batch context_pair dim"],
    token_differences: Float[np.ndarray, "*batch token_pair dim"],
) -> Float[np.ndarray, "*batch"]:
    """cos(mean δ_i, mean Δ_i): does the direction read from contexts match the one that writes tokens? In [−1, 1].

    With δ carried by S and Δ by R of one inner product this is δᵀΔ / √(δᵀCδ · ΔᵀC⁻¹Δ).
    """
    return cosine(mean_difference(context_differences), mean_difference(token_differences))


def alignment_all_pairs(
    context_differences: Float[np.ndarray, "*batch context_pair dim"],
    token_differences: Float[np.ndarray, "*batch token_pair dim"],
) -> Float[np.ndarray, "*batch"]:
    """Mean of cos(δ_{d,i}, Δ_{c,i}) over all context pairs d and token pairs c, in [−1, 1], in O(n d)."""
    a, b = unit(context_differences).mean(axis=-2), unit(token_differences).mean(axis=-2)
    return np.asarray(np.einsum("...i,...i->...", a, b))


def direction_cosines(
    directions: Float[np.ndarray, "*batch concept dim"],
) -> Float[np.ndarray, "*batch concept concept"]:
    """Concept × concept matrix of cos(direction_i, direction_j)."""
    u = unit(directions)
    return u @ np.swapaxes(u, -1, -2)


def orthogonality(
    cosines: Float[np.ndarray, "*batch concept concept"],
    among: Bool[np.ndarray, "concept concept"] | None = None,
) -> Float[np.ndarray, "*batch"]:
    """Mean absolute cosine between different concepts' directions, mean_{i≠j} |cos|, in [0, 1]; 0 is orthogonal.

    ``among`` narrows the mean to some pairs (for example those not adjacent in the moral graph). NaN if no pair
    is left. Never read without `random_absolute_cosine`.
    """
    k = cosines.shape[-1]
    chosen = ~np.eye(k, dtype=bool) if among is None else among & ~np.eye(k, dtype=bool)
    if not chosen.any():
        return np.full(cosines.shape[:-2], np.nan)
    return np.asarray(np.abs(cosines)[..., chosen].mean(axis=-1))


def random_absolute_cosine(dim: int) -> float:
    """E|cos| of two independent isotropic directions, Γ(d/2) / (√π Γ((d+1)/2)) ≈ √(2/(πd)).

    Examples
    --------
    >>> round(random_absolute_cosine(1), 6), round(random_absolute_cosine(576) * (3.14159 * 576 / 2) ** 0.5, 3)
    (1.0, 1.0)
    """
    return float(np.exp(gammaln(dim / 2) - gammaln((dim + 1) / 2)) / np.sqrt(np.pi))


def resultant_length(differences: Float[np.ndarray, "*batch pair dim"]) -> Float[np.ndarray, "*batch"]:
    """Mean resultant length r̄ = ‖mean of unit differences‖, in [0, 1]."""
    return np.asarray(np.linalg.norm(unit(differences).mean(axis=-2), axis=-1))


def spread(differences: Float[np.ndarray, "*batch pair dim"]) -> Float[np.ndarray, "*batch"]:
    """Concentration κ ≈ r̄ (d − r̄²) / (1 − r̄²) of the unit differences about their mean direction, ≥ 0.

    A large κ is no evidence in itself: n random vectors give about d/√n. Source: Banerjee et al., "Clustering on
    the Unit Hypersphere using von Mises–Fisher Distributions", JMLR 6, 2005, eq. 4.4.
    """
    r = np.minimum(resultant_length(differences), 1)  # rounding can exceed 1, and turn the sign of κ
    room = np.asarray(1 - r**2)
    # Identical directions: κ is infinite.
    return np.divide(r * (differences.shape[-1] - r**2), room, out=np.full_like(room, np.inf), where=room > 0)


def max_margin_gap(
    token_differences: Float[np.ndarray, "token_pair dim"],
    contexts_negative: Float[np.ndarray, "context_negative dim"],
    contexts_positive: Float[np.ndarray, "context_positive dim"],
) -> Float[np.ndarray, "token_pair"]:
    """1 − cos(Δ_{c,i}, w), w the hard-margin support vector direction (with bias) separating λ by concept i.

    One value a token pair, in [0, 2]; NaN if the contexts are not linearly separable, where w does not exist.
    """
    points = np.concatenate([contexts_negative, contexts_positive])
    label = np.repeat([-1, 1], [len(contexts_negative), len(contexts_positive)])
    points = points - points.mean(axis=0)
    scale = np.linalg.norm(points, axis=1).mean()
    if scale == 0 or not _separable(points / scale, label):
        return np.full(len(token_differences), np.nan)
    from sklearn.svm import SVC  # here: half of the time that all of linrep.geometry.metrics would take to import

    # A cost this large leaves no room for slack; on inseparable points the solver would not end, hence the check.
    machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit(points / scale, label)
    return 1 - cosine(token_differences, np.broadcast_to(machine.coef_[0], token_differences.shape))


def _separable(points: Float[np.ndarray, "context dim"], label: Int[np.ndarray, "context"]) -> bool:
    """Whether some w, b give label · (w·point + b) ≥ 1 everywhere, by linear programming."""
    from scipy.optimize import linprog  # here, as above

    rows = label[:, None] * np.column_stack([points, np.ones(len(points))])
    zero = np.zeros(rows.shape[1])
    return linprog(zero, A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=(None, None)).status == 0


def steering_specificity(
    directions: Float[np.ndarray, "concept dim"], mean_differences: Float[np.ndarray, "concept dim"]
) -> Float[np.ndarray, "concept concept"]:
    """Matrix steered × read: mean change of concept j's log-odds when λ moves one unit along direction i.

    Entry (i, j) is direction_i · mean Δ_j (nats per unit strength, both in the common space). Directions and
    differences must come from different pairs, or the diagonal is positive by construction. At the final layer
    this is arithmetic on γ, whatever the context.
    """
    return unit(directions) @ mean_differences.T
