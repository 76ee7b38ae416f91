"""Sampled training: the same minimum as exact descent, exact losses, determinism, statuses, refusals."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry.measure import measure
from linrep.learning import checkpoints, sampled
from linrep.learning.descent import initial_states
from linrep.learning.sampled import Law, State, advance, fit_sampled, step_bytes
from linrep.learning.training import fit
from linrep.worlds import steps
from linrep.worlds.contexts import ContextLaw, context_codes
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.markov_field import MarkovField
from linrep.worlds.sampling import WorldSampler
from linrep.worlds.world import World


def small_world(law: str = "complete", m: int = 3) -> World:
    return World(ConceptGraph.random(m, 0.5, seed=1), ContextLaw.parse(law))


def exact_excess(world: World, embeddings: np.ndarray, unembeddings: np.ndarray) -> float:
    """Excess loss of λ and γ of all contexts, in float64."""
    logits = embeddings.astype(np.float64) @ unembeddings.astype(np.float64).T
    log_q = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_q -= logits.max(1, keepdims=True)
    losses = -(world.p_token_given_context() * log_q).sum(axis=1)
    return float(world.p_context @ losses) - world.entropy_floor()


@pytest.mark.parametrize(
    ("predictor", "seed"), [("factored", 0), ("factored", 1), ("table", 0), ("table", 1), ("mlp", 0)]
)
def test_sampled_descent_reaches_the_minimum_of_exact_descent(predictor, seed):
    world = small_world()
    options: dict[str, Any] = {"dim": 6, "predictor": predictor, "seed": seed, "n_snapshots": 3, "steps": 2000}
    by_sampling = fit_sampled(world, optimizer="sgd", contexts=world.context_concepts, **options)
    by_descent = fit(world, step_size=by_sampling.settings["step_size"], **options)
    assert by_descent.excess[0, -1] < 0.02
    excess = exact_excess(world, by_sampling.embeddings, by_sampling.unembeddings)
    assert excess < 0.02
    assert by_sampling.status == "converged"
    # The estimate is of the same predictor.
    assert abs(by_sampling.excess[-1] - excess) < 5 * by_sampling.standard_error[-1] + 1e-5


def test_the_table_of_a_law_with_few_known_concepts():
    world = small_world("at-most-1", m=6)
    trained = fit_sampled(world, dim=6, predictor="table", optimizer="adam", steps=2000, n_snapshots=3)
    np.testing.assert_array_equal(trained.context_concepts, world.context_concepts)
    assert exact_excess(world, trained.embeddings, trained.unembeddings) < 0.02


@pytest.mark.parametrize("predictor", ["factored", "table", "mlp"])
def test_initial_values_are_those_of_fit(predictor):
    world = small_world()
    settings = {"predictor": predictor, "dim": 4, "initial_scale": 0.3, "optimizer": "adam"}
    rows = context_codes(world.context_concepts) if predictor == "table" else None
    batch = sampled._batch_of(WorldSampler(world), world.context_concepts[:7], rows)
    ours = sampled._initial(batch, rows, settings, world.n_tokens, 5)
    theirs = initial_states(
        jnp.array([5], np.int32),
        jnp.asarray(world.context_features())[None],
        jnp.array([0.3], np.float32),
        predictor=predictor,
        optimizer="adam",
        n_tokens=world.n_tokens,
        dim=4,
    )
    assert jax.tree.structure(ours.predictor) == jax.tree.structure(theirs.predictor)
    for own, other in zip(jax.tree.leaves(ours.predictor), jax.tree.leaves(theirs.predictor), strict=True):
        np.testing.assert_allclose(np.asarray(own), np.asarray(other)[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "world",
    [small_world(m=4), World(MarkovField.potts([3, 2, 4], 0.8, seed=2), ContextLaw.complete())],
    ids=["binary", "values"],
)
def test_losses_and_their_gradient_are_exact(world):
    """Against float64 sums over the full table of p(y|x), batch by batch."""
    sampler, rng = WorldSampler(world), np.random.default_rng(3)
    batch = sampled._batch_of(sampler, world.context_concepts, None)
    law = Law(jnp.asarray(sampler.p_assignment, np.float32), jnp.asarray(sampler.token_codes))
    settings = {"predictor": "factored", "dim": 5, "initial_scale": 0.7, "optimizer": "sgd"}
    state = sampled._initial(batch, None, settings, world.n_tokens, 0)
    losses = np.asarray(sampled.losses(state.predictor, batch, law))
    embeddings = np.asarray(state.predictor.embeddings(batch.features), np.float64)
    unembeddings = np.asarray(state.predictor.unembeddings(), np.float64)
    logits = embeddings @ unembeddings.T
    q = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    p = world.p_token_given_context()
    np.testing.assert_allclose(losses, -(p * np.log(q)).sum(axis=1), rtol=2e-6)
    # One step of descent from there moves γ by −rate Rᵀ λ / B, R = q − p over the contexts of the batch.
    chosen = rng.integers(world.n_contexts, size=(2, 7))
    batches = jax.tree.map(lambda x: x[chosen], batch)
    after = advance(
        State(state.predictor, state.optimizer),
        law,
        batches,
        np.int32(1),
        np.int32(1),
        np.float32(2.0),
        optimizer="sgd",
    )
    r = (q - p)[chosen[1]]
    wanted = unembeddings - 2.0 * r.T @ embeddings[chosen[1]] / 7
    np.testing.assert_allclose(np.asarray(after.predictor.unembeddings()), wanted, rtol=1e-4, atol=1e-6)


def same(a, b) -> bool:
    names = ("loss", "excess", "standard_error", "unembeddings", "embeddings")
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in names)


def test_deterministic_in_the_seed_and_not_in_the_chunks(monkeypatch):
    world = small_world(m=5)
    options: dict[str, Any] = {"dim": 5, "steps": 600, "n_snapshots": 4, "n_evaluated": 32}
    first = fit_sampled(world, seed=3, **options)
    assert same(first, fit_sampled(world, seed=3, **options))
    assert not same(first, fit_sampled(world, seed=4, **options))
    monkeypatch.setattr(sampled, "_CHUNK_LOGITS", 16 * 32 * 77)  # stops every 77 steps
    assert same(first, fit_sampled(world, seed=3, **options))


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_to_the_same_bits(tmp_path):
    world = small_world(m=5)
    options: dict[str, Any] = {"dim": 5, "steps": 700, "n_snapshots": 5, "n_evaluated": 32, "optimizer": "adam"}
    folder, told = tmp_path / "kept", []

    def stop_half_way(done: float) -> None:
        if done > 0.5:
            raise Interrupted

    with pytest.raises(Interrupted):
        fit_sampled(world, **options, checkpoint=folder, progress=stop_half_way)
    assert list(folder.glob("block-*"))
    with pytest.raises(InvalidInputError, match="another training"):
        fit_sampled(world, **{**options, "dim": 4}, checkpoint=folder)
    resumed = fit_sampled(world, **options, checkpoint=folder, progress=told.append)
    assert same(resumed, fit_sampled(world, **options))
    assert min(told) > 0.5 and told[-1] == 1.0
    assert not folder.exists()


def test_checkpoints_on_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "_SECONDS", -1.0)  # one at every stop
    options: dict[str, Any] = {"dim": 3, "steps": 600, "n_snapshots": 4, "optimizer": "adam"}
    assert same(fit_sampled(small_world(), **options, checkpoint=tmp_path / "c"), fit_sampled(small_world(), **options))


def test_divergence_is_a_status():
    trained = fit_sampled(small_world(), dim=3, optimizer="sgd", step_size=1e6, initial_scale=1.0, steps=300)
    assert trained.status in ("nonfinite", "diverged")
    lost = fit_sampled(small_world(), dim=3, optimizer="sgd", step_size=1e30, initial_scale=1.0, steps=300)
    assert lost.status == "nonfinite"
    assert np.isfinite(lost.excess[0]) and np.isnan(lost.excess[-1]) and len(lost.excess) == len(lost.steps)


def test_a_short_training_ends_at_max_steps():
    trained = fit_sampled(small_world(m=5), dim=5, steps=30, n_snapshots=3)
    assert trained.status == "max_steps"
    assert trained.loss[-1] < trained.loss[0] and (trained.standard_error > 0).all()


def test_fourteen_concepts_with_complete_contexts_and_their_geometry():
    """4.8 million contexts and 16,384 tokens: neither the contexts nor the table of p(y|x) can be there."""
    world = World(ConceptGraph.random(14, 0.2, seed=1), ContextLaw.complete())
    trained = fit_sampled(world, dim=14, steps=60, n_snapshots=3, n_evaluated=64, step_size=0.03)
    assert trained.excess[-1] + 4 * trained.standard_error[-1] < trained.excess[0]
    assert trained.embeddings.shape == (29, 14) and trained.unembeddings.shape == (2**14, 14)
    assert "_contexts" not in vars(world) and "_normalisers" not in vars(world)
    pairs = steps.context_pairs(world.graph, trained.context_concepts)
    assert pairs.mask.sum() == 14
    contexts = trained.representations().contexts
    assert contexts is not None and contexts[-1] == "⋄" * 14


def test_the_geometry_measures_a_sampled_training():
    world = small_world()
    trained = fit_sampled(world, dim=3, steps=1500, n_snapshots=3)
    pairs = steps.context_pairs(world.graph, trained.context_concepts)
    table = measure(trained.representations(), world.token_pairs(), pairs, draws=19).measurements.table
    for metric in ("parallelism", "alignment"):
        values = table.filter((table["metric"] == metric) & (table["inner_product"] == "euclidean"))["value"]
        assert len(values) and values.is_finite().all()


def test_contexts_asked_for_are_sorted_and_single():
    world = small_world()
    asked = np.array([[1, -1, 0], [0, 0, 0], [1, -1, 0]], dtype=np.int8)
    trained = fit_sampled(world, dim=3, steps=5, n_snapshots=2, contexts=asked)
    assert trained.context_concepts.tolist() == [[0, 0, 0], [1, -1, 0]]
    assert (np.diff(context_codes(trained.context_concepts)) > 0).all()


@pytest.mark.parametrize("law", ["at-most-0", "kept-0.3", "masked-0.5"])
def test_contexts_that_are_kept_by_default_exist(law):
    world = small_world(law)
    trained = fit_sampled(world, dim=3, steps=5, n_snapshots=2)
    assert np.isin(context_codes(trained.context_concepts), context_codes(world.context_concepts)).all()


def test_refused_before_anything_is_allocated():
    world = World(ConceptGraph.chain(20), ContextLaw.complete())
    with pytest.raises(InvalidInputError, match=r"would take .* GiB .* smaller batch"):
        fit_sampled(world, dim=200)
    with pytest.raises(InvalidInputError, match="GiB"):
        fit_sampled(world, dim=20, batch=256)
    with pytest.raises(InvalidInputError, match="GiB"):
        fit_sampled(world, dim=20, predictor="table")
    assert "p_assignment" not in vars(WorldSampler(world))
    fitting = {"dim": 40, "predictor": "factored", "optimizer": "adam", "batch": 16}
    assert 2**29 < step_bytes(world, fitting) < 2**30  # d = 2m is allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"n_snapshots": 1}, "n_snapshots is 1"),
        ({"n_evaluated": 0}, "n_evaluated is 0"),
        ({"step_size": 0.0}, "step_size is 0"),
        ({"initial_scale": float("nan")}, "initial_scale is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"contexts": np.zeros((1, 2), dtype=np.int8)}, "contexts has shape"),
        ({"contexts": np.full((1, 3), 2, dtype=np.int8)}, "contexts has a value"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InvalidInputError, match=message):
        fit_sampled(small_world(), **{"dim": 3, "steps": 5, **options})


def test_unknown_names_and_contexts_that_a_table_does_not_have():
    with pytest.raises(UnknownNameError, match="transformer"):
        fit_sampled(small_world(), dim=3, predictor="transformer")
    with pytest.raises(UnknownNameError, match="did you mean"):
        fit_sampled(small_world(), dim=3, optimizer="adams")
    with pytest.raises(InvalidInputError, match="outside the context law"):
        fit_sampled(small_world("at-most-1"), dim=3, predictor="table", contexts=np.zeros((1, 3), dtype=np.int8))
