"""What stands on the page of the origins study: its figures, findings and tables, as the template takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from linrep.report import data, emergence, findings, origins_figures, origins_findings
from linrep.report.findings import number
from linrep.report.theme import Figure
from linrep.runs.store import Run
from linrep.studies.origins_cells import FAMILIES
from linrep.theory.predictions import PREDICTIONS

_VERDICT_ORDER = ("disagree", "agree", "assumptions not met")


def origins_content(run: Run) -> dict[str, Any]:
    """Everything the template of this page shows."""
    cells, summary = run.table("cells"), run.table("summary")
    assert cells is not None and summary is not None  # noqa: S101 - every run of this kind has them
    table = origins_findings.joined(cells, summary)
    limits = dict(run.details.get("wide_limit") or {})
    phase = _phase(table, limits)
    families = {letter: _family(letter, table, summary) for letter in origins_findings.VIEWS}
    shown = {letter: figure for letter, figure in families.items() if figure is not None}
    curves = _emergence(run, table, limits)
    path = _path(run)
    figures = [f for f in (phase, *shown.values(), *curves, path) if f is not None]
    return {
        "template": "origins.html.j2",
        "figures": {f.name: f for f in figures},
        "quick": bool(run.config.get("quick")),
        "questions": FAMILIES,
        "answers": origins_findings.answers(table, limits),
        "when": origins_findings.when(table),
        "spread": origins_findings.spread_rows(table),
        "phase": phase,
        "families": shown,
        "emergence": curves,
        "path": path,
        "frozen": _frozen(run.table("frozen")),
        "predictions": _predictions(run.table("predictions")),
        "cells": _cell_rows(table, summary),
        "products": [],
    }


def _frozen(table: pl.DataFrame | None) -> dict[str, Any] | None:
    """Medians over the seeds of each case of fixed embeddings, and the single seeds."""
    if table is None:
        return None
    numbers = [c for c, kind in table.schema.items() if kind.is_numeric() and c != "seed"]
    cases = table.group_by("case", maintain_order=True).agg(pl.len().alias("seeds"), pl.col(numbers).median())
    return {"cases": cases.to_dicts(), "seeds": table.to_dicts()}


def _phase(table: pl.DataFrame, limits: Mapping[str, float]) -> Figure | None:
    cells = table.filter(pl.col("families").str.contains("B", literal=True))
    if cells.is_empty():
        return None
    full = cells.filter(pl.col("converged") >= origins_figures.FEW_SEEDS).drop_nulls("mean").sort("mean")
    title = "How parallel the differences of a concept end, by width, contexts and embedding"
    if not full.is_empty():
        low, high = full.row(0, named=True), full.row(-1, named=True)
        title = (
            f"Parallelism ends between {number(low['mean'])} ({low['predictor']}, d = {low['dim']}, "
            f"{data.law_words(low['law'])}) and {number(high['mean'])} ({high['predictor']}, d = {high['dim']}, "
            f"{data.law_words(high['law'])})"
        )
    return origins_figures.phase_diagram(cells, limits, title)


def _family(letter: str, table: pl.DataFrame, summary: pl.DataFrame) -> Figure | None:
    view = origins_findings.VIEWS[letter]
    own = [r for r in table.filter(pl.col("families").str.contains(letter, literal=True)).to_dicts() if view.shows(r)]
    if not own:
        return None
    of = pl.DataFrame(
        {
            "source": [r["source"] for r in own],
            "label": [view.label(r) for r in own],
            "series": [view.series(r) for r in own],
        }
    )
    rows = summary.filter(pl.col("over") == "converged").join(of, on="source")
    panels = {f"{metric}/{split}": panel for (metric, split), panel in origins_figures.METRICS.items()}
    rows = rows.with_columns(
        pl.format("{}/{}", "metric", "split").replace_strict(panels, default=None).alias("panel")
    ).drop_nulls("panel")  # fmt: skip
    labels, series = list(dict.fromkeys(of["label"])), list(dict.fromkeys(of["series"]))
    columns = ["label", "series", "panel", "mean", "low", "high", "untrained", "control", "n"]
    title = origins_findings.family_title(letter, own)
    return origins_figures.family_figure(letter, rows.select(columns), labels, series, title)


def _emergence(run: Run, table: pl.DataFrame, limits: Mapping[str, float]) -> list[Figure]:
    chosen = table.filter(pl.col("families").str.contains("J", literal=True)).to_dicts()
    if not chosen:
        return []
    cells = [
        data.Cell(r["source"], f"d = {r['dim']}, {data.law_words(r['law'])}", r["dim"], r["law"],
                  limits.get(r["law"]) if r["dim"] == 2 ** r["concepts"] - 1 else None)
        for r in chosen
    ]  # fmt: skip
    curves = data.emergence([run]).filter(pl.col("source").is_in([c.source for c in cells]))
    return emergence.figures(curves, cells, findings.emergence_titles(curves, cells))


def _path(run: Run) -> Figure | None:
    rows = run.table("limit_path")
    if rows is None or rows.is_empty():
        return None
    ends = rows.group_by("world", maintain_order=True).agg(pl.col("parallelism").last(), pl.col("limit").last())
    said = "; ".join(
        f"{w}: {number(p, 4)} at the end of the path, limit {number(x, 4)}" for w, p, x in ends.iter_rows()
    )
    return origins_figures.limit_path(rows, f"The path to the limit: {said}")


def _predictions(table: pl.DataFrame | None) -> list[dict[str, Any]]:
    """Predictions with their verdicts, counted, and the single comparisons: those that say something first."""
    if table is None:
        return []
    groups = []
    for (name,), rows in table.group_by(["prediction"], maintain_order=True):
        counts = dict(rows["verdict"].value_counts().iter_rows())
        own = [row | {"measured_text": _measured(row)} for row in rows.to_dicts()]
        own.sort(key=lambda row: _VERDICT_ORDER.index(row["verdict"]))
        groups.append(
            {
                "name": name,
                "statement": rows["statement"][0],
                "predicted": f"{rows['metric'][0].replace('_', ' ')} {rows['predicted'][0]}",
                "counts": {verdict: counts[verdict] for verdict in _VERDICT_ORDER if verdict in counts},
                "rows": [row for row in own if row["verdict"] != "assumptions not met"],
                "unmet": [row for row in own if row["verdict"] == "assumptions not met"],
            }
        )
    order = list(PREDICTIONS)
    return sorted(groups, key=lambda group: order.index(group["name"]))


def _measured(row: dict[str, Any]) -> str:
    if row["measured"] is None:
        return "–"
    text = number(row["measured"], 4)
    return text if row["low"] is None else f"{text} ({number(row['low'], 4)} to {number(row['high'], 4)})"


def _cell_rows(table: pl.DataFrame, summary: pl.DataFrame) -> list[dict[str, Any]]:
    """The table of every cell."""
    rows = []
    for r in table.to_dicts():
        own = summary.filter(pl.col("source") == r["source"], pl.col("over") == "converged")
        row = {
            "source": r["source"], "families": r["families"], "seeds": r["seeds"], "converged": r["converged"],
            "diverged": r["diverged"], "steps": r["steps_taken"], "excess": r["excess"],
            "excess_text": _excess(r["excess"]),
            "excess_range": f"{_excess(r['excess_low'])} to {_excess(r['excess_high'])}",
        }  # fmt: skip
        for (metric, split), panel in origins_figures.METRICS.items():
            found = own.filter(pl.col("metric") == metric, pl.col("split") == split).to_dicts()
            values = found[0] if found else dict.fromkeys(("mean", "low", "high", "untrained", "control"))
            row[panel] = {
                "sort": "" if values["mean"] is None else values["mean"],
                "text": number(values["mean"], 3),
                "interval": ""
                if values["low"] is None
                else f"{number(values['low'], 3)} to {number(values['high'], 3)}",
                "untrained": number(values["untrained"]),
                "control": "" if values["control"] is None else number(values["control"]),
            }
        rows.append(row)
    return rows


def _excess(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.0001" if value < 1e-4 else number(value, 4)
