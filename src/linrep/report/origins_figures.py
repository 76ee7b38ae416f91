"""Figures of the origins study: the phase diagram, one figure a family, and the path to the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from linrep.report.data import law_words
from linrep.report.theme import Figure, inline

FEW_SEEDS = 3  # below as many converged seeds a cell of the diagram shows no mean
METRICS = {
    ("parallelism", "all"): "Parallelism",
    ("alignment", "all"): "Alignment",
    ("orthogonality", "not adjacent"): "Mean |cos|, not adjacent",
}
_SHADE = alt.Scale(domain=[0, 0.5, 1], range=["@minus1", "@zero", "@plus2"], clamp=True)
_SERIES = ["@accent", "@other", "@ink", "@plus1", "@minus2"]


def phase_diagram(cells: pl.DataFrame, limits: Mapping[str, float], title: str) -> Figure:
    """Parallelism over width × context law × embedding family, the computed limit as the last column.

    `cells` has the columns law, dim, predictor, mean, converged, seeds.
    """
    laws = cells["law"].unique(maintain_order=True).to_list()
    families = cells["predictor"].unique(maintain_order=True).to_list()
    dims = [f"d = {d}" for d in sorted(cells["dim"].unique().to_list())]
    shown = pl.when(pl.col("converged") >= FEW_SEEDS).then(pl.col("mean"))
    rows = cells.select(
        pl.col("law").replace_strict({law: law_words(law) for law in laws}).alias("contexts"),
        pl.format("d = {}", "dim").alias("width"),
        "predictor",
        shown.alias("value"),
        pl.format("{} of {}", "converged", "seeds").alias("converged"),
    )
    limit_rows = [(law_words(law), "limit", family, limits[law], "computed")
                  for law in laws if law in limits for family in families if family == "table"]  # fmt: skip
    rows = pl.concat([rows, pl.DataFrame(limit_rows, schema=rows.schema, orient="row")])
    order = [*dims, "limit"] if limit_rows else dims
    base = alt.Chart().encode(  # without data: layers with their own would not be faceted
        x=alt.X("width:O", sort=order, axis=alt.Axis(title=None, labelAngle=-35, orient="top")),
        y=alt.Y("contexts:N", sort=[law_words(law) for law in laws], axis=alt.Axis(title=None, labelLimit=220)),
    )
    legend = alt.Legend(title="parallelism", orient="top", gradientLength=170, gradientThickness=9, format="~g")
    tiles = base.mark_rect(stroke="@paper", strokeWidth=2).encode(
        color=alt.Color("value:Q", scale=_SHADE, legend=legend),
        tooltip=["contexts:N", "width:O", "predictor:N", alt.Tooltip("value:Q", format=".3f"), "converged:N"],
    )
    strong = "datum.value > 0.75"
    numbers = base.transform_filter("isValid(datum.value)").mark_text(fontSize=12).encode(
        text=alt.Text("value:Q", format=".2f"),
        color=alt.condition(strong, alt.value("@on_strong"), alt.value("@on_pale")),
    )  # fmt: skip
    empty = base.transform_filter("!isValid(datum.value)").mark_text(fontSize=10, color="@muted").encode(
        text="converged:N"
    )  # fmt: skip
    n = len(order)
    chart = (
        alt.layer(tiles, numbers, empty, data=inline(rows))
        .properties(width=54 * n, height=34 * len(laws))
        .facet(alt.Facet("predictor:N", sort=families, header=alt.Header(title=None, labelOrient="bottom")), columns=2)
    )
    return Figure(
        name="phase-diagram",
        title=title,
        caption="Mean parallelism over the seeds that converged; where fewer than three did, how many. Last column: "
        "the limit for free tables of width 2^m − 1 and uniform worlds, computed and not fitted. Blue: one direction "
        "a concept; orange: no more parallel than unrelated vectors.",
        alt_text=f"Parallelism for {len(laws)} context laws, {len(dims)} widths and {len(families)} embedding "
        f"families. {title}",
        chart=chart,
        layout="fixed",
    )


def family_figure(letter: str, rows: pl.DataFrame, labels: Sequence[str], series: Sequence[str], title: str) -> Figure:
    """Mean and interval over converged seeds of each cell of a family, a panel a metric, with the untrained mean.

    `rows` has the columns label, series, panel, mean, low, high, untrained, control, n.
    """
    panels = [p for p in METRICS.values() if p in rows["panel"].unique().to_list()]
    measured = rows.with_columns(kind=pl.col("series"))
    before = rows.select("label", "panel", pl.col("untrained").alias("mean"), kind=pl.lit("untrained"))
    chance = rows.select("label", "panel", pl.col("control").alias("mean"), kind=pl.lit("random directions"))
    data = pl.concat([measured, before.unique(maintain_order=True), chance.unique(maintain_order=True)],
                     how="diagonal").drop_nulls("mean")  # fmt: skip
    kinds = [*series, *(k for k in ("untrained", "random directions") if k in data["kind"].unique().to_list())]
    colors = [*_SERIES[: len(series)], *["@null"] * (len(kinds) - len(series))]
    shapes = [
        *["circle", "square", "diamond", "triangle-up"][: len(series)],
        *["cross", "triangle-down"][: len(kinds) - len(series)],
    ]
    legend = alt.Legend(title=None, orient="top", columns=3, labelLimit=260)
    y = alt.Y("label:N", sort=list(labels), axis=alt.Axis(title=None, labelLimit=260, grid=True))
    x = alt.X("mean:Q", title=None, scale=alt.Scale(domain=_domain(data)), axis=alt.Axis(tickCount=5))
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=colors), legend=legend)
    base = alt.Chart().encode(y=y)
    bars = base.mark_rule(strokeWidth=2, clip=True).encode(x=alt.X("low:Q"), x2="high:Q", color=color)
    points = base.mark_point(size=55, opacity=1, filled=True).encode(
        x=x, color=color, shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=shapes), legend=legend),
        tooltip=["label:N", "kind:N", alt.Tooltip("mean:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f"),
                 alt.Tooltip("high:Q", format=".3f"), alt.Tooltip("n:Q", title="seeds converged")],
    )  # fmt: skip
    return Figure(
        name=f"family-{letter.lower()}",
        title=title,
        caption="Mean over the seeds that converged, with its 95 % interval; crosses: the same seeds before "
        "training; triangles: random directions.",
        alt_text=f"{', '.join(panels)} for {len(labels)} cells. {title}",
        chart=alt.layer(bars, points, data=inline(data))
        .properties(width=240, height=max(90, 20 * len(labels)))
        .facet(alt.Facet("panel:N", sort=panels, header=alt.Header(title=None)), columns=3),
        layout="panels",
    )


def _domain(data: pl.DataFrame) -> list[float]:
    low = data["mean"].min()
    return [min(0.0, float(low) if isinstance(low, float) else 0.0) - 0.02, 1.02]


def limit_path(rows: pl.DataFrame, title: str) -> Figure:
    """Parallelism along the reduced ridge path, against the logarithm of the penalty, with the limit as a rule.

    `rows` has the columns world, log10_penalty, parallelism, limit.
    """
    base = alt.Chart(inline(rows)).encode(
        x=alt.X("log10_penalty:Q", scale=alt.Scale(reverse=True), title="log₁₀ penalty"),
        color=alt.Color("world:N", legend=alt.Legend(title=None, orient="top"), scale=alt.Scale(range=_SERIES)),
    )
    y = alt.Y("parallelism:Q", title="Parallelism", scale=alt.Scale(zero=False))
    lines = base.mark_line().encode(
        y=y, tooltip=["world:N", "log10_penalty:Q", alt.Tooltip("parallelism:Q", format=".4f")]
    )
    limits = base.mark_line(strokeDash=[8, 3, 2, 3], opacity=0.8).encode(y=alt.Y("limit:Q"))
    return Figure(
        name="limit-path",
        title=title,
        caption="The convex path of smallest nuclear norm in a uniform world, followed by Newton steps; broken lines: "
        "the limit, computed by itself. The path need not be monotone, so nothing is extrapolated.",
        alt_text=title,
        chart=(lines + limits).properties(height=280, width=600),
        layout="fit",
    )
