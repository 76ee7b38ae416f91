"""Directions as probes: how well a projection tells contexts of one value from those of the other.

Nothing is fitted here: the direction comes from elsewhere (word pairs, other templates). The area under the curve is
a rank statistic, so that neither the scale of a direction nor a threshold matters.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from linrep.geometry.clusters import Interval, jackknife


def auc(
    negative: Float[np.ndarray, "negative *draw"], positive: Float[np.ndarray, "positive *draw"]
) -> Float[np.ndarray, "*draw"]:
    """P(score of a positive > score of a negative) + ½ P(equal), in [0, 1]; ½ says nothing. NaN without scores.

    By ranks (Mann–Whitney): O(n log n), one value a column.

    Examples
    --------
    >>> float(auc(np.array([0.0, 1.0]), np.array([1.0, 2.0])))
    0.875
    """
    n, m = len(negative), len(positive)
    if n == 0 or m == 0:
        return np.full(negative.shape[1:], np.nan)
    ranks = rankdata(np.concatenate([negative, positive]), axis=0)
    return np.asarray((ranks[n:].sum(axis=0) - m * (m + 1) / 2) / (n * m))


def auc_interval(
    negative: Float[np.ndarray, "negative"],
    positive: Float[np.ndarray, "positive"],
    negative_group: Int[np.ndarray, "negative"],
    positive_group: Int[np.ndarray, "positive"],
) -> Interval:
    """95 % jackknife interval of `auc`, leaving out one group at a time from both sides.

    Not a bootstrap: a template drawn twice is compared with its own copies, where contexts differ in nothing but the
    concept, which raises the value.
    """
    labels, index = np.unique(np.concatenate([negative_group, positive_group]), return_inverse=True)
    a, b = index[: len(negative)], index[len(negative) :]
    if len(labels) < 3:
        return (float("nan"), float("nan"))
    won = (positive[None] > negative[:, None]) + 0.5 * (positive[None] == negative[:, None])
    wins = np.zeros((len(labels), len(labels)))
    np.add.at(wins, (a[:, None], b[None]), won)
    n, m = (np.bincount(x, minlength=len(labels)) for x in (a, b))
    total = wins.sum()
    left = total - wins.sum(axis=0) - wins.sum(axis=1) + np.diag(wins)
    room = (n.sum() - n) * (m.sum() - m)
    without = np.divide(left, room, out=np.full(len(labels), np.nan), where=room > 0)
    return jackknife(float(total / (n.sum() * m.sum())), without, bounds=(0.0, 1.0))
