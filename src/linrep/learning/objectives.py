"""The exact expected loss of a predictor and its gradient, in two layouts with the same numbers.

Many small worlds side by side and one large one want different code: `Target` keeps contexts contiguous and all logits
at once, which is fastest under vmap; `BlockTarget` goes through contexts in blocks whose logits stay in the cache, and
is fastest for one seed and the only one that fits m = 10. Written for one seed and any float type. This file must not
know how λ and γ are parametrised or updated.
"""

from __future__ import annotations

from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Rows of 16 float32 fill the widest vector registers; a row length of 27 or 243 costs up to 60 % more time.
_LANES = 16
# Logits of a block: half a MiB, so that a few such arrays stay in the cache of one core. From m = 7 on there are
# several: of a single one XLA makes slower products, because it sees that tables are stored transposed (LOG.md).
_BLOCK_LOGITS = 2**17


class Target(eqx.Module):
    """What a predictor learns, the joint law p(x, y) of contexts and tokens, for many seeds side by side.

    Contexts are the contiguous axis, padded with contexts that never occur: they add exactly 0 to loss and gradient.
    """

    joint: Float[Array, "token padded"]
    p_context: Float[Array, "padded"]

    @classmethod
    def of(
        cls,
        p_context: Float[np.ndarray, "context"],
        p_token_given_context: Float[np.ndarray, "context token"],
        dtype: np.dtype,
    ) -> Target:
        """Target of p(x) and p(y|x), the product taken in float64."""
        padding = -len(p_context) % _LANES
        joint = (p_context[:, None] * p_token_given_context).T
        return cls(
            joint=jnp.asarray(np.pad(joint, ((0, 0), (0, padding))), dtype),
            p_context=jnp.asarray(np.pad(p_context, (0, padding)), dtype),
        )


class BlockTarget(eqx.Module):
    """The same law for one seed, contexts in blocks of rows; the last block is filled up with contexts of p(x) = 0."""

    joint: Float[Array, "block row token"]
    p_context: Float[Array, "block row"]

    @classmethod
    def of(
        cls,
        p_context: Float[np.ndarray, "context"],
        blocks_of_rows: Iterable[Float[np.ndarray, "_ token"]],
        n_tokens: int,
        dtype: np.dtype,
    ) -> BlockTarget:
        """Target of p(x) and of the rows of p(y|x) in order, which are never all held in float64."""
        n = len(p_context)
        n_blocks = n * n_tokens // _BLOCK_LOGITS + 1
        rows = -(-n // n_blocks)
        rows += -rows % _LANES if n_blocks > 1 else 0
        n_blocks = -(-n // rows)
        joint, start = np.zeros((n_blocks * rows, n_tokens), dtype), 0
        for part in blocks_of_rows:
            joint[start : start + len(part)] = p_context[start : start + len(part), None] * part
            start += len(part)
        padded = np.pad(p_context, (0, n_blocks * rows - n)).astype(dtype)
        return cls(
            joint=jnp.asarray(joint.reshape(n_blocks, rows, n_tokens)),
            p_context=jnp.asarray(padded.reshape(n_blocks, rows)),
        )


def cross_entropy(
    embeddings: Float[Array, "context dim"], unembeddings: Float[Array, "token dim"], target: Target | BlockTarget
) -> Float[Array, ""]:
    """Expected cross-entropy of the predictor under the law of the world, in nats.

        L = − Σ_x Σ_y p(x, y) log softmax_y(λ(x)·γ(y))

    Exact: no sampling. Never below the conditional entropy H(Y|X), up to rounding (about 1e-6 in float32). The
    gradient is written by hand, in the form that compiles to the fastest code,

        R = p(x) softmax_y(λ(x)·γ(y)) − p(x, y),   ∂L/∂λ = R γ,   ∂L/∂γ = Rᵀ λ.

    Logits of any finite size are safe; non-finite λ or γ give a non-finite loss.
    """
    if isinstance(target, Target):
        return _at_once(embeddings, unembeddings, target)
    return _in_blocks(embeddings, unembeddings, target)


# --- all logits at once ----------------------------------------------------------------------------------------


@jax.custom_vjp
def _at_once(
    embeddings: Float[Array, "context dim"], unembeddings: Float[Array, "token dim"], target: Target
) -> Float[Array, ""]:
    return _value_and_residual(embeddings, unembeddings, target)[0]


def _value_and_residual(
    embeddings: Float[Array, "context dim"], unembeddings: Float[Array, "token dim"], target: Target
) -> tuple[Float[Array, ""], Float[Array, "token padded"]]:
    padding = target.joint.shape[1] - len(embeddings)
    contexts = jnp.pad(embeddings.T, ((0, 0), (0, padding)))
    logits = unembeddings @ contexts
    logits = logits - jnp.max(logits, axis=0, keepdims=True)
    odds = jnp.exp(logits)
    total = jnp.sum(odds, axis=0)
    # Summed over tokens first: the rounding errors of the many contexts then average out.
    by_context = jnp.sum(target.joint * (jnp.log(total)[None] - logits), axis=0)
    residual = odds * (target.p_context / total)[None] - target.joint
    return jnp.sum(by_context), residual


def _forward(embeddings: Array, unembeddings: Array, target: Target) -> tuple[Array, tuple[Array, Array, Array]]:
    value, residual = _value_and_residual(embeddings, unembeddings, target)
    return value, (embeddings, unembeddings, residual)


def _backward(saved: tuple[Array, Array, Array], scale: Array) -> tuple[Array, Array, None]:
    embeddings, unembeddings, residual = saved
    n_contexts = len(embeddings)
    contexts = jnp.pad(embeddings.T, ((0, 0), (0, residual.shape[1] - n_contexts)))
    of_contexts = (unembeddings.T @ residual)[:, :n_contexts]
    of_tokens = contexts @ residual.T
    return scale * of_contexts.T, scale * of_tokens.T, None  # the target is data: no gradient


_at_once.defvjp(_forward, _backward)


# --- block by block --------------------------------------------------------------------------------------------


@jax.custom_vjp
def _in_blocks(
    embeddings: Float[Array, "context dim"], unembeddings: Float[Array, "token dim"], target: BlockTarget
) -> Float[Array, ""]:
    def add(total: Array, block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        contexts, joint, _ = block
        logits = contexts @ unembeddings.T
        logits = logits - jnp.max(logits, axis=1, keepdims=True)
        log_total = jnp.log(jnp.sum(jnp.exp(logits), axis=1))
        return total + jnp.sum(jnp.sum(joint * (log_total[:, None] - logits), axis=1)), None

    zero = jnp.zeros((), embeddings.dtype)
    return jax.lax.scan(add, zero, (_blocks(embeddings, target), target.joint, target.p_context))[0]


def _blocks(embeddings: Float[Array, "context dim"], target: BlockTarget) -> Float[Array, "block row dim"]:
    n_blocks, rows = target.p_context.shape
    padded = jnp.pad(embeddings, ((0, n_blocks * rows - len(embeddings)), (0, 0)))
    return padded.reshape(n_blocks, rows, embeddings.shape[1])


def _forward_in_blocks(
    embeddings: Float[Array, "context dim"], unembeddings: Float[Array, "token dim"], target: BlockTarget
) -> tuple[Array, tuple[Array, Array]]:
    """Make the gradients on the way: the residual of all contexts is never held."""

    def gradients(of_tokens: Array, block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        contexts, joint, p_context = block
        logits = contexts @ columns
        odds = jnp.exp(logits - jnp.max(logits, axis=1, keepdims=True))
        residual = odds * (p_context / jnp.sum(odds, axis=1))[:, None] - joint
        return of_tokens + contexts.T @ residual, residual @ unembeddings

    columns = unembeddings.T
    start = jnp.zeros_like(columns)
    of_tokens, of_contexts = jax.lax.scan(
        gradients, start, (_blocks(embeddings, target), target.joint, target.p_context)
    )
    of_contexts = of_contexts.reshape(-1, embeddings.shape[1])[: len(embeddings)]
    value = _in_blocks(embeddings, unembeddings, target)  # not computed where nobody reads it
    return value, (of_contexts, of_tokens.T)


def _backward_in_blocks(saved: tuple[Array, Array], scale: Array) -> tuple[Array, Array, None]:
    of_contexts, of_tokens = saved
    return scale * of_contexts, scale * of_tokens, None


_in_blocks.defvjp(_forward_in_blocks, _backward_in_blocks)
