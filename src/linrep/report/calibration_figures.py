"""Figures of the calibration page: rejection rates by kind of nonsense, and power by planted strength."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from linrep.geometry import nulls
from linrep.report.findings import product_name
from linrep.report.theme import Figure, inline

VERDICT = "called a common direction"
_SHADE = alt.Scale(domain=[0, 0.05, 1], range=["@zero", "@zero", "@minus2"], clamp=True, interpolate="lab")
_SERIES = ["@accent", "@other", "@ink", "@null"]


def rejections(rows: pl.DataFrame, kinds: Sequence[str], products: Sequence[str], title: str) -> Figure:
    """Share rejected by every null, and called a common direction, of every kind; a panel an inner product.

    `rows` has the columns inner_product, concept, null, value.
    """
    columns = [*nulls.NULLS, VERDICT]
    named = {p: product_name(p) for p in products}
    table = rows.with_columns(pl.col("inner_product").replace_strict(named).alias("product"))
    base = alt.Chart().encode(  # without data: layers with their own would not be faceted
        x=alt.X("null:N", sort=columns, axis=alt.Axis(title=None, labelAngle=-40, orient="bottom", labelLimit=200)),
        y=alt.Y("concept:N", sort=list(kinds), axis=alt.Axis(title=None, labelLimit=200)),
    )
    legend = alt.Legend(title="share", orient="top", gradientLength=170, gradientThickness=9, format="~g")
    tiles = base.mark_rect(stroke="@paper", strokeWidth=2).encode(
        color=alt.Color("value:Q", scale=_SHADE, legend=legend),
        tooltip=["concept:N", "null:N", "product:N", alt.Tooltip("value:Q", format=".3f")],
    )
    numbers = base.mark_text(fontSize=11).encode(
        text=alt.Text("value:Q", format=".2f"),
        color=alt.condition("datum.value > 0.5", alt.value("@on_strong"), alt.value("@on_pale")),
    )
    chart = (
        alt.layer(tiles, numbers, data=inline(table))
        .properties(width=46 * len(columns), height=26 * len(kinds))
        .facet(alt.Facet("product:N", sort=list(named.values()), header=alt.Header(title=None)), columns=2)
    )
    return Figure(
        name="rejections",
        title=title,
        caption="Share of concepts of each kind with p ≤ 0.05 against each null, and (last column) called a common "
        "direction. White up to 5 %. On real lists, the last row, a high share is what one hopes for; everywhere else "
        "it is an error.",
        alt_text=f"Rejection rates of {len(columns) - 1} nulls on {len(kinds)} kinds of concepts. {title}",
        chart=chart,
        layout="fixed",
    )


def power(rows: pl.DataFrame, products: Sequence[str], title: str) -> Figure:
    """Share of planted directions called common against their strength, a line an inner product.

    `rows` has the columns inner_product, strength, value, low, high.
    """
    named = {p: product_name(p) for p in products}
    table = rows.with_columns(pl.col("inner_product").replace_strict(named).alias("product"))
    scale = alt.Scale(domain=list(named.values()), range=_SERIES[: len(named)])
    base = alt.Chart(inline(table)).encode(
        x=alt.X("strength:Q", title="Planted cosine between any two differences"),
        color=alt.Color("product:N", scale=scale, legend=alt.Legend(title=None, orient="top", columns=2)),
    )
    y = alt.Y("value:Q", title="Share called a common direction", scale=alt.Scale(domain=[0, 1]))
    tip = ["product:N", "strength:Q", alt.Tooltip("value:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f"),
           alt.Tooltip("high:Q", format=".3f")]  # fmt: skip
    chart = alt.layer(
        base.mark_rule(opacity=0.5).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_line().encode(y=y),
        base.mark_circle(size=55, opacity=1).encode(y=y, tooltip=tip),
    )
    return Figure(
        name="power",
        title=title,
        caption="Each point is the share of concepts with a planted direction that are called so, judged in runs of 27 "
        "of their own kind; the upright line is its exact 95 % interval. Noise is the difference of nearest words.",
        alt_text=title,
        chart=chart.properties(width=600, height=280),
        layout="fit",
    )
