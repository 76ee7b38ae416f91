"""Networks that read a context: a perceptron on any features, and small transformers on sentences.

Each is written for one seed and takes all contexts at once. Hidden maps start with standard deviation 1/√fan-in and
hidden biases at 0 whatever the initial scale; the initial scale is, as for tables, about the standard deviation of the
entries of λ and γ before training. This file must not know worlds, losses or optimisers.
"""

from __future__ import annotations

from math import sqrt

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from linrep.learning.abstract import AbstractPredictor, flat, gaussian

HIDDEN = 64  # units of each hidden layer
WIDTH, HEADS, LAYERS = 32, 4, 2  # of the transformers
FLOATS_A_POSITION = 900  # that a step of a transformer keeps for its gradient, measured (m = 4 and 5)
_EPSILON = 1e-6


class MLPPredictor(AbstractPredictor):
    """λ = W₃ gelu(W₂ gelu(W₁ x + b₁) + b₂) + b₃ of the flattened features x; a free γ for each token."""

    first: Float[Array, "hidden feature"]
    first_bias: Float[Array, "hidden"]
    second: Float[Array, "hidden hidden"]
    second_bias: Float[Array, "hidden"]
    out: Float[Array, "dim hidden"]
    out_bias: Float[Array, "dim"]
    token_table: Float[Array, "dim token"]

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context *feature"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> MLPPredictor:
        """γ Gaussian with standard deviation `scale`, W₃ with `scale`/√hidden, so that λ starts a little smaller.

        Of one-hot features each context has as many as symbols: W₁ has fan-in m (or the length of the sentence).
        """
        x, keys = flat(context_features), jax.random.split(key, 4)
        ones = x.sum() / len(x)
        zeros = jnp.zeros(HIDDEN, x.dtype)
        return cls(
            first=gaussian(keys[0], (HIDDEN, x.shape[1]), 1 / jnp.sqrt(ones), x),
            first_bias=zeros,
            second=gaussian(keys[1], (HIDDEN, HIDDEN), 1 / sqrt(HIDDEN), x),
            second_bias=zeros,
            out=gaussian(keys[2], (dim, HIDDEN), scale / sqrt(HIDDEN), x),
            out_bias=jnp.zeros(dim, x.dtype),
            token_table=gaussian(keys[3], (dim, n_tokens), scale, x),
        )

    def embeddings(self, context_features: Float[Array, "context *feature"]) -> Float[Array, "context dim"]:
        """λ, the output of the last layer."""
        hidden = jax.nn.gelu(flat(context_features) @ self.first.T + self.first_bias[None])
        hidden = jax.nn.gelu(hidden @ self.second.T + self.second_bias[None])
        return hidden @ self.out.T + self.out_bias[None]

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


class Block(eqx.Module):
    """Pre-norm attention and perceptron, each added to the stream.

    The norms have no gain: the maps that follow them absorb it.
    """

    query: Float[Array, "width width"]
    key: Float[Array, "width width"]
    value: Float[Array, "width width"]
    mix: Float[Array, "width width"]
    first: Float[Array, "width hidden"]
    first_bias: Float[Array, "hidden"]
    second: Float[Array, "hidden width"]
    second_bias: Float[Array, "width"]

    @classmethod
    def initial(cls, key: Key[Array, ""], like: Float[Array, "..."]) -> Block:
        """Maps Gaussian with standard deviation 1/√fan-in, biases 0."""
        keys, of_width, of_hidden = jax.random.split(key, 6), 1 / sqrt(WIDTH), 1 / sqrt(HIDDEN)
        query, key_, value, mix = (gaussian(k, (WIDTH, WIDTH), of_width, like) for k in keys[:4])
        return cls(
            query=query,
            key=key_,
            value=value,
            mix=mix,
            first=gaussian(keys[4], (WIDTH, HIDDEN), of_width, like),
            first_bias=jnp.zeros(HIDDEN, like.dtype),
            second=gaussian(keys[5], (HIDDEN, WIDTH), of_hidden, like),
            second_bias=jnp.zeros(WIDTH, like.dtype),
        )

    def __call__(
        self, stream: Float[Array, "context position width"], *, last_only: bool
    ) -> Float[Array, "context read width"]:
        """The stream after the block, at all positions or at the last, which is all that the last block is read at.

        Causal: a position attends to itself and those before it.
        """
        n, length, _ = stream.shape
        inner = norm(stream)
        stream, asking = (stream[:, -1:], inner[:, -1:]) if last_only else (stream, inner)
        query = (asking @ self.query).reshape(n, -1, HEADS, WIDTH // HEADS)
        key = (inner @ self.key).reshape(n, length, HEADS, WIDTH // HEADS)
        value = (inner @ self.value).reshape(n, length, HEADS, WIDTH // HEADS)
        scores = jnp.einsum("nqhe,nkhe->nhqk", query, key) / sqrt(WIDTH // HEADS)
        if not last_only:
            seen = jnp.tril(jnp.ones((length, length), bool))
            scores = jnp.where(seen[None, None], scores, -jnp.inf)
        mixed = jnp.einsum("nhqk,nkhe->nqhe", jax.nn.softmax(scores), value).reshape(n, -1, WIDTH)
        stream = stream + mixed @ self.mix
        hidden = jax.nn.gelu(norm(stream) @ self.first + self.first_bias[None, None])
        return stream + hidden @ self.second + self.second_bias[None, None]


class TransformerPredictor(AbstractPredictor):
    """λ = W_out norm(stream at the query) of a causal pre-norm transformer that reads the words; a free γ a token.

    Two blocks of width 32 with four heads, learned positions. λ is the vector that meets γ: after the final norm and
    the map from the width to d, at the last position.
    """

    word_table: Float[Array, "word width"]
    position_table: Float[Array, "position width"]
    blocks: tuple[Block, ...]
    out: Float[Array, "width dim"]
    token_table: Float[Array, "dim token"]

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context position word"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> TransformerPredictor:
        """γ Gaussian with standard deviation `scale`, W_out with `scale`/√width; words and positions with 1."""
        x, keys = context_features, jax.random.split(key, 4 + LAYERS)
        _, length, n_words = x.shape
        return cls(
            word_table=gaussian(keys[0], (n_words, WIDTH), 1.0, x),
            position_table=gaussian(keys[1], (length, WIDTH), 1.0, x),
            blocks=tuple(Block.initial(k, x) for k in keys[4:]),
            out=gaussian(keys[2], (WIDTH, dim), scale / sqrt(WIDTH), x),
            token_table=gaussian(keys[3], (dim, n_tokens), scale, x),
        )

    def embeddings(self, context_features: Float[Array, "context position word"]) -> Float[Array, "context dim"]:
        """λ at the last position."""
        stream = context_features @ self.word_table + self.position_table[None]
        return _read(self.blocks, stream) @ self.out

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


class TiedTransformerPredictor(AbstractPredictor):
    """The same transformer with one table for the words it reads and the tokens it predicts.

    Row w of the table is a vector of d entries. A word enters as norm(W_in row); the last rows are those of the tokens,
    and they are γ. So the table has γ where a token is read and where it is predicted; it is *one* array. The norm is
    there because γ grows without bound (the loss has no finite minimiser) and what is read must not drown the rest.
    Sentences must mention tokens, or nothing would be tied.
    """

    shared_table: Float[Array, "word dim"]
    into: Float[Array, "dim width"]
    position_table: Float[Array, "position width"]
    blocks: tuple[Block, ...]
    out: Float[Array, "width dim"]
    n_tokens: int = eqx.field(static=True)

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context position word"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> TiedTransformerPredictor:
        """The table Gaussian with standard deviation `scale`, W_out with `scale`/√width; positions with 1."""
        x, keys = context_features, jax.random.split(key, 4 + LAYERS)
        _, length, n_words = x.shape
        return cls(
            shared_table=gaussian(keys[0], (n_words, dim), scale, x),
            into=gaussian(keys[1], (dim, WIDTH), 1 / sqrt(dim), x),
            position_table=gaussian(keys[2], (length, WIDTH), 1.0, x),
            blocks=tuple(Block.initial(k, x) for k in keys[4:]),
            out=gaussian(keys[3], (WIDTH, dim), scale / sqrt(WIDTH), x),
            n_tokens=n_tokens,
        )

    def embeddings(self, context_features: Float[Array, "context position word"]) -> Float[Array, "context dim"]:
        """λ at the last position."""
        words = norm(self.shared_table @ self.into)
        return _read(self.blocks, context_features @ words + self.position_table[None]) @ self.out

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, the last rows of the table."""
        return self.shared_table[-self.n_tokens :]


def norm(x: Float[Array, "*row width"]) -> Float[Array, "*row width"]:
    """Each vector divided by the root mean square of its entries."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + _EPSILON)


def _read(blocks: tuple[Block, ...], stream: Float[Array, "context position width"]) -> Float[Array, "context width"]:
    """The stream at the last position, after all blocks and the final norm."""
    for k, block in enumerate(blocks):
        stream = block(stream, last_only=k == len(blocks) - 1)
    return norm(stream[:, -1])
