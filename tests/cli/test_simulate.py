"""`linrep simulate` when it is interrupted, run twice, diverges, or asks for more than fits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linrep.runs.store import Run

SMALL = ("--concepts", "3", "--dim", "3", "--seeds", "2", "--law", "complete", "--no-report")
MAIN = "from linrep.cli.app import main; main()"


def command(*arguments: str, before: str = "") -> list[str]:
    return [sys.executable, "-c", before + MAIN, "simulate", *arguments]


def started(arguments: list[str], folder: Path) -> subprocess.Popen[str]:
    own = {"cwd": folder, "env": os.environ | {"LINREP_CACHE": str(folder / "cache")}}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **own)


def ran(arguments: list[str], folder: Path) -> None:
    process = started(arguments, folder)
    _, err = process.communicate()
    assert process.returncode == 0, err


def test_a_second_run_of_the_same_shape_compiles_nothing(tmp_path):
    def compiled() -> set[str]:
        return {p.name for p in (tmp_path / "cache/compiled").rglob("*-cache")}

    ran(command(*SMALL, "--steps", "20", "--out", "a"), tmp_path)
    first = compiled()
    assert any(name.startswith("jit_advance") for name in first)
    ran(command(*SMALL, "--steps", "40", "--seed", "7", "--step-size", "1", "--out", "b"), tmp_path)
    assert compiled() == first
    ran(command(*SMALL, "--steps", "20", "--dim", "4", "--out", "c"), tmp_path)
    assert compiled() > first  # the count can grow: another shape is another program


def test_an_interrupted_simulation_goes_on_where_it_stopped(tmp_path):
    # Two cells, so that the interrupt comes after a finished one; a file at every chunk, so that it is in the middle.
    arguments = (*SMALL, "--law", "at-most-1", "--steps", "100000", "--out", "run")
    often = "from linrep.learning import checkpoints; checkpoints._SECONDS = 0.0\n"
    process = started(command(*arguments, before=often), tmp_path)
    hidden = tmp_path / ".run.training"
    while process.poll() is None:
        if any(hidden.glob("*.safetensors")) and any(hidden.glob("*/block-*.safetensors")):
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.002)
    _, err = process.communicate()
    assert process.returncode == 130 and "interrupted" in err, err
    assert not (tmp_path / "run").exists()
    assert len(list(hidden.glob("*.safetensors"))) == 1 and any(hidden.glob("*/block-*.safetensors"))

    # A second process that may train only what is left: it would fail if it began the finished cell again.
    less = (
        "from linrep.learning import descent; whole = descent.advance; taken = []\n"
        "def advance(states, data, n, **k): taken.append(int(n)); return whole(states, data, n, **k)\n"
        "descent.advance = advance\n"
        "import atexit; atexit.register(lambda: open('taken', 'w').write(str(sum(taken))))\n"
    )
    ran(command(*arguments, before=less), tmp_path)
    assert 0 < int((tmp_path / "taken").read_text()) < 100_000
    assert not hidden.exists()
    ran(command(*arguments[:-1], "whole"), tmp_path)
    resumed, whole = (Run.load(tmp_path / name) for name in ("run", "whole"))
    assert resumed.measurements.table.equals(whole.measurements.table)
    assert resumed.details == whole.details


def test_divergence_is_a_status_and_the_run_is_complete(linrep, tmp_path):
    done = linrep("simulate", *SMALL, "--steps", 200, "--step-size", 1e6, "--out", "run")
    assert done.code == 0, done.err
    run = Run.load(tmp_path / "run")
    counts = run.info["status_counts"]
    assert sum(counts.values()) == 2 and set(counts) <= {"diverged", "nonfinite"}, counts
    assert "0/2" in done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--concepts", 10, "--dim", 64), "GiB"),
        (("--concepts", 10, "--dim", 10, "--seeds", 100), "GiB"),
        (("--concepts", 40), "less than or equal to 10"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(linrep, tmp_path, options, says):
    done = linrep("simulate", "--law", "complete", *options, "--out", "run")
    assert done.code == 2 and says in done.err and done.err.count("error: ") == 1, done.err
    assert not list(tmp_path.iterdir())
