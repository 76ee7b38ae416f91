"""What training leaves behind: λ and γ at every snapshot, the loss, and how each seed ended.

NumPy only, so that reading a trajectory needs no JAX. This file must not train or measure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from linrep.errors import InvalidInputError, StorageError
from linrep.geometry.representations import Representations

# Largest final excess loss, in nats, of a seed that counts as converged.
CONVERGED = 0.02

Status = Literal["converged", "max_steps", "diverged", "nonfinite"]

_ARRAYS = ("steps", "seeds", "loss", "floor", "embeddings", "unembeddings", "token_frequency")
_FORMAT = "linrep trajectory 1"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Snapshots of predictors during training, one a seed.

    Parameters
    ----------
    steps
        Number of training steps behind each snapshot: 0 is untrained, the last is the end of training.
    seeds
        Seed of the initial values.
    loss
        Expected cross-entropy in nats. Values of a seed that diverged are kept as they are, infinities included.
    floor
        Conditional entropy H(Y|X) of each seed's world, in nats: no predictor has a smaller loss.
    embeddings
        λ at each snapshot, one row a context of the world.
    unembeddings
        γ at each snapshot, one row a token of the world.
    token_frequency
        p(y) in each seed's world.
    worlds
        Name of each seed's world.
    tokens
        Label of each token, per seed.
    contexts
        Label of each context, per seed.
    settings
        Every setting of the training, defaults resolved.
    """

    steps: Int64[np.ndarray, "snapshot"]
    seeds: Int64[np.ndarray, "seed"]
    loss: Float64[np.ndarray, "seed snapshot"]
    floor: Float64[np.ndarray, "seed"]
    embeddings: Float[np.ndarray, "seed snapshot context dim"]
    unembeddings: Float[np.ndarray, "seed snapshot token dim"]
    token_frequency: Float64[np.ndarray, "seed token"]
    worlds: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]
    contexts: tuple[tuple[str, ...], ...]
    settings: Mapping[str, Any]

    @property
    def excess(self) -> Float64[np.ndarray, "seed snapshot"]:
        """Loss above the floor, in nats; at least 0 up to the rounding of the training precision."""
        return self.loss - self.floor[:, None]

    @property
    def converged(self) -> Bool[np.ndarray, "seed"]:
        """Whether the final excess loss is below `CONVERGED` = 0.02 nats."""
        return np.array([status == "converged" for status in self.status], dtype=bool)

    @property
    def status(self) -> tuple[Status, ...]:
        """How each seed ended.

        ``converged``: final excess below 0.02 nats. ``max_steps``: the steps ran out before that. ``diverged``: the
        final loss is finite but above the untrained one. ``nonfinite``: final λ, γ or loss is NaN or infinite.
        """
        return tuple(self._status(s) for s in range(len(self.seeds)))

    def _status(self, s: int) -> Status:
        final = (self.loss[s, -1], self.embeddings[s, -1], self.unembeddings[s, -1])
        if not all(np.isfinite(values).all() for values in final):
            return "nonfinite"
        if self.excess[s, -1] < CONVERGED:
            return "converged"
        return "diverged" if self.loss[s, -1] > self.loss[s, 0] else "max_steps"

    def representations(self, seed_index: int = 0, snapshot: int = -1) -> Representations:
        """λ and γ of one seed (its position, not its number) at one snapshot, ready for the geometry.

        Raises
        ------
        InvalidInputError
            If there is no such seed or snapshot, or its values are not finite.
        """
        for name, index, length in (
            ("seed_index", seed_index, len(self.seeds)),
            ("snapshot", snapshot, len(self.steps)),
        ):
            if not -length <= index < length:
                raise InvalidInputError(f"{name} is {index} but there are {length}: use {-length}..{length - 1}")
        return Representations(
            unembeddings=self.unembeddings[seed_index, snapshot],
            embeddings=self.embeddings[seed_index, snapshot],
            tokens=self.tokens[seed_index],
            token_frequency=self.token_frequency[seed_index],
            contexts=self.contexts[seed_index],
            provenance={
                "world": self.worlds[seed_index],
                **{k: v[seed_index] if isinstance(v, list | tuple) else v for k, v in self.settings.items()},
                "seed": int(self.seeds[seed_index]),
                "step": int(self.steps[snapshot]),
            },
        )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, settings and labels as JSON in its metadata; whole or not at all.

        Raises
        ------
        StorageError
            If the file cannot be written.
        """
        path = Path(path)
        labels = {"worlds": self.worlds, "tokens": _shared(self.tokens), "contexts": _shared(self.contexts)}
        header = json.dumps({"format": _FORMAT, **labels, "settings": dict(self.settings)}, ensure_ascii=False)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
            temporary.write_bytes(save(arrays, metadata={"linrep": header}))
            temporary.replace(path)
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write the trajectory to {path}: {e.strerror or e}") from e

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """Read a file written by `save`.

        Raises
        ------
        StorageError
            If there is no such file.
        InvalidInputError
            If it is not a trajectory, or damaged.
        """
        if not Path(path).is_file():
            raise StorageError(f"no trajectory at {path}")
        try:
            with safe_open(path, framework="numpy") as file:
                header = json.loads((file.metadata() or {}).get("linrep", "{}"))
                if header.get("format") != _FORMAT:
                    raise InvalidInputError(f"{path} is a safetensors file but not a trajectory of linrep")
                arrays: dict[str, Any] = {name: file.get_tensor(name) for name in _ARRAYS}
        except SafetensorError as e:
            raise InvalidInputError(f"{path} is not a whole safetensors file: {e}") from e
        n = len(arrays["seeds"])
        return cls(
            **arrays,
            worlds=tuple(header["worlds"]),
            tokens=_one_each(header["tokens"], n),
            contexts=_one_each(header["contexts"], n),
            settings=header["settings"],
        )


def _shared(labels: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Labels once if all seeds have the same."""
    return labels[:1] if all(own == labels[0] for own in labels) else labels


def _one_each(labels: list[list[str]], n_seeds: int) -> tuple[tuple[str, ...], ...]:
    """Inverse of `_shared`."""
    rows = tuple(map(tuple, labels))
    return rows * n_seeds if len(rows) == 1 else rows
