"""The sweep against runs trained one by one, and what an interrupt leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, World, fit
from linrep.geometry import metrics
from linrep.learning.trajectory import CONVERGED
from linrep.studies import sweep as module
from linrep.studies.sweep import SweepConfig, sweep

CONFIG = SweepConfig(concepts=(2, 3), d_over_m=(1.0,), initial_scales=(0.01, 0.3), seeds=2, steps=300)


class Stop(Exception):
    """Somebody presses Ctrl-C."""


@pytest.fixture(scope="module")
def result():
    return sweep(CONFIG)


def test_a_row_for_every_combination(result):
    runs = result.tables["runs"]
    assert len(runs) == 2 * 2 * 2 * 2 * 2 and not runs.select("source", "seed").is_duplicated().any()
    varied = runs.group_by("concepts", "law", "optimizer", "initial_scale").len()
    assert len(varied) == 16 and (varied["len"] == 2).all()
    assert result.details["programs"] < 16  # different laws, seeds and scales share one
    assert set(runs["status"]) <= {"converged", "max_steps", "diverged", "nonfinite"}


def test_every_run_is_the_one_trained_alone(result):
    for row in result.tables["runs"].iter_rows(named=True):
        graph = ConceptGraph.random(row["concepts"], 0.5, seed=row["seed"])
        world = World(graph, ContextLaw.parse(row["law"]))
        settings = {name: row[name] for name in ("dim", "predictor", "optimizer", "step_size", "initial_scale", "seed")}
        alone = fit(world, **settings, steps=row["steps"], n_snapshots=2)
        assert alone.excess[0, -1] == row["excess"] and alone.status == (row["status"],)
        for at, column in ((-1, "parallelism"), (0, "parallelism_untrained")):
            pairs = world.token_pairs()
            gamma = alone.unembeddings[0, at].astype(np.float64)
            ends = [pairs.of(name) for name in pairs.names]
            each = [metrics.parallelism(gamma[e[:, 1]] - gamma[e[:, 0]]) for e in ends]
            np.testing.assert_allclose(row[column], np.mean(each), rtol=1e-12)


def test_a_run_stops_at_the_first_moment_below_the_threshold(result):
    runs = result.tables["runs"]
    stopped = runs.filter(status="converged")
    assert 0 < len(stopped) < len(runs)  # both kinds of ending are in this grid
    assert (stopped["excess"] < CONVERGED).all() and (stopped["steps"] < CONFIG.steps).any()
    others = runs.filter(runs["status"] != "converged")
    assert (others["excess"] >= CONVERGED).all() and (others["steps"] == CONFIG.steps).all()
    row = stopped.sort("steps").row(-1, named=True)
    world = World(ConceptGraph.random(row["concepts"], 0.5, seed=row["seed"]), ContextLaw.parse(row["law"]))
    settings = {name: row[name] for name in ("dim", "predictor", "optimizer", "step_size", "initial_scale", "seed")}
    earlier = fit(world, **settings, steps=int(row["steps"] / 1.12), n_snapshots=2)
    assert earlier.excess[0, -1] >= CONVERGED


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result):
    calls: list[int] = []
    trained = module.fit_many

    def fit_many(*args, **settings):
        if len(calls) == 2 and not (tmp_path / "again").exists():
            raise Stop
        calls.append(len(settings["seeds"]))
        return trained(*args, **settings)

    monkeypatch.setattr(module, "fit_many", fit_many)
    with pytest.raises(Stop):
        sweep(CONFIG, workspace=tmp_path / "pieces")
    assert len(list((tmp_path / "pieces").glob("*.parquet"))) == 2
    (tmp_path / "again").touch()
    resumed = sweep(CONFIG, workspace=tmp_path / "pieces")
    assert len(calls) == result.details["calls"] and sum(calls) == result.details["runs"]
    assert resumed.measurements.table.equals(result.measurements.table)
    assert resumed.tables["runs"].equals(result.tables["runs"])


def test_a_run_that_diverges_is_a_row(tmp_path: Path):
    config = CONFIG.model_copy(update={"concepts": (2,), "step_sizes": (1.0, 1e6), "optimizers": ("gradient_descent",)})
    runs = sweep(config).tables["runs"]
    wild = runs["step_size"] == 1e6
    assert set(runs.filter(wild)["status"]) <= {"diverged", "nonfinite"}
    assert set(runs.filter(~wild)["status"]) <= {"converged", "max_steps"}
    assert runs.filter(~wild)["parallelism"].is_not_null().all()


def test_widths_that_round_to_one_are_one():
    config = CONFIG.model_copy(update={"concepts": (2,), "d_over_m": (0.9, 1.0), "seeds": 1, "steps": 5})
    assert len(sweep(config).tables["runs"]) == 2 * 2 * 2
