"""What trained predictors are held against: the oracles themselves, and interchange on trained predictors."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.svm import SVC

from linrep import ConceptGraph, ContextLaw, World
from linrep.geometry import metrics
from linrep.learning.training import fit_many
from linrep.theory import oracles
from linrep.theory.ridge_path import additive_embeddings

SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=30, deadline=None)


def parallelism(world: World, gamma: np.ndarray) -> float:
    pairs = world.token_pairs()
    ends = [pairs.of(name) for name in pairs.names]
    return float(np.mean([metrics.parallelism(gamma[of[:, 1]].astype(float) - gamma[of[:, 0]]) for of in ends]))


# P1: algebra


def exact(world: World, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """λ, γ with the true log-odds wherever both tokens are possible; those of excluded tokens are arbitrary."""
    rng = np.random.default_rng(seed)
    p = world.p_token_given_context()
    logits = np.where(p > 0, np.log(np.where(p > 0, p, 1)), -20 + rng.standard_normal(p.shape))
    turn = ortho_group.rvs(world.n_tokens, random_state=rng)
    return logits @ turn, turn  # rows of `turn` are orthonormal: λ·γ are the logits


@given(SEEDS, st.sampled_from(["complete", "at-most-2", "masked-0.5"]))
@FEW
def test_p1_matching_log_odds_make_the_projections_parallel_and_say_nothing_of_the_rest(seed, law):
    # Sparse graphs: there must be concepts that are no neighbours.
    world = World(ConceptGraph.random(4, 0.2, seed=seed), ContextLaw.parse(law))
    lam, gamma = exact(world, seed)
    residual, share = oracles.log_odds_match(world, lam, gamma)
    assert residual < 1e-10
    assert 0 < share <= 1 + 1e-12
    found = oracles.projected_parallelism(world, lam, gamma)
    assert np.isnan(found) or found == pytest.approx(1, abs=1e-6)
    relative = oracles.projected_residual(world, lam, gamma)
    assert np.isnan(found) == np.isnan(relative)
    assert np.isnan(found) or relative < 1e-6
    assert parallelism(world, gamma) == pytest.approx(0, abs=1e-10)  # differences that share no token are orthogonal


@given(SEEDS)
@FEW
def test_p1_fails_where_the_log_odds_do_not_match(seed):
    world = World(ConceptGraph.independent(4, seed=seed), ContextLaw.complete())
    lam, gamma = exact(world, seed)
    off = 3 * np.random.default_rng(seed).standard_normal(lam.shape)
    residual, _ = oracles.log_odds_match(world, lam + off, gamma)
    assert residual > 1
    assert oracles.projected_parallelism(world, lam + off, gamma) < 0.9
    assert oracles.projected_residual(world, lam + off, gamma) > 0.5


@given(SEEDS, st.floats(1e-4, 0.3))
@FEW
def test_p1_is_as_good_as_its_premise(seed, noise):
    """Vectors within r and s of one of length 1 make an angle of at most asin r + asin s ≤ (r + s) π/2.

    So the mean cosine is at least 1 − (π²/4) mean(r² + s²) = 1 − (π²/2) residual².
    """
    world = World(ConceptGraph.independent(3, seed=seed), ContextLaw.complete())
    lam, gamma = exact(world, seed)
    gamma = gamma + noise * np.random.default_rng(seed).standard_normal(gamma.shape)
    relative, found = (o(world, lam, gamma) for o in (oracles.projected_residual, oracles.projected_parallelism))
    assert found >= 1 - np.pi**2 / 2 * relative**2 - 1e-12


def test_p1_has_nothing_to_say_where_all_concepts_are_neighbours():
    world = World(ConceptGraph.random(3, 1.0, seed=0), ContextLaw.complete())
    assert np.isnan(oracles.projected_parallelism(world, *exact(world, 0)))
    assert np.isnan(oracles.projected_residual(world, *exact(world, 0)))


# P2: the dual basis and the support vector machine


@given(SEEDS, st.integers(2, 5), st.booleans())
@FEW
def test_the_dual_basis_is_dual_and_in_the_span(seed, m, with_offset):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((m, 8))
    offset = rng.standard_normal(8) if with_offset else None
    w = oracles.dual_basis(a, offset)
    np.testing.assert_allclose(w @ a.T, np.eye(m), atol=1e-8)
    span = a if offset is None else np.vstack([a, offset])
    assert offset is None or np.abs(w @ offset).max() < 1e-8
    np.testing.assert_allclose(w @ np.linalg.pinv(span) @ span, w, atol=1e-8)


def max_margin_cosines(a: np.ndarray) -> np.ndarray:
    """cos(hard-margin direction with bias, dual-basis vector) over all contexts in which the concept is known."""
    contexts, _ = ContextLaw.complete().contexts(len(a))
    lam, dual = additive_embeddings(contexts, a, np.zeros(a.shape[1])), oracles.dual_basis(a)
    found = []
    for i in range(len(a)):
        known = contexts[:, i] >= 0
        machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit(lam[known], contexts[known, i])
        found.append(float(metrics.cosine(machine.coef_[0], dual[i])))
    return np.array(found)


@pytest.mark.parametrize("seed", range(8))
def test_max_margin_is_dual_exactly_where_it_is_said_to_be(seed):
    """Two concepts with the coefficient of one's projection on the other set by hand, and one that is orthogonal."""
    rng = np.random.default_rng(seed)
    e = ortho_group.rvs(4, random_state=rng)
    coefficient = [0.3, 0.9, -0.95, 1.2, -1.5, 2.0, 3.0, 0.0][seed]
    a = np.stack([coefficient * e[0] + e[1], e[0], e[2]])
    same = oracles.max_margin_is_dual(a)
    assert same.tolist()[::2] == [abs(coefficient) <= 1, True]
    cosines = max_margin_cosines(a)
    assert (cosines[same] > 1 - 1e-6).all()
    assert (cosines[~same] < 1 - 1e-3).all()


# Interchange


@cache
def exchanged(m: int, dim: int, law: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Interchange and its control, (seed, right or total variation), and mean parallelism, of three trained tables."""
    worlds = [World(ConceptGraph.random(m, 0.5, seed=s), ContextLaw.parse(law)) for s in range(3)]
    step = 5 * 3 ** ((m - 5) / 2)
    t = fit_many(worlds, seeds=range(3), dim=dim, steps=6000, n_snapshots=2, step_size=step)
    assert t.converged.all()
    ends = [(w, t.embeddings[s, -1], t.unembeddings[s, -1]) for s, w in enumerate(worlds)]
    found = np.array([oracles.interchanges(*end) for end in ends])
    return found[:, 0], found[:, 1], float(np.mean([parallelism(w, gamma) for w, _, gamma in ends]))


@pytest.mark.parametrize("m", [4, 5])
def test_interchange_is_right_along_linear_concepts_and_worse_where_parallelism_is_low(m):
    linear, control, high = exchanged(m, 2 * m, "at-most-2")
    wide, _, low = exchanged(m, 2**m - 1, "complete")
    assert high > 0.9 and low < 0.6
    assert (linear[:, 0] >= 0.95).all() and (linear[:, 1] <= 0.1).all()
    # A random direction of the same length does little of it.
    assert (control[:, 0] < 0.7).all() and (control[:, 1] > 0.8).all()
    assert wide[:, 0].mean() < 0.95 < linear[:, 0].mean()
    assert wide[:, 1].min() > 3 * linear[:, 1].max()


def test_an_untrained_predictor_exchanges_nothing():
    world = World(ConceptGraph.random(4, 0.5, seed=0), ContextLaw.at_most(2))
    rng = np.random.default_rng(0)
    lam, gamma = 0.01 * rng.standard_normal((world.n_contexts, 8)), 0.01 * rng.standard_normal((16, 8))
    swapped, control = oracles.interchanges(world, lam, gamma)
    assert swapped.right < 0.75 and swapped.total_variation > 0.5
    assert abs(swapped.right - control.right) < 0.2
