"""Matched against mismatched: is each concept's own direction better than those of other concepts?

Related concepts (verb forms are differences of each other) are one family, and a family is one label: permuting
labels permutes families. This file sees numbers and labels only.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float, Int

from linrep.geometry.probes import auc

_EXACT = 8  # 8! = 40,320 permutations are listed, above that they are drawn


@dataclass(frozen=True)
class LabelTest:
    """Mean matched value against the same mean under other labels.

    Parameters
    ----------
    matched, mismatched
        Mean of the diagonal, and mean absolute value off it, of the family × family matrix.
    null_high
        95 % point over permutations.
    p_value
        Share of permutations (the identity among them) whose mean is at least the observed one.
    n_families, n_permutations, exact
        Labels, permutations looked at, and whether these were all.
    """

    matched: float
    mismatched: float
    null_high: float
    p_value: float
    n_families: int
    n_permutations: int
    exact: bool


def family_matrix(
    cosines: Float[np.ndarray, "context_concept token_concept"],
    partner: Int[np.ndarray, "context_concept"],
    family: Int[np.ndarray, "token_concept"],
) -> Float[np.ndarray, "family family"]:
    """Collapse concepts into families: entry (f, g) is the mean over contexts of f and the word concepts of g.

    Only word concepts that are some context concept's partner take part. On the diagonal stand the matched cells
    alone (signed): a relative of the partner is neither matched nor mismatched. Off the diagonal stand absolute
    values: a mismatched concept has no sign of its own.
    """
    own = family[partner]
    labels = np.unique(own)
    matrix = np.empty((len(labels), len(labels)))
    for f, a in enumerate(labels):
        rows = np.flatnonzero(own == a)
        for g, b in enumerate(labels):
            if f == g:
                matrix[f, g] = cosines[rows, partner[rows]].mean()
            else:
                columns = np.unique(partner[own == b])
                matrix[f, g] = np.abs(cosines[np.ix_(rows, columns)]).mean()
    return matrix


def label_permutation(
    matrix: Float[np.ndarray, "family family"], draws: int, rng: np.random.Generator
) -> LabelTest | None:
    """Permutation test of the whole matrix: mean_f M[f, π(f)] over relabellings π. None below three families.

    All permutations up to eight families; else `draws` random ones and the identity. The p-value is never below
    1 / permutations: three families cannot reach 0.05.
    """
    k = len(matrix)
    if k < 3:
        return None
    exact = k <= _EXACT
    if exact:
        order = np.array(list(permutations(range(k))))
    else:
        drawn = rng.permuted(np.broadcast_to(np.arange(k), (draws, k)), axis=1)
        order = np.concatenate([np.arange(k)[None], drawn])
    values = matrix[np.arange(k), order].mean(axis=1)
    observed = float(np.diag(matrix).mean())
    return LabelTest(
        matched=observed,
        mismatched=float(matrix[~np.eye(k, dtype=bool)].mean()),
        null_high=float(np.quantile(values, 0.95)),
        p_value=float(np.mean(values >= observed - 1e-12)),
        n_families=k,
        n_permutations=len(order),
        exact=exact,
    )


@dataclass(frozen=True)
class PairScores:
    """How the pairs of one context concept score on its own word direction against those of other families.

    Parameters
    ----------
    positive_share
        Share of pairs whose matched score is above 0.
    auc
        P(matched score > mismatched score) over pairs.
    top1
        Share of pairs for which the matched direction scores highest of all.
    """

    positive_share: float
    auc: float
    top1: float


def pair_scores(scores: Float[np.ndarray, "pair direction"], own: int, other: Int[np.ndarray, "other"]) -> PairScores:
    """Compare column `own` with the columns `other`, which must not hold it.

    Examples
    --------
    >>> s = np.array([[0.5, 0.1], [0.3, 0.4]])
    >>> pair_scores(s, 0, np.array([1]))
    PairScores(positive_share=1.0, auc=0.75, top1=0.5)
    """
    if len(scores) == 0 or len(other) == 0:
        return PairScores(float("nan"), float("nan"), float("nan"))
    mine, others = scores[:, own], scores[:, other]
    return PairScores(
        positive_share=float(np.mean(mine > 0)),
        auc=float(auc(others.reshape(-1), mine)),
        top1=float(np.mean(mine > others.max(axis=1))),
    )
