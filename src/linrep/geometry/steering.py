"""What a push along a direction does: held-out readings, specificity, and how far a distribution moved.

Pure functions of arrays; running a model is `linrep.models`' work. At the final layer every reading is arithmetic on
γ, so the caller must say so beside the number.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import linalg
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage

from linrep.errors import InvalidInputError
from linrep.geometry import metrics


def halves(group: Int[np.ndarray, "pair"], rng: np.random.Generator) -> Bool[np.ndarray, "pair"]:
    """Which pairs are in the first half: whole groups, in random order, until half of the pairs are in.

    Both halves are non-empty wherever there are two groups.
    """
    labels, index, counts = np.unique(group, return_inverse=True, return_counts=True)
    order = rng.permutation(len(labels))
    before = np.cumsum(counts[order]) - counts[order]
    chosen = before < len(group) / 2
    if len(labels) > 1:
        chosen[-1] = False
    first = np.zeros(len(labels), dtype=bool)
    first[order[chosen]] = True
    return first[index]


def off_over_on(
    matrix: Float[np.ndarray, "steered read"], own: Int[np.ndarray, "steered"], other: Bool[np.ndarray, "steered read"]
) -> Float[np.ndarray, "steered"]:
    """Median of |change of another concept| over the change of the steered one; NaN where that is not positive.

    Parameters
    ----------
    matrix
        Change of every read concept's log-odds.
    own
        Which column each steered concept is.
    other
        Which columns count as other concepts (not the same, not of its family).
    """
    on = matrix[np.arange(len(matrix)), own]
    off = np.array([np.median(np.abs(row[o])) if o.any() else np.nan for row, o in zip(matrix, other, strict=True)])
    return np.divide(off, on, out=np.full(len(on), np.nan), where=on > 0)


def random_directions_like(
    states: Float[np.ndarray, "context width"],
    direction: Float[np.ndarray, "width"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw width"]:
    """Random directions of the causal norm of `direction`, vᵀH⁻¹v, H the Ledoit–Wolf covariance of the states.

    v = H^½ z with z isotropic: equally likely in the space where the states have unit variance, so that a random push
    goes where states of that layer vary, and is as unusual as the concept's.
    """
    if len(states) < 2:
        raise InvalidInputError(f"a covariance needs at least two states, not {len(states)}")
    root, inverse = covariance_roots(states)
    z = metrics.unit(rng.standard_normal((draws, len(direction))))
    return (z @ root) * np.linalg.norm(inverse @ direction)


def covariance_roots(
    states: Float[np.ndarray, "context width"],
) -> tuple[Float[np.ndarray, "width width"], Float[np.ndarray, "width width"]]:
    """H^½ and H^−½ of the Ledoit–Wolf covariance of some states (of full rank even for few states)."""
    centred = np.asarray(states, dtype=np.float64) - states.mean(axis=0, dtype=np.float64)
    s = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
    h = centred.T @ centred / len(centred)
    mean = float(np.trace(h)) / len(h)
    if not mean > 0:
        raise InvalidInputError("all states are equal: their covariance is zero")
    values, vectors = linalg.eigh((1 - s) * h + s * mean * np.eye(len(h)), driver="evd")
    values = np.maximum(values, 1e-9 * values[-1])  # few distinct states: no direction may have variance 0
    quarter = values**0.25
    up, down = vectors * quarter, vectors / quarter
    return up @ up.T, down @ down.T


def log_softmax(logits: Float[np.ndarray, "*batch token"]) -> Float[np.ndarray, "*batch token"]:
    """Log probabilities, in float64."""
    wide = np.asarray(logits, dtype=np.float64)
    return wide - logsumexp(wide, axis=-1, keepdims=True)


def kl_divergence(
    log_p: Float[np.ndarray, "*batch token"], log_q: Float[np.ndarray, "*#batch token"]
) -> Float[np.ndarray, "*batch"]:
    """KL(p ‖ q) = Σ p (log p − log q), in nats, ≥ 0 up to rounding."""
    p = np.exp(log_p)
    # Where p is 0 the term is 0, whatever the logarithms.
    return np.asarray(np.where(p > 0, p * (log_p - log_q), 0.0).sum(axis=-1))
