"""Training that was interrupted goes on where it stopped, with the same numbers to the last bit.

One file a block of seeds, written whole or not at all; a folder belongs to one training, named by a fingerprint of
everything that decides its numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from linrep.errors import InvalidInputError, StorageError
from linrep.worlds.sentences import AnyWorld, SentenceWorld

_SECONDS = 20.0  # between two files of a block
_FINGERPRINT = "fingerprint.json"

S = TypeVar("S")


def fingerprint(
    worlds: Sequence[AnyWorld], seeds: Sequence[int], settings: Any, arrays: Sequence[np.ndarray | None]
) -> str:
    """Hash of the worlds, seeds, settings and given initial values of a training."""
    digest = hashlib.sha256()
    described = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else settings
    digest.update(json.dumps([described, list(map(int, seeds)), jax.__version__], sort_keys=True).encode())
    for world in {id(w): w for w in worlds}.values():
        # Sentences with the same concepts may be written in different ways.
        read = [world.sequences] if isinstance(world, SentenceWorld) else []
        for part in (world.p_context, world.context_concepts, world.p_token(), *read):
            digest.update(np.ascontiguousarray(part).tobytes())
    for given in arrays:
        digest.update(b"-" if given is None else np.ascontiguousarray(given).tobytes())
    return digest.hexdigest()


class Checkpoints:
    """The folder of one training.

    Parameters
    ----------
    folder
        Made if it is not there.
    mark
        Fingerprint of the training.

    Raises
    ------
    InvalidInputError
        If the folder holds the checkpoints of another training.
    StorageError
        If it cannot be written.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._folder = folder
        self._last: dict[int, float] = {}
        note = folder / _FINGERPRINT
        try:
            if note.is_file():
                seen = json.loads(note.read_text(encoding="utf-8")).get("training")
                if seen != mark:
                    raise InvalidInputError(
                        f"{folder} holds the checkpoints of another training (other settings, worlds or seeds): give "
                        "another folder, or remove it"
                    )
                return
            folder.mkdir(parents=True, exist_ok=True)
            self._write(note, json.dumps({"training": mark}).encode())
        except (OSError, ValueError) as e:
            if isinstance(e, InvalidInputError):
                raise
            raise StorageError(f"cannot use {folder} for checkpoints: {e}") from e

    def save(self, block: int, stop: int, states: Any, kept: Sequence[np.ndarray], *, now: bool) -> None:
        """Write a block before its `stop`-th stop, if the last file is old enough or it must be `now`."""
        if not now and time.monotonic() - self._last.setdefault(block, time.monotonic()) < _SECONDS:
            return
        arrays = {f"state {k}": np.asarray(x) for k, x in enumerate(jax.tree.leaves(states))}
        arrays |= {f"kept {k}": x for k, x in enumerate(kept)} | {"stop": np.array([stop])}
        self._write(self._file(block), save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))
        self._last[block] = time.monotonic()

    def load(self, block: int, states: S, kept: Sequence[np.ndarray]) -> tuple[int, S] | None:
        """Next stop and states of a block, and its snapshots filled into `kept`; None if it has no file."""
        file = self._file(block)
        if not file.is_file():
            return None
        try:
            arrays = load_file(file)
            leaves, structure = jax.tree.flatten(states)
            for k, own in enumerate(kept):
                own[...] = arrays[f"kept {k}"]
            restored = [jax.numpy.asarray(arrays[f"state {k}"].reshape(x.shape), x.dtype) for k, x in enumerate(leaves)]
        except (SafetensorError, KeyError, ValueError) as e:
            raise InvalidInputError(f"the checkpoint {file} is damaged ({e}): remove it to start again") from e
        return int(arrays["stop"].item()), jax.tree.unflatten(structure, restored)

    def remove(self) -> None:
        """Delete the folder's files, and the folder if nothing else is in it."""
        for file in [*self._folder.glob("block-*.safetensors"), self._folder / _FINGERPRINT]:
            file.unlink(missing_ok=True)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()

    def _file(self, block: int) -> Path:
        return self._folder / f"block-{block}.safetensors"

    def _write(self, file: Path, content: bytes) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            temporary.write_bytes(content)
            temporary.replace(file)
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write the checkpoint {file}: {e.strerror or e}") from e
