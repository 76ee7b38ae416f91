"""Predictors: initial values and how λ depends on a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep.learning.descent import world_data
from linrep.learning.predictors import PREDICTORS, AbstractPredictor
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

TABLES = ("table", "factored")  # of the networks see test_networks.py
WORLD = World(ConceptGraph.chain(4), ContextLaw.complete())
FEATURES = world_data(WORLD, np.dtype("float32")).context_features


def make(name: str, *, scale: float = 0.1, seed: int = 0, dim: int = 30) -> AbstractPredictor:
    return PREDICTORS[name](jax.random.key(seed), FEATURES, WORLD.n_tokens, dim, jnp.float32(scale))


def test_the_features_are_one_hots_of_0_1_and_unknown():
    for row, concepts in zip(np.asarray(FEATURES), WORLD.context_concepts, strict=True):
        for one_hot, value in zip(row.reshape(4, 3), concepts, strict=True):
            assert one_hot.tolist() == [value == 0, value == 1, value == -1]


@pytest.mark.parametrize("name", TABLES)
def test_shapes(name):
    predictor = make(name)
    assert predictor.embeddings(FEATURES).shape == (81, 30)
    assert predictor.unembeddings().shape == (16, 30)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scale", [0.01, 2.0])
def test_initial_values_are_gaussian_of_the_scale_given(name, scale):
    """Mean 0 and standard deviation `scale`, within five standard errors, for every trained array."""
    for values in map(np.asarray, jax.tree.leaves(make(name, scale=scale))):
        assert abs(values.mean()) < 5 * scale / np.sqrt(values.size)
        assert abs(values.std() / scale - 1) < 5 / np.sqrt(2 * values.size)


@pytest.mark.parametrize("name", TABLES)
def test_the_seed_decides_the_initial_values(name):
    one, same, other = make(name, seed=1), make(name, seed=1), make(name, seed=2)
    for a, b, c in zip(*map(jax.tree.leaves, (one, same, other)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert np.isin(a, c).mean() < 0.05  # float32 draws coincide now and then


def test_context_and_token_tables_are_drawn_apart():
    embeddings = np.asarray(make("table").embeddings(FEATURES))
    assert np.isin(embeddings, np.asarray(make("table").unembeddings())).mean() < 0.05


def test_factored_embeddings_are_sums_of_symbol_vectors():
    """λ(d) − λ(d') for two contexts that differ in one symbol is the same whatever the other symbols are."""
    extended = np.asarray(make("factored").embeddings(FEATURES)).reshape(3, 3, 3, 3, 30)
    for axis in range(4):
        steps = np.diff(extended, axis=axis)
        first = np.take(np.moveaxis(steps, axis, 0).reshape(2, 27, 30), [0], axis=1)
        np.testing.assert_allclose(np.moveaxis(steps, axis, 0).reshape(2, 27, 30) - first, 0, atol=1e-6)


def test_table_embeddings_are_free():
    extended = np.asarray(make("table").embeddings(FEATURES)).reshape(3, 27, 30)
    assert np.ptp(np.diff(extended, axis=0), axis=1).min() > 0.01
