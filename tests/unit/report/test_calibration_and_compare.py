"""The pages of a calibration and of a comparison say what their tables say."""

from __future__ import annotations

import html
from pathlib import Path

import polars as pl
import pytest

from linrep.errors import InvalidInputError
from linrep.geometry import nulls, verdicts
from linrep.geometry.measurements import Measurements
from linrep.report import calibration
from linrep.report.compare import compare_content, sides
from linrep.report.page import write_page, write_report
from linrep.runs.store import Run, RunWriter
from linrep.studies.calibration_nonsense import NONSENSE
from linrep.studies.compare import compare
from tests.fixtures.calibration_run import calibration_run


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return calibration_run(tmp_path_factory.mktemp("runs") / "calibration")


def test_every_kind_null_and_rule_is_on_the_calibration_page(calibrated: Run, tmp_path: Path) -> None:
    page = write_report([calibrated], tmp_path / "report")
    text = html.unescape(page.read_text(encoding="utf-8"))
    for word in (*NONSENSE, *nulls.NULLS, "labels shuffled", "template flips", "real lists, random weights"):
        assert f">{word}<" in text, word
    for product in ("euclidean", "causal"):
        assert verdicts.rule(verdicts.SPECIFIC, product) in text
    assert "quick version" in text and (page.parent / "figures/rejections.svg").is_file()


def test_rates_on_the_page_are_those_of_the_tests(calibrated: Run) -> None:
    content = calibration.calibration_content(calibrated)
    tests = calibrated.table("tests")
    assert tests is not None
    for product in ("euclidean", "causal"):
        for row in content["kinds"][product]:
            own = tests.filter(pl.col("kind") == row["kind"], pl.col("inner_product") == product)
            assert row["n"] == own.height > 0
            expected = [f"{(own[null] <= 0.05).mean():.3f}" for null in nulls.NULLS]
            assert [c["text"] for c in row["nulls"]] == expected
    fooled = next(s for s in content["sentences"] if "sign flip" in s)
    assert "hub word (100 %)" in fooled and "random words" not in fooled


def test_what_breaks_a_verdict_is_named(calibrated: Run) -> None:
    table = calibrated.measurements.table
    rate = (pl.col("metric") == "common_direction_rate") & (pl.col("concept") == "case gap")
    worse = table.with_columns(pl.when(rate).then(0.2).otherwise(pl.col("value")).alias("value"))
    said = calibration.sentences(worse)
    assert any("broken by: case gap" in s and "20.0 %" in s for s in said)
    assert not any("broken by" in s for s in calibration.sentences(table))
    figures = calibration.answers(worse, ["euclidean", "causal"], 54)
    assert figures[1]["figure"] == "20 of 22" and figures[2]["figure"] == "20.0 %"


def other(run: Run, path: Path, factor: float) -> Run:
    """The same run as if of another model: every value times a factor."""
    table = run.measurements.table.with_columns(
        pl.lit("other").alias("source"), *(pl.col(c) * factor for c in ("value", "low", "high"))
    )
    with RunWriter(path, kind="measure", title="Concepts in other", config={"seed": 0}) as writer:
        writer.measurements(Measurements(table))
    return Run.load(path)


def test_a_comparison_of_two_models(measured: Run, tmp_path: Path) -> None:
    runs = [measured, other(measured, tmp_path / "other", 0.5)]
    labelled = sides(runs)
    assert [s.label for s in labelled] == ["planted", "other"]
    found = compare(labelled, draws=100)
    assert set(found.correlations["metric"]) == {"parallelism", "alignment"}
    assert all(abs(r - 1) < 1e-12 for r in found.correlations["spearman"])
    page = write_page(compare_content(labelled, found), runs, tmp_path / "report")
    text = html.unescape(page.read_text(encoding="utf-8"))
    values = measured.measurements.values("parallelism", inner_product="causal")
    for concept, value in values.items():
        assert f">{concept}<" in text and f">{-value / 2:.3f}".replace("-", "−") in text
    assert (page.parent / "figures/scatter-causal.png").is_file()
    assert "has no concept in common" not in text


def test_a_comparison_with_a_simulation_says_that_nothing_is_in_common(
    measured: Run, simulated: Run, tmp_path: Path
) -> None:
    labelled = sides([measured, simulated])
    found = compare(labelled)
    page = write_page(compare_content(labelled, found), [measured, simulated], tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    assert "has no concept in common" in text and "<h2>Every concept</h2>" not in text
    assert "m=3 d=6 complete" in text


def test_two_runs_of_one_model_are_told_apart_by_folder(measured: Run, origins: Run, tmp_path: Path) -> None:
    with RunWriter(tmp_path / "again", kind="measure", title="t", config={}) as writer:
        writer.measurements(measured.measurements)
    labels = [s.label for s in sides([measured, Run.load(tmp_path / "again")])]
    assert labels == [f"planted ({measured.path.name})", "planted (again)"]
    with pytest.raises(InvalidInputError, match="both called"):
        sides([measured, measured])
    assert all(s.simulated for s in sides([origins]))


def test_a_run_of_another_kind_cannot_be_compared(calibrated: Run) -> None:
    with pytest.raises(InvalidInputError, match="kind 'calibration'"):
        sides([calibrated])
