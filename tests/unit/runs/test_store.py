"""A run directory is written whole or not at all, and never read unless it is whole."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linrep.errors import InvalidInputError, LinrepError, StorageError
from linrep.geometry.measurements import Measurements
from linrep.runs import files
from linrep.runs.store import Run, RunWriter, find_runs

ROWS = Measurements.from_rows(
    [
        {"source": "a", "seed": s, "step": t, "metric": "excess_loss", "value": 0.1, "status": status}
        for s, status in enumerate(["converged", "converged", "not converged"])
        for t in (0, 10)
    ]
)
DROPPED = pl.DataFrame({"concept": ["c"], "negative": ["null"], "positive": ["1"], "reason": ["two tokens, sadly"]})


def write(path: Path, value: float = 0.4, overwrite: bool = False) -> None:
    with RunWriter(path, kind="simulate", title="t", config={"seed": 0, "none": None}, overwrite=overwrite) as run:
        run.measurements(
            Measurements.concat([ROWS, Measurements.from_rows([{"metric": "m", "concept": "c", "value": value}])])
        )
        run.table("dropped_pairs", DROPPED)
        run.table("verdicts", pl.DataFrame({"concept": ["c"], "parallelism": [value]}))
        run.arrays({"x": np.arange(6.0).reshape(2, 3).T})
        run.details({"law": {"p": np.float64(0.5)}})
        run.details({"model": Path("m")})


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / "run")
    run = Run.load(tmp_path / "run")
    assert run.kind == "simulate" and run.config == {"seed": 0}
    assert run.details == {"law": {"p": 0.5}, "model": "m"}
    assert run.measurements.values("m") == {"c": 0.4}
    assert set(run.measurements.table["run_id"]) == {run.info["run_id"]}
    dropped = run.table("dropped_pairs")
    assert dropped is not None and dropped.equals(DROPPED)
    assert run.table("pairs") is None
    np.testing.assert_array_equal(run.arrays()["x"], np.arange(6.0).reshape(2, 3).T)
    assert run.info["status_counts"] == {"converged": 2, "not converged": 1}
    assert run.info["seeds"] == [0, 1, 2]
    assert run.info["versions"]["numpy"] == np.__version__
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_wall_time_counts_from_the_start_of_the_work(tmp_path: Path) -> None:
    an_hour_ago = datetime.now(timezone(timedelta(hours=2))) - timedelta(hours=1)
    with RunWriter(tmp_path / "run", kind="simulate", title="t", config={}, started=an_hour_ago) as run:
        run.measurements(ROWS)
    info = Run.load(tmp_path / "run").info
    assert 3600 <= info["wall_seconds"] < 3700
    assert datetime.fromisoformat(info["started"]) == an_hour_ago.replace(microsecond=0)


def test_same_content_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert Run.load(tmp_path / "a").info["files"] == Run.load(tmp_path / "b").info["files"]


def test_exception_leaves_nothing_and_keeps_the_earlier_run(tmp_path: Path) -> None:
    write(tmp_path / "run", 0.1)
    with (
        pytest.raises(KeyboardInterrupt),
        RunWriter(tmp_path / "run", kind="simulate", title="t", config={}, overwrite=True) as run,
    ):
        run.measurements(ROWS)
        raise KeyboardInterrupt
    assert Run.load(tmp_path / "run").measurements.values("m") == {"c": 0.1}
    assert [f.name for f in tmp_path.iterdir()] == ["run"]


def test_existing_folders(tmp_path: Path) -> None:
    run, precious, empty, file = (tmp_path / n for n in ("run", "precious", "empty", "file"))
    write(run, 0.1)
    with pytest.raises(StorageError, match="already holds a run"):
        write(run, 0.2)
    write(run, 0.3, overwrite=True)
    assert Run.load(run).measurements.values("m") == {"c": 0.3}

    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match="no complete run, so it is not replaced"):
        write(precious, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "years of work"

    empty.mkdir()
    write(empty)
    file.write_text("")
    with pytest.raises(StorageError, match="is no folder"):
        write(file)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["empty", "file", "precious", "run"]


def test_a_run_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="already holds a run"):
        with RunWriter(tmp_path / "run", kind="simulate", title="t", config={}) as slow:
            slow.measurements(ROWS)
            write(tmp_path / "run", 0.7)
    assert Run.load(tmp_path / "run").measurements.values("m") == {"c": 0.7}


def test_killed_process_leaves_no_run(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal
        from linrep.geometry.measurements import Measurements
        from linrep.runs.store import RunWriter
        with RunWriter({str(tmp_path / "run")!r}, kind="simulate", title="t", config={{}}) as run:
            run.measurements(Measurements.from_rows([{{"metric": "m", "value": 1.0}}]))
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    (partial,) = tmp_path.iterdir()
    with pytest.raises(StorageError, match=r"interrupted: \.run\.partial-"):
        find_runs(tmp_path)
    with pytest.raises(StorageError, match="not a complete run"):
        Run.load(partial)
    write(tmp_path / "run")  # and it can simply be run again
    assert [r.path.name for r in find_runs(tmp_path)] == ["run"]


@pytest.mark.parametrize("name", ["measurements.parquet", "config.toml", "dropped_pairs.csv", "arrays.safetensors"])
def test_damaged_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "run")
    path = tmp_path / "run" / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InvalidInputError, match=f"{name} was changed"):
        Run.load(tmp_path / "run")
    path.unlink()
    with pytest.raises(StorageError, match=f"{name} is missing"):
        Run.load(tmp_path / "run")


def test_damaged_or_foreign_run_json(tmp_path: Path) -> None:
    write(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"schema": 99}))
    with pytest.raises(InvalidInputError, match="schema version 99"):
        Run.load(tmp_path / "run")
    path.write_text(json.dumps(info)[:-20])
    with pytest.raises(InvalidInputError, match="damaged"):
        Run.load(tmp_path / "run")
    path.write_text("[]")
    with pytest.raises(InvalidInputError, match="schema version None"):
        Run.load(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.toml", "measurements.parquet", "run.json"])
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The kernel's own ENOSPC: one file of the new run is /dev/full."""
    write(tmp_path / "run", 0.1)
    mkdtemp = files.tempfile.mkdtemp

    def with_full_device(**options: str) -> str:
        folder = mkdtemp(**options)
        Path(folder, name).symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(files.tempfile, "mkdtemp", with_full_device)
    with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)) as caught:
        write(tmp_path / "run", 0.2, overwrite=True)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert [f.name for f in tmp_path.iterdir()] == ["run"]
    assert Run.load(tmp_path / "run").measurements.values("m") == {"c": 0.1}


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Without the right to write into `folder`, for root too."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_unwritable_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with ordinary_user(closed), pytest.raises(StorageError, match="Permission denied") as caught:
        write(closed / "deep" / "run")
    assert str(closed) in str(caught.value) and "\n" not in str(caught.value)
    assert list(closed.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="File exists"):
        write(tmp_path / "file" / "run")


def test_find_runs(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / name)
    (tmp_path / "other").mkdir()
    assert [r.path.name for r in find_runs(tmp_path)] == ["a", "b"]
    assert [r.path.name for r in find_runs(tmp_path / "a")] == ["a"]
    for nowhere in (tmp_path / "other", tmp_path / "nowhere"):
        with pytest.raises(StorageError, match="no "):
            find_runs(nowhere)


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="TOML"):
        RunWriter(tmp_path / "run", kind="simulate", title="t", config={"x": object()})
    bad: list[object] = [{"x": float("nan")}, {"x": object()}]
    for details in bad:
        with (
            pytest.raises(InvalidInputError, match="details"),
            RunWriter(tmp_path / "run", kind="simulate", title="t", config={}) as run,
        ):
            run.details(details)  # pyright: ignore[reportArgumentType]
    for name in ("measurements", "../x", "Upper"):
        with (
            pytest.raises(InvalidInputError, match="table name"),
            RunWriter(tmp_path / "run", kind="simulate", title="t", config={}) as run,
        ):
            run.table(name, DROPPED)
    with pytest.raises(LinrepError, match="without measurements"):
        with RunWriter(tmp_path / "run", kind="simulate", title="t", config={}):
            pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInputError, match="with block"):
        RunWriter(tmp_path / "run", kind="simulate", title="t", config={}).measurements(ROWS)
