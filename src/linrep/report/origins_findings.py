"""What the page of the origins study says in words, computed from its tables: no claim is written in advance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from linrep.report.data import law_words
from linrep.report.findings import number
from linrep.report.origins_figures import FEW_SEEDS
from linrep.studies.origins_cells import Cell

Row = dict[str, Any]

LINEAR = 0.95  # parallelism from which on a concept is called one direction


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
    text = names.get(name, f"{name}, edges {amount}")
    if (row["low"], row["high"]) != (0.3, 0.7):
        text += f", P {row['low']:g}–{row['high']:g}"
    return text


def _values(row: Row) -> str:
    return f"K = {row['values']}, {row['kind']}"


def _law_and_width(row: Row) -> str:
    times = row["dim"] // (row["concepts"] * (row["values"] - 1))
    return f"{_law(row)}, d = {'' if times == 1 else times}m(K−1)"


VIEWS: dict[str, View] = {
    "A": View("How many concepts", lambda r: f"m = {r['concepts']}",
              lambda r: "d = 2m" if r["dim"] > r["concepts"] else "d = m"),
    "C": View("Which contexts exist", _law, _width, _base_table),
    "D": View("Which tokens exist", lambda r: f"{100 * r['missing']:g} % of assignments without a token", _law),
    "E": View("Which graph joins the concepts", _graph, _law),
    "F": View("How contexts are embedded", lambda r: r["predictor"] + (" on sentences" if r["sentences"] else ""), _law,
              lambda r: r["law"] in ("complete", "at-most-2") and r["dim"] == 2 * r["concepts"]),
    "G": View("Which optimiser, from which initial scale",
              lambda r: f"{r['optimizer'].replace('_', ' ')}, scale {r['initial_scale']:g}", _law),
    "H": View("How many values a concept has", _values, _law_and_width),
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
    counted = [r for r in table.to_dicts() if r["converged"] >= FEW_SEEDS and r["mean"] is not None]
    rows = []
    for letter, view in VIEWS.items():
        own = [r for r in counted if letter in r["families"] and view.shows(r)]
        for series in dict.fromkeys(view.series(r) for r in own):
            same = [r for r in own if view.series(r) == series]
            rows += _spread(letter, view.question, series, same, view.label)
    wide = [r for r in counted if "B" in r["families"]]
    for predictor, law in dict.fromkeys((r["predictor"], r["law"]) for r in wide):
        same = [r for r in wide if (r["predictor"], r["law"]) == (predictor, law)]
        rows += _spread("B", "How wide λ and γ are", f"{predictor}, {law_words(law)}", same, _width)
    return sorted(rows, key=lambda r: -r["range"])


def _spread(letter: str, question: str, held: str, cells: Sequence[Row], label: Callable[[Row], str]) -> list[Row]:
    """One row on comparable cells, none if there is but one of them."""
    if len(cells) < 2:
        return []
    least, *_, most = sorted(cells, key=lambda r: r["mean"])
    difference = most["mean"] - least["mean"]
    return [
        {
            "family": letter,
            "question": question,
            "held": held,
            "least": label(least),
            "least_value": number(least["mean"]),
            "most": label(most),
            "most_value": number(most["mean"]),
            "range": difference,
            "range_text": number(difference),
        }
    ]


def answers(table: pl.DataFrame, limits: dict[str, float]) -> list[dict[str, str]]:
    """The short answer: how many cells are linear, which thing decides most, and where the widest tables end."""
    shown = table.filter(pl.col("converged") >= FEW_SEEDS).drop_nulls("mean")
    if shown.is_empty():
        return []
    linear = shown.filter(pl.col("mean") >= LINEAR)
    said = [
        {
            "figure": f"{linear.height} of {shown.height}",
            "text": f"kinds of world and training make concepts linear: parallelism of {LINEAR:g} or more in the mean "
            f"of the seeds that converged. Before training the mean is {number(_mean(shown['untrained']))}.",
        }
    ]
    for top in spread_rows(table)[:1]:
        question = top["question"][0].lower() + top["question"][1:]
        said.append(
            {
                "figure": f"{top['least_value']} to {top['most_value']}",
                "text": f"is the largest difference that one thing makes: {question} ({top['least']} against "
                f"{top['most']}; held: {top['held']}).",
            }
        )
    wide = [
        r for r in shown.to_dicts()
        if _plain(r) and _free(r) and r["law"] == "complete" and r["dim"] == 2 ** r["concepts"] - 1
    ]  # fmt: skip
    if wide and "complete" in limits:
        row = wide[0]
        said.append(
            {
                "figure": f"{number(row['mean'])} vs {number(limits['complete'])}",
                "text": f"parallelism of free tables of full width (d = {row['dim']}) with every context present after "
                f"{row['steps_taken']} steps, beside the computed limit of infinite training in a uniform world.",
            }
        )
    return said


def _mean(values: pl.Series) -> float | None:
    middle = values.drop_nulls().mean()
    return float(middle) if isinstance(middle, int | float) else None


def when(table: pl.DataFrame) -> dict[str, list[str]]:
    """Sentences by outcome: every such cell is linear, none is, or it depends; each with its numbers."""
    said: dict[str, list[str]] = {"yes": [], "no": [], "depends": []}
    cells = [r for r in table.to_dicts() if r["converged"] >= FEW_SEEDS and r["mean"] is not None]
    for condition, holds in CONDITIONS.items():
        values = [r["mean"] for r in cells if holds(r)]
        if not values:
            continue
        low, high = min(values), max(values)
        outcome = "yes" if low >= LINEAR else "no" if high < LINEAR else "depends"
        text = number(low) if number(low) == number(high) else f"{number(low)} to {number(high)}"
        said[outcome].append(f"{condition}: {text} ({len(values)} cell{'s' if len(values) > 1 else ''}).")
    return said


def _plain(row: Row) -> bool:
    """Random graphs of binary concepts with all tokens, gradient descent from small values: the default of a cell."""
    default = Cell()
    same = ("optimizer", "graph", "values", "missing", "low", "high", "initial_scale", "sentences")
    return all(row[key] == getattr(default, key) for key in same)


def _free(row: Row) -> bool:
    return row["predictor"] == "table"


def _wide(row: Row) -> bool:
    return _plain(row) and _free(row) and row["dim"] >= 2 * row["concepts"]


# Groups of comparable cells that a reader would ask about.
CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "Free tables no wider than the number of concepts, complete contexts": lambda r: (
        _plain(r) and _free(r) and r["law"] == "complete" and r["dim"] <= r["concepts"]
    ),
    "Free tables at least twice as wide, complete contexts": lambda r: _wide(r) and r["law"] == "complete",
    "Free tables at least twice as wide, at most 1 concept known": lambda r: _wide(r) and r["law"] == "at-most-1",
    "Free tables at least twice as wide, at most 2 concepts known": lambda r: _wide(r) and r["law"] == "at-most-2",
    "Embeddings that are sums over the known concepts (factored), complete contexts": lambda r: (
        _plain(r) and r["predictor"] == "factored" and r["law"] == "complete"
    ),
    "Factored embeddings, at most 1 or 2 concepts known": lambda r: (
        _plain(r) and r["predictor"] == "factored" and r["law"] in ("at-most-1", "at-most-2")
    ),
    "Networks (MLP, transformer)": lambda r: r["predictor"] not in ("table", "factored"),
    "Free tables started at scale 1": lambda r: _free(r) and r["initial_scale"] == 1.0,
    "Some assignments without a token, at most 2 concepts known": lambda r: r["missing"] > 0,
    "Concepts with more than two values": lambda r: r["values"] > 2,
}


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
