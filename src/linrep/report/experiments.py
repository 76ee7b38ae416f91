"""What stands on the page of the experiments on real models, as the template takes it.

A run holds one model, several side by side, or checkpoints of one; of checkpoints the page tells the last one in full
and all of them against the training step. Sections whose tables a run lacks are absent.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from linrep.geometry.verdicts import COMMON_NULLS
from linrep.report import data, experiments_findings, experiments_steering, experiments_tables
from linrep.report import experiments_figures as figures
from linrep.report.content import NULL_HEADINGS, model_content
from linrep.report.findings import number, product_name
from linrep.report.listing import Column, Row, words
from linrep.report.theme import Figure
from linrep.runs.store import Run

_TABLES = (
    "winograd", "verdicts", "concepts", "alignment", "alignment_joint", "probe", "steering_final", "steered",
    "steered_reads", "top_tokens", "generated", "layers", "pairs",
)  # fmt: skip
_DEEP = "logit lens, causal"


def experiments_content(run: Run) -> dict[str, Any]:
    """Everything the template of this page shows."""
    everything = {name: table for name in _TABLES if (table := _table(run, name)) is not None}
    measured = data.clean(run)
    names = measured["source"].drop_nulls().unique(maintain_order=True).to_list()
    checkpoints = names if run.config.get("revisions") else []
    shown = names[-1:] if checkpoints else names
    found = {name: table.filter(pl.col("model").is_in(shown)) for name, table in everything.items()}
    draws = run.config.get("draws")
    models = [_model(run, name, found, measured) for name in shown]
    training = _training(everything, measured) if len(checkpoints) > 1 else None
    layers = figures.through_layers(found["layers"], _flips(measured)) if "layers" in found else []
    drawn: list[Figure] = [*layers, *([training["figure"]] if training else [])]
    for m in models:
        drawn += m["figures"]
    products = data.in_order(list({p for m in models for p in m["by_product"]}))
    return {
        "template": "experiments.html.j2",
        "figures": {f.name: f for f in drawn},
        "models": models,
        "checkpoints": checkpoints,
        "tables": experiments_tables.tables(found, draws),
        "told": experiments_steering.told(found.get("top_tokens"), found.get("generated")),
        "layers": {"figures": layers, "table": _depths(found["layers"])} if layers else None,
        "training": training,
        "folder": str(run.path),
        "products": [(p, product_name(p)) for p in products],
        "nulls": NULL_HEADINGS,
    }


def _table(run: Run, name: str) -> pl.DataFrame | None:
    """A table with NaN as missing; None where the run has no rows of it."""
    table = run.table(name)
    return None if table is None or table.is_empty() else table.with_columns(pl.col(pl.Float64).fill_nan(None))


def _model(run: Run, name: str, found: dict[str, pl.DataFrame], measured: pl.DataFrame) -> dict[str, Any]:
    """What the page shows of one model: the sections of `linrep measure`, its short answer, its own figures."""
    view = data.model_view(run, name)
    shown = model_content(view)
    own = {k: rows for k, t in found.items() if (rows := t.filter(pl.col("model") == name)).height}
    maps = figures.product_maps(view)
    steering = [*experiments_steering.strengths(own["steered"], name)] if "steered" in own else []
    matrix = experiments_steering.matrix(measured, name, _matrix_title(own, name))
    probe = figures.probe(own["probe"], name) if "probe" in own else None
    # Heat maps stand side by side here, not behind the choice of inner product.
    kept = [f for by in shown["by_product"].values() for k, f in by["figures"].items() if k not in ("heat", "shared")]
    label = (run.details.get("models") or {}).get(name, {}).get("label", "")
    return shown | {
        "label": label,
        "answers": experiments_findings.answers(own, view),
        "maps_said": experiments_findings.heat_sentence(view),
        "shortfalls": experiments_findings.shortfalls(own, view),
        "maps": maps, "probe": probe, "matrix": matrix, "strengths": steering,
        "figures": [*kept, *maps, *steering, *(f for f in (matrix, probe) if f is not None)],
    }  # fmt: skip


def _matrix_title(own: dict[str, pl.DataFrame], name: str) -> str:
    ratios = own["steering_final"]["off_over_on"].drop_nulls() if "steering_final" in own else pl.Series([])
    least = int((ratios <= experiments_findings.OFF_TARGET).sum()) if len(ratios) else 0
    most = f"{experiments_findings.OFF_TARGET:g}"
    return (
        f"{name}: {least} of {len(ratios)} directions move other families by at most {most} of what they move "
        "their own concept (arithmetic on γ)"
    )


# --- through layers -----------------------------------------------------------------------------------------------


def _flips(measured: pl.DataFrame) -> pl.DataFrame:
    """95 % point of parallelism in the residual stream when whole templates are turned round, by layer."""
    rows = measured.filter(
        pl.col("metric") == "parallelism_between", pl.col("null") == "template flip", pl.col("layer").is_not_null(),
        pl.col("inner_product") == "own covariance",
    )  # fmt: skip
    return rows.select(pl.col("source").alias("model"), "layer", "concept", pl.col("null_high").alias("flip_high"))


def _depths(layers: pl.DataFrame) -> dict[str, Any] | None:
    """Where in the depth of a model the concept is: best layers, and from which on it is beyond its null."""
    rows = layers.filter(pl.col("space") == _DEEP)
    made = []
    for (model, label, concept), own in rows.group_by(["model", "label", "concept"], maintain_order=True):
        own = own.sort("layer")
        if own.drop_nulls(["alignment", "auc"]).is_empty():
            continue
        best = {c: own.sort(c, descending=True, nulls_last=True).row(0, named=True) for c in ("alignment", "auc")}
        made.append({
            "model": model, "label": label, "concept": concept, "best": best, "last": own.row(-1, named=True),
            "alignment_from": _from_on(own, "alignment_random_p"), "auc_from": _from_on(own, "auc_random_p"),
        })  # fmt: skip
    return experiments_tables.of_models(made, _DEPTHS, _DEPTHS_CAPTION, "layers")


def _from_on(rows: pl.DataFrame, p: str) -> int | None:
    """First layer from which on, to the last, p is at most 0.05; None if it is not at the last."""
    since = None
    for r in rows.sort("layer", descending=True).to_dicts():
        if r[p] is None or r[p] > experiments_findings.LEVEL:
            break
        since = int(r["layer"])
    return since


_DEPTHS_CAPTION = (
    "After the final norm (logit lens, causal inner product). “Beyond random words from”: the first layer from which "
    "on, up to the last, p against random word pairs is ≤ 0.05."
)


def _best(metric: str, null: str, label: str) -> Column:
    def cell(r: Row) -> tuple[str, str]:
        best = r["best"][metric]
        return f"{number(best[metric])} at {best['layer']}", f"{label} {number(best.get(null))}"

    heading = {"alignment": "Best alignment, at layer", "auc": "Best AUC, at layer"}[metric]
    return Column(heading, cell)


def _since(heading: str, key: str) -> Column:
    return Column(heading, lambda r: "not at the last" if r[key] is None else f"layer {r[key]}")


_DEPTHS = [
    words("Contexts", "concept"),
    Column("Alignment at the last layer", lambda r: (
        number(r["last"]["alignment"]), f"mismatched {number(r['last'].get('mismatched'))}")),
    _best("alignment", "mismatched", "mismatched"),
    _since("Alignment beyond random words from", "alignment_from"),
    _best("auc", "auc_random_high", "random 95 %"),
    _since("AUC beyond random words from", "auc_from"),
]  # fmt: skip


# --- over checkpoints of training ---------------------------------------------------------------------------------


def _training(found: dict[str, pl.DataFrame], measured: pl.DataFrame) -> dict[str, Any]:
    """Metrics of every checkpoint beside their nulls: rows of the figure, and medians as a table."""
    products = measured.filter(pl.col("metric") == "parallelism")["inner_product"]
    product = "causal" if "causal" in products else str(products.first())
    parts = [_parallelism(measured, product), *_context_metrics(found, product)]
    rows = pl.concat(parts, how="diagonal_relaxed").drop_nulls("value")
    labels = dict(found["concepts"].select("model", "label").unique().iter_rows()) if "concepts" in found else {}
    made = []
    for (name,), own in rows.group_by(["checkpoint"], maintain_order=True):
        line: dict[str, Any] = {"model": name, "step": own["step"][0], "label": labels.get(name, "")}
        for (metric,), some in own.group_by(["metric"], maintain_order=True):
            line[str(metric)] = some.select(pl.col("value", "null", "untrained").median()).row(0, named=True)
        made.append(line)
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    columns = [_median_of(str(metric)) for metric in metrics]
    caption = f"{product_name(product)} inner product. Medians over concepts, with null and untrained model beneath."
    ends = [f"{m} {number(made[0][m]['value'])} → {number(made[-1][m]['value'])}"
            for m in metrics if m in made[0] and m in made[-1]]  # fmt: skip
    title = f"From the first to the last of {len(made)} checkpoints, medians: {'; '.join(ends)}"
    return {
        "figure": figures.over_training(rows, product, title),
        "table": experiments_tables.of_models(made, columns, caption, "measurements"),
    }


def _median_of(metric: str) -> Column:
    def cell(r: Row) -> tuple[str, str]:
        found = r.get(metric) or {}
        beneath = f"null {number(found.get('null'))}, untrained {number(found.get('untrained'))}"
        return number(found.get("value")), beneath

    return Column(metric, cell)


def _parallelism(measured: pl.DataFrame, product: str) -> pl.DataFrame:
    """Parallelism of every judged concept, the highest 95 % point of the nulls of its verdict, untrained."""
    rows = measured.filter(pl.col("metric") == "parallelism", pl.col("layer").is_null(), pl.col("status") == "ok")
    rows = rows.filter(pl.col("inner_product") == product)
    at = ["source", "step", "concept"]
    nulls = rows.filter(pl.col("null").is_in(COMMON_NULLS)).group_by(at).agg(pl.col("null_high").max().alias("null"))
    plain = rows.filter(pl.col("null") == "untrained").select(*at, untrained="null_value")
    own = rows.filter(pl.col("null").is_null()).select(*at, "value")
    for other in (nulls, plain):
        own = own.join(other, on=at, how="left", nulls_equal=True, maintain_order="left")
    return own.rename({"source": "checkpoint"}).with_columns(metric=pl.lit("Parallelism of γ"))


def _context_metrics(found: dict[str, pl.DataFrame], product: str) -> list[pl.DataFrame]:
    parts = []
    at = [pl.col("model").alias("checkpoint"), pl.col("step").cast(pl.Int64), "concept"]
    if (table := found.get("alignment")) is not None:
        parts.append(
            table.filter(pl.col("inner_product") == product).select(
                *at, value="alignment", null="mismatched", untrained="untrained", metric=pl.lit("Alignment")
            )
        )
    if (table := found.get("probe")) is not None:
        parts.append(table.select(*at, value="auc", null="random_words_high", untrained="untrained",
                                  metric=pl.lit("AUC of probes")))  # fmt: skip
    return parts
