"""What must hold for any λ, γ and world: symmetries of the loss, conservation, and equivariance of training."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from linrep.learning.descent import State, advance, initial_states, world_data
from linrep.learning.objectives import Target, cross_entropy
from linrep.learning.training import fit, fit_many, log_schedule
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

SEEDS = st.integers(0, 2**31 - 1)
FEW = settings(max_examples=20, deadline=None)


def world(seed: int, m: int = 3, law: str = "complete") -> World:
    return World(ConceptGraph.random(m, seed=seed), ContextLaw.parse(law))


def vectors(seed: int, scale: float, dim: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(27, dim)), scale * rng.normal(size=(8, dim))


def loss(w: World, embeddings: np.ndarray, unembeddings: np.ndarray) -> float:
    target = Target.of(w.p_context, w.p_token_given_context(), np.dtype("float32"))
    return float(cross_entropy(jnp.asarray(embeddings, "float32"), jnp.asarray(unembeddings, "float32"), target))


@given(SEEDS, st.floats(1e-3, 30))
@FEW
def test_no_predictor_beats_the_entropy_floor(seed, scale):
    w = world(seed)
    assert loss(w, *vectors(seed, scale)) >= w.entropy_floor() - 1e-6


@given(SEEDS)
@FEW
def test_the_loss_sees_neither_a_change_of_basis_nor_a_common_shift(seed):
    """Identity 4: (Aλ, A⁻ᵀγ + v) predicts what (λ, γ) does."""
    embeddings, unembeddings = vectors(seed, 1.0)
    rng = np.random.default_rng(seed)
    q, r = (ortho_group.rvs(4, random_state=rng) for _ in range(2))
    a = q @ np.diag(rng.uniform(0.5, 2, 4)) @ r
    moved = loss(world(seed), embeddings @ a.T, unembeddings @ np.linalg.inv(a) + rng.normal(size=4))
    np.testing.assert_allclose(moved, loss(world(seed), embeddings, unembeddings), rtol=2e-6)


@given(SEEDS, st.floats(0.01, 10))
@FEW
def test_the_gradient_of_the_unembeddings_sums_to_zero(seed, scale):
    """A common shift of all γ changes nothing, so descent conserves the mean unembedding."""
    w = world(seed)
    target = Target.of(w.p_context, w.p_token_given_context(), np.dtype("float32"))
    embeddings, unembeddings = (jnp.asarray(x, "float32") for x in vectors(seed, scale))
    gradient = np.asarray(jax.grad(cross_entropy, argnums=1)(embeddings, unembeddings, target))
    assert np.abs(gradient.sum(axis=0)).max() <= 1e-5 * np.abs(gradient).sum(axis=0).max()


@given(SEEDS, SEEDS)
@FEW
def test_training_is_equivariant_under_rotations(seed, rotation_seed):
    """Rotated initial λ and γ give the rotated trajectory: no axis of the space is special to gradient descent."""
    rotation = jnp.asarray(ortho_group.rvs(4, random_state=rotation_seed), "float32")
    data = jax.tree.map(lambda x: x[None], world_data(world(seed), np.dtype("float32")))
    start = initial_states(
        jnp.asarray([seed], np.int32),
        data.context_features,
        jnp.full(1, 0.3, "float32"),
        predictor="table",
        optimizer="gradient_descent",
        n_tokens=8,
        dim=4,
    )
    turned = State(jax.tree.map(lambda table: rotation[None] @ table, start.predictor), start.optimizer)
    # Few and small steps, so that rounding errors cannot grow: descent is unstable around its saddle points.
    plain, other = (
        advance(s, data, np.int32(30), optimizer="gradient_descent", frozen=None)[1] for s in (start, turned)
    )
    np.testing.assert_allclose(other.loss, plain.loss, rtol=1e-5)
    np.testing.assert_allclose(other.embeddings, plain.embeddings @ rotation.T[None], atol=2e-5)
    np.testing.assert_allclose(other.unembeddings, plain.unembeddings @ rotation.T[None], atol=2e-5)
    assert float(jnp.abs(other.embeddings - plain.embeddings).max()) > 0.01


@given(st.integers(1, 10**6), st.integers(2, 100))
@settings(max_examples=200, deadline=None)
def test_the_schedule_is_increasing_from_untrained_to_the_end(steps, n_snapshots):
    schedule = log_schedule(steps, n_snapshots)
    assert schedule[0] == 0
    assert schedule[-1] == steps
    assert (np.diff(schedule) > 0).all()
    assert len(schedule) <= n_snapshots


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40), st.data())
@settings(max_examples=12, deadline=None)
def test_a_seed_does_not_depend_on_its_neighbours(seeds, data):
    """To the last bit, in a batch of any size and at any place in it, one world for all or one a seed."""
    worlds = [world(seed % 5, m=2) for seed in seeds]
    k = data.draw(st.integers(0, len(seeds) - 1))
    same: dict[str, Any] = {"dim": 3, "steps": 40, "n_snapshots": 4}
    together = fit_many(worlds, seeds=seeds, **same)
    alone = fit(worlds[k], seed=seeds[k], **same)
    shared = fit_many(worlds[k], seeds=seeds, **same)
    for name in ("loss", "embeddings", "unembeddings"):
        np.testing.assert_array_equal(getattr(together, name)[k], getattr(alone, name)[0])
        np.testing.assert_array_equal(getattr(shared, name)[k], getattr(alone, name)[0])


@given(SEEDS, st.sampled_from(["nan", "inf", "1e30"]), st.integers(0, 3))
@FEW
def test_a_seed_that_breaks_leaves_the_others_alone(seed, value, broken):
    data = jax.tree.map(lambda x: jnp.stack([x] * 4), world_data(world(seed), np.dtype("float32"), 0.01))
    start = initial_states(
        jnp.arange(4, dtype=np.int32),
        data.context_features,
        jnp.full(4, 0.1, "float32"),
        predictor="table",
        optimizer="adam",
        n_tokens=8,
        dim=3,
    )
    spoiled = eqx.tree_at(
        lambda s: s.predictor.context_table, start, replace_fn=lambda x: x.at[broken].set(float(value))
    )
    good, bad = (advance(s, data, np.int32(20), optimizer="adam", frozen=None)[1] for s in (start, spoiled))
    others = np.arange(4) != broken
    for a, b in zip(jax.tree.leaves(good), jax.tree.leaves(bad), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[others], np.asarray(b)[others])
        assert np.isfinite(np.asarray(b)[others]).all()
    assert not np.array_equal(np.asarray(good.embeddings)[broken], np.asarray(bad.embeddings)[broken])
