"""Strips: the pairs of every concept against redrawn pairs, and matched alignment against its nulls."""

from __future__ import annotations

import math

import altair as alt
import polars as pl

from linrep.report.data import ModelView
from linrep.report.theme import Figure, inline

_X_TITLE = "Leave-one-out cosine"
_NULL_COLORS = {"partner shuffle": "@other", "random words": "@null"}


def leave_one_out(view: ModelView, product: str, title: str) -> Figure | None:
    """Leave-one-out cosine of every pair, over the middle 90 % of the same from nulls; sorted by parallelism."""
    rows = view.pairs.filter(pl.col("inner_product") == product).drop_nulls("cosine")
    if rows.is_empty():
        return None
    real = rows.filter(pl.col("null").is_null())
    order = _order(view, product, real)
    nulls = (
        rows.filter(pl.col("null").is_in(list(_NULL_COLORS)))
        .group_by("concept", "null", maintain_order=True)
        .agg(
            pl.col("cosine").quantile(0.05).alias("low"),
            pl.col("cosine").quantile(0.95).alias("high"),
            pl.col("cosine").median().alias("middle"),
        )
        .rename({"null": "kind"})
    )
    single = real.select("concept", "negative", "positive", "cosine", kind=pl.lit("pair"))
    mean = real.group_by("concept", maintain_order=True).agg(pl.col("cosine").mean()).with_columns(kind=pl.lit("mean"))
    shown = [k for k in _NULL_COLORS if k in nulls["kind"].unique().to_list()]
    data = pl.concat([single, mean, nulls], how="diagonal_relaxed")
    # One range for all inner products: what switches between them is the data only.
    chart = _strip(data, order, shown, _range(view.pairs["cosine"]))
    return Figure(
        name=f"leave-one-out-{view.slug}-{product.replace(' ', '-')}",
        title=title,
        caption="Each dot is one word pair: the cosine of its difference with the sum of the concept's other "
        "differences; the upright bar is their mean. Beneath, the middle 90 % of the same for redrawn pairs: words "
        "at random, and the concept's own words with partners shuffled. Sorted by all-pairs parallelism. The number "
        "grows with the number of pairs, so compare a row with its own nulls, not with other rows.",
        alt_text=f"Strip plot with {len(order)} concepts of {view.name}, {product} inner product. {title}",
        chart=chart.properties(width=620, height=28 * len(order)),
        layout="fit",
        inner_product=product,
    )


def _order(view: ModelView, product: str, real: pl.DataFrame) -> list[str]:
    present = real["concept"].unique(maintain_order=True).to_list()
    table = view.parallelism.filter(pl.col("inner_product") == product).sort(
        "value", descending=True, nulls_last=True, maintain_order=True
    )
    return [c for c in table["concept"] if c in present]


def _strip(data: pl.DataFrame, order: list[str], nulls: list[str], scale: alt.Scale) -> alt.LayerChart:
    y = alt.Y(
        "concept:N",
        sort=order,
        title=None,
        axis=alt.Axis(domain=False, ticks=False, labelLimit=140, labelOverlap=False, labelColor="@ink", labelPadding=6),
    )
    kinds = ["pair", *nulls]
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=["@accent", *(_NULL_COLORS[k] for k in nulls)]),
        legend=alt.Legend(title=None, orient="top", symbolType="circle", symbolOpacity=1),
    )
    x = alt.X("cosine:Q", scale=scale, title=_X_TITLE, axis=alt.Axis(tickCount=8))
    base = alt.Chart(inline(data)).encode(y=y)
    layers: list[alt.Chart] = [_zero()]
    for null, offset in zip(nulls, (2, 6), strict=False):
        layers.append(
            base.transform_filter(alt.datum.kind == null)
            .mark_bar(height=3, yOffset=offset, opacity=0.75, cornerRadius=1)
            .encode(
                x=alt.X("low:Q", scale=scale, title=_X_TITLE), x2="high:Q", color=color,
                tooltip=["concept:N", alt.Tooltip("kind:N", title="null"), alt.Tooltip("low:Q", format=".2f"),
                         alt.Tooltip("middle:Q", title="median", format=".2f"), alt.Tooltip("high:Q", format=".2f")],
            )
        )  # fmt: skip
    layers.append(
        base.transform_filter(alt.datum.kind == "pair")
        .mark_circle(size=22, opacity=0.5, yOffset=-5)
        .encode(
            x=x, color=color,
            tooltip=["concept:N", "negative:N", "positive:N", alt.Tooltip("cosine:Q", format=".3f")],
        )
    )  # fmt: skip
    layers.append(
        base.transform_filter(alt.datum.kind == "mean")
        .mark_tick(thickness=2.5, height=13, yOffset=-5, color="@ink", opacity=1)
        .encode(x=x, tooltip=["concept:N", alt.Tooltip("cosine:Q", title="mean", format=".3f")])
    )
    return alt.LayerChart(layer=layers)


def _range(values: pl.Series) -> alt.Scale:
    """Round tenths around the values and 0."""
    low, high = (float(x) if isinstance(x, float) else 0.0 for x in (values.min(), values.max()))
    return alt.Scale(domain=[math.floor(10 * min(low, 0.0)) / 10, math.ceil(10 * max(high, 0.1)) / 10], nice=False)


def _zero() -> alt.Chart:
    return alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color="@muted", strokeWidth=1).encode(x="x:Q")


def alignment(view: ModelView, product: str, title: str) -> Figure | None:
    """Matched cosine of every context concept with interval, over the mismatched ones and the nulls."""
    rows = view.alignment.filter(pl.col("inner_product") == product).drop_nulls("value")
    matched = rows.filter(pl.col("split") == "matched")
    if matched.is_empty():
        return None
    order = matched["concept"].unique(maintain_order=True).to_list()
    own = matched.select("concept", "concept_other", "value", "low", "high", kind=pl.lit("matched"))
    others = rows.filter(pl.col("split") != "matched", pl.col("concept").is_in(order)).select(
        "concept", "concept_other", "value", kind=pl.lit("other concepts")
    )
    plain = view.alignment_nulls.filter(pl.col("inner_product") == product, pl.col("null") == "untrained").select(
        "concept", "concept_other", value="null_value", kind=pl.lit("untrained")
    )
    data = pl.concat([own, others, plain], how="diagonal_relaxed").drop_nulls("value")
    kinds = [k for k in ("matched", "other concepts", "untrained") if k in data["kind"].to_list()]
    look = {"matched": "@accent", "other concepts": "@null", "untrained": "@other"}
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=kinds, range=[look[k] for k in kinds]),
        legend=alt.Legend(title=None, orient="top", symbolOpacity=1, symbolType="circle"),
    )
    y = alt.Y(
        "concept:N", sort=order, title=None, axis=alt.Axis(domain=False, ticks=False, grid=True, labelColor="@ink")
    )
    scale = _range(pl.concat([view.alignment["value"], view.alignment["low"], view.alignment["high"]]))
    x = alt.X("value:Q", scale=scale, title="Cosine with the word concept's direction", axis=alt.Axis(tickCount=8))
    base = alt.Chart(inline(data)).encode(y=y)
    tip = [
        "concept:N",
        alt.Tooltip("concept_other:N", title="word concept"),
        alt.Tooltip("value:Q", format=".3f"),
        "kind:N",
    ]
    kind = alt.datum.kind
    ticks = (
        base.transform_filter(kind == "other concepts")
        .mark_tick(height=20, thickness=1.5, opacity=0.75)
        .encode(x=x, color=color, tooltip=tip)
    )
    interval = (
        base.transform_filter(kind == "matched")
        .mark_rule(strokeWidth=2.5, color="@accent")
        .encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    )
    points = (
        base.transform_filter(kind == "matched").mark_circle(size=130, opacity=1).encode(x=x, color=color, tooltip=tip)
    )
    untrained = (
        base.transform_filter(kind == "untrained")
        .mark_point(size=80, shape="diamond", filled=True, opacity=1)
        .encode(x=x, color=color, tooltip=tip)
    )
    return Figure(
        name=f"alignment-nulls-{view.slug}-{product.replace(' ', '-')}",
        title=title,
        caption="Dot with line: cosine with the matching word concept, with 95 % jackknife interval over templates and "
        "word groups. Grey ticks: the other word concepts; ticks far out are usually relatives of the matching one "
        "(verb forms are differences of each other). Diamond: the same architecture with random weights.",
        alt_text=f"Alignment of {len(order)} context concepts of {view.name}, {product} inner product. {title}",
        chart=alt.layer(_zero(), ticks, interval, points, untrained).properties(width=560, height=46 * len(order)),
        layout="fit",
        inner_product=product,
    )
