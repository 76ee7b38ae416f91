"""How a folder is written whole or not at all, and what becomes bytes; shared by runs and reports.

Everything goes into a hidden folder beside the final one, which one rename puts in place. This file must not know
what is in the files.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import tempfile
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


def new_partial(path: Path) -> Path:
    """Hidden folder beside ``path`` to fill; `put_in_place` gives it its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.partial-", dir=path.parent))
        partial.chmod(0o755)  # mkdtemp keeps others out, a finished folder need not
    except OSError as e:
        raise storage_error("create", path, e) from e
    return partial


def write_bytes(path: Path, content: bytes, final: Path) -> None:
    """Write and sync one file; ``final`` is the name it will have, for the message."""
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise storage_error("write", final, e) from e


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a filled folder to ``path``, replacing what is there; on failure what was there is still there."""
    _sync(partial)
    try:
        if path.is_dir() and any(path.iterdir()):
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
            path.replace(old)  # a folder renames onto an empty folder
            try:
                partial.replace(path)
            except OSError:
                old.replace(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.replace(path)
    except OSError as e:
        raise storage_error("put in place", path, e) from e
    _sync(path.parent)


def storage_error(verb: str, path: Path, e: OSError) -> StorageError:
    """One line about what could not be done where, in the system's own words."""
    return StorageError(f"cannot {verb} {path}: {e.strerror or e}; free space or choose another folder")


def _sync(folder: Path) -> None:
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
