"""Figures of the experiments on contexts: word directions as probes, every metric through the layers, over training.

Each shows a number beside its nulls. Heat maps and alignment are drawn as on the page of `linrep measure`.
"""

from __future__ import annotations

from dataclasses import replace

import altair as alt
import polars as pl

from linrep.report import findings, heat_maps
from linrep.report.data import ModelView, slug
from linrep.report.theme import Figure, inline

SERIES = ["@accent", "@other", "@ink", "@plus1", "@minus1", "@muted"]

# What each inner product is there to show, beneath its heat map.
_MAPS = {
    "euclidean": "The coordinates as they are stored. Related concepts form blocks; much of the rest is one component.",
    "euclidean without top component": "The control: a single component of γ, the largest, is projected out. It mostly "
    "follows word frequency. What this map shows already is no merit of the causal product.",
    "causal": "Divided by the covariance of γ: the only one that does not depend on the coordinates training happened "
    "on.",
    "shrunk": "The causal product of a covariance shrunk towards the identity.",
    "random": "The other control: the causal product of a random covariance with the eigenvalues of the real one, "
    "blind to where γ varies. What it shows too is not due to the covariance.",
}


def product_maps(view: ModelView) -> list[Figure]:
    """Concept × concept under every inner product that was measured, and what shared words alone would give."""
    order = [p for p in _MAPS if p in view.inner_products]
    made = []
    for product in order:
        title = findings.heat_title(view, product).removeprefix(f"{view.name}: ")
        figure = heat_maps.real(view, product, f"{findings.product_name(product)}: {title}")
        made.append(replace(figure, caption=_MAPS[product]))
    shared = heat_maps.shared_words(view, order[0], findings.shared_title(view, order[0])) if order else None
    return made if shared is None else [*made, shared]


def probe(table: pl.DataFrame, model: str) -> Figure:
    """Area under the curve of every context concept with interval, random words' 95 % point, untrained model."""
    rows = table.sort("auc", descending=True, nulls_last=True)
    order = rows["concept"].to_list()
    beyond = rows.filter(pl.col("auc") > pl.col("random_words_high")).height
    kinds = {"auc": "word direction", "random_words_high": "random words, 95 %", "untrained": "untrained model"}
    data = pl.concat(
        [
            rows.select("concept", "low", "high", value=pl.col(c).cast(pl.Float64), kind=pl.lit(k))
            for c, k in kinds.items()
        ]
    ).drop_nulls("value")
    y = alt.Y("concept:N", sort=order, title=None, axis=alt.Axis(
        domain=False, ticks=False, grid=True, labelColor="@ink", labelLimit=150))  # fmt: skip
    scale = alt.Scale(domain=[min(0.4, 0.05 * int(20 * _least(data))), 1])
    x = alt.X("value:Q", scale=scale, title="Area under the curve")
    color = alt.Color("kind:N", scale=alt.Scale(domain=list(kinds.values()), range=["@accent", "@null", "@other"]),
                      legend=alt.Legend(title=None, orient="top", symbolOpacity=1, symbolType="circle"))  # fmt: skip
    base, kind = alt.Chart(inline(data)).encode(y=y), alt.datum.kind
    tip = ["concept:N", "kind:N", alt.Tooltip("value:Q", format=".3f")]
    chance = alt.Chart(alt.Data(values=[{"x": 0.5}])).mark_rule(color="@muted").encode(
        x=alt.X("x:Q", scale=scale))  # fmt: skip
    own = base.transform_filter(kind == "word direction")
    bars = own.mark_rule(strokeWidth=2.5, color="@accent", clip=True).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    points = own.mark_circle(size=120, opacity=1).encode(x=x, color=color, tooltip=tip)
    ticks = base.transform_filter(kind == kinds["random_words_high"]).mark_tick(
        height=20, thickness=3).encode(x=x, color=color, tooltip=tip)  # fmt: skip
    plain = base.transform_filter(kind == kinds["untrained"]).mark_point(
        size=80, shape="diamond", filled=True, opacity=1).encode(x=x, color=color, tooltip=tip)  # fmt: skip
    title = f"{model}: {beyond} of {rows.height} word directions read their concept from contexts beyond random words"
    return Figure(
        name=f"probe-{slug(model)}", title=title,
        caption="Dot with line: word direction, 95 % interval by template. Tick: what 95 % of directions of random "
        "word pairs stay below; it is high where templates differ by much else. Diamond: the same architecture with "
        "random weights. Upright line: chance.",
        alt_text=f"Probes of {rows.height} context concepts. {title}",
        chart=alt.layer(chance, ticks, bars, points, plain).properties(width=560, height=34 * len(order)),
    )  # fmt: skip


def _least(data: pl.DataFrame) -> float:
    values = pl.concat([data["value"], data["low"].cast(pl.Float64)]).drop_nulls()
    return max(0.0, float(values.min())) if len(values) else 0.0  # type: ignore[arg-type]


# Figure -> space of its rows, column, column of the null, what the null is, title.
_LAYERS = (
    ("layers-alignment", "logit lens, causal", "alignment", "mismatched", "mismatched, mean |cosine|",
     "Alignment with the word direction, read after the final norm (logit lens)"),
    ("layers-residual", "own covariance", "alignment", "mismatched", "mismatched, mean |cosine|",
     "Alignment in the residual stream, under its own covariance"),
    ("layers-auc", "logit lens, causal", "auc", "auc_random_high", "random word pairs, 95 % point",
     "The word direction as a probe on every layer (logit lens)"),
    ("layers-parallelism", "own covariance", "parallelism", "flip_high", "flips of templates, 95 % point",
     "Parallelism of context differences of different templates, residual stream"),
)  # fmt: skip


def through_layers(table: pl.DataFrame, flips: pl.DataFrame) -> list[Figure]:
    """Every metric against the layer, a panel a concept, a colour a model, its null broken.

    ``flips`` holds the 95 % point of parallelism when whole templates are turned round: model, layer, concept,
    flip_high.
    """
    found = []
    keys = ["model", "layer", "concept"]
    table = table.join(flips, on=keys, how="left", maintain_order="left") if flips.height else table
    for name, space, column, null, label, title in _LAYERS:
        if not {column, null} <= set(table.columns):
            continue
        rows = table.filter(pl.col("space") == space).drop_nulls(column)
        if rows.is_empty():
            continue
        parts = [rows.select(*keys, value=pl.col(column), kind=pl.lit("measured")),
                 rows.select(*keys, value=pl.col(null), kind=pl.lit(label))]  # fmt: skip
        found.append(_layer_figure(name, pl.concat(parts).drop_nulls("value"), label, title, chance=column == "auc"))
    return found


def _layer_figure(name: str, data: pl.DataFrame, label: str, title: str, *, chance: bool) -> Figure:
    models = data["model"].unique(maintain_order=True).to_list()
    names = data["concept"].unique(maintain_order=True).to_list()
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=300, symbolStrokeWidth=2)
    color = alt.Color("model:N", scale=alt.Scale(domain=models, range=SERIES[: len(models)]),
                      legend=legend if len(models) > 1 else None)  # fmt: skip
    # One legend: two do not fit side by side on a phone, and the caption says what is broken.
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=["measured", label], range=[[1, 0], [4, 3]]),
                          legend=None if len(models) > 1 else legend)  # fmt: skip
    lines = alt.Chart().mark_line(strokeWidth=1.8).encode(
        x=alt.X("layer:Q", title="Layer", axis=alt.Axis(tickCount=5, tickMinStep=1, format="d", grid=False)),
        y=alt.Y("value:Q", title="AUC" if chance else "Cosine", scale=alt.Scale(zero=not chance),
                axis=alt.Axis(tickCount=4, minExtent=30)),
        color=color, strokeDash=dash, detail="model:N",
        tooltip=["model:N", "concept:N", "layer:Q", "kind:N", alt.Tooltip("value:Q", format=".3f")],
    )  # fmt: skip
    level = alt.Chart().mark_rule(color="@muted", strokeWidth=1).encode(y=alt.datum(0.5 if chance else 0.0))
    return Figure(
        name=name,
        title=title,
        caption=f"A panel a context concept. Broken: {label}, of the same layer. Layer k is the output of block k.",
        alt_text=f"{title}: {len(names)} concepts, {', '.join(models)}.",
        chart=alt.layer(level, lines, data=inline(data))
        .properties(width=220, height=140)
        .facet(alt.Facet("concept:N", sort=names, header=alt.Header(title=None)), columns=3),
        layout="panels",
    )


_KINDS = {
    "concept": ("@accent", [1, 0]), "median": ("@ink", [1, 0]), "null": ("@other", [5, 3]),
    "untrained": ("@null", [2, 2]),
}  # fmt: skip


def over_training(table: pl.DataFrame, product: str, title: str) -> Figure:
    """Metrics against the training step: every concept thin, the median heavy, null and untrained model broken.

    ``table`` has rows of metric, checkpoint, step (missing where a name tells none), concept, value, null, untrained.
    """
    at = ["metric", "checkpoint", "step"]
    middle = table.group_by(at, maintain_order=True).agg(pl.col("value", "null", "untrained").median())
    parts = [table.select(*at, "concept", "value", kind=pl.lit("concept"))]
    parts += [middle.select(*at, value=pl.col(c), kind=pl.lit(k))
              for c, k in (("value", "median"), ("null", "null"), ("untrained", "untrained"))]  # fmt: skip
    data = pl.concat(parts, how="diagonal_relaxed").drop_nulls("value")
    kinds = [k for k in _KINDS if k in data["kind"].to_list()]
    metrics = table["metric"].unique(maintain_order=True).to_list()
    x = alt.X("checkpoint:N", sort=table["checkpoint"].unique(maintain_order=True).to_list(), title="Checkpoint")
    if table["step"].null_count() == 0:
        powers = alt.Scale(type="symlog", constant=1, nice=False)
        x = alt.X("step:Q", title="Training step", scale=powers, axis=alt.Axis(
            values=_steps(table), grid=False, labelOverlap="greedy", labelSeparation=4,
            labelExpr="datum.value >= 1000 ? datum.value / 1000 + 'k' : datum.value"))  # fmt: skip
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=400, symbolStrokeWidth=2)
    looks = [_KINDS[k] for k in kinds]
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[c for c, _ in looks]), legend=legend)
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=kinds, range=[d for _, d in looks]), legend=legend)
    # A margin, so that no label stands higher than its panel: it would lift the heading.
    scale = alt.Scale(nice=False, padding=8)
    y = alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(tickCount=5, minExtent=34))
    tip = ["kind:N", "concept:N", "checkpoint:N", alt.Tooltip("value:Q", format=".3f")]
    thin = alt.Chart().transform_filter(alt.datum.kind == "concept").mark_line(strokeWidth=1.1, opacity=0.5)
    heavy = alt.Chart().transform_filter(alt.datum.kind != "concept").mark_line(strokeWidth=2.2, point=True)
    return Figure(
        name="over-training",
        title=title,
        caption=f"{findings.product_name(product)} inner product. Thin: one concept. Broken: median over concepts of "
        "the null that is hardest to beat (parallelism: the highest 95 % point of sign flips and matched re-pairings; "
        "alignment: mean |cosine| of mismatched concepts; probe: 95 % point of random words), and the same "
        "architecture untrained.",
        alt_text=f"{', '.join(metrics)} over {table['checkpoint'].n_unique()} checkpoints. {title}",
        chart=alt.layer(
            thin.encode(x=x, y=y, color=color, strokeDash=dash, detail="concept:N", tooltip=tip),
            heavy.encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip),
            data=inline(data),
        )
        .properties(width=260, height=210)
        .facet(alt.Facet("metric:N", sort=metrics, header=alt.Header(title=None)), columns=3)
        .resolve_scale(y="independent"),
        layout="panels",
    )


def _steps(table: pl.DataFrame) -> list[int]:
    """Ticks: 0 and powers of ten up to the last step, and the first and last themselves."""
    steps = sorted({int(s) for s in table["step"]})
    return sorted({*(10**k for k in range(9) if steps[0] <= 10**k <= steps[-1]), steps[0], steps[-1]})
