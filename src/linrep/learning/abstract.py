"""What every predictor is, and what their constructors share.

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
    [Key[Array, ""], Float[Array, "context *feature"], int, int, Float[Array, ""]], "AbstractPredictor"
]


class AbstractPredictor(eqx.Module):
    """The logit of token y in context x is λ(x)·γ(y).

    Every array field is trained. The field of γ is called ``token_table``; all the others belong to the contexts, which
    is how training knows the sides apart. A new predictor is one subclass and one entry of `PREDICTORS`.
    """

    @abstractmethod
    def embeddings(self, context_features: Float[Array, "context *feature"]) -> Float[Array, "context dim"]:
        """λ, one row a context; the features are those of the world's `context_features`."""

    @abstractmethod
    def unembeddings(self) -> Float[Array, "token dim"]:
        """γ, one row a token."""


def flat(context_features: Float[Array, "context *feature"]) -> Float[Array, "context feature"]:
    """Features with one axis: those of sentences are one-hots by position."""
    return context_features.reshape(len(context_features), -1)


def gaussian(
    key: Key[Array, ""], shape: tuple[int, ...], scale: Float[Array, ""] | float, like: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Independent Gaussian entries with standard deviation `scale`, of the float type of `like`."""
    return scale * jax.random.normal(key, shape, like.dtype)
