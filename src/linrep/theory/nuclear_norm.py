"""The joint limit of free tables, minimum nuclear norm: its path in symmetric worlds and in general ones.

With a penalty on λ and γ alike the objective in the logits Z = ΛΓᵀ is cross-entropy + penalty ‖Z‖_*. In uniform worlds
it has the symmetry of the hypercube, which leaves a few convex unknowns that can be followed to penalties of 1e-300; in
general worlds Λ and Γ are optimised themselves, and a point counts only with its certificate. The path is not monotone,
so nothing here extrapolates. The limit itself is in `wide_limit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.optimize import minimize

from linrep.errors import InvalidInputError
from linrep.theory.wide_limit import parallelism_of, singular_maps

REDUCED_PENALTIES = tuple(10.0 ** -np.arange(3.0, 301.0))
JOINT_PENALTIES = tuple(10.0 ** -np.arange(1.0, 6.1, 0.5))
CERTIFICATE = 1.001  # largest ‖∇_Z loss‖₂ / penalty of an accepted point
_SMOOTHINGS = (1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
_MOST_ENTRIES = 2000  # of Λ and Γ together
_PERTURBATION = 1e-3  # relative: a warm start of lost rank would never regain it
_TRIES = 4


@dataclass(frozen=True)
class ReducedPath:
    """Points of the convex path in a uniform world.

    Parameters
    ----------
    penalties
        The penalties.
    excess
        Cross-entropy above its floor, in nats.
    parallelism
        Off-diagonal parallelism of γ, in [0, 1].
    """

    penalties: Float64[np.ndarray, "point"]
    excess: Float64[np.ndarray, "point"]
    parallelism: Float64[np.ndarray, "point"]


def reduced_path(
    n_concepts: int, at_most_known: int | None = None, penalties: Sequence[float] = REDUCED_PENALTIES
) -> ReducedPath:
    r"""Path of cross-entropy + penalty ‖Z‖_* in a uniform world, all contexts with at most k known concepts.

    Unknowns are the margins u(k, h) = z(k, 0) − z(k, h) ≥ 0 of a token that contradicts h of the k known concepts:

    .. math::
        \sum_k p_k \log\bigl(1 + \sum_{h \ge 1} \tbinom{k}{h} e^{-u(k,h)}\bigr)
        + \text{penalty} \sum_{j \ge 1} \tbinom{m}{j} σ_j(u)

    with p_k the share of contexts with k known concepts. Both terms are of the order of the penalty, which is divided
    out before anything is computed, so that float64 reaches 1e-300. The problem is convex: warm starts are safe.

    Raises
    ------
    InvalidInputError
        On fewer than two concepts, a number of known concepts outside 1..m, or penalties that are not positive and
        decreasing.
    """
    m, most = n_concepts, n_concepts if at_most_known is None else at_most_known
    if m < 2 or not 1 <= most <= m:
        raise InvalidInputError(f"the path needs m ≥ 2 and 1 ≤ known ≤ m, not m = {m} and {most} known")
    mu = _checked(penalties)
    cells = [(k, h) for k in range(1, most + 1) for h in range(1, k + 1)]
    known = np.array([k for k, _ in cells])
    ways = np.array([comb(k, h) for k, h in cells], dtype=float)
    shares = np.array([comb(m, k) * 2.0**k for k in range(most + 1)])
    shares /= shares.sum()
    maps, weight = _margin_maps(m, most, cells), np.array([comb(m, j) for j in range(1, m + 1)], dtype=float)
    rows_most = max(map(len, maps))
    stacked = np.stack([np.pad(a, ((0, rows_most - len(a)), (0, 0))) for a in maps])
    problem = _Reduced(shares, known, ways, stacked, weight)
    u, rows = np.full(len(cells), -np.log(mu[0])), []
    for k, penalty in enumerate(mu.tolist()):
        if k:
            u = u + np.log(mu[k - 1] / penalty)
        u = problem.minimum(u, penalty)
        excess = sum(
            shares[k] * np.log1p(np.sum(ways[known == k] * np.exp(-u[known == k]))) for k in range(1, most + 1)
        )
        sigma = np.linalg.norm(stacked @ u, axis=1)
        rows.append((penalty, excess, parallelism_of(np.concatenate([[0.0], sigma]), m)))
    return ReducedPath(*(np.array(column) for column in zip(*rows, strict=True)))


def _checked(penalties: Sequence[float]) -> Float64[np.ndarray, "point"]:
    mu = np.asarray(penalties, dtype=np.float64)
    if not (len(mu) and (mu > 0).all() and np.isfinite(mu).all() and (np.diff(mu) < 0).all()):
        raise InvalidInputError("the penalties must be positive and decreasing")
    return mu


def _margin_maps(m: int, most: int, cells: list[tuple[int, int]]) -> list[Float64[np.ndarray, "known cell"]]:
    """Matrices A_j, j = 1..m, with σ_j = ‖A_j u‖.

    Every context's logits are centred over tokens, which costs nothing in the loss and is best for the norm:
    z(k, 0) = Σ_h C(k, h) u(k, h) / 2^k.
    """
    full = [(k, h) for k in range(1, most + 1) for h in range(k + 1)]
    from_margins = np.zeros((len(full), len(cells)))
    for row, (k, h) in enumerate(full):
        for column, (k2, h2) in enumerate(cells):
            if k == k2:
                from_margins[row, column] = comb(k, h2) / 2**k - (h == h2)
    return [a @ from_margins for a in singular_maps(m, full)[1:]]


@dataclass(frozen=True)
class _Reduced:
    """The reduced objective divided by the penalty, in the margins u."""

    shares: Float64[np.ndarray, "n_known"]
    known: Int64[np.ndarray, "cell"]
    ways: Float64[np.ndarray, "cell"]
    maps: Float64[np.ndarray, "order row cell"]
    weight: Float64[np.ndarray, "order"]

    def minimum(self, u: np.ndarray, penalty: float) -> np.ndarray:
        """Damped Newton's method.

        Minima may have vanishing singular values, where the norm has a kink: it is smoothed, σ → √(σ² + ε²), less and
        less.
        """
        for smoothing in _SMOOTHINGS:
            u = self._smoothed_minimum(u, penalty, smoothing)
        return u

    def _parts(self, u: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Odds of each cell, their sum for each number of known concepts, and the singular values."""
        odds = self.ways * np.exp(-u)
        sigma = np.sqrt(np.square(self.maps @ u).sum(axis=1) + smoothing**2)
        return odds, np.bincount(self.known, weights=odds, minlength=len(self.shares)), sigma

    def _objective(self, u: np.ndarray, penalty: float, smoothing: float) -> float:
        _, totals, sigma = self._parts(u, smoothing)
        return float(self.shares @ np.log1p(totals) / penalty + self.weight @ sigma)

    def _smoothed_minimum(self, u: np.ndarray, penalty: float, smoothing: float) -> np.ndarray:
        grams = self.maps.transpose(0, 2, 1) @ self.maps
        same = self.known[:, None] == self.known
        for _ in range(500):
            odds, totals, sigma = self._parts(u, smoothing)
            within = odds / (1 + totals[self.known])
            slope, pulls = self.shares[self.known] * within / penalty, grams @ u
            gradient = (self.weight / sigma) @ pulls - slope
            hessian = np.diag(slope) - same * np.outer(slope, within)
            hessian += np.einsum("j,jik->ik", self.weight / sigma, grams)
            hessian -= np.einsum("j,ji,jk->ik", self.weight / sigma**3, pulls, pulls)
            step = np.linalg.solve(hessian, gradient)
            start, descent = self._objective(u, penalty, smoothing), float(gradient @ step)
            # A fall of 1e-13 is lost in the rounding of the objective; the margins are then right to about 1e-6.
            if np.abs(step).max() <= 1e-9 * np.abs(u).max() or descent <= 1e-13 * start:
                return u
            size = min(1.0, 2.0 / np.abs(step).max())  # odds may change by e² in a step
            lowered = start - 1e-4 * size * descent + 1e-15 * start
            while size > 1e-12 and self._objective(u - size * step, penalty, smoothing) > lowered:
                size /= 2
            u = u - size * step
        raise InvalidInputError(f"at the penalty {penalty:g} Newton's method does not settle: take more points")


@dataclass(frozen=True)
class JointPath:
    """Points of the joint ridge path in a general world.

    Parameters
    ----------
    penalties
        The penalties.
    embeddings, unembeddings
        Λ and Γ at each.
    loss
        Cross-entropy, in nats.
    certificate
        ‖∇_Z loss‖₂ / penalty: 1 at a minimum over all Z, whatever its rank.
    accepted
        Whether the certificate is at most `CERTIFICATE`.
    """

    penalties: Float64[np.ndarray, "point"]
    embeddings: Float64[np.ndarray, "point context dim"]
    unembeddings: Float64[np.ndarray, "point token dim"]
    loss: Float64[np.ndarray, "point"]
    certificate: Float64[np.ndarray, "point"]
    accepted: Bool[np.ndarray, "point"]


def joint_path(
    p_context: Float[np.ndarray, "context"],
    p_token_given_context: Float[np.ndarray, "context token"],
    *,
    penalties: Sequence[float] = JOINT_PENALTIES,
    seed: int = 0,
) -> JointPath:
    """Follow min cross-entropy(ΛΓᵀ) + penalty/2 (‖Λ‖² + ‖Γ‖²) at full width as the penalty shrinks.

    At full width this is cross-entropy + penalty ‖Z‖_*, which is convex in Z: ‖∇_Z loss‖₂ ≤ penalty certifies a minimum
    over all Z. Each point starts from the last one, perturbed so that no rank is lost, by a trust-region Newton method;
    a point that misses its certificate is tried again from a larger perturbation, and reported as not accepted if it
    still misses.

    Raises
    ------
    InvalidInputError
        On penalties that are not positive and decreasing, or a world too large for it.
    """
    mu, p = _checked(penalties), np.asarray(p_token_given_context, dtype=np.float64)
    n, t = p.shape
    d = min(n, t)
    if (n + t) * d > _MOST_ENTRIES:
        raise InvalidInputError(
            f"{n} contexts and {t} tokens at full width {d} are {(n + t) * d} unknowns: at most {_MOST_ENTRIES}"
        )
    problem = _Joint(np.asarray(p_context, dtype=np.float64), p, d)
    rng = np.random.default_rng(seed)
    at = rng.standard_normal((n + t) * d)
    rows = []
    for penalty in mu.tolist():
        best: tuple[float, np.ndarray] | None = None
        for attempt in range(_TRIES):
            size = _PERTURBATION * 10**attempt * max(1.0, float(np.abs(at).max()))
            found = problem.minimum(at + size * rng.standard_normal(len(at)), penalty)
            certificate = problem.certificate(found, penalty)
            if best is None or certificate < best[0]:
                best = (certificate, found)
            if certificate <= CERTIFICATE:
                break
        assert best is not None  # noqa: S101 - there is at least one attempt
        at = best[1]
        rows.append((*problem.split(at), problem.loss(at), best[0], best[0] <= CERTIFICATE))
    lam, gamma, loss, certificate, accepted = zip(*rows, strict=True)
    return JointPath(mu, np.stack(lam), np.stack(gamma), np.array(loss), np.array(certificate), np.array(accepted))


@dataclass(frozen=True)
class _Joint:
    """The penalised loss of Λ and Γ, flattened one after the other."""

    p_context: Float64[np.ndarray, "context"]
    p: Float64[np.ndarray, "context token"]
    dim: int

    def split(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.p) * self.dim
        return at[:n].reshape(-1, self.dim), at[n:].reshape(-1, self.dim)

    def _softmax(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lam, gamma = self.split(at)
        logits = lam @ gamma.T
        logits = logits - logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return np.exp(logs), logs

    def loss(self, at: np.ndarray) -> float:
        return float(-self.p_context @ (self.p * self._softmax(at)[1]).sum(axis=1))

    def residual(self, at: np.ndarray) -> np.ndarray:
        """∇_Z loss."""
        return self.p_context[:, None] * (self._softmax(at)[0] - self.p)

    def certificate(self, at: np.ndarray, penalty: float) -> float:
        return float(np.linalg.norm(self.residual(at), 2)) / penalty

    def minimum(self, start: np.ndarray, penalty: float) -> np.ndarray:
        def value(at: np.ndarray) -> float:
            return self.loss(at) / penalty + float(at @ at) / 2

        def gradient(at: np.ndarray) -> np.ndarray:
            lam, gamma = self.split(at)
            r = self.residual(at) / penalty
            return np.concatenate([(r @ gamma).ravel(), (r.T @ lam).ravel()]) + at

        def curvature(at: np.ndarray, along: np.ndarray) -> np.ndarray:
            (lam, gamma), (dl, dg) = self.split(at), self.split(along)
            q, r = self._softmax(at)[0], self.residual(at) / penalty
            dz = dl @ gamma.T + lam @ dg.T
            dr = self.p_context[:, None] * q * (dz - (q * dz).sum(axis=1, keepdims=True)) / penalty
            parts = (dr @ gamma + r @ dg, dr.T @ lam + r.T @ dl)
            return np.concatenate([part.ravel() for part in parts]) + along

        found = minimize(value, start, jac=gradient, hessp=curvature, method="trust-krylov",
                         options={"gtol": 1e-7 * np.sqrt(len(start)), "maxiter": 500})  # fmt: skip
        return np.asarray(found.x)
