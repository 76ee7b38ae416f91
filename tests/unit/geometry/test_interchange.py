"""Interchange, log-odds and balance on vectors whose answer is known by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linrep.geometry.interchange import (
    balancedness,
    interchange,
    log_odds_residual,
    oblique_coordinates,
    share_in_span,
)

SEEDS = st.integers(0, 10**6)
FEW = settings(max_examples=50, deadline=None)
M = 3
TOKENS = np.array([[int(bit) for bit in f"{k:03b}"] for k in range(8)])
CONTEXTS = TOKENS  # every concept known: a context names one token


def additive(seed: int, dim: int = 6, sharpness: float = 60.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """λ(d) = Σ ± a_j with oblique a_j, γ(c) = ½ sharpness Σ ± w_j with w_j dual to a_j: every known value is copied."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((M, dim))
    w = np.linalg.pinv(a).T
    signs = 2.0 * CONTEXTS - 1
    return signs @ a, sharpness / 2 * (signs @ w), a


def certain(contexts: np.ndarray) -> np.ndarray:
    """p(·|d) of contexts in which everything is known: the token that names it."""
    return (contexts[:, None] == TOKENS[None]).all(axis=2).astype(float)


def swaps(i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every base and source that differ in concept i, and the wanted context d_(i→b)."""
    base, source = (x.ravel() for x in np.meshgrid(np.arange(8), np.arange(8), indexing="ij"))
    chosen = CONTEXTS[base, i] != CONTEXTS[source, i]
    base, source = base[chosen], source[chosen]
    wanted = CONTEXTS[base].copy()
    wanted[:, i] = CONTEXTS[source, i]
    return base, source, wanted


# Interchange


@pytest.mark.parametrize("i", range(M))
@given(seed=SEEDS)
@FEW
def test_linear_concepts_are_exchanged_exactly(i, seed):
    """Additive λ and dual γ: the swapped context is the wanted one, so the prediction is p(·|wanted)."""
    lam, gamma, a = additive(seed)
    base, source, wanted = swaps(i)
    found = interchange(lam, gamma, a, i, base, source, certain(wanted), wanted, TOKENS)
    assert found.right == 1
    # A wrong token has at least one sign against it: e^-sharpness each, and three of eight differ in one concept.
    assert found.total_variation < 10 * np.exp(-60)


@given(SEEDS)
@FEW
def test_random_directions_of_the_same_length_do_worse(seed):
    lam, gamma, a = additive(seed)
    base, source, wanted = swaps(0)
    arguments = (lam, gamma, a, 0, base, source, certain(wanted), wanted, TOKENS)
    control = interchange(*arguments, random_seed=seed)
    assert control.right < 1 and control.total_variation > 0.3
    assert control == interchange(*arguments, random_seed=seed)  # the seed decides


def test_by_hand():
    """One concept, one dimension: λ = ±1, γ = ±t. The swap turns λ = −1 into +1, p̂ = softmax(−t, t)."""
    t = 0.7
    lam, gamma, values = np.array([[-1.0], [1.0]]), np.array([[-t], [t]]), np.array([[0], [1]])
    found = interchange(
        lam, gamma, np.array([[2.0]]), 0, np.array([0]), np.array([1]), np.array([[0.0, 1.0]]), np.array([[1]]), values
    )
    assert found.right == 1
    assert found.total_variation == pytest.approx(1 / (1 + np.exp(2 * t)))


def test_only_known_values_and_tokens_that_name_something_are_read():
    """Concept 1 is unknown in the wanted context; the third token names nothing, and all probability is on it."""
    lam, values = np.array([[0.0], [0.0]]), np.array([[0, 0], [1, 0], [-1, -1]])
    gamma = np.array([[0.0], [0.0], [0.0]])
    gamma_bias = np.hstack([gamma, [[1.0], [2.0], [50.0]]])
    embeddings = np.hstack([lam, [[1.0], [1.0]]])
    found = interchange(
        embeddings, gamma_bias, np.eye(2), 0, np.array([0]), np.array([1]), np.array([[0.0, 1.0, 0.0]]),
        np.array([[1, -1]]), values,
    )  # fmt: skip
    assert found.right == 1  # of the tokens that name a value the likelier is read
    assert found.total_variation == pytest.approx(1)


@given(SEEDS, st.integers(1, 4), st.integers(5, 8))
@FEW
def test_oblique_coordinates_reproduce_the_vectors_of_the_span(seed, k, dim):
    rng = np.random.default_rng(seed)
    directions, alpha = rng.standard_normal((k, dim)), rng.standard_normal((7, k))
    vectors = alpha @ (directions / np.linalg.norm(directions, axis=1, keepdims=True))
    np.testing.assert_allclose(oblique_coordinates(vectors, directions), alpha, atol=1e-8)


@given(SEEDS, st.integers(0, 2), st.floats(-10, 10))
@FEW
def test_a_coordinate_does_not_see_another_concept(seed, i, amount):
    """Adding any multiple of direction j leaves the coordinates along the others, whatever the angle between them."""
    rng = np.random.default_rng(seed)
    directions, vectors = rng.standard_normal((3, 6)), rng.standard_normal((4, 6))
    j = (i + 1) % 3
    before, after = (oblique_coordinates(v, directions) for v in (vectors, vectors + amount * directions[j]))
    others = np.arange(3) != j
    np.testing.assert_allclose(after[:, others], before[:, others], atol=1e-8)
    expected = amount * np.linalg.norm(directions[j])
    np.testing.assert_allclose(after[:, j] - before[:, j], expected, atol=1e-7)


# Log-odds


@given(SEEDS)
@FEW
def test_the_residual_of_the_true_log_odds_is_zero(seed):
    """λ(x) = log p(·|x) and γ the identity: log-odds are differences of log p."""
    rng = np.random.default_rng(seed)
    log_p = np.log(rng.dirichlet(np.ones(6)))
    embeddings = log_p + rng.standard_normal((5, 1))  # a context's constant changes no odds
    a, b = rng.permutation(6)[:3], rng.permutation(6)[3:]
    differences, odds = np.eye(6)[b] - np.eye(6)[a], log_p[b] - log_p[a]
    everywhere = np.ones((5, 3), dtype=bool)
    assert log_odds_residual(embeddings, differences, odds, everywhere) < 1e-12
    off = rng.standard_normal(3)
    assert log_odds_residual(embeddings, differences, odds + off, everywhere) == pytest.approx(
        np.sqrt(np.square(off).mean())
    )


def test_the_residual_counts_what_is_consistent_only():
    embeddings, differences = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[3.0, 50.0]])
    only_first = np.array([[True], [False]])
    assert log_odds_residual(embeddings, differences, np.array([1.0]), only_first) == pytest.approx(2)
    assert np.isnan(log_odds_residual(embeddings, differences, np.array([1.0]), np.zeros((2, 1), dtype=bool)))


# Share in the span


@given(SEEDS, st.integers(1, 3), st.floats(0.1, 10))
@FEW
def test_the_share_in_the_span_is_one_inside_zero_outside_and_what_it_is_between(seed, k, length):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    embeddings = rng.standard_normal((8, k)) @ basis[:k]
    inside, outside = rng.standard_normal((5, k)) @ basis[:k], rng.standard_normal((5, 6 - k)) @ basis[k:]
    assert share_in_span(embeddings, inside) == pytest.approx(1)
    assert share_in_span(embeddings, outside) == pytest.approx(0, abs=1e-12)
    both = share_in_span(embeddings, inside + length * outside)
    parts = np.square(inside).sum(), length**2 * np.square(outside).sum()
    assert both == pytest.approx(parts[0] / sum(parts))


@pytest.mark.parametrize("k", [0, 4])
def test_there_is_no_share_without_contexts_or_differences(k):
    assert np.isnan(share_in_span(np.ones((k, 3)), np.ones((2, 3)) * (k == 0)))


# Balance


def naive_balancedness(lam, gamma, lam0, gamma0) -> float:
    def b(x, y):
        total = np.zeros((x.shape[1], x.shape[1]))
        for row in x:
            total += np.outer(row, row)
        for row in y:
            total -= np.outer(row, row)
        return total

    size = sum(np.sqrt(sum(np.trace(np.outer(r, r) @ np.outer(s, s)) for r in x for s in x)) for x in (lam, gamma))
    return float(np.linalg.norm(b(lam, gamma) - b(lam0, gamma0)) / size)


@given(SEEDS)
@FEW
def test_balancedness_against_sums_of_outer_products(seed):
    rng = np.random.default_rng(seed)
    lam, lam0 = rng.standard_normal((2, 5, 3))
    gamma, gamma0 = rng.standard_normal((2, 4, 3))
    found = float(balancedness(lam, gamma, lam0, gamma0))
    assert found == pytest.approx(naive_balancedness(lam, gamma, lam0, gamma0))
    assert balancedness(lam, gamma, lam, gamma) == 0
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = balancedness(lam @ turn, gamma @ turn, lam0 @ turn, gamma0 @ turn)
    assert float(turned) == pytest.approx(found)


def test_balancedness_of_many_snapshots_is_that_of_each():
    rng = np.random.default_rng(0)
    lam, gamma = rng.standard_normal((4, 5, 3)), rng.standard_normal((4, 6, 3))
    found = balancedness(lam, gamma, lam[0], gamma[0])
    each = [float(balancedness(a, b, lam[0], gamma[0])) for a, b in zip(lam, gamma, strict=True)]
    assert found.shape == (4,) and found[0] == 0
    np.testing.assert_allclose(found, each)
    assert balancedness(0 * lam[0], 0 * gamma[0], 0 * lam[0], 0 * gamma[0]) == 0  # not NaN
