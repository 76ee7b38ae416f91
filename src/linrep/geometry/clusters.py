"""Statistics of context pairs whose sampling units are templates: pairs of one template are near copies.

Every estimate leaves out what two pairs of one template say about each other; every interval leaves out one template
at a time; every null redraws whole templates. Plain functions of arrays: nothing here knows what a template is.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtrit

from linrep.geometry import metrics

Interval = tuple[float, float]


def group_sums(
    vectors: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"]
) -> tuple[Float[np.ndarray, "group dim"], Int[np.ndarray, "group"]]:
    """Sum of the vectors of each group, and how many there are, in the order of the sorted labels."""
    labels, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(labels), vectors.shape[1]))
    np.add.at(sums, index, vectors)
    return sums, counts


def jackknife(value: float, without: Float[np.ndarray, "group"], *, bounds: Interval = (-np.inf, np.inf)) -> Interval:
    """95 % interval of a statistic from its values without one group each: t-quantile, groups − 1 degrees.

    (nan, nan) for fewer than three groups, or where a value is missing.
    """
    g = len(without)
    if g < 3 or not np.isfinite(without).all():
        return (float("nan"), float("nan"))
    spread = np.sqrt((g - 1) / g * np.square(without - without.mean()).sum())
    reach = float(stdtrit(g - 1, 0.975) * spread)
    return (max(value - reach, bounds[0]), min(value + reach, bounds[1]))


def parallelism_between(differences: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"]) -> float:
    """Mean cosine between the differences of pairs of *different* groups, in [−1, 1].

    (‖Σ u‖² − Σ_g ‖Σ_{j in g} u_j‖²) / (n² − Σ_g n_g²), u the unit differences. With one pair a group it is
    `metrics.parallelism`. NaN for fewer than two groups.

    Examples
    --------
    >>> d = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> parallelism_between(d, np.array([0, 0, 1]))
    0.0
    """
    sums, counts = group_sums(metrics.unit(np.asarray(differences, dtype=np.float64)), group)
    return float(_between(sums @ sums.T, counts))


def _between(gram: np.ndarray, counts: np.ndarray) -> float:
    if len(counts) < 2:
        return float("nan")
    return (gram.sum() - np.trace(gram)) / (counts.sum() ** 2 - np.square(counts).sum())


def parallelism_between_interval(
    differences: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"]
) -> Interval:
    """95 % jackknife interval of `parallelism_between`, leaving out one group at a time."""
    sums, counts = group_sums(metrics.unit(np.asarray(differences, dtype=np.float64)), group)
    gram = sums @ sums.T
    keep = ~np.eye(len(counts), dtype=bool)
    without = np.array([_between(gram[np.ix_(k, k)], counts[k]) for k in keep])
    return jackknife(float(_between(gram, counts)), without, bounds=(-1.0, 1.0))


def parallelism_between_flips(
    differences: Float[np.ndarray, "pair dim"], group: Int[np.ndarray, "pair"], draws: int, rng: np.random.Generator
) -> Float[np.ndarray, "draw"]:
    """`parallelism_between` after each group's orientation is flipped at random: no common direction of groups."""
    sums, counts = group_sums(metrics.unit(np.asarray(differences, dtype=np.float64)), group)
    gram = sums @ sums.T
    np.fill_diagonal(gram, 0)
    sign = signs(len(counts), draws, rng)
    return np.einsum("dg,dg->d", sign @ gram, sign) / (counts.sum() ** 2 - np.square(counts).sum())


def signs(n: int, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw n"]:
    """Sign patterns of n units: all but the identity where they are at most `draws`, else drawn at random."""
    if 2**n <= draws:
        return np.array(list(product((1.0, -1.0), repeat=n)))[1:]
    return rng.choice([-1.0, 1.0], size=(draws, n))


def alignment_flips(
    differences: Float[np.ndarray, "pair dim"],
    group: Int[np.ndarray, "pair"],
    direction: Float[np.ndarray, "dim"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw"]:
    """(Σ_j ± δ_j)·u / ‖Σ_j δ_j‖, u the unit direction, a sign a group: alignment if orientations were chance.

    Without flips it is cos(Σ_j δ_j, direction). The length is that of the sum as it is, not of the flipped one: where
    all templates are parallel a flipped sum only gets shorter, and its cosine would be ±1 whatever the signs.
    """
    sums, _ = group_sums(np.asarray(differences, dtype=np.float64), group)
    length = float(np.linalg.norm(sums.sum(axis=0)))
    along = sums @ metrics.unit(np.asarray(direction, dtype=np.float64)) / (length if length > 0 else 1.0)
    return signs(len(sums), draws, rng) @ along


def mean_interval(
    values: Float[np.ndarray, "pair"], group: Int[np.ndarray, "pair"], *, bounds: Interval = (-np.inf, np.inf)
) -> Interval:
    """95 % jackknife interval of a mean over pairs, leaving out one group at a time."""
    sums, counts = group_sums(np.asarray(values, dtype=np.float64)[:, None], group)
    total, n = sums.sum(), counts.sum()
    if len(counts) < 3:
        return (float("nan"), float("nan"))
    return jackknife(float(total / n), (total - sums[:, 0]) / (n - counts), bounds=bounds)
