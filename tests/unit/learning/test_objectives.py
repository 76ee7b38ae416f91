"""The exact loss: its value, its floor, its gradient, and logits of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep.learning.objectives import Target, cross_entropy
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

WORLD = World(ConceptGraph.random(3, seed=4), ContextLaw.parse("masked-0.6"))


def target(dtype: str = "float32") -> Target:
    return Target.of(WORLD.p_context, WORLD.p_token_given_context(), np.dtype(dtype))


def vectors(scale: float, dim: int = 2, dtype: str = "float32") -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    rows = WORLD.n_contexts, WORLD.n_tokens
    embeddings, unembeddings = (jnp.asarray(scale * rng.normal(size=(n, dim)), dtype) for n in rows)
    return embeddings, unembeddings


def by_hand(embeddings: jax.Array, unembeddings: jax.Array) -> float:
    """The definition, context by context, in float64."""
    total = 0.0
    for p, row, vector in zip(WORLD.p_context, WORLD.p_token_given_context(), np.asarray(embeddings), strict=True):
        logits = np.asarray(unembeddings, np.float64) @ vector.astype(np.float64)
        log_p = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        total -= p * (row * log_p).sum()
    return float(total)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 3.0])
def test_the_loss_is_the_definition(scale):
    value = float(cross_entropy(*vectors(scale), target()))
    assert value == pytest.approx(by_hand(*vectors(scale)), rel=1e-6)


def test_equal_logits_cost_the_logarithm_of_the_number_of_tokens():
    assert float(cross_entropy(*vectors(0.0), target())) == pytest.approx(np.log(8), rel=1e-6)


def test_the_true_log_probabilities_cost_the_entropy_floor():
    """λ(x) = log p(·|x) and γ the identity: the predictor that knows the law, with e^-60 in place of 0."""
    p = WORLD.p_token_given_context()
    embeddings = jnp.asarray(np.log(np.maximum(p, np.exp(-60))), "float32")
    value = float(cross_entropy(embeddings, jnp.eye(8, dtype="float32"), target()))
    assert value == pytest.approx(WORLD.entropy_floor(), abs=1e-6)


@pytest.mark.parametrize("scale", [30.0, 1e4, 1e8])
def test_large_logits_are_safe(scale):
    """exp of these logits overflows in float32; the loss and its gradient do not."""
    embeddings, unembeddings = vectors(scale)
    value, gradients = jax.value_and_grad(cross_entropy, argnums=(0, 1))(embeddings, unembeddings, target())
    assert float(value) == pytest.approx(by_hand(embeddings, unembeddings), rel=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_values_that_are_not_finite_are_not_hidden():
    embeddings, unembeddings = vectors(1.0)
    assert not np.isfinite(cross_entropy(embeddings.at[0, 0].set(np.inf), unembeddings, target()))
    assert np.isnan(cross_entropy(embeddings, unembeddings.at[0, 0].set(np.nan), target()))


def test_contexts_that_fill_up_a_row_never_occur():
    joint = target().joint
    assert joint.shape == (8, 32)
    assert np.asarray(joint)[:, 27:].max() == 0
    np.testing.assert_allclose(np.asarray(joint)[:, :27].T.sum(axis=1), WORLD.p_context, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(target().p_context)[27:], 0)


def test_the_gradient_scales_with_what_comes_after_the_loss():
    embeddings, unembeddings = vectors(1.0)
    plain = jax.grad(cross_entropy)(embeddings, unembeddings, target())
    tripled = jax.grad(lambda rows: 3 * cross_entropy(rows, unembeddings, target()))(embeddings)
    np.testing.assert_allclose(tripled, 3 * plain, rtol=1e-6)
