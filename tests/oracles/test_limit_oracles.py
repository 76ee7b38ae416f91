"""The limits of theory/ against each other and against a convex programme solved by a library."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, World
from linrep.errors import InvalidInputError
from linrep.geometry import metrics
from linrep.theory.nuclear_norm import joint_path, reduced_path
from linrep.theory.ridge_path import additive_embeddings, ridge_path
from linrep.theory.wide_limit import wide_limit_parallelism


def uniform(m: int, known: int | None) -> World:
    law = ContextLaw.complete() if known is None else ContextLaw.at_most(known)
    return World(ConceptGraph.independent(m, low=0.5, high=0.5), law)


def parallelism(world: World, gamma: np.ndarray) -> float:
    pairs = world.token_pairs()
    return float(np.mean([metrics.parallelism(np.diff(gamma[pairs.of(name)], axis=1)[:, 0]) for name in pairs.names]))


@pytest.mark.parametrize(("m", "known"), [(2, None), (3, None), (4, 2)])
def test_closed_form_path_and_semidefinite_programme_agree(m: int, known: int | None):
    """The hard-margin problem without any symmetry put in: min ‖Z‖_* with a margin of 1 over excluded tokens."""
    world = uniform(m, known)
    p = world.p_token_given_context()
    z = cvxpy.Variable(p.shape)
    constraints = []
    for x in range(len(p)):
        allowed, excluded = np.flatnonzero(p[x] > 0), np.flatnonzero(p[x] == 0)
        constraints += [z[x, y] == z[x, allowed[0]] for y in allowed[1:]]  # their odds stay finite
        constraints += [z[x, allowed[0]] >= z[x, y] + 1 for y in excluded]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(z)), constraints).solve(solver="SCS", eps=1e-6, max_iters=20_000)
    assert z.value is not None
    _, sigma, rows = np.linalg.svd(z.value)
    programme = parallelism(world, rows[: len(sigma)].T * np.sqrt(sigma))
    path = reduced_path(m, known)
    assert programme == pytest.approx(wide_limit_parallelism(m, known), abs=0.005)
    assert path.parallelism[-1] == pytest.approx(wide_limit_parallelism(m, known), abs=0.005)
    assert path.excess[-1] < 1e-290


def test_the_reduced_path_turns_round():
    """What an extrapolation from the first decades would miss."""
    path = reduced_path(4, 2)
    at = {k: path.parallelism[np.argmin(np.abs(np.log10(path.penalties) + k))] for k in (3, 10, 300)}
    assert at[10] < at[300] - 0.01
    assert at[10] < at[3] - 0.1


@pytest.mark.parametrize(("m", "known"), [(2, None), (3, None), (3, 1)])
def test_the_reduced_path_is_the_joint_one(m: int, known: int | None):
    world = uniform(m, known)
    joint = joint_path(world.p_context, world.p_token_given_context())
    late = joint.penalties <= 1e-3
    assert joint.accepted[late].all()
    reduced = reduced_path(m, known, joint.penalties[late].tolist())
    np.testing.assert_allclose(
        [parallelism(world, gamma) for gamma in joint.unembeddings[late]], reduced.parallelism, atol=2e-4
    )
    np.testing.assert_allclose(joint.loss[late] - world.entropy_floor(), reduced.excess, rtol=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_joint_points_are_certified_minima_in_random_worlds(seed: int):
    world = World(ConceptGraph.random(3, 0.5, seed=seed), ContextLaw.complete())
    p, p_context = world.p_token_given_context(), world.p_context
    path = joint_path(p_context, p, seed=seed)
    assert path.accepted.all()
    for lam, gamma, penalty, accepted in zip(
        path.embeddings, path.unembeddings, path.penalties, path.accepted, strict=True
    ):
        q = np.exp(lam @ gamma.T)
        residual = p_context[:, None] * (q / q.sum(axis=1, keepdims=True) - p)
        assert (np.linalg.norm(residual, 2) <= 1.001 * penalty) == accepted
        np.testing.assert_allclose(lam.T @ lam, gamma.T @ gamma, atol=1e-3 * max(1, np.abs(lam).max() ** 2))  # balanced


def frozen(m: int, d: int, seed: int, offset: str) -> tuple[World, np.ndarray, np.ndarray]:
    """World, λ and the vectors whose dual basis is the limit."""
    rng = np.random.default_rng(seed)
    world = World(ConceptGraph.random(m, 0.5, seed=seed), ContextLaw.at_most(1))
    a = rng.standard_normal((m, d)) / np.sqrt(d)
    zero = {
        "none": np.zeros(d),
        "independent": rng.standard_normal(d) / np.sqrt(d),
        "inside": rng.standard_normal(m) @ a,
    }
    span = np.vstack([a, zero[offset]]) if offset == "independent" else a
    return world, additive_embeddings(world.context_concepts, a, zero[offset]), span


@pytest.mark.parametrize("offset", ["none", "independent"])
@pytest.mark.parametrize("seed", range(5))
def test_the_ridge_path_ends_at_the_dual_basis(offset: str, seed: int):
    world, lam, span = frozen(4, 8, seed, offset)
    path = ridge_path(lam, world.p_context, world.p_token_given_context())
    gamma, dual, pairs = path.unembeddings[-1], np.linalg.pinv(span), world.token_pairs()
    assert parallelism(world, gamma) >= 0.999
    for i, name in enumerate(pairs.names):
        differences = np.diff(gamma[pairs.of(name)], axis=1)[:, 0]
        assert (metrics.cosine(differences, np.broadcast_to(dual[:, i], differences.shape)) >= 0.999).all()


@pytest.mark.parametrize("seed", range(5))
def test_an_offset_inside_the_span_breaks_it(seed: int):
    world, lam, _ = frozen(4, 8, seed, "inside")
    path = ridge_path(lam, world.p_context, world.p_token_given_context())
    assert parallelism(world, path.unembeddings[-1]) < 0.98
    assert path.loss[-1] - world.entropy_floor() > 0.05  # not separable: γ has a finite limit


@pytest.mark.parametrize("offset", ["none", "inside"])
def test_points_of_the_ridge_path_are_stationary(offset: str):
    world, lam, _ = frozen(3, 5, 0, offset)
    p, penalties = world.p_token_given_context(), (1.0, 0.1, 1e-2, 1e-4)
    path = ridge_path(lam, world.p_context, p, penalties)
    for gamma, penalty in zip(path.unembeddings, penalties, strict=True):
        q = np.exp(lam @ gamma.T)
        gradient = (world.p_context[:, None] * (q / q.sum(axis=1, keepdims=True) - p)).T @ lam + penalty * gamma
        assert np.linalg.norm(gradient) <= 1e-7 * penalty * np.linalg.norm(gamma)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w, lam, p: ridge_path(lam, w.p_context, p, (1.0, 2.0)), "positive and decreasing"),
        (lambda w, lam, p: ridge_path(lam, w.p_context, p, (1.0, 0.0)), "positive and decreasing"),
        (lambda w, lam, p: ridge_path(lam * np.nan, w.p_context, p), "finite"),
        (lambda w, lam, p: ridge_path(np.eye(7, 300), w.p_context, np.ones((7, 900)) / 900), "unknowns"),
        (lambda w, lam, p: joint_path(w.p_context, p, penalties=(-1.0,)), "positive and decreasing"),
        (lambda w, lam, p: joint_path(np.ones(300) / 300, np.ones((300, 64)) / 64), "unknowns"),
        (lambda w, lam, p: reduced_path(1), "m ≥ 2"),
        (lambda w, lam, p: reduced_path(3, 4), "1 ≤ known ≤ m"),
    ],
)
def test_bad_input_is_one_clear_line(call, said: str):
    world, lam, _ = frozen(3, 5, 0, "none")
    with pytest.raises(InvalidInputError) as e:
        call(world, lam, world.p_token_given_context())
    assert said in str(e.value) and "\n" not in str(e.value)
