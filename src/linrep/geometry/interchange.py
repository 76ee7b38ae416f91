"""What a linear representation is good for: put one concept of one context into another, and read what comes out.

Plain functions of arrays, for one predictor. Contexts, values and target distributions come from whoever knows the
world; this file must not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from linrep.geometry.metrics import unit


class Interchange(NamedTuple):
    """Outcome of interchanges of one concept.

    Parameters
    ----------
    right
        Share of the known concepts of the wanted context that the predictor names right, in [0, 1].
    total_variation
        ½ Σ_y |p̂(y) − p(y | wanted context)|, mean over interchanges, in [0, 1].
    """

    right: float
    total_variation: float


def oblique_coordinates(
    vectors: Float[np.ndarray, "vector dim"], directions: Float[np.ndarray, "concept dim"]
) -> Float[np.ndarray, "vector concept"]:
    """Coordinates α of the vectors along the directions, Σ_i α_i u_i being the projection on their span.

    Oblique: the coordinate along one direction does not change when another concept is added, whatever the angle
    between the two. With orthonormal directions it is the dot product.
    """
    return vectors @ np.linalg.pinv(unit(directions))


def interchange(
    embeddings: Float[np.ndarray, "context dim"],
    unembeddings: Float[np.ndarray, "token dim"],
    directions: Float[np.ndarray, "concept dim"],
    concept: int,
    base: Int[np.ndarray, "pair"],
    source: Int[np.ndarray, "pair"],
    wanted: Float[np.ndarray, "pair token"],
    wanted_values: Int[np.ndarray, "pair concept"],
    token_values: Int[np.ndarray, "token concept"],
    *,
    random_seed: int | None = None,
) -> Interchange:
    """Swap the oblique component along one concept's direction from a source context into a base context.

        λ' = λ(base) + (α_i(source) − α_i(base)) u_i,   p̂ = softmax(λ'·γ) against p(· | base with i as in source)

    Parameters
    ----------
    embeddings, unembeddings
        λ and γ.
    directions
        One direction of λ a concept.
    concept
        Position i of the concept that is swapped.
    base, source
        Contexts in which i is known, with different values.
    wanted
        p(· | d_(i→b)) of each pair.
    wanted_values
        d_(i→b), −1 where a concept is unknown.
    token_values
        Value of each concept in each token, −1 for tokens that name nothing.
    random_seed
        If given, the control: the same length along a direction drawn at random instead of u_i.

    Returns
    -------
    Interchange
        A value counts as right if it is the one the predictor gives most probability.
    """
    u = unit(directions)
    alpha = oblique_coordinates(embeddings, directions)[:, concept]
    shift = (alpha[source] - alpha[base])[:, None] * u[concept]
    if random_seed is not None:
        drawn = unit(np.random.default_rng(random_seed).standard_normal(shift.shape))
        shift = drawn * np.linalg.norm(shift, axis=1, keepdims=True)
    logits = (embeddings[base] + shift) @ unembeddings.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    right, known = 0, 0
    for j in range(token_values.shape[1]):
        read = _most_likely_value(p, token_values[:, j])
        has = wanted_values[:, j] >= 0
        right += int((read[has] == wanted_values[has, j]).sum())
        known += int(has.sum())
    return Interchange(right / max(1, known), float(np.abs(p - wanted).sum(axis=1).mean() / 2))


def _most_likely_value(p: Float[np.ndarray, "pair token"], values: Int[np.ndarray, "token"]) -> Int[np.ndarray, "pair"]:
    """Value of one concept to which the predictor gives most probability."""
    shares = [p[:, values == v].sum(axis=1) for v in range(int(values.max()) + 1)]
    return np.argmax(np.stack(shares, axis=1), axis=1)


def log_odds_residual(
    embeddings: Float[np.ndarray, "context dim"],
    differences: Float[np.ndarray, "pair dim"],
    log_odds: Float[np.ndarray, "pair"],
    consistent: Bool[np.ndarray, "context pair"],
) -> float:
    """Root mean square of λ(d)·Δ_{c,i} − ℓ_i(c), in nats, over contexts d with i unknown and tokens c that agree.

    0 if the predictor's log-odds are the true ones; NaN if nothing is consistent.
    """
    if not consistent.any():
        return float("nan")
    residual = embeddings @ differences.T - log_odds
    return float(np.sqrt(np.square(residual[consistent]).mean()))


def share_in_span(embeddings: Float[np.ndarray, "context dim"], differences: Float[np.ndarray, "pair dim"]) -> float:
    """Share of Σ‖Δ‖² inside span{λ(d)}, in [0, 1]: what the log-odds in these contexts say anything about."""
    total = float(np.square(differences).sum())
    if not len(embeddings) or total == 0:
        return float("nan")
    _, singular, basis = np.linalg.svd(embeddings, full_matrices=False)
    basis = basis[singular > 1e-6 * singular[0]]
    return float(np.square(differences @ basis.T).sum()) / total


def balancedness(
    embeddings: Float[np.ndarray, "*batch context dim"],
    unembeddings: Float[np.ndarray, "*batch token dim"],
    initial_embeddings: Float[np.ndarray, "context dim"],
    initial_unembeddings: Float[np.ndarray, "token dim"],
) -> Float[np.ndarray, "*batch"]:
    """‖B(t) − B(0)‖_F / (‖ΛᵀΛ‖_F + ‖ΓᵀΓ‖_F) with B = ΛᵀΛ − ΓᵀΓ, in [0, 1]; gradient flow on tables conserves B.

    For factored embeddings pass the parameters (the vectors of the symbols) as embeddings: those are what is conserved.

    Source: Arora, Cohen, Hazan, "On the Optimization of Deep Networks: Implicit Acceleration by Overparameterization",
    ICML 2018.
    """

    def gram(x: np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        return np.swapaxes(x, -1, -2) @ x

    own, other = gram(embeddings), gram(unembeddings)
    drift = own - other - (gram(initial_embeddings) - gram(initial_unembeddings))
    norm = np.linalg.norm(own, axis=(-2, -1)) + np.linalg.norm(other, axis=(-2, -1))
    return np.asarray(np.linalg.norm(drift, axis=(-2, -1)) / np.maximum(norm, np.finfo(float).tiny))
