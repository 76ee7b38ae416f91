"""Cells against predictions, on measurements made by hand, and the paths to the limit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from linrep.geometry.measurements import Measurements
from linrep.studies.origins_cells import Cell, Planned
from linrep.studies.origins_verdicts import cell_comparisons, limit_paths
from linrep.theory.compare import Comparison
from linrep.theory.predictions import PREDICTIONS

CELL = Cell(concepts=5, dim=10, law="at-most-2")


def rows(
    cell: Cell, values: Mapping[str, Sequence[float | None]], *, step: int = 100, **more: Any
) -> list[dict[str, Any]]:
    splits = {"orthogonality": "not adjacent"}
    return [
        {"source": cell.name, "seed": seed, "step": step, "metric": metric, "split": splits.get(metric, "all"),
         "status": "converged", "value": value, **more}
        for metric, of in values.items() for seed, value in enumerate(of)
    ]  # fmt: skip


GOOD: dict[str, Sequence[float | None]] = {
    "excess_loss": [1e-4, 2e-4, 1e-4], "alignment": [0.9999, 1.0, 0.9998], "orthogonality": [0.002, 0.001, 0.003],
    "projected_residual": [0.001, 0.002, 0.001], "projected_parallelism": [0.999, 0.998, 0.9999],
    "parallelism": [0.96, 0.97, 0.95],
}  # fmt: skip


def compared(values: Mapping[str, Sequence[float | None]], cell: Cell = CELL, **more: Any) -> dict[str, Comparison]:
    found = cell_comparisons([Planned(cell, ("B",), 3)], Measurements.from_rows(rows(cell, values, **more)))
    assert {c.source for c in found} == {cell.name}
    assert all(c.reason for c in found)
    return {c.prediction: c for c in found}


def test_every_prediction_about_cells_is_compared_with_every_cell():
    other = Cell(concepts=5, dim=31)
    measured = Measurements.from_rows(rows(CELL, GOOD) + rows(other, GOOD))
    found = cell_comparisons([Planned(CELL, ("B",), 3), Planned(other, ("B",), 3)], measured)
    assert [(c.source, c.prediction) for c in found] == [
        (cell.name, name) for cell in (CELL, other) for name in ("P1", "P3", "P4 complete", "P4 few known", "P5")
    ]


def test_good_values_agree_and_what_is_not_about_this_cell_says_why():
    found = compared(GOOD)
    assert {name: c.verdict for name, c in found.items()} == {
        "P1": "agree", "P3": "agree", "P4 few known": "agree",
        "P4 complete": "assumptions not met", "P5": "assumptions not met",
    }  # fmt: skip
    assert found["P3"].n == 3 and found["P3"].measured == pytest.approx((0.9999 + 1.0 + 0.9998) / 3)
    assert "law is complete" in found["P4 complete"].reason
    assert "law is complete" in found["P5"].reason and "d ≥ 2^m − 1" in found["P5"].reason


@pytest.mark.parametrize(
    ("name", "metric", "bad"),
    [("P1", "projected_parallelism", 0.5), ("P3", "alignment", 0.9), ("P4 few known", "orthogonality", 0.2)],
)
def test_bad_values_disagree(name: str, metric: str, bad: float):
    found = compared(GOOD | {metric: [bad, bad + 1e-4, bad - 1e-4]})
    assert {n for n, c in found.items() if c.verdict == "disagree"} == {name}
    assert found[name].decided


def test_only_the_last_step_and_the_values_own_rows_count():
    early = rows(CELL, {name: [0.5] * 3 for name in GOOD}, step=0)
    nulls = rows(CELL, {"alignment": [0.1] * 3}, null="untrained", null_value=0.1)
    measured = Measurements.from_rows(early + rows(CELL, GOOD) + nulls)
    found = {c.prediction: c for c in cell_comparisons([Planned(CELL, ("B",), 3)], measured)}
    assert found["P3"].verdict == "agree" and found["P3"].n == 3


def test_seeds_with_too_large_an_excess_or_no_value_are_left_out():
    found = compared(GOOD | {"excess_loss": [1e-4, 0.5, None], "alignment": [0.9999, 0.1, 0.1]})
    assert (found["P3"].n, found["P3"].verdict) == (1, "agree")
    assert not found["P3"].decided


def test_a_cell_where_nothing_was_measured_is_not_silent():
    found = compared({"excess_loss": [1e-4] * 3})
    assert {c.verdict for c in found.values()} == {"assumptions not met"}
    assert "no seed has" in found["P3"].reason
    assert "log-odds match" in found["P1"].reason  # a residual that was not measured is not assumed small


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        ({"initial_scale": 1.0}, "P3", "initial scale at most 0.01"),
        ({"optimizer": "adam"}, "P4 few known", "optimizer is gradient_descent"),
        ({"predictor": "factored"}, "P1", "predictor is table"),
        ({"missing": 0.25}, "P3", "every assignment has a token"),
        ({"dim": 5}, "P3", "d ≥ 2m"),
        ({"values": 3, "kind": "nominal"}, "P3", "values is 2"),
        ({"concepts": 4, "dim": 8}, "P4 few known", "at least five concepts"),
    ],
)
def test_the_settings_of_the_cell_are_the_facts(change: dict[str, Any], name: str, reason: str):
    cell = Cell(**{"concepts": 5, "dim": 10, "law": "at-most-2", **change})
    found = compared(GOOD, cell)
    assert found[name].verdict == "assumptions not met" and reason in found[name].reason


def test_the_paths_end_at_the_limits():
    table, comparisons = limit_paths()
    assert {c.prediction for c in comparisons} == {name for name in PREDICTIONS if name.startswith("P5 m=")}
    assert {(c.verdict, c.decided, c.reason) for c in comparisons} == {("agree", False, "one value, no interval")}
    assert table["world"].n_unique() == len(comparisons)
    ends = table.group_by("world", maintain_order=True).last()
    assert (ends["parallelism"] - ends["limit"]).abs().max() < 0.005  # pyright: ignore[reportOperatorIssue]
    assert table["excess"].min() >= 0 and table["log10_penalty"].min() < -290  # pyright: ignore[reportOperatorIssue]
