"""Small helpers of the run store: what becomes bytes, what is synced, how a failure of the disk is worded."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from linrep import __version__
from linrep.errors import StorageError

# Installed packages whose version can change a number.
_VERSIONED = ("numpy", "scipy", "scikit-learn", "jax", "equinox", "optax", "polars", "torch", "transformers")


def parquet_bytes(table: pl.DataFrame) -> bytes:
    """A table as the bytes of a parquet file."""
    # Through memory: a writer of its own would not sync, and reports a full disk in its own way.
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def without_none(value: Any) -> Any:
    """A configuration without its None values, in plain Python types."""
    if isinstance(value, Mapping):
        return {str(k): without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [without_none(v) for v in value]
    return plain(value) if isinstance(value, np.generic | np.ndarray | Path) else value


def plain(value: Any) -> Any:
    """A NumPy or path value as what JSON and TOML can hold (`TypeError` for anything else)."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r}")


def versions() -> dict[str, str]:
    """Version of linrep, of Python and of every installed package that can change a number."""
    found = {"linrep": __version__, "python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed
    return found


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable, where the system can (some file systems refuse)."""
    try:
        fd = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def storage_error(verb: str, path: Path, e: OSError) -> StorageError:
    """One line about what could not be done where, in the system's own words."""
    return StorageError(f"cannot {verb} {path}: {e.strerror or e}; free space or choose another folder")
