"""What the page says follows from the tables: other tables, other sentences."""

from collections.abc import Sequence
from statistics import median

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linrep.report import data, findings
from linrep.report.data import Cell, ModelView
from linrep.runs.store import Run

CELL = Cell("m=3 d=3 complete", "d = 3, complete contexts", 3, "complete", 0.2)


@given(st.floats(-1, 1))
def test_number_has_no_hyphen_and_no_negative_zero(x: float) -> None:
    text = findings.number(x)
    assert "-" not in text and text != "−0.00"
    assert abs(float(text.replace("−", "-")) - x) <= 0.005 + 1e-12


@given(st.integers(19, 100_000), st.floats(0, 1))
def test_only_p_values_at_the_floor_are_bounds(draws: int, share: float) -> None:
    p = (1 + round(share * draws)) / (1 + draws)
    assert findings.p_text(p, p, 1 / (1 + draws)).startswith("≤ ") == (p == 1 / (1 + draws))
    assert "0.0000" not in findings.p_text(p, p, 1 / (1 + draws))


def test_cell_labels() -> None:
    assert data.law_words("masked-0.5") == "masked with q = 0.5"
    assert data.law_words("something else") == "something else"


def excess(rows: Sequence[tuple[int, str, Sequence[float | None]]]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"source": CELL.source, "seed": s, "step": t, "metric": "excess_loss", "value": v, "status": status}
            for s, status, curve in rows
            for t, v in zip((0, 50, 100), curve, strict=True)
        ],
        schema_overrides={"value": pl.Float64},
    ).with_columns(null=pl.lit(None, dtype=pl.String), split=pl.lit("all"))


def test_why_seeds_did_not_converge() -> None:
    stuck, moving = (0, "max_steps", [0.5, 0.0501, 0.05]), (1, "max_steps", [0.5, 0.2, 0.1])
    fine, lost = (2, "converged", [0.5, 0.1, 0.001]), (3, "nonfinite", [0.5, None, None])
    assert findings.plateaus(excess([fine]), [CELL]) == []
    (text,) = findings.plateaus(excess([stuck, moving, fine, lost]), [CELL])
    assert "3 of 4 seeds did not converge" in text
    assert "1 sits in a poor local minimum" in text and "fell by 0 % only, to 0.050 nats" in text
    assert "converged seeds fell by 99 %" in text
    assert "1 was still descending" in text and "1 diverged" in text
    (text,) = findings.plateaus(excess([stuck, (4, *stuck[1:]), fine]), [CELL])
    assert "2 sit in poor local minima" in text and "descending" not in text and "diverged" not in text


def test_convergence_title_counts_status() -> None:
    rows = [(s, "converged" if s < 3 else "max_steps", [0.5, 0.1, 0.05]) for s in range(5)]
    titles = findings.emergence_titles(excess(rows), [CELL])
    assert titles["excess_loss"].startswith("3 of 5 predictors")
    assert list(titles) == ["excess_loss"]


def test_emergence_titles_follow_the_last_step(simulated: Run) -> None:
    cells, table = data.cells([simulated]), data.emergence([simulated])
    titles = findings.emergence_titles(table, cells)
    end = table.filter(pl.col("metric") == "parallelism", pl.col("null").is_null())
    end = end.filter(pl.col("step") == pl.col("step").max())
    medians = {c.label: median(end.filter(pl.col("source") == c.source)["value"].drop_nulls()) for c in cells}
    low, high = min(medians, key=lambda k: medians[k]), max(medians, key=lambda k: medians[k])
    assert f"between {medians[low]:.2f} ({low}) and {medians[high]:.2f} ({high})" in titles["parallelism"]
    flipped = table.with_columns(value=1 - pl.col("value"))
    assert f"({high}) and" in findings.emergence_titles(flipped, cells)["parallelism"]


def test_cell_rows_count_what_the_table_holds(simulated: Run) -> None:
    rows = findings.cell_rows(data.emergence([simulated]), data.cells([simulated]))
    assert [r["converged"] for r in rows] == [6, 6, 6] and {r["seeds"] for r in rows} == {8}
    assert [r["limit"] for r in rows] == ["0.23", "0.40", "0.23"]


def test_verdict_counts(measured: Run) -> None:
    view = data.model_view(measured)
    table = measured.table("verdicts")
    assert table is not None
    for row in findings.verdict_counts(view):
        said = [r["verdict"] for r in table.iter_rows(named=True) if r["inner_product"] == row["product"]]
        assert row["too_few"] == said.count("too few pairs") == 1
        assert row["common"] == sum(v.startswith("common direction") for v in said)
        assert row["judged"] == len(said) - 1


def test_alignment_summary_is_the_mean_of_the_matched(measured: Run) -> None:
    view = data.model_view(measured)
    rows = [r for r in measured.measurements.table.iter_rows(named=True) if r["metric"] == "alignment"]
    own = [r["value"] for r in rows if r["split"] == "matched" and not r["null"] and r["inner_product"] == "causal"]
    found = findings.alignment_summary(view, "causal")
    assert found is not None and len(own) == 3
    assert found["matched"] == f"{sum(own) / len(own):.2f}"


def test_leave_one_out_title_recounts(measured: Run) -> None:
    view = data.model_view(measured)

    def count(view: ModelView) -> int:
        return int(findings.leave_one_out_title(view, "euclidean").split()[0])

    before = count(view)
    assert 0 < before <= 8
    hopeless = view.pairs.with_columns(pl.when(pl.col("null").is_null()).then(-1.0).otherwise("cosine").alias("cosine"))
    assert count(ModelView(**{**vars(view), "pairs": hopeless})) == 0


def test_heat_title_names_adjacent_and_other(simulated: Run) -> None:
    heat = data.simulated_heat(simulated).filter(pl.col("inner_product") == "euclidean")
    title = findings.simulated_heat_title(heat, dict(simulated.details["adjacent"]))
    off = heat.filter(pl.col("concept") != pl.col("concept_other"))
    near = off.filter(pl.col("concept").is_in(["c0", "c1"]) & pl.col("concept_other").is_in(["c0", "c1"]))
    mean = near["value"].abs().mean()
    assert isinstance(mean, float) and mean > 0.1
    assert f"{mean:.3f} between adjacent" in title and "between other concepts" in title


@pytest.mark.parametrize("p", [None])
def test_missing_p(p: None) -> None:
    assert findings.p_text(p, p, 0.01) == "–"


@given(p=st.floats(1e-6, 1.0))
def test_a_bound_is_never_printed_below_the_p_value(p: float) -> None:
    said = findings.p_text(p, p, p)
    assert said.startswith("≤ ") and p * (1 - 1e-9) <= float(said[2:]) <= max(1.11 * p, p + 6e-3)
