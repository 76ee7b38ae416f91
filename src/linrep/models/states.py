"""λ and hidden states of many texts, streamed to disk and kept there under the hash of what made them.

A pass over thousands of contexts is the slow part of every question about a real model, and its result depends on
nothing but weights, configuration, tokens and site. So it is kept: under the fingerprint of the running model and the
hash of the token ids, one array a site. Memory stays at one batch; a pass that is interrupted goes on where it stopped;
an array takes its name only when it is complete. This file must not import torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from huggingface_hub.utils import WeakFileLock
from jaxtyping import Float, Int

from linrep.errors import StorageError
from linrep.models.registry import cache_folder

# Where a state is read: 0 the input embedding, k the output of block k before the final norm, λ what meets γ.
LAMBDA = "λ"
Site = int | str
Progress = Callable[[str, int, int], None]

_LIMIT = 10 << 30  # bytes of states that are kept; the ones not used for longest go first
_BUSY = 3600.0  # seconds since its last sign of life in which an entry may be another process's work
_EVERY = 16  # batches between two notes of how far the pass has come
_PART = ".part"


@runtime_checkable
class RunningModel(Protocol):
    """What is asked of a model: `TransformersModel` has it."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that states depend on besides the tokens."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        ...

    def batches(
        self, rows: Sequence[Sequence[int]], sites: Sequence[Site], *, done: int = 0
    ) -> Iterator[tuple[Int[np.ndarray, "text"], dict[Site, Float[np.ndarray, "text width"]]]]:
        """Which texts, and their states, in an order that depends on the tokens alone."""
        ...


def read_states(
    model: RunningModel,
    texts: Sequence[str],
    sites: Sequence[Site] = (LAMBDA,),
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[Site, Float[np.ndarray, "context width"]]:
    """States of every text at its last token, float32, mapped from disk; only what is not there yet is computed.

    Parameters
    ----------
    model
        The running model.
    texts
        Raw texts, of at least two tokens each.
    sites
        ``"λ"`` and layers. Without λ the pass ends after the last layer asked for.
    cache
        Folder to keep them in: by default ``states`` in linrep's cache folder. At most 10 GB stay, the ones used last.
    progress
        Called with ("embed", done, total).

    Raises
    ------
    InvalidInputError
        On a text that is too short or too long, or a layer that does not exist.
    StorageError
        When the folder cannot be written or the disk has no room: asked before the pass.
    """
    rows = model.encode(texts)
    if not rows:
        return {site: np.zeros((0, 0), np.float32) for site in sites}
    root = cache or cache_folder() / "states"
    entry = root / model.fingerprint[:32] / _hash(rows)
    with _storage_errors(root):
        entry.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(entry / ".lock"):  # a second process waits, then finds them
            kept = {site: _kept(entry, site, len(rows)) for site in sites}
            if missing := sorted((s for s, states in kept.items() if states is None), key=str):
                _fill(entry, model, rows, missing, progress or (lambda _what, _done, _of: None))
            os.utime(entry)
        with suppress(OSError):  # another process may be at it too
            _prune(root, entry)
        return {s: _load(entry / _name(s)) if states is None else states for s, states in kept.items()}


@contextmanager
def _storage_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except StorageError:
        raise
    except OSError as e:
        raise StorageError(
            f"cannot keep states in {root}: {e.strerror or e}; free some disk, or set LINREP_CACHE to another folder"
        ) from e


def _hash(rows: Sequence[Sequence[int]]) -> str:
    digest = hashlib.sha256(np.array([len(row) for row in rows], "<i8").tobytes())
    digest.update(np.array([i for row in rows for i in row], "<i8").tobytes())
    return digest.hexdigest()[:32]


def _name(site: Site) -> str:
    return "lambda.npy" if site == LAMBDA else f"layer-{site}.npy"


def _load(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _kept(entry: Path, site: Site, count: int) -> np.ndarray | None:
    """The states of an earlier pass, or None where there are none or a file was damaged later."""
    try:
        states = _load(entry / _name(site))
    except (OSError, ValueError, EOFError):
        return None
    return states if states.dtype == np.float32 and states.shape[:1] == (count,) else None


def _fill(
    entry: Path, model: RunningModel, rows: Sequence[Sequence[int]], sites: Sequence[Site], progress: Progress
) -> None:
    """Compute some sites of all texts; their files are renamed when the last text is done."""
    journal, parts = entry / "pass.json", {site: entry / (_name(site) + _PART) for site in sites}
    done, arrays = _taken_up(journal, parts, len(rows))
    if not arrays:
        journal.unlink(missing_ok=True)  # before the arrays it speaks of are overwritten
    progress("embed", done, len(rows))
    for n, (at, states) in enumerate(model.batches(rows, sites, done=done), start=1):
        if not arrays:
            arrays = {s: _room(parts[s], (len(rows), states[s].shape[1])) for s in sites}
        for site, values in states.items():
            arrays[site][at] = values
        done += len(at)
        if n % _EVERY == 0:
            _note(journal, done, arrays)
        progress("embed", done, len(rows))
    for site, states in arrays.items():
        states.flush()
        parts[site].replace(entry / _name(site))
    journal.unlink(missing_ok=True)


def _taken_up(journal: Path, parts: Mapping[Site, Path], count: int) -> tuple[int, dict[Site, np.memmap]]:
    """How many texts an interrupted pass over the same sites had done, and its arrays; else none."""
    try:
        told = json.loads(journal.read_text(encoding="utf-8"))
        arrays = {site: np.load(path, mmap_mode="r+") for site, path in parts.items()}
    except (OSError, ValueError, EOFError):
        return 0, {}
    if told["sites"] != [_name(s) for s in parts] or any(len(a) != count for a in arrays.values()):
        return 0, {}
    return int(told["done"]), arrays


def _note(journal: Path, done: int, arrays: Mapping[Site, np.memmap]) -> None:
    """Say how far the arrays are filled: what they hold is on the disk before the note is."""
    for states in arrays.values():
        states.flush()
    new = journal.with_suffix(_PART)
    new.write_text(json.dumps({"done": done, "sites": [_name(s) for s in arrays]}), encoding="utf-8")
    new.replace(journal)
    os.utime(journal.parent)


def _room(path: Path, shape: tuple[int, int]) -> np.memmap:
    """An array in a file whose room on the disk is taken now: a mapped file cannot say later that there is none."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.flush()
        size = file.tell() + 4 * shape[0] * shape[1]
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
    return np.load(path, mmap_mode="r+")


def _prune(root: Path, own: Path) -> None:
    """Remove the entries not used for longest until the rest is within the limit; never `own` or one being filled."""
    entries = sorted((e for e in root.glob("*/*") if e.is_dir()), key=lambda e: e.stat().st_mtime)
    size = {e: sum(f.stat().st_size for f in e.iterdir()) for e in entries}
    total = sum(size.values())
    for entry in entries:
        if total <= _LIMIT:
            return
        if entry != own and entry.stat().st_mtime < time.time() - _BUSY:
            shutil.rmtree(entry, ignore_errors=True)
            total -= size[entry]
