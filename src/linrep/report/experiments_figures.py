"""Figures of the experiments: matched against its nulls, through layers, against strength, over training."""

from __future__ import annotations

import altair as alt
import polars as pl

from linrep.report.theme import Figure, inline

_NULLS = {"mismatched": "mismatched, mean |cos|", "untrained": "untrained model"}
_SERIES = ["@accent", "@other", "@ink", "@plus1", "@minus2", "@minus1", "@plus2", "@muted"]


def alignment(table: pl.DataFrame, title: str) -> Figure:
    """Matched alignment with its interval, mismatched and untrained beside it; a panel a model."""
    rows = table.filter(pl.col("inner_product") == table["inner_product"][-1])
    product = rows["inner_product"][0]
    own = rows.select("model", "concept", "low", "high", pl.col("alignment").alias("value"), kind=pl.lit("matched"))
    nulls = [
        rows.select("model", "concept", pl.col(column).alias("value"), kind=pl.lit(label))
        for column, label in _NULLS.items()
    ]
    data = pl.concat([own, *nulls], how="diagonal_relaxed").drop_nulls("value")
    order = own.sort("value", descending=True)["concept"].unique(maintain_order=True).to_list()
    kinds = ["matched", *_NULLS.values()]
    scale = alt.Scale(domain=kinds, range=["@accent", "@other", "@null"])
    y = alt.Y("concept:N", sort=order, axis=alt.Axis(title=None, labelLimit=200, grid=True))
    color = alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top"))
    bars = alt.Chart().mark_rule(strokeWidth=2).encode(y=y, x="low:Q", x2="high:Q", color=color)
    points = alt.Chart().mark_point(filled=True, size=60, opacity=1).encode(
        y=y, x=alt.X("value:Q", title=f"cosine ({product})"), color=color,
        shape=alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=["circle", "square", "cross"]), legend=None),
        tooltip=["concept:N", "kind:N", alt.Tooltip("value:Q", format=".3f")],
    )  # fmt: skip
    return Figure(
        name="alignment-experiments",
        title=title,
        caption="Cosine of the mean context difference with the unembedding direction of its own concept, with the "
        "95 % interval by template; beside it the mean over concepts of other families, and the same model untrained.",
        alt_text=title,
        chart=alt.layer(bars, points, data=inline(data))
        .properties(width=300, height=max(90, 22 * len(order)))
        .facet(alt.Facet("model:N", header=alt.Header(title=None)), columns=2),
        layout="panels",
    )


def strength(table: pl.DataFrame, title: str) -> Figure:
    """Change of the concept's log-odds against strength, a panel a concept, a line a layer."""
    zero = table.filter(pl.col("strength") == 0)
    steered = table.filter(pl.col("strength") > 0)
    layers = steered.select("model", "layer").unique()
    # The unsteered point belongs to the line of every layer.
    data = pl.concat([zero.drop("layer").join(layers, on="model"), steered], how="diagonal_relaxed")
    data = data.with_columns(line=pl.format("{}, layer {}", "model", "layer"))
    base = alt.Chart().encode(
        x=alt.X("strength:Q", title="strength"),
        color=alt.Color(
            "line:N", scale=alt.Scale(range=_SERIES), legend=alt.Legend(title=None, orient="top", columns=3)
        ),
    )
    lines = base.mark_line(point=True).encode(
        y=alt.Y("log_odds_change:Q", title="nats"),
        tooltip=["concept:N", "line:N", "strength:Q", alt.Tooltip("log_odds_change:Q", format=".2f")],
    )
    random = base.transform_filter("isValid(datum.random_change)").mark_point(shape="cross", size=60).encode(
        y="random_change:Q"
    )  # fmt: skip
    return Figure(
        name="strength",
        title=title,
        caption="Mean change of the log-odds of the concept's word pairs after held-out contexts; crosses: the mean "
        "of 19 random directions of equal causal norm at the same layers.",
        alt_text=title,
        chart=alt.layer(lines, random, data=inline(data.select(
            "concept", "line", "strength", "log_odds_change", "random_change"
        ))).properties(width=200, height=150).facet(alt.Facet("concept:N", header=alt.Header(title=None)), columns=3),
        layout="panels",
    )  # fmt: skip


def through_layers(table: pl.DataFrame) -> list[Figure]:
    """Alignment, area under the curve and parallelism against the layer, a line a concept, its null beside it."""
    lens, own = "logit lens, causal", "own covariance"
    kinds = (
        ("layers-alignment", lens, "alignment", "mismatched", "Alignment after the final norm (logit lens)"),
        ("layers-residual", own, "alignment", "mismatched", "Alignment in the residual stream, its own covariance"),
        ("layers-auc", lens, "auc", "auc_random_high", "Area under the curve of the word direction (logit lens)"),
        ("layers-parallelism", own, "parallelism", None, "Parallelism of context differences of different templates"),
    )
    found = []
    for name, space, column, null, title in kinds:
        rows = table.filter(pl.col("space") == space)
        rows = rows.drop_nulls(column) if column in rows.columns else rows.clear()
        if rows.is_empty():
            continue
        base = alt.Chart().encode(x=alt.X("layer:Q", title="layer"))
        color = alt.Color("model:N", scale=alt.Scale(range=_SERIES), legend=alt.Legend(title=None, orient="top"))
        layered = [base.mark_line().encode(y=alt.Y(f"{column}:Q", title=None), color=color)]
        columns = ["concept", "model", "layer", column]
        if null is not None:
            layered.append(base.mark_line(strokeDash=[4, 3]).encode(y=f"{null}:Q", color=color))
            columns.append(null)
        told = {"mismatched": "mean |cosine| with other families", "auc_random_high": "95 % point of random word pairs"}
        found.append(
            Figure(
                name=name,
                title=title,
                caption=f"Broken: {told[null]}." if null else "Null: flips of templates, in the table.",
                alt_text=title,
                chart=alt.layer(*layered, data=inline(rows.select(columns)))
                .properties(width=200, height=130)
                .facet(alt.Facet("concept:N", header=alt.Header(title=None)), columns=3),
                layout="panels",
            )
        )
    return found


def over_training(probe: pl.DataFrame, aligned: pl.DataFrame | None) -> Figure:
    """Probe and alignment against the training step, a line a concept."""
    parts = [probe.select("step", "concept", pl.col("auc").alias("value"), metric=pl.lit("probe AUC"))]
    if aligned is not None:
        rows = aligned.filter(pl.col("inner_product") == aligned["inner_product"][-1])
        parts.append(rows.select("step", "concept", pl.col("alignment").alias("value"), metric=pl.lit("alignment")))
    data = pl.concat(parts).drop_nulls()
    title = f"Probe and alignment at {data['step'].n_unique()} checkpoints of training"
    chart = alt.Chart(inline(data)).mark_line(point=True).encode(
        x=alt.X("step:Q", title="training step"), y=alt.Y("value:Q", title=None),
        color=alt.Color("concept:N", scale=alt.Scale(range=_SERIES), legend=alt.Legend(title=None, orient="top")),
        column=alt.Column("metric:N", header=alt.Header(title=None)),
    ).properties(width=280, height=200)  # fmt: skip
    return Figure(
        name="over-training", title=title, caption="One line a concept; the nulls are in the tables.", alt_text=title,
        chart=chart, layout="fixed",
    )  # fmt: skip
