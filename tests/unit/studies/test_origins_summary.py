"""From rows per seed to rows per cell, against naive loops."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from linrep.geometry.measurements import Measurements
from linrep.studies.origins_cells import Cell, Planned
from linrep.studies.origins_summary import SUMMARY_SCHEMA, cell_table, final_rows, mean_interval, summarise

CELLS = [Cell(concepts=3, dim=3), Cell(concepts=3, dim=6, law="at-most-2"), Cell(concepts=3, dim=7)]
STATUS = ("converged", "converged", "max_steps", "diverged", "nonfinite")


def rows(seed: int, cells: int = 3, seeds: int = 5) -> list[dict[str, Any]]:
    """Made-up rows of two steps: values, the untrained null of each, random directions for one metric, holes."""
    rng, made = np.random.default_rng(seed), []
    for cell in CELLS[:cells]:
        for s in range(seeds):
            for step in (0, 100 + len(cell.law)):
                for metric, split in (
                    ("excess_loss", "all"),
                    ("parallelism", "all"),
                    ("orthogonality", "not adjacent"),
                ):
                    value = None if rng.random() < 0.15 else float(rng.random() * 0.002)
                    row = {"source": cell.name, "seed": s, "step": step, "status": STATUS[s % 5], "metric": metric,
                           "split": split, "value": value}  # fmt: skip
                    made += [row, row | {"null": "untrained", "null_value": float(rng.random())}]
                    if metric == "orthogonality":
                        made.append(row | {"null": "random directions", "null_value": float(rng.random())})
            # A row about one concept is not a number about the cell.
            made.append(made[-1] | {"null": None, "null_value": None, "concept": "C1", "value": 99.0})
    return made


def naive(made: list[dict[str, Any]], source: str, metric: str, split: str, over: str) -> dict[str, Any]:
    last = max(r["step"] for r in made if r["source"] == source)
    here = [r for r in made if (r["source"], r["metric"], r["split"], r["step"]) == (source, metric, split, last)]
    here = [r for r in here if r.get("concept") is None]
    own = [r for r in here if r.get("null") is None and r["value"] is not None]
    own = [r for r in own if over == "all" or r["status"] == "converged"]
    values = [r["value"] for r in own]
    found: dict[str, Any] = {"n": len(own)}
    found["mean"] = sum(values) / len(values) if values else None
    found["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    for column, null in (("untrained", "untrained"), ("control", "random directions")):
        beside = [r["null_value"] for r in here if r.get("null") == null and r["seed"] in [o["seed"] for o in own]]
        found[column] = sum(beside) / len(beside) if beside else None
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_summary_is_the_naive_loop(seed: int):
    made = rows(seed)
    summary = summarise(Measurements.from_rows(made))
    assert summary.schema == SUMMARY_SCHEMA
    assert len(summary) == 3 * 3 * 2
    for row in summary.to_dicts():
        expected = naive(made, row["source"], row["metric"], row["split"], row["over"])
        for column, value in expected.items():
            assert row[column] == (value if value is None else pytest.approx(value)), (row, column)


def test_the_summary_has_no_nan():
    summary = summarise(Measurements.from_rows(rows(0, seeds=1)))
    assert not any(summary.select(pl.col(pl.Float64).is_nan().any()).row(0))
    assert summary["low"].null_count() == len(summary)  # one seed has no interval


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30), st.sampled_from([0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_the_interval_is_that_of_students_t(values: list[float], level: float):
    mean, low, high = mean_interval(values, level)
    x = np.array(values)
    assert mean == pytest.approx(x.mean(), abs=1e-12)
    if stats.sem(x) == 0:
        assert low == mean == high
        return
    expected = stats.t.interval(level, len(x) - 1, loc=x.mean(), scale=stats.sem(x))
    np.testing.assert_allclose((low, high), expected, rtol=1e-9, atol=1e-9)


def test_there_is_no_interval_of_fewer_than_two():
    assert np.isnan(mean_interval([])).all()
    assert mean_interval([0.5])[0] == 0.5
    assert np.isnan(mean_interval([0.5])[1:]).all()


def test_final_rows_are_those_of_the_last_step_of_each_source():
    made = [
        {"source": "a", "step": 0, "value": 1.0}, {"source": "a", "step": 10, "value": float("nan")},
        {"source": "b", "step": 0, "value": 3.0}, {"source": "b", "step": 5, "value": 4.0},
    ]  # fmt: skip
    final = final_rows(Measurements.from_rows(made))
    assert final.select("source", "step", "value").rows() == [("a", 10, None), ("b", 5, 4.0)]


@pytest.mark.parametrize("seed", range(3))
def test_the_table_of_cells_counts_how_seeds_ended(seed: int):
    made = rows(seed, seeds=10)
    planned = [Planned(cell, ("A", "C"), 10) for cell in CELLS]
    table = cell_table(planned, Measurements.from_rows(made))
    assert table["source"].to_list() == [cell.name for cell in CELLS]
    for row, cell in zip(table.to_dicts(), CELLS, strict=True):
        last = max(r["step"] for r in made if r["source"] == cell.name)
        own = [r for r in made if r["source"] == cell.name and r["metric"] == "excess_loss" and r["step"] == last]
        own = [r for r in own if r.get("null") is None]
        values = [r["value"] for r in own if r["value"] is not None]
        assert row["families"] == "AC" and row["concepts"] == 3 and row["dim"] == cell.dim and row["law"] == cell.law
        assert (row["seeds"], row["converged"], row["diverged"], row["steps_taken"]) == (10, 4, 4, last)
        assert row["below_0.001"] == sum(v < 0.001 for v in values)
        assert row["excess"] == pytest.approx(np.median(values))
        assert row["excess_low"] <= row["excess"] <= row["excess_high"]


def test_a_cell_without_measurements_keeps_its_row():
    planned = [Planned(cell, ("A",), 10) for cell in CELLS]
    table = cell_table(planned, Measurements.from_rows(rows(0, cells=2)))
    assert len(table) == 3 and table["seeds"].to_list() == [5, 5, None]
