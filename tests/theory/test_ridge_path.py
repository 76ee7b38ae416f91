"""The edges of the ridge path: where it ends early, and what it refuses. Its limits are in tests/oracles."""

import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, World
from linrep.errors import InvalidInputError
from linrep.theory.ridge_path import PENALTIES, RidgePath, additive_embeddings, ridge_path


def frozen(case: str, seed: int, m: int = 3) -> tuple[World, np.ndarray]:
    rng, d = np.random.default_rng(seed), 2 * m
    law = ContextLaw.complete() if case == "unstructured" else ContextLaw.at_most(1)
    world = World(ConceptGraph.random(m, 0.5, seed=seed), law)
    if case == "unstructured":
        return world, rng.standard_normal((world.n_contexts, d)) / np.sqrt(d)
    a = rng.standard_normal((m, d)) / np.sqrt(d)
    offset = rng.standard_normal(m) @ a if case == "offset in the span" else np.zeros(d)
    return world, additive_embeddings(world.context_concepts, a, offset)


def gradient(world: World, lam: np.ndarray, gamma: np.ndarray, penalty: float) -> np.ndarray:
    logits = lam @ gamma.T
    q = np.exp(logits - logits.max(axis=1, keepdims=True))
    q /= q.sum(axis=1, keepdims=True)
    surplus = world.p_context[:, None] * (q - world.p_token_given_context())
    return surplus.T @ lam + penalty * gamma


def follow(case: str, seed: int, m: int = 3) -> tuple[World, np.ndarray, RidgePath]:
    world, lam = frozen(case, seed, m)
    return world, lam, ridge_path(lam, world.p_context, world.p_token_given_context())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("case", ["offset in the span", "unstructured"])
def test_a_path_that_is_not_separable_stays_at_its_finite_limit(case: str, seed: int):
    """To whichever penalty it goes: it says so by its penalties, and every point of it is a minimum."""
    world, lam, path = follow(case, seed)
    n = len(path.penalties)
    np.testing.assert_array_equal(path.penalties, PENALTIES[:n])
    assert len(path.unembeddings) == len(path.loss) == len(path.steps) == n > 1
    size = np.linalg.norm(path.unembeddings, axis=(1, 2))
    assert np.linalg.norm(path.unembeddings[-1] - path.unembeddings[-2]) <= 1e-5 * size[-1]
    assert path.loss[-1] - world.entropy_floor() > 0.05
    # The penalty leaves nothing that all tokens share: any of it is rounding error over penalty.
    assert (np.linalg.norm(path.unembeddings.sum(axis=1), axis=1) <= 1e-10 * size).all()
    for gamma, penalty in zip(path.unembeddings, path.penalties, strict=True):
        assert np.linalg.norm(gradient(world, lam, gamma, penalty)) <= 1e-7 * max(penalty, 1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_a_path_ends_early_where_float64_does(seed: int):
    """With m = 3 some odds between excluded tokens are left to the penalty alone, and these need its digits."""
    *_, path = follow("unstructured", seed)
    assert len(path.penalties) < len(PENALTIES)


@pytest.mark.parametrize("seed", range(3))
def test_a_separable_path_goes_to_the_end_and_its_norm_grows(seed: int):
    *_, path = follow("centred", seed)
    np.testing.assert_array_equal(path.penalties, PENALTIES)
    norm = np.linalg.norm(path.unembeddings, axis=(1, 2))
    assert (np.diff(norm) > 0).all() and norm[-1] > 10 * norm[2]
    assert (np.diff(path.loss) < 1e-15).all() and (np.diff(path.loss)[:8] < 0).all()


def test_one_penalty_is_a_path():
    world, lam = frozen("unstructured", 0)
    path = ridge_path(lam, world.p_context, world.p_token_given_context(), [0.1])
    assert path.unembeddings.shape == (1, 8, 6)


def test_a_first_penalty_that_is_too_small_is_refused():
    world, lam = frozen("unstructured", 0)
    with pytest.raises(InvalidInputError, match="the first penalty, 1e-60, is too small") as e:
        ridge_path(lam, world.p_context, world.p_token_given_context(), [1e-60])
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "penalties",
    [[1.0, 1.0], [1.0, 2.0], [0.1, 0.01, 0.05], [1.0, -1.0], [0.0], [np.inf, 1.0], [np.nan], []],
)
def test_penalties_that_do_not_decrease_are_refused(penalties: list[float]):
    world, lam = frozen("centred", 0)
    with pytest.raises(InvalidInputError, match="positive and decreasing") as e:
        ridge_path(lam, world.p_context, world.p_token_given_context(), penalties)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("lam", [np.zeros((7, 4)), np.full((7, 4), np.inf)])
def test_embeddings_without_directions_are_refused(lam: np.ndarray):
    world, _ = frozen("centred", 0)
    with pytest.raises(InvalidInputError, match="finite, and not all 0"):
        ridge_path(lam, world.p_context, world.p_token_given_context())


@pytest.mark.parametrize(("contexts", "tokens", "dim"), [(600, 600, 3), (3**7, 2**7, 11)])
def test_too_many_unknowns_are_refused_before_they_are_allocated(contexts: int, tokens: int, dim: int):
    """By the number of unknowns, or by the size of their derivatives, which the message gives."""
    lam = np.random.default_rng(0).standard_normal((contexts, dim))
    p = np.full((contexts, tokens), 1 / tokens)
    n = tokens * dim
    with pytest.raises(InvalidInputError, match="unknowns") as e:
        ridge_path(lam, np.full(contexts, 1 / contexts), p)
    assert str(n) in str(e.value) and f"{8 * n * p.size / 2**30:.2g} GiB" in str(e.value)
