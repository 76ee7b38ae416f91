"""What stands on the page of a comparison: a scatter of concepts, its tables, and distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from linrep.errors import InvalidInputError
from linrep.report import data
from linrep.report.findings import number, product_name
from linrep.report.theme import Figure, inline
from linrep.runs.store import Run
from linrep.studies.compare import Comparison, Side, sides_of

_SIMULATED = {"simulate", "origins"}
_MODELS = {"measure", "real-model"}


def sides(runs: Sequence[Run]) -> list[Side]:
    """Every model, checkpoint and simulated cell of some runs; a label that occurs twice gets its run's folder.

    Raises
    ------
    InvalidInputError
        If a run is of a kind that measures no concepts.
    """
    found: list[tuple[Run, Side]] = []
    for run in runs:
        if run.kind not in _SIMULATED | _MODELS:
            raise InvalidInputError(
                f"{run.path} is a run of kind {run.kind!r}; what can be compared: "
                f"{', '.join(sorted(_SIMULATED | _MODELS))}"
            )
        named = sides_of(run.measurements, str(run.path), simulated=run.kind in _SIMULATED)
        found += [(run, side) for side in named]
    count = Counter(side.label for _, side in found)
    labelled = [
        side if count[side.label] == 1 else Side(f"{side.label} ({run.path.name})", side.simulated, side.values)
        for run, side in found
    ]
    if twice := [label for label, n in Counter(s.label for s in labelled).items() if n > 1]:
        raise InvalidInputError(f"two runs are both called {twice[0]}: rename one of their folders")
    return labelled


def compare_content(labelled: Sequence[Side], found: Comparison) -> dict[str, Any]:
    """Everything the template of this page shows."""
    shown = set(found.distributions["inner_product"].to_list())
    products = data.in_order(sorted(shown))
    scatters = {p: f for p in products if (f := _scatter(found.differences, found.correlations, p)) is not None}
    spread = {p: _spread(labelled, p) for p in products}
    figures = [*scatters.values(), *spread.values()]
    return {
        "template": "compare.html.j2",
        "figures": {f.name: f for f in figures},
        "sides": [s.label for s in labelled],
        "products": [(p, product_name(p)) for p in products],
        "scatters": scatters,
        "spread": spread,
        "correlations": [_correlation_row(r) for r in found.correlations.to_dicts()],
        "differences": {p: _difference_rows(found.differences, p) for p in scatters},
        "distributions": [_distribution_row(r) for r in found.distributions.to_dicts()],
        "simulated": any(s.simulated for s in labelled),
    }


def _correlation_row(row: dict[str, Any]) -> dict[str, Any]:
    interval = "" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}"
    return row | {
        "text": number(row["spearman"]), "interval": interval, "product": product_name(row["inner_product"]),
        "shift": number(row["median_difference"], 3),
    }  # fmt: skip


def _difference_rows(differences: pl.DataFrame, product: str) -> list[dict[str, Any]]:
    rows = differences.filter(pl.col("inner_product") == product).sort("difference", maintain_order=True).to_dicts()
    return [
        r
        | {
            "first_text": number(r["value_first"], 3),
            "second_text": number(r["value_second"], 3),
            "text": number(r["difference"], 3),
            "interval": "" if r["low"] is None else f"{number(r['low'], 3)} to {number(r['high'], 3)}",
            "apart": r["low"] is not None and not r["low"] <= 0 <= r["high"],
        }
        for r in rows
    ]


def _distribution_row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "product": product_name(row["inner_product"]), "text": number(row["median"], 3),
        "range": f"{number(row['low'], 3)} to {number(row['high'], 3)}",
    }  # fmt: skip


def _scatter(differences: pl.DataFrame, correlations: pl.DataFrame, product: str) -> Figure | None:
    """Value of every common concept in the one model against the other; a panel a pair and metric."""
    if differences.is_empty():
        return None
    rows = differences.filter(pl.col("inner_product") == product)
    if rows.is_empty():
        return None
    rows = rows.with_columns(pl.format("{}: {} → {}", "metric", "first", "second").alias("panel"))
    panels = rows["panel"].unique(maintain_order=True).to_list()
    columns = ["value_first", "value_second"]
    numbers = rows.select(columns).to_numpy()
    domain = [min(0.0, float(numbers.min())), max(0.05, float(numbers.max()))]
    scale = alt.Scale(domain=domain, nice=True)
    base = alt.Chart().encode(
        x=alt.X("value_first:Q", scale=scale, title="first"), y=alt.Y("value_second:Q", scale=scale, title="second")
    )
    points = base.mark_circle(size=60, opacity=0.85, color="@accent").encode(
        tooltip=["concept:N", "metric:N", *(alt.Tooltip(f"{c}:Q", format=".3f") for c in (*columns, "difference"))]
    )
    same = (
        alt.Chart(alt.Data(values=[{"a": domain[0], "b": domain[0]}, {"a": domain[1], "b": domain[1]}]))
        .mark_line(color="@muted", strokeDash=[4, 3])
        .encode(x=alt.X("a:Q", scale=scale), y=alt.Y("b:Q", scale=scale))
    )
    own = correlations.filter(pl.col("inner_product") == product).to_dicts()
    said = "; ".join(f"{r['metric']} {number(r['spearman'])}" for r in own[:2])
    title = f"Rank correlation of how linear concepts are, {product_name(product).lower()} inner product: {said}"
    return Figure(
        name=f"scatter-{product.replace(' ', '-')}",
        title=title,
        caption="Each dot is one concept: its value in the one model against that in the other. On the broken line "
        "both are equal; dots along any rising curve keep the order of the concepts.",
        alt_text=f"Scatter of {rows.height} concepts in {len(panels)} panels. {title}",
        chart=alt.layer(same, points, data=inline(rows))
        .properties(width=280, height=280)
        .facet(alt.Facet("panel:N", sort=panels, header=alt.Header(title=None, labelLimit=280)), columns=3),
        layout="panels",
        inner_product=product,
    )


def _spread(labelled: Sequence[Side], product: str) -> Figure:
    """Every value of every side, concepts of models and seeds of simulated cells, a panel a metric."""
    parts = [
        s.values.filter(pl.col("inner_product") == product).with_columns(
            side=pl.lit(s.label), kind=pl.lit("seed of a simulation" if s.simulated else "concept of a model")
        )
        for s in labelled
    ]
    rows = pl.concat(parts).drop_nulls("value")
    order = [s.label for s in labelled if s.label in rows["side"].to_list()]
    kinds = rows["kind"].unique(maintain_order=True).to_list()
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    color = alt.Color(
        "kind:N", scale=alt.Scale(domain=kinds, range=["@accent", "@other"][: len(kinds)]),
        legend=alt.Legend(title=None, orient="top"),
    )  # fmt: skip
    base = alt.Chart().encode(y=alt.Y("side:N", sort=order, axis=alt.Axis(title=None, labelLimit=240)))
    x = alt.X("value:Q", title="cosine")
    dots = base.mark_circle(size=30, opacity=0.5).encode(
        x=x, color=color, tooltip=["side:N", "concept:N", alt.Tooltip("value:Q", format=".3f")]
    )
    middle = base.mark_tick(thickness=2.5, height=18, color="@ink").encode(x=alt.X("median(value):Q", title="cosine"))
    title = f"How linear concepts are in each, {product_name(product).lower()} inner product"
    return Figure(
        name=f"spread-{product.replace(' ', '-')}",
        title=title,
        caption="Dots: concepts of a model, or seeds of a simulated cell (mean over the concepts of its world); the "
        "upright bar is their median.",
        alt_text=f"{title}: {', '.join(order)}.",
        chart=alt.layer(dots, middle, data=inline(rows))
        .properties(width=300, height=max(60, 34 * len(order)))
        .facet(alt.Facet("metric:N", sort=metrics, header=alt.Header(title=None)), columns=2),
        layout="panels",
        inner_product=product,
    )
