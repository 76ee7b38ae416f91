"""Predictors: how a context becomes an embedding λ and a token an unembedding γ.

A predictor is its trainable arrays and nothing else, written for one seed; training adds the seed axis with vmap.
This file must not know worlds, losses or optimisers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

# Constructor of the initial values: (key, context_features, n_tokens, dim, scale) -> predictor.
Initialiser = Callable[
    [Key[Array, ""], Float[Array, "context feature"], int, int, Float[Array, ""]], "AbstractPredictor"
]


class AbstractPredictor(eqx.Module):
    """The logit of token y in context x is λ(x)·γ(y).

    Every array field is trained. A new predictor is one subclass and one entry of `PREDICTORS`.
    """

    @abstractmethod
    def embeddings(self, context_features: Float[Array, "context feature"]) -> Float[Array, "context dim"]:
        """λ, one row a context; the features are the one-hots of the context's symbols (0, 1, ⋄), see `World`."""

    @abstractmethod
    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, one row a token."""


# Tables are stored with the short axis first: of XLA's matrix products on CPUs, that of the context gradient took
# eight times longer with contexts as rows (m = d = 5, 64 seeds).
class TablePredictor(AbstractPredictor):
    """A free vector for each context and for each token."""

    context_table: Float[Array, "dim context"]
    token_table: Float[Array, "dim token"]

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context feature"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> TablePredictor:
        """Every entry Gaussian with standard deviation `scale`."""
        context_key, token_key = jax.random.split(key)
        return cls(
            context_table=_gaussian(context_key, (dim, len(context_features)), scale, context_features),
            token_table=_gaussian(token_key, (dim, n_tokens), scale, context_features),
        )

    def embeddings(self, context_features: Float[Array, "context feature"]) -> Float[Array, "context dim"]:  # noqa: ARG002 - a table looks contexts up by position
        """λ, read from the table."""
        return self.context_table.T

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


class FactoredPredictor(AbstractPredictor):
    """λ linear in the one-hots of the context's m symbols, λ(d) = Σ_i w(i, d_i); a free γ for each token.

    The m one-hots of a context each sum to 1, so a constant λ0 is included.
    """

    symbol_table: Float[Array, "dim feature"]
    token_table: Float[Array, "dim token"]

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context feature"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> FactoredPredictor:
        """Every entry of w and γ Gaussian with standard deviation `scale`; λ then starts √m times larger."""
        symbol_key, token_key = jax.random.split(key)
        return cls(
            symbol_table=_gaussian(symbol_key, (dim, context_features.shape[1]), scale, context_features),
            token_table=_gaussian(token_key, (dim, n_tokens), scale, context_features),
        )

    def embeddings(self, context_features: Float[Array, "context feature"]) -> Float[Array, "context dim"]:
        """λ, the sum of the vectors of the context's symbols."""
        return (self.symbol_table @ context_features.T).T

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


def _gaussian(
    key: Key[Array, ""], shape: tuple[int, int], scale: Float[Array, ""], like: Float[Array, "..."]
) -> Float[Array, "dim _"]:
    return scale * jax.random.normal(key, shape, like.dtype)


PREDICTORS: dict[str, Initialiser] = {
    "table": TablePredictor.initial,
    "factored": FactoredPredictor.initial,
}
