"""Run directories: written whole or not at all, verified when read.

A run is a folder with ``config.toml`` (fully resolved), ``measurements.parquet``, optional tables and arrays,
and ``run.json``, written last: its presence means complete. Everything is first written into a hidden folder
beside the final one, which one rename then puts in place, so that neither a full disk nor a killed process
leaves something that looks like a finished run. This file must not know what the numbers mean.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import polars as pl
import safetensors.numpy
import tomli_w
from safetensors import SafetensorError

from linrep import __version__
from linrep.errors import InvalidInputError, StorageError
from linrep.geometry.measurements import Measurements
from linrep.runs.files import (
    new_partial,
    parquet_bytes,
    plain,
    put_in_place,
    storage_error,
    versions,
    without_none,
    write_bytes,
)

SCHEMA_VERSION = 1
RUN_FILE = "run.json"
CONFIG_FILE = "config.toml"
MEASUREMENTS_FILE = "measurements.parquet"
ARRAYS_FILE = "arrays.safetensors"

Kind = Literal["simulate", "measure", "origins", "sweep", "calibration", "real-model"]

# The metric whose status is that of a seed of a source, or of a concept of a model.
_STATUS_METRIC = {
    "simulate": "excess_loss", "origins": "excess_loss", "sweep": "excess_loss", "measure": "parallelism",
    "real-model": "parallelism",
    "calibration": "parallelism",
}  # fmt: skip


class RunWriter:
    """Writes one run directory; a context manager that keeps it only if its block succeeds.

    Parameters
    ----------
    path
        The folder to create. It may exist if it is empty, or if it is a run and ``overwrite`` is true.
    kind
        ``"simulate"`` or ``"measure"``.
    title
        One line for people, shown by the report.
    config
        The fully resolved configuration. TOML has no null: keys whose value is None are left out.
    overwrite
        Replace an existing run. A folder that is not a run is never replaced.
    started
        When the work began, with its time zone; by default when the block is entered.

    Raises
    ------
    StorageError
        If the folder exists and may not be replaced, cannot be written, or the disk is full. What was
        written is removed and an earlier run at ``path`` is untouched.

    Examples
    --------
    >>> import tempfile
    >>> m = Measurements.from_rows([{"metric": "parallelism", "concept": "gender", "value": 0.4}])
    >>> folder = Path(tempfile.mkdtemp()) / "first"
    >>> with RunWriter(folder, kind="measure", title="A first look", config={"seed": 0}) as run:
    ...     run.measurements(m)
    >>> Run.load(folder).measurements.values("parallelism")
    {'gender': 0.4}
    """

    def __init__(
        self,
        path: str | Path,
        *,
        kind: Kind,
        title: str,
        config: Mapping[str, Any],
        overwrite: bool = False,
        started: datetime | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.kind = kind
        self.title = title
        self.overwrite = overwrite
        self._started = started
        try:
            self._config = tomli_w.dumps(without_none(config)).encode()
        except TypeError as e:
            raise InvalidInputError(f"the configuration cannot be written as TOML: {e}") from e
        self.run_id = f"{kind}-{hashlib.sha256(self._config).hexdigest()[:10]}"
        self._details: dict[str, Any] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self._summary: dict[str, Any] = {}
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """The hidden folder that is being filled."""
        if self._folder is None:
            raise InvalidInputError("a RunWriter writes only inside its with block")
        return self._folder

    def __enter__(self) -> RunWriter:
        self._started = self._started or datetime.now(UTC)
        check_target(self.path, overwrite=self.overwrite)
        self._folder = new_partial(self.path)
        try:
            self._write(CONFIG_FILE, self._config)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def measurements(self, measurements: Measurements) -> None:
        """Write the tidy table, its ``run_id`` filled in."""
        table = measurements.with_columns(run_id=self.run_id).table
        own = table.filter(pl.col("null").is_null())
        counted = own.filter(metric=_STATUS_METRIC[self.kind]).select("source", "seed", "concept", "status")
        counts = counted.drop_nulls("status").unique()["status"].value_counts().sort("status")
        self._summary = {
            "seeds": sorted(own["seed"].drop_nulls().unique().to_list()),
            "status_counts": dict(counts.iter_rows()),
        }
        self._write(MEASUREMENTS_FILE, parquet_bytes(table))

    def table(self, name: str, table: pl.DataFrame) -> None:
        """Write a further table: as parquet, which is read back, and as CSV; ``dropped_pairs`` as CSV only."""
        file = _table_file(name)
        if not file.endswith(".csv"):
            self._write(file, parquet_bytes(table))
        self._write(f"{name}.csv", table.write_csv().encode())

    def arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write named arrays as one safetensors file."""
        self._write(ARRAYS_FILE, safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))

    def details(self, details: Mapping[str, Any]) -> None:
        """Add to the free-form provenance: settings, hashes, quantisation, whatever the report shows."""
        try:
            # Checked now, not when hours of work are about to be renamed into place.
            self._details |= json.loads(json.dumps(details, default=plain, allow_nan=False))
        except (TypeError, ValueError) as e:
            raise InvalidInputError(f"details of a run must be finite plain JSON values: {e}") from e

    def _write(self, name: str, content: bytes) -> None:
        write_bytes(self.folder / name, content, self.path / name)
        if name != RUN_FILE:
            self._files[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}

    def _finish(self) -> None:
        if MEASUREMENTS_FILE not in self._files:
            raise InvalidInputError("a run without measurements is not complete; call measurements() first")
        started = self._started or datetime.now(UTC)
        info = {
            "schema": SCHEMA_VERSION,
            "run_id": self.run_id,
            "kind": self.kind,
            "title": self.title,
            "started": started.astimezone(UTC).isoformat(timespec="seconds"),
            "wall_seconds": round((datetime.now(UTC) - started).total_seconds(), 3),
            "versions": versions(),
            "platform": {
                "system": platform.platform(),
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
            },
            **self._summary,
            "details": self._details,
            "files": self._files,
        }
        self._write(RUN_FILE, (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode())
        check_target(self.path, overwrite=self.overwrite)  # somebody else may have written there meanwhile
        put_in_place(self.folder, self.path)

    def _discard(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


@dataclass(frozen=True)
class Run:
    """A complete run directory, verified and read.

    Parameters
    ----------
    path
        Its folder.
    info
        The content of ``run.json``.
    config
        The content of ``config.toml``.
    measurements
        The tidy table.
    """

    path: Path
    info: Mapping[str, Any]
    config: Mapping[str, Any]
    measurements: Measurements

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run after checking that it is complete, of a known schema, and unchanged.

        Raises
        ------
        StorageError
            If there is no run, it is not complete, or a file cannot be read.
        InvalidInputError
            If a file is damaged or of another schema version.
        """
        path = Path(path)
        if not path.is_dir():
            raise StorageError(f"no run directory at {path}")
        if not (path / RUN_FILE).is_file():
            raise StorageError(f"{path} is not a complete run: it has no {RUN_FILE}; run it again")
        try:
            info = json.loads((path / RUN_FILE).read_bytes())
        except ValueError as e:
            raise InvalidInputError(f"{path / RUN_FILE} is damaged: not JSON ({e}); run it again") from e
        except OSError as e:
            raise storage_error("read", path / RUN_FILE, e) from e
        schema = info.get("schema") if isinstance(info, dict) else None
        if schema != SCHEMA_VERSION:
            raise InvalidInputError(
                f"{path} has schema version {schema}; this linrep ({__version__}) reads {SCHEMA_VERSION}"
            )
        for name, wanted in info["files"].items():
            try:
                seen = hashlib.sha256((path / name).read_bytes()).hexdigest()
            except FileNotFoundError as e:
                raise StorageError(f"{path} is not complete: {name} is missing; run it again") from e
            except OSError as e:
                raise storage_error("read", path / name, e) from e
            if seen != wanted["sha256"]:
                raise InvalidInputError(
                    f"{path / name} was changed after the run: sha256 {seen[:12]}…, "
                    f"not {wanted['sha256'][:12]}…; run it again"
                )
        config = tomllib.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
        return cls(path, info, config, Measurements.load(path / MEASUREMENTS_FILE))

    @property
    def kind(self) -> str:
        """``"simulate"`` or ``"measure"``."""
        return self.info["kind"]

    @property
    def details(self) -> Mapping[str, Any]:
        """The free-form provenance."""
        return self.info["details"]

    def table(self, name: str) -> pl.DataFrame | None:
        """A further table by name (``"verdicts"``, ``"dropped_pairs"``, ...), None if the run has none."""
        file = _table_file(name)
        if file not in self.info["files"]:
            return None
        # From bytes: polars would take a "[" in the path for a pattern.
        content = io.BytesIO((self.path / file).read_bytes())
        if file.endswith(".csv"):  # without inference: "null" and "1" are words
            return pl.read_csv(content, infer_schema=False).fill_null("")
        return pl.read_parquet(content)

    def arrays(self) -> dict[str, np.ndarray]:
        """The named arrays, an empty dictionary if the run has none."""
        if ARRAYS_FILE not in self.info["files"]:
            return {}
        try:
            return safetensors.numpy.load_file(self.path / ARRAYS_FILE)
        except SafetensorError as e:
            raise InvalidInputError(f"{self.path / ARRAYS_FILE} is damaged: {e}") from e


def find_runs(path: str | Path) -> list[Run]:
    """Read the run at ``path``, or all runs directly inside it (a demo folder holds several), by name.

    Raises
    ------
    StorageError
        If there is no complete run; leftovers of an interrupted one are named.
    """
    path = Path(path)
    if (path / RUN_FILE).is_file():
        return [Run.load(path)]
    if not path.is_dir():
        raise StorageError(f"no run directory at {path}")
    try:
        folders = sorted(child for child in path.iterdir() if child.is_dir())
    except OSError as e:
        raise storage_error("read", path, e) from e
    runs = [f for f in folders if not f.name.startswith(".") and (f / RUN_FILE).is_file()]
    if not runs:
        partial = [f.name for f in folders if ".partial-" in f.name]
        hint = f" (interrupted: {', '.join(partial)})" if partial else ""
        raise StorageError(f"no complete run in {path}{hint}; a run is a folder with a {RUN_FILE}")
    return [Run.load(f) for f in runs]


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise `StorageError` unless a run may be written at ``path``; worth knowing before hours of work."""
    if not os.path.lexists(path):
        return
    if not path.is_dir():
        raise StorageError(f"{path} exists and is no folder; choose another folder for the run")
    try:
        empty = not any(path.iterdir())
    except OSError as e:
        raise storage_error("read", path, e) from e
    if empty:
        return
    if not (path / RUN_FILE).is_file():
        raise StorageError(f"{path} holds files but no complete run, so it is not replaced; choose another")
    if not overwrite:
        raise StorageError(f"{path} already holds a run; choose another folder, or allow it to be overwritten")


def _table_file(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == "measurements":
        raise InvalidInputError(f"{name!r} is no table name: lower-case letters, digits and _, not 'measurements'")
    return f"{name}.csv" if name == "dropped_pairs" else f"{name}.parquet"
