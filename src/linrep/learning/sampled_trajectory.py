"""What a sampled training leaves behind: estimates on the way, λ and γ at the end.

NumPy only, so that reading a trajectory needs no JAX. This file must not train or measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

from linrep.geometry.representations import Representations
from linrep.learning.trajectory import CONVERGED, Status
from linrep.worlds.contexts import UNKNOWN


@dataclass(frozen=True, eq=False)
class SampledTrajectory:
    """How a sampled training went, and the predictor at its end as arrays.

    γ is kept at the end only: at m = 20 every snapshot of it would take 80 MiB.

    Parameters
    ----------
    steps
        Number of training steps behind each estimate: 0 is untrained, the last is the end of training.
    loss
        Mean cross-entropy in the evaluated contexts, in nats; not the expected loss of `Trajectory`.
    excess
        Estimated excess loss under the context law, in nats. Estimates share their contexts, so that their
        differences have less noise than each of them. NaN from the first non-finite loss on, where training stops.
    standard_error
        Of each excess: standard deviation over the evaluated contexts / √n.
    unembeddings
        Final γ, one row a token.
    embeddings
        Final λ of the contexts asked for.
    context_concepts
        These contexts, −1 for ⋄, in lexicographic order with 0 < 1 < ... < ⋄, each once.
    seed
        Of the initial values, the batches and the evaluated contexts.
    world
        Name of the world.
    settings
        Every setting of the training, defaults resolved.
    """

    steps: Int64[np.ndarray, "snapshot"]
    loss: Float64[np.ndarray, "snapshot"]
    excess: Float64[np.ndarray, "snapshot"]
    standard_error: Float64[np.ndarray, "snapshot"]
    unembeddings: Float32[np.ndarray, "token dim"]
    embeddings: Float32[np.ndarray, "context dim"]
    context_concepts: Int8[np.ndarray, "context concept"]
    seed: int
    world: str
    settings: Mapping[str, Any]

    @property
    def status(self) -> Status:
        """How training ended, as `Trajectory.status`, but for sampling.

        ``converged``: the final excess is below 0.02 nats by two standard errors.
        """
        final = (self.loss[-1], self.embeddings, self.unembeddings)
        if not all(np.isfinite(values).all() for values in final):
            return "nonfinite"
        if self.excess[-1] + 2 * self.standard_error[-1] < CONVERGED:
            return "converged"
        return "diverged" if self.loss[-1] > self.loss[0] else "max_steps"

    def representations(self) -> Representations:
        """Final λ and γ, ready for the geometry.

        Pairs of rows are ``world.token_pairs()`` and ``steps.context_pairs(world.graph, context_concepts)``. Tokens
        have no labels and no p(y), which would need all contexts.

        Raises
        ------
        InvalidInputError
            If values are not finite.
        """
        names = ("".join("⋄" if v == UNKNOWN else str(v) for v in row) for row in self.context_concepts.tolist())
        return Representations(
            unembeddings=self.unembeddings,
            embeddings=self.embeddings,
            contexts=tuple(names),
            provenance={"world": self.world, **self.settings, "seed": self.seed, "step": int(self.steps[-1])},
        )
