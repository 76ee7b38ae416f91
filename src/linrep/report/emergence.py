"""Curves against training step: every seed, the band of seeds, the untrained null, the wide limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import polars as pl

from linrep.report.data import CONVERGED, Cell, shown_orthogonality
from linrep.report.theme import Figure, inline

CONVERGED_AT = 0.02  # nats of excess loss, drawn as a line: the definition of "converged" (docs, science of the metric)
_SMALLEST_EXCESS = 1e-5  # below it a logarithmic axis shows rounding errors

# Kinds of marks, in the order of the legend, with the colour and dash of each.
_SEED_OK, _SEED_NOT, _MEDIAN = "seed, converged", "seed, not converged", "median of all seeds"
_UNTRAINED, _RANDOM, _LIMIT = "untrained (median)", "random directions", "limit for wide tables"
_THRESHOLD = f"{CONVERGED_AT:g} nats"
_LOOK = {
    _SEED_OK: ("@accent", [1, 0]),
    _SEED_NOT: ("@other", [1, 0]),
    _MEDIAN: ("@ink", [1, 0]),
    _UNTRAINED: ("@null", [6, 4]),
    _RANDOM: ("@null", [1, 3]),
    _LIMIT: ("@other", [8, 3, 2, 3]),
    _THRESHOLD: ("@null", [2, 2]),
}

TITLES = {
    "parallelism": "Parallelism (mean cosine)",
    "alignment": "Alignment (cosine)",
    "orthogonality": "Mean |cosine|",
    "excess_loss": "Excess loss (nats)",
}
_CAPTIONS = {
    "parallelism": "Mean cosine between all pairs of differences of one concept, averaged over concepts. 1: one "
    "direction a concept.",
    "alignment": "Cosine between the mean difference of contexts (λ) and of tokens (γ), averaged over concepts.",
    "orthogonality": "Over all pairs of different concepts.",
    "not adjacent": "Only pairs of concepts that are not adjacent in the concept graph; seeds whose graph has no such "
    "pair are left out.",
    "excess_loss": "Cross-entropy minus the entropy that no predictor can go below, on a logarithmic scale. Seeds that "
    "end beneath the dotted line converged.",
}


def figures(table: pl.DataFrame, cells: Sequence[Cell], titles: dict[str, str]) -> list[Figure]:
    """One figure a metric with a panel for each cell; metrics that were not measured are left out."""
    table = shown_orthogonality(table)
    made = []
    for metric, title in titles.items():
        rows = table.filter(pl.col("metric") == metric)
        if rows["value"].drop_nulls().is_empty():
            continue
        made.append(_figure(metric, title, rows, cells))
    return made


def _figure(metric: str, title: str, rows: pl.DataFrame, cells: Sequence[Cell]) -> Figure:
    data = _marks(metric, rows, cells)
    kinds = [k for k in _LOOK if k in data["kind"].unique().to_list()]
    apart = rows["split"].fill_null("all").eq("not adjacent").any()
    return Figure(
        name=f"emergence-{metric.replace('_', '-')}",
        title=title,
        caption=_CAPTIONS["not adjacent" if apart else metric],
        alt_text=f"{TITLES[metric]} against training step, one panel for each of {len(cells)} cells. {title}",
        chart=_chart(metric, data, kinds, [c.label for c in cells]),
        layout="panels",
    )


def _marks(metric: str, rows: pl.DataFrame, cells: Sequence[Cell]) -> pl.DataFrame:
    """All marks of a figure in one table: a facet has one data source."""
    labels = pl.DataFrame({"source": [c.source for c in cells], "cell": [c.label for c in cells]})
    rows = rows.join(labels, on="source")
    if metric == "excess_loss":
        rows = rows.with_columns(pl.col("value", "null_value").clip(lower_bound=_SMALLEST_EXCESS))
    values = rows.filter(pl.col("null").is_null())
    ok = pl.col("status") == CONVERGED
    kind = pl.when(ok).then(pl.lit(_SEED_OK)).otherwise(pl.lit(_SEED_NOT))
    at = ["cell", "step"]
    seeds = values.select(*at, "seed", "value", kind.alias("kind"), "status")
    middle = values.drop_nulls("value").group_by(at, maintain_order=True)
    band = middle.agg(
        pl.col("value").median(),
        pl.col("value").quantile(0.1).alias("low"),
        pl.col("value").quantile(0.9).alias("high"),
    ).with_columns(kind=pl.lit(_MEDIAN))
    parts = [seeds, band]
    for null, name in (("untrained", _UNTRAINED), ("random directions", _RANDOM)):
        own = rows.filter(pl.col("null") == null).drop_nulls("null_value")
        parts.append(
            own.group_by(at, maintain_order=True)
            .agg(pl.col("null_value").median().alias("value"))
            .with_columns(kind=pl.lit(name))
        )
    ends = values.group_by("cell", maintain_order=True).agg(pl.col("step").min(), pl.col("step").max().alias("end"))
    ends = pl.concat([ends.select(at), ends.select("cell", pl.col("end").alias("step"))])
    if metric == "parallelism":
        limits = pl.DataFrame(
            {"cell": [c.label for c in cells], "value": [c.limit for c in cells]},
            schema_overrides={"value": pl.Float64},
        ).drop_nulls()
        parts.append(ends.join(limits, on="cell").with_columns(kind=pl.lit(_LIMIT)))
    if metric == "excess_loss":
        parts.append(ends.with_columns(value=pl.lit(CONVERGED_AT), kind=pl.lit(_THRESHOLD)))
    return pl.concat(parts, how="diagonal_relaxed")


def _chart(metric: str, data: pl.DataFrame, kinds: list[str], labels: list[str]) -> alt.FacetChart:
    steps = data["step"].max()
    powers = [10**k for k in range(9) if 10**k <= (steps if isinstance(steps, int) else 1)]
    # The symmetric logarithm is linear below the first step: step 0 has its true place at the left end.
    x = alt.X(
        "step:Q",
        scale=alt.Scale(type="symlog", constant=1, nice=False),
        axis=alt.Axis(
            values=[0, *powers],
            grid=False,
            labelOverlap="greedy",
            labelSeparation=4,
            labelExpr="datum.value >= 1000 ? datum.value / 1000 + 'k' : datum.value",
        ),
        title="Training step",
    )
    if metric == "excess_loss":
        scale = alt.Scale(type="log", nice=False, domain=_excess_domain(data))
        axis = alt.Axis(values=[10.0**k for k in range(-5, 2)], format="~g", minExtent=40)
    else:
        scale, axis = alt.Scale(domain=_cosine_domain(metric, data)), alt.Axis(tickCount=5, minExtent=40)
    y = alt.Y("value:Q", scale=scale, axis=axis, title=TITLES[metric])
    looks = [_LOOK[k] for k in kinds]
    legend = alt.Legend(
        title=None, orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2, symbolOpacity=1
    )
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[c for c, _ in looks]),
        legend=legend,
    )
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=[d for _, d in looks]), legend=legend)
    named = alt.datum.kind
    seeds = (
        alt.Chart()
        .transform_filter((named == _SEED_OK) | (named == _SEED_NOT))
        .mark_line(strokeWidth=1.1, opacity=0.5, clip=True)
        .encode(
            x=x, y=y, color=color, detail="seed:N",
            tooltip=["seed:N", "step:Q", alt.Tooltip("value:Q", format=".3~f"), "status:N"],
        )
    )  # fmt: skip
    band = (
        alt.Chart()
        .transform_filter(named == _MEDIAN)
        .mark_area(opacity=0.14, color="@ink", clip=True)
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    )
    lines = (
        alt.Chart()
        .transform_filter((named != _SEED_OK) & (named != _SEED_NOT))
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=x, y=y, color=color, strokeDash=dash,
            tooltip=["kind:N", "step:Q", alt.Tooltip("value:Q", format=".3~f")],
        )
    )  # fmt: skip
    return (
        alt.layer(band, seeds, lines, data=inline(data))
        .properties(width=230, height=210)
        .facet(
            alt.Facet("cell:N", sort=labels, header=alt.Header(title=None, labelExpr="split(datum.label, ', ')")),
            columns=min(4, len(labels)),
        )
    )


def _extent(data: pl.DataFrame) -> tuple[float, float]:
    low, high = data["value"].drop_nulls().min(), data["value"].drop_nulls().max()
    assert isinstance(low, float) and isinstance(high, float)  # noqa: S101 - the caller has seen values
    return low, high


def _excess_domain(data: pl.DataFrame) -> list[float]:
    low, high = _extent(data)
    return [low / 1.2, high * 1.2]


def _cosine_domain(metric: str, data: pl.DataFrame) -> list[float]:
    """Round fifths around the values; up to 1 where 1 is what is asked about."""
    low, high = _extent(data)
    return [math.floor(5 * min(low, 0.0)) / 5, math.ceil(5 * high) / 5 if metric == "orthogonality" else 1.0]
