"""The limit of descent on γ with λ fixed, reached along the ridge path instead of waiting for 1/log t.

With λ fixed the penalised loss is strictly convex in γ, so each point of the path is the one minimum and warm starts
are safe. The joint problem, where they are not, is in `nuclear_norm`.

Far down the path two kinds of unknowns differ by the size of the penalty: what changes the odds between tokens that a
context allows has a curvature of order 1, what changes only the odds of excluded tokens one of the order of the
penalty. Newton's method therefore works in a basis that separates them, in which the gradient of the second kind is a
sum over excluded tokens alone: no difference of probabilities, so that penalties far below 1e-16 keep their digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int8, Int64
from scipy.linalg import LinAlgError, LinAlgWarning, solve

from linrep.errors import InvalidInputError

# Directions converge like 1/log²(1/penalty): from 1e-10 to 1e-60 the distance to the limit falls 36 times.
PENALTIES = tuple(10.0 ** -np.array([0, 1, 2, 3, 4, 6, 8, 10, 14, 20, 28, 40, 60]))
_MOST_UNKNOWNS = 1500  # a step then takes about a second
_TOLERANCE = 1e-8  # of a Newton step, relative to ‖γ‖
_MOST_STEPS = 200
_LONGEST = 3.0  # change of a logit in one step, in nats
_PRECISE = 1e-3  # largest share of rounding errors in the gradient that the penalty must balance


@dataclass(frozen=True)
class RidgePath:
    """Minima of cross-entropy + penalty/2 ‖Γ‖², one a penalty, from the largest to the smallest.

    Parameters
    ----------
    penalties
        The penalties.
    unembeddings
        γ at each.
    loss
        Cross-entropy without the penalty, in nats.
    steps
        Newton steps that each point took.
    """

    penalties: Float64[np.ndarray, "point"]
    unembeddings: Float64[np.ndarray, "point token dim"]
    loss: Float64[np.ndarray, "point"]
    steps: Int64[np.ndarray, "point"]


def additive_embeddings(
    context_concepts: Int8[np.ndarray, "context concept"],
    directions: Float[np.ndarray, "concept dim"],
    offset: Float[np.ndarray, "dim"],
) -> Float64[np.ndarray, "context dim"]:
    """λ(d) = λ0 + Σ_{j known} (2 d_j − 1) a_j for binary concepts; λ0 is the offset, a_j the rows of `directions`."""
    signs = np.where(context_concepts == -1, 0.0, 2.0 * context_concepts - 1.0)
    return np.asarray(offset + signs @ directions, dtype=np.float64)


def ridge_path(
    embeddings: Float[np.ndarray, "context dim"],
    p_context: Float[np.ndarray, "context"],
    p_token_given_context: Float[np.ndarray, "context token"],
    penalties: Sequence[float] = PENALTIES,
) -> RidgePath:
    """Follow min_Γ cross-entropy(λ, Γ) + penalty/2 ‖Γ‖²_F as the penalty shrinks.

    Where the data are separable ‖Γ‖ grows like log(1/penalty) and only the directions of the differences Δ converge,
    to those of gradient descent.

    Parameters
    ----------
    embeddings
        λ, fixed.
    p_context, p_token_given_context
        The law that is learned.
    penalties
        Positive and decreasing. The path ends earlier where the contexts are not separable and the next penalty is too
        small for float64; γ has a finite limit there, and has long reached it.

    Raises
    ------
    InvalidInputError
        On penalties that are not positive and decreasing, λ that is not finite, too many unknowns, or a first penalty
        that is too small.

    Source: Ji, Dudík, Schapire, Telgarsky, "Gradient Descent Follows the Regularization Path for General Losses", COLT
    2020, for why this is where descent goes.
    """
    lam, mu = np.asarray(embeddings, dtype=np.float64), np.asarray(penalties, dtype=np.float64)
    _check(lam, mu)
    # γ never leaves the span of λ: the penalty removes whatever is outside.
    _, singular, span = np.linalg.svd(lam, full_matrices=False)
    span = span[singular > 1e-12 * singular[0]]
    problem = _Problem.of(lam @ span.T, p_context, p_token_given_context)
    at = np.zeros(len(problem.basis))
    points, counts = [], []
    for k, penalty in enumerate(mu.tolist()):
        if k > 1:  # the path is nearly straight in the logarithm of the penalty
            ahead = np.log(penalty / mu[k - 1]) / np.log(mu[k - 1] / mu[k - 2])
            at = points[-1] + ahead * (points[-1] - points[-2])
        found = problem.minimise(at, penalty)
        if found is None:
            if not points:
                raise InvalidInputError(f"the first penalty, {penalty:g}, is too small to be reached in float64")
            break
        at, n_steps = found
        points.append(at)
        counts.append(n_steps)
    gamma = np.stack([problem.unembeddings(at) @ span for at in points])
    losses = [problem.loss(at) for at in points]
    return RidgePath(mu[: len(points)], gamma, np.array(losses), np.array(counts, dtype=np.int64))


def _check(lam: Float64[np.ndarray, "context dim"], mu: Float64[np.ndarray, "point"]) -> None:
    if not np.isfinite(lam).all() or not lam.any():
        raise InvalidInputError("the fixed embeddings must be finite, and not all 0")
    if not ((mu > 0).all() and np.isfinite(mu).all() and (np.diff(mu) < 0).all() and len(mu)):
        raise InvalidInputError(f"the penalties are {mu.tolist()}: they must be positive and decreasing")


@dataclass(frozen=True)
class _Problem:
    """Cross-entropy in a basis whose first vectors change no odds between tokens that a context allows.

    Along basis vector n logit (x, y) changes by ``moves[n, x, y]``, up to a constant of the context that is chosen so
    that the first vectors do not move allowed tokens at all.
    """

    basis: Float64[np.ndarray, "unknown token_dim"]
    moves: Float64[np.ndarray, "unknown context token"]
    n_free: int
    p_context: Float64[np.ndarray, "context"]
    p: Float64[np.ndarray, "context token"]

    @classmethod
    def of(cls, lam: np.ndarray, p_context: np.ndarray, p: np.ndarray) -> _Problem:
        n, rank = p.shape[1] * lam.shape[1], lam.shape[1]
        if n > _MOST_UNKNOWNS or n * p.size > 2**27:
            raise InvalidInputError(
                f"{p.shape[1]} tokens in {rank} dimensions are {n} unknowns with {8 * n * p.size / 2**30:.2g} GiB of "
                f"derivatives: at most {_MOST_UNKNOWNS} unknowns and 1 GiB are allowed"
            )
        first = np.argmax(p > 0, axis=1)
        rows = []
        for x, y in np.argwhere(p > 0).tolist():
            if y != first[x]:
                row = np.zeros((p.shape[1], rank))
                row[y], row[first[x]] = lam[x], -lam[x]
                rows.append(row.ravel())
        fixed = np.stack(rows) if rows else np.zeros((1, n))
        # Without what all tokens share: no odds depend on it, and rounding errors over a penalty of 1e-20 are large.
        apart = np.linalg.svd(np.ones((1, p.shape[1])))[2][1:]
        fixed = np.einsum("by,ryi->rbi", apart, fixed.reshape(len(fixed), -1, rank)).reshape(len(fixed), -1)
        # R has the right singular vectors of the tall matrix, whose left ones would fill memory.
        _, singular, basis = np.linalg.svd(np.linalg.qr(fixed, mode="r"), full_matrices=True)
        n_bound = int((singular > 1e-10 * max(singular[0], 1e-300)).sum())
        basis = np.concatenate([basis[n_bound:], basis[:n_bound]]).reshape(len(basis), -1, rank)
        basis = np.einsum("by,nbi->nyi", apart, basis)
        moves = np.einsum("nyi,xi->nxy", basis, lam)
        moves -= np.take_along_axis(moves, first[None, :, None], axis=2)
        n_free = len(basis) - n_bound
        moves[:n_free] *= p == 0  # exactly 0 where only rounding is left
        return cls(basis.reshape(len(basis), -1), moves, n_free, np.asarray(p_context, float), np.asarray(p, float))

    def unembeddings(self, at: Float64[np.ndarray, "unknown"]) -> Float64[np.ndarray, "token rank"]:
        return (at @ self.basis).reshape(self.p.shape[1], -1)

    def _probabilities(self, at: np.ndarray) -> np.ndarray:
        logits = np.tensordot(at, self.moves, 1)
        q = np.exp(logits - logits.max(axis=1, keepdims=True))
        return q / q.sum(axis=1, keepdims=True)

    def loss(self, at: Float64[np.ndarray, "unknown"]) -> float:
        q = self._probabilities(at)
        logs = np.log(q, out=np.zeros_like(q), where=self.p > 0)
        return float(-self.p_context @ (self.p * logs).sum(axis=1))

    def minimise(self, at: np.ndarray, penalty: float) -> tuple[np.ndarray, int] | None:
        """Newton's method with bounded steps; the curvature of the free unknowns is in units of the penalty.

        None where the penalty is too small for float64: excluded tokens keep some probability (the contexts are not
        separable), so that a sum of large terms must balance a small penalty, and Newton's method ends in a singular
        system, in rounding errors, or nowhere.
        """
        flat, n = self.moves.reshape(len(at), -1), self.n_free
        size = np.abs(flat[:n])
        for k in range(_MOST_STEPS):
            q = self._probabilities(at)
            weight = (self.p_context[:, None] * q).ravel()
            surplus = (self.p_context[:, None] * (q - self.p)).ravel()
            # Of the free unknowns only excluded tokens count, and there the surplus is q itself.
            gradient = flat @ surplus + penalty * at
            mean = np.einsum("nxy,xy->nx", self.moves, q)
            hessian = (flat * weight) @ flat.T - (mean * self.p_context) @ mean.T
            hessian[np.diag_indices(len(at))] += penalty
            scale = np.where(np.arange(len(at)) < n, 1 / penalty, 1.0)
            try:
                with warnings.catch_warnings(action="error", category=LinAlgWarning):
                    step = solve(scale[:, None] * hessian, scale * gradient)
            except (LinAlgWarning, LinAlgError):
                return None
            longest = float(np.abs(np.tensordot(step, self.moves, 1)).max())
            at = at - step * min(1.0, _LONGEST / max(longest, 1e-300))
            if np.linalg.norm(step) <= _TOLERANCE * max(1.0, float(np.linalg.norm(at))):
                noise = np.finfo(float).eps * np.linalg.norm(size @ np.abs(surplus))
                return (at, k + 1) if noise <= _PRECISE * penalty * np.linalg.norm(at) else None
        return None
