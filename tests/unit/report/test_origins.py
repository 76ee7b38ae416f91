"""The page of the origins study says what its tables say, and nothing else."""

from __future__ import annotations

import html
import io
import re
from pathlib import Path

import polars as pl
import pytest

from linrep.report import origins_findings as findings
from linrep.report.origins import origins_content
from linrep.report.page import write_report
from linrep.runs.store import Run
from linrep.theory.predictions import PREDICTIONS


@pytest.fixture(scope="module")
def page(origins: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([origins], tmp_path_factory.mktemp("out") / "report")


def joined(run: Run) -> pl.DataFrame:
    cells, summary = run.table("cells"), run.table("summary")
    assert cells is not None and summary is not None
    return findings.joined(cells, summary)


def test_every_cell_and_its_steps_are_on_the_page(origins: Run, page: Path) -> None:
    text = html.unescape(page.read_text(encoding="utf-8"))
    cells = origins.table("cells")
    assert cells is not None
    for row in cells.iter_rows(named=True):
        assert f">{row['source']}<" in text
        assert row["steps_taken"] in (50, 400)
    for name in PREDICTIONS:
        assert f">{name}<" in text


def test_predictions_are_counted_and_none_is_silent(origins: Run) -> None:
    table = origins.table("predictions")
    assert table is not None
    groups = origins_content(origins)["predictions"]
    assert [g["name"] for g in groups] == [name for name in PREDICTIONS if name in set(table["prediction"])]
    for group in groups:
        own = table.filter(pl.col("prediction") == group["name"])
        assert sum(group["counts"].values()) == own.height == len(group["rows"]) + len(group["unmet"])
        assert all(row["reason"] for row in group["unmet"])
        assert all(row["measured_text"] != "–" for row in group["rows"])


def test_short_answer_counts_linear_cells(origins: Run) -> None:
    table = joined(origins)
    counted = table.filter(pl.col("converged") >= 3).drop_nulls("mean")
    linear = counted.filter(pl.col("mean") >= findings.LINEAR)
    assert 0 < linear.height < counted.height  # otherwise this test shows nothing
    first = findings.answers(table, {})[0]
    assert first["figure"] == f"{linear.height} of {counted.height}"


def test_conditions_go_where_their_numbers_are(origins: Run) -> None:
    said = findings.when(joined(origins))
    assert any(text.startswith("Free tables at least twice as wide, complete") for text in said["no"])
    for outcome, texts in said.items():
        for text in texts:
            low, *rest = [float(x) for x in re.findall(r"(?<!\d)[01]\.\d\d", text.rsplit(":", 1)[1])]
            high = rest[0] if rest else low
            assert {"yes": low >= 0.945, "no": high <= 0.955, "depends": low < 0.955 <= high + 0.01}[outcome]


def test_spread_compares_like_with_like(origins: Run) -> None:
    rows = findings.spread_rows(joined(origins))
    assert rows == sorted(rows, key=lambda r: -r["range"])
    assert all(r["range"] >= 0 and r["least"] != r["most"] for r in rows)
    assert {r["family"] for r in rows} == {"B", "C", "F"}


def test_phase_diagram_has_the_limit_for_tables_only(origins: Run) -> None:
    chart = origins_content(origins)["phase"].chart.to_dict()
    rows = pl.read_csv(io.StringIO(chart["data"]["values"])).to_dicts()
    assert {r["predictor"] for r in rows if r["width"] == "limit"} == {"table"}
    tiles = [r for r in rows if r["width"] != "limit"]
    assert len(tiles) == len({(r["contexts"], r["width"], r["predictor"]) for r in tiles}) == 8


def test_fixed_embeddings_show_medians_and_seeds(origins: Run) -> None:
    frozen = origins_content(origins)["frozen"]
    assert [case["seeds"] for case in frozen["cases"]] == [2, 2, 2, 2]
    assert len(frozen["seeds"]) == 8


def test_a_run_of_few_families_has_a_shorter_page(tmp_path: Path, origins: Run) -> None:
    from linrep.geometry.measurements import Measurements
    from linrep.runs.store import RunWriter

    cells, summary = origins.table("cells"), origins.table("summary")
    assert cells is not None and summary is not None
    own = cells.filter(pl.col("families") == "D")
    source = own["source"][0]
    with RunWriter(tmp_path / "few", kind="origins", title="few", config={}) as run:
        run.measurements(Measurements(origins.measurements.table.filter(pl.col("source") == source)))
        run.table("cells", own)
        run.table("summary", summary.filter(pl.col("source") == source))
    text = write_report([Run.load(tmp_path / "few")], tmp_path / "report").read_text(encoding="utf-8")
    assert 'id="cells"' in text and 'id="phase"' not in text and 'id="frozen"' not in text
