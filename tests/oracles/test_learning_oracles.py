"""Training against naive code: the gradient by definition and by automatic differentiation, and whole descents."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep.learning.descent import world_data
from linrep.learning.objectives import Target, cross_entropy
from linrep.learning.predictors import PREDICTORS
from linrep.learning.training import fit
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

WORLDS = [
    World(ConceptGraph.random(3, seed=1), ContextLaw.complete()),
    World(ConceptGraph.random(4, seed=2), ContextLaw.at_most(2)),
    World(ConceptGraph.chain(1), ContextLaw.masked(0.25)),
]


def naive_gradient(world: World, embeddings: np.ndarray, unembeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """∂/∂λ(x) = p(x) Σ_y (p̂(y|x) − p(y|x)) γ(y) and ∂/∂γ(y) = Σ_x p(x) (p̂(y|x) − p(y|x)) λ(x), in loops."""
    p = world.p_token_given_context()
    of_contexts, of_tokens = np.zeros_like(embeddings), np.zeros_like(unembeddings)
    for x, vector in enumerate(embeddings):
        weights = np.exp(unembeddings @ vector)
        for y, q in enumerate(weights / weights.sum()):
            of_contexts[x] += world.p_context[x] * (q - p[x, y]) * unembeddings[y]
            of_tokens[y] += world.p_context[x] * (q - p[x, y]) * vector
    return of_contexts, of_tokens


def naive_loss(embeddings: jax.Array, unembeddings: jax.Array, joint: jax.Array) -> jax.Array:
    return -jnp.sum(joint * jax.nn.log_softmax(embeddings @ unembeddings.T, axis=1))


def drawn(world: World, dim: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(world.n_contexts, dim)), rng.normal(size=(world.n_tokens, dim))


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
def test_the_gradient_is_the_definition_and_the_automatic_one(world):
    table = world.p_token_given_context()
    with jax.enable_x64(True):
        rows = tuple(map(jnp.asarray, drawn(world)))
        ours = jax.grad(cross_entropy, argnums=(0, 1))(*rows, Target.of(world.p_context, table, np.dtype("float64")))
        automatic = jax.grad(naive_loss, argnums=(0, 1))(*rows, jnp.asarray(world.p_context[:, None] * table))
    for mine, other, naive in zip(ours, automatic, naive_gradient(world, *drawn(world)), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-14)
        np.testing.assert_allclose(mine, naive, atol=1e-14)
    single = jax.grad(cross_entropy, argnums=(0, 1))(
        *(jnp.asarray(x, "float32") for x in drawn(world)), Target.of(world.p_context, table, np.dtype("float32"))
    )
    for mine, naive in zip(single, naive_gradient(world, *drawn(world)), strict=True):
        np.testing.assert_allclose(mine, naive, atol=1e-6)


class NaiveAdam:
    """Kingma and Ba's Algorithm 1 for one array, with its default constants."""

    def __init__(self, step_size: float) -> None:
        self.step_size, self.t, self.first, self.second = step_size, 0, np.zeros(()), np.zeros(())

    def step(self, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.t), self.second / (1 - 0.999**self.t)
        return -self.step_size * first / (np.sqrt(second) + 1e-8)


class NaiveDescent:
    def __init__(self, step_size: float) -> None:
        self.step_size = step_size

    def step(self, gradient: np.ndarray) -> np.ndarray:
        return -self.step_size * gradient


@pytest.mark.parametrize(("optimizer", "naive", "step_size"), [
    ("gradient_descent", NaiveDescent, 1.0),
    ("adam", NaiveAdam, 0.02),
])  # fmt: skip
@pytest.mark.parametrize("predictor", ["table", "factored"])
@pytest.mark.parametrize("world", WORLDS[:2], ids=lambda w: w.name)
def test_training_is_the_naive_loop(world, predictor, optimizer, naive, step_size):
    """Forty steps in float64 from the same initial values; the factored gradient follows by the chain rule."""
    with jax.enable_x64(True):
        ours = fit(
            world, dim=3, predictor=predictor, optimizer=optimizer, step_size=step_size, steps=40,
            initial_scale=0.5, seed=2, n_snapshots=2, precision="float64",
        )  # fmt: skip
        one_hots = world_data(world, np.dtype("float64")).context_features
        start: Any = PREDICTORS[predictor](jax.random.key(2), one_hots, world.n_tokens, 3, jnp.float64(0.5))
    unembeddings = np.asarray(start.token_table).T
    if predictor == "factored":
        features, parameters = np.asarray(one_hots), np.asarray(start.symbol_table).T
    else:
        features, parameters = np.eye(world.n_contexts), np.asarray(start.context_table).T
    np.testing.assert_allclose(ours.embeddings[0, 0], features @ parameters, atol=1e-15)
    of_parameters, of_tokens = naive(step_size), naive(step_size)
    for _ in range(40):
        gradients = naive_gradient(world, features @ parameters, unembeddings)
        parameters = parameters + of_parameters.step(features.T @ gradients[0])
        unembeddings = unembeddings + of_tokens.step(gradients[1])
    np.testing.assert_allclose(ours.embeddings[0, 1], features @ parameters, atol=1e-10)
    np.testing.assert_allclose(ours.unembeddings[0, 1], unembeddings, atol=1e-10)
    assert np.abs(ours.embeddings[0, 1] - ours.embeddings[0, 0]).max() > 0.1
