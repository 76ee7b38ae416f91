"""What the page of the origins study says in words, computed from its tables: no claim is written in advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from linrep.report.data import law_words
from linrep.report.findings import number
from linrep.report.origins_figures import FEW_SEEDS

Row = dict[str, Any]

# From here on a concept is called one direction, and from here down it is called several.
LINEAR, NOT_LINEAR = 0.95, 0.7


@dataclass(frozen=True)
class View:
    """How a family is shown: which of its cells, the label of a row, and the series it belongs to."""

    question: str
    label: Callable[[Row], str]
    series: Callable[[Row], str]
    shows: Callable[[Row], bool] = lambda _row: True


def _width(row: Row) -> str:
    return f"d = {row['dim']}"


def _law(row: Row) -> str:
    return law_words(row["law"])


def _base_table(row: Row) -> bool:
    return row["predictor"] == "table" and row["dim"] == 2 * row["concepts"]


def _graph(row: Row) -> str:
    names = {"independent": "independent", "chain": "chain", "tree": "tree"}
    name, _, amount = row["graph"].partition("-")
    text = names.get(name, f"{name}, edge probability {amount}")
    if (row["low"], row["high"]) != (0.3, 0.7):
        text += f", P in {row['low']:g} to {row['high']:g}"
    return text


VIEWS: dict[str, View] = {
    "A": View("How many concepts", lambda r: f"m = {r['concepts']}", lambda r: "d = 2m" if r["dim"] > r["concepts"] else "d = m"),
    "C": View("Which contexts exist", _law, _width, _base_table),
    "D": View("Which tokens exist", lambda r: f"{100 * r['missing']:g} % of assignments without a token", _law),
    "E": View("Which graph joins the concepts", _graph, _law),
    "F": View("How contexts are embedded", lambda r: r["predictor"] + (" on sentences" if r["sentences"] else ""), _law,
              lambda r: r["law"] in ("complete", "at-most-2") and r["dim"] == 2 * r["concepts"]),
    "G": View("Which optimiser, from which initial scale",
              lambda r: f"{r['optimizer'].replace('_', ' ')}, scale {r['initial_scale']:g}", _law),
    "H": View("How many values a concept has",
              lambda r: f"K = {r['values']}, {r['kind']}, d = {r['dim'] // (r['concepts'] * (r['values'] - 1))} · m(K−1)", _law),
}  # fmt: skip


def joined(cells: pl.DataFrame, summary: pl.DataFrame) -> pl.DataFrame:
    """Cells with the mean parallelism of their converged seeds, its interval, and the untrained mean."""
    own = summary.filter(pl.col("metric") == "parallelism", pl.col("split") == "all", pl.col("over") == "converged")
    return cells.join(own.select("source", "mean", "low", "high", "untrained"), on="source", how="left",
                      maintain_order="left")  # fmt: skip


def spread_rows(table: pl.DataFrame) -> list[Row]:
    """What each family changes: its most and least parallel cell, within one series; the largest difference first.

    Cells in which fewer than three seeds converge are left out.
    """
    rows = []
    for letter, view in VIEWS.items():
        own = [r for r in _of(table, letter) if view.shows(r) and r["converged"] >= FEW_SEEDS and r["mean"] is not None]
        for series in dict.fromkeys(view.series(r) for r in own):
            same = sorted((r for r in own if view.series(r) == series), key=lambda r: r["mean"])
            if len(same) > 1:
                rows.append(
                    {
                        "family": letter, "question": view.question, "held": series,
                        "least": view.label(same[0]), "least_value": number(same[0]["mean"]),
                        "most": view.label(same[-1]), "most_value": number(same[-1]["mean"]),
                        "range": same[-1]["mean"] - same[0]["mean"], "range_text": number(same[-1]["mean"] - same[0]["mean"]),
                    }
                )  # fmt: skip
    rows += _width_spread(table)
    return sorted(rows, key=lambda r: -r["range"])


def _width_spread(table: pl.DataFrame) -> list[Row]:
    rows = []
    for predictor, law in _of_frame(table, "B").select("predictor", "law").unique(maintain_order=True).iter_rows():
        own = [r for r in _of(table, "B") if (r["predictor"], r["law"]) == (predictor, law)
               and r["converged"] >= FEW_SEEDS and r["mean"] is not None]  # fmt: skip
        if len(own) > 1:
            own.sort(key=lambda r: r["mean"])
            rows.append(
                {
                    "family": "B", "question": "How wide λ and γ are", "held": f"{predictor}, {law_words(law)}",
                    "least": _width(own[0]), "least_value": number(own[0]["mean"]),
                    "most": _width(own[-1]), "most_value": number(own[-1]["mean"]),
                    "range": own[-1]["mean"] - own[0]["mean"], "range_text": number(own[-1]["mean"] - own[0]["mean"]),
                }
            )  # fmt: skip
    return rows


def _of_frame(table: pl.DataFrame, letter: str) -> pl.DataFrame:
    return table.filter(pl.col("families").str.contains(letter, literal=True))


def _of(table: pl.DataFrame, letter: str) -> list[Row]:
    return _of_frame(table, letter).to_dicts()


def answers(table: pl.DataFrame, limits: dict[str, float]) -> list[dict[str, str]]:
    """The short answer: how many cells are linear, which are not, and what decides."""
    shown = table.filter(pl.col("converged") >= FEW_SEEDS).drop_nulls("mean")
    if shown.is_empty():
        return []
    linear = shown.filter(pl.col("mean") >= LINEAR)
    said = [
        {
            "figure": f"{linear.height} of {shown.height}",
            "text": f"kinds of world and training make concepts linear: parallelism of {LINEAR:g} or more in the mean of "
            f"the seeds that converged. Before training the mean is {number(_mean(shown['untrained']))}.",
        }
    ]
    spread = spread_rows(table)
    if spread:
        top = spread[0]
        said.append(
            {
                "figure": f"{top['least_value']} to {top['most_value']}",
                "text": f"is the largest difference that one thing makes: {top['question'][0].lower()}{top['question'][1:]} "
                f"({top['least']} against {top['most']}, all else equal: {top['held']}).",
            }
        )
    wide = shown.filter(pl.col("predictor") == "table", pl.col("law") == "complete", pl.col("graph") == "random-0.5",
                        pl.col("values") == 2, pl.col("optimizer") == "gradient_descent",
                        pl.col("dim") == 2 ** pl.col("concepts") - 1)  # fmt: skip
    if wide.height and "complete" in limits:
        row = wide.row(0, named=True)
        said.append(
            {
                "figure": f"{number(row['mean'])} vs {number(limits['complete'])}",
                "text": f"parallelism of free tables of full width (d = {row['dim']}) with every context present, trained "
                "against the computed limit of infinite training in a uniform world. More width and more training do not "
                "make these concepts linear.",
            }
        )
    return said


def _mean(values: pl.Series) -> float | None:
    middle = values.drop_nulls().mean()
    return float(middle) if isinstance(middle, int | float) else None


def when(table: pl.DataFrame) -> dict[str, list[str]]:
    """Plain sentences: when concepts become linear, when they do not; each with its numbers."""
    yes, no = [], []
    for row in _conditions(table):
        values = row["values"]
        low, high = min(values), max(values)
        text = f"{row['text']}: {number(low)}" + (f" to {number(high)}" if number(low) != number(high) else "")
        text += f" ({row['n']} cell{'s' if row['n'] > 1 else ''})."
        (yes if low >= LINEAR else no if high < LINEAR else []).append(text)
    return {"yes": yes, "no": no}


def _conditions(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Groups of comparable cells that a reader would ask about, with the parallelism of each."""
    default = (
        (pl.col("optimizer") == "gradient_descent") & (pl.col("graph") == "random-0.5") & (pl.col("values") == 2)
        & (pl.col("missing") == 0) & (pl.col("low") == 0.3) & (pl.col("initial_scale") == 0.01) & (pl.col("converged") >= FEW_SEEDS)
    )  # fmt: skip
    table_, wide, full = (
        pl.col("predictor") == "table",
        pl.col("dim") >= 2 * pl.col("concepts"),
        pl.col("law") == "complete",
    )
    few = pl.col("law").is_in(["at-most-1", "at-most-2"])
    groups = [
        ("Free tables no wider than the number of concepts, complete contexts", default & table_ & full & (pl.col("dim") <= pl.col("concepts"))),
        ("Free tables at least twice as wide, complete contexts", default & table_ & full & wide),
        ("Free tables at least twice as wide, contexts with at most 1 known concept", default & table_ & wide & (pl.col("law") == "at-most-1")),
        ("Free tables at least twice as wide, contexts with at most 2 known concepts", default & table_ & wide & (pl.col("law") == "at-most-2")),
        ("Embeddings that are sums over the known concepts (factored), complete contexts", default & (pl.col("predictor") == "factored") & full),
        ("Factored embeddings, contexts with few known concepts", default & (pl.col("predictor") == "factored") & few),
        ("Free tables started large (scale 1)", (pl.col("initial_scale") == 1.0) & table_ & (pl.col("converged") >= FEW_SEEDS)),
    ]  # fmt: skip
    rows = []
    for text, condition in groups:
        values = table.filter(condition)["mean"].drop_nulls().to_list()
        if values:
            rows.append({"text": text, "values": values, "n": len(values)})
    return rows


def family_title(letter: str, rows: Sequence[Row]) -> str:
    """The finding of a family's figure: the range of its parallelism, by series."""
    view, parts = VIEWS[letter], []
    for series in dict.fromkeys(view.series(r) for r in rows):
        own = sorted((r for r in rows if view.series(r) == series and r["mean"] is not None), key=lambda r: r["mean"])
        if own:
            low, high = own[0], own[-1]
            parts.append(
                f"{series}: {number(low['mean'])} ({view.label(low)})"
                + (f" to {number(high['mean'])} ({view.label(high)})" if len(own) > 1 else "")
            )
    return f"{view.question}: parallelism, {'; '.join(parts)}" if parts else f"{view.question}: no seed converged"
