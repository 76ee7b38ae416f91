"""The limit of parallelism for free tables of full width, computed instead of trained for.

With d ≥ 2^m − 1 nothing limits the rank of the logits, and small-scale descent goes to the hard-margin solution of
minimum nuclear norm. For a uniform world it has the symmetry of the hypercube, which leaves a few unknowns.
"""

from __future__ import annotations

from math import comb

import numpy as np
from jaxtyping import Float
from scipy.optimize import LinearConstraint, minimize

from linrep.errors import InvalidInputError


def wide_limit_parallelism(n_concepts: int, at_most_known: int | None = None) -> float:
    r"""Off-diagonal parallelism of the minimum-nuclear-norm limit, for complete contexts or at most k known.

    The logit of a token depends on k, the number of known concepts of the context, and h, how many of them the
    token contradicts: z(k, h). The singular values on the token side are
    σ_j = √(2^m Σ_k C(m−j, k−j) 2^k K̂_k(j)²), multiplicity C(m, j), with K̂_k(j) = 2^−k Σ_h z(k, h) K_h(j; k) the
    Krawtchouk transform. The limit minimises Σ_j C(m, j) σ_j subject to z(k, 0) − z(k, h) ≥ 1 for h ≥ 1. With
    s = σ_1 / Σ_j C(m−1, j−1) σ_j, the mean over all N² pairs of differences (N = 2^(m−1)) including each with
    itself, the off-diagonal mean is (N s − 1)/(N − 1).

    Parameters
    ----------
    n_concepts
        m, at least 2.
    at_most_known
        Largest number of known concepts in a context; None for complete contexts.

    Returns
    -------
    float
        Mean cosine of the differences of one concept, in [0, 1].

    Raises
    ------
    InvalidInputError
        For fewer than two concepts or a number of known concepts outside 1..m.

    Examples
    --------
    >>> round(wide_limit_parallelism(2), 3), round(wide_limit_parallelism(4, at_most_known=2), 3)
    (0.268, 0.562)
    """
    m, most = n_concepts, n_concepts if at_most_known is None else at_most_known
    if m < 2 or not 1 <= most <= m:
        raise InvalidInputError(f"the limit needs m ≥ 2 and 1 ≤ known ≤ m, not m = {m} and {most} known")
    cells = [(k, h) for k in range(1, most + 1) for h in range(k + 1)]  # the context without knowledge is constant
    maps = singular_maps(m, cells)
    weight = np.array([comb(m, j) for j in range(m + 1)])
    margins = np.zeros((0, len(cells)))
    for k, h in cells:
        if h > 0:
            row = np.zeros((1, len(cells)))
            row[0, cells.index((k, 0))], row[0, cells.index((k, h))] = 1, -1
            margins = np.concatenate([margins, row])

    def nuclear_norm(z: np.ndarray) -> tuple[float, np.ndarray]:
        # The tiny constant makes the norm differentiable where a singular value vanishes.
        sigma = np.array([np.sqrt(np.square(a @ z).sum() + 1e-14) for a in maps])
        gradient = sum(w * a.T @ (a @ z) / s for w, a, s in zip(weight, maps, sigma, strict=True))
        return float(weight @ sigma), np.asarray(gradient)

    start = np.array([1.0 if h == 0 else -1.0 for _, h in cells])
    best = minimize(
        nuclear_norm, start, jac=True, method="SLSQP", constraints=LinearConstraint(margins, lb=1.0),
        options={"maxiter": 2000, "ftol": 1e-12},
    ).x  # fmt: skip
    return parallelism_of(np.array([np.linalg.norm(a @ best) for a in maps]), m)


def parallelism_of(sigma: Float[np.ndarray, "order"], n_concepts: int) -> float:
    """Off-diagonal parallelism (N s − 1)/(N − 1) of γ with singular values σ_0..σ_m, multiplicity C(m, j)."""
    m, n = n_concepts, 2 ** (n_concepts - 1)
    s = float(sigma[1] / sum(comb(m - 1, j - 1) * sigma[j] for j in range(1, m + 1)))
    return (n * s - 1) / (n - 1)


def singular_maps(n_concepts: int, cells: list[tuple[int, int]]) -> list[Float[np.ndarray, "known cell"]]:
    """Matrices A_j, j = 0..m, with σ_j = ‖A_j z‖ for the logits z of the cells (k, h)."""
    return [_singular_map(n_concepts, j, cells) for j in range(n_concepts + 1)]


def _singular_map(m: int, j: int, cells: list[tuple[int, int]]) -> Float[np.ndarray, "known cell"]:
    """Matrix A with σ_j = ‖A z‖: one row for each number of known concepts k ≥ j."""
    rows = [np.zeros(len(cells))]
    for k in range(max(j, 1), max(k for k, _ in cells) + 1):
        row = np.zeros(len(cells))
        for h in range(k + 1):
            row[cells.index((k, h))] = _krawtchouk(h, j, k) / 2**k
        rows.append(row * np.sqrt(comb(m - j, k - j) * 2.0 ** (k + m)))
    return np.stack(rows)


def _krawtchouk(h: int, j: int, k: int) -> int:
    """Krawtchouk polynomial K_h(j; k) = Σ_i (−1)^i C(j, i) C(k−j, h−i)."""
    return sum((-1) ** i * comb(j, i) * comb(k - j, h - i) for i in range(min(h, j) + 1) if h - i <= k - j)
