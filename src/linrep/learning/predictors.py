"""The predictors by name, and the two that are tables: a vector a context or a symbol, and one a token.

The networks are in `linrep.learning.networks`. This file must not know worlds, losses or optimisers.
"""

from __future__ import annotations

import jax
from jaxtyping import Array, Float, Key

from linrep.learning.abstract import AbstractPredictor, Initialiser, flat, gaussian
from linrep.learning.networks import MLPPredictor, TiedTransformerPredictor, TransformerPredictor


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
        context_features: Float[Array, "context *feature"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> TablePredictor:
        """Every entry Gaussian with standard deviation `scale`."""
        context_key, token_key = jax.random.split(key)
        return cls(
            context_table=gaussian(context_key, (dim, len(context_features)), scale, context_features),
            token_table=gaussian(token_key, (dim, n_tokens), scale, context_features),
        )

    def embeddings(self, context_features: Float[Array, "context *feature"]) -> Float[Array, "context dim"]:  # noqa: ARG002 - a table looks contexts up by position
        """λ, read from the table."""
        return self.context_table.T

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


class FactoredPredictor(AbstractPredictor):
    """λ linear in the one-hots of the context's m symbols, λ(d) = Σ_i w(i, d_i); a free γ for each token.

    The m one-hots of a context each sum to 1, so a constant λ0 is included. Of a sentence the symbols are the words at
    their positions.
    """

    symbol_table: Float[Array, "dim feature"]
    token_table: Float[Array, "dim token"]

    @classmethod
    def initial(
        cls,
        key: Key[Array, ""],
        context_features: Float[Array, "context *feature"],
        n_tokens: int,
        dim: int,
        scale: Float[Array, ""],
    ) -> FactoredPredictor:
        """Every entry of w and γ Gaussian with standard deviation `scale`; λ then starts √m times larger."""
        symbol_key, token_key = jax.random.split(key)
        return cls(
            symbol_table=gaussian(symbol_key, (dim, flat(context_features).shape[1]), scale, context_features),
            token_table=gaussian(token_key, (dim, n_tokens), scale, context_features),
        )

    def embeddings(self, context_features: Float[Array, "context *feature"]) -> Float[Array, "context dim"]:
        """λ, the sum of the vectors of the context's symbols."""
        return (self.symbol_table @ flat(context_features).T).T

    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, read from the table."""
        return self.token_table.T


PREDICTORS: dict[str, Initialiser] = {
    "table": TablePredictor.initial,
    "factored": FactoredPredictor.initial,
    "mlp": MLPPredictor.initial,
    "transformer": TransformerPredictor.initial,
    "transformer-tied": TiedTransformerPredictor.initial,
}
