"""One pass of a model over all contexts: λ in memory, the hidden states of every layer on disk.

Contexts are read once and every experiment looks at the same states. Nothing is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from linrep.errors import StorageError
from linrep.studies.result import Progress

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

_CHUNK = 512  # texts between two visits to the disk


def one_pass(
    model: TransformersModel, texts: Sequence[str], layers: Sequence[int], folder: Path, progress: Progress
) -> tuple[Float[np.ndarray, "context dim"], dict[int, Float[np.ndarray, "context width"]]]:
    """λ of every text at its last token, and its hidden state at some layers as arrays mapped from files in `folder`.

    Raises
    ------
    StorageError
        If the disk has no room for the states: asked before the pass, since a mapped file cannot say so later.
    """
    # Texts of like length share a batch within a chunk, so that chunks are made of texts of like length.
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    lam: np.ndarray | None = None
    states: dict[int, np.ndarray] = {}
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]

        def tell(_what: str, done: int, _of: int, start: int = start) -> None:
            progress((start + done) / len(order), f"contexts, {model.name}")

        found, hidden = model.embeddings([texts[i] for i in rows], layers=layers, progress=tell)
        if lam is None:
            lam = np.empty((len(texts), found.shape[1]), dtype=np.float32)
            states = {k: _room(folder / f"layer-{k}.f32", (len(texts), h.shape[1])) for k, h in hidden.items()}
        lam[rows] = found
        for k, h in hidden.items():
            states[k][rows] = h
    assert lam is not None  # noqa: S101 - a study with contexts has texts
    return lam, states


def _room(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """A file of this shape, its room on the disk taken now."""
    try:
        with path.open("wb") as file:
            size = 4 * shape[0] * shape[1]
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as e:
        raise StorageError(
            f"cannot keep hidden states in {path.parent}: {e.strerror or e}; free some disk, or set TMPDIR"
        ) from e
    return np.memmap(path, dtype=np.float32, mode="r+", shape=shape)


def spread_layers(n_layers: int, most: int) -> tuple[int, ...]:
    """At most `most` layers from 1 to the last, evenly spaced, the last among them.

    Examples
    --------
    >>> spread_layers(30, 4), spread_layers(3, 33)
    ((8, 15, 22, 30), (1, 2, 3))
    """
    count = min(n_layers, most)
    return tuple(sorted({round(n_layers * (i + 1) / count) for i in range(count)}))
