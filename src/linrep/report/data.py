"""From runs to the small plain tables that figures and sentences are made of.

Selecting, renaming and summarising only: no metric is computed here, and nothing is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from linrep.runs.store import Run

CONVERGED = "converged"

# In the order in which the page offers them; the first that a run has is shown first.
INNER_PRODUCTS = {
    "causal": "Causal",
    "euclidean": "Euclidean",
    "euclidean without top component": "Euclidean without top component",
    "shrunk": "Shrunk causal",
    "random": "Random",
}

EMERGENCE_METRICS = ("parallelism", "alignment", "orthogonality", "excess_loss")


@dataclass(frozen=True)
class Cell:
    """One simulated cell: a context law at a width d."""

    source: str
    label: str
    dim: int | None
    law: str
    limit: float | None


@dataclass(frozen=True)
class ModelView:
    """One measured model, each of its tables with the columns the page needs."""

    run: Run
    name: str
    slug: str
    parallelism: pl.DataFrame
    nulls: pl.DataFrame
    heat: pl.DataFrame
    orthogonality: pl.DataFrame
    alignment: pl.DataFrame
    alignment_nulls: pl.DataFrame
    verdicts: pl.DataFrame
    pairs: pl.DataFrame
    dropped: pl.DataFrame

    @property
    def inner_products(self) -> list[str]:
        """Those that were measured, in the order of `INNER_PRODUCTS`."""
        return in_order(self.parallelism["inner_product"].unique().to_list())

    @property
    def p_floor(self) -> float | None:
        """Smallest p-value the run could give, from its number of draws."""
        draws = self.run.config.get("draws")
        return 1 / (draws + 1) if draws else None


def in_order(products: Sequence[str]) -> list[str]:
    """Inner products in the order of `INNER_PRODUCTS`, others after them."""
    known = list(INNER_PRODUCTS)
    return sorted(products, key=lambda p: (known.index(p) if p in known else len(known), p))


def slug(name: str) -> str:
    """A name as part of a file name.

    Examples
    --------
    >>> slug("Pythia 70M@step1000"), slug("λ")
    ('pythia-70m-step1000', 'model')
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def clean(run: Run) -> pl.DataFrame:
    """The measurements of a run, with NaN as missing."""
    return run.measurements.table.with_columns(pl.col(pl.Float64).fill_nan(None))


def cells(runs: Sequence[Run]) -> list[Cell]:
    """Simulated cells in the order in which they were run, each with the wide limit of its law if it is known."""
    found = []
    for run in runs:
        limits = run.details.get("wide_limit") or {}
        for source in run.measurements.table["source"].drop_nulls().unique(maintain_order=True):
            dim, law = _dim_and_law(source)
            found.append(Cell(source, _label(dim, law), dim, law, limits.get(law)))
    return found


def _dim_and_law(source: str) -> tuple[int | None, str]:
    match = re.fullmatch(r"m=\d+ d=(\d+) (\S+)", source)
    return (int(match[1]), match[2]) if match else (None, source)


def _label(dim: int | None, law: str) -> str:
    if dim is None:
        return law
    return f"d = {dim}, {law_words(law)}"


def law_words(law: str) -> str:
    """A context law as words.

    Examples
    --------
    >>> law_words("at-most-2"), law_words("complete")
    ('at most 2 known', 'complete contexts')
    """
    words = {"complete": r"complete contexts", r"at-most-(\S+)": r"at most \1 known"}
    words |= {r"masked-(\S+)": r"masked with q = \1", r"kept-(\S+)": r"\1 of contexts kept"}
    for pattern, text in words.items():
        if match := re.fullmatch(pattern, law):
            return match.expand(text)
    return law


def emergence(runs: Sequence[Run]) -> pl.DataFrame:
    """Rows per source, metric, seed and step: ``value``, ``status``, ``null`` (missing on values), ``null_value``.

    Orthogonality is that of concepts not adjacent in the moral graph where the run has it: only of those is anything
    predicted.
    """
    columns = ["source", "seed", "step", "metric", "split", "value", "status", "null", "null_value"]
    frames = [_emergence(clean(run)).select(columns) for run in runs]
    return pl.concat(frames) if frames else pl.DataFrame()


def _emergence(table: pl.DataFrame) -> pl.DataFrame:
    rows = table.filter(
        pl.col("metric").is_in(EMERGENCE_METRICS),
        pl.col("concept").is_null(),
        pl.col("step").is_not_null(),
        # The closer look at the last snapshot (see studies.simulation) repeats some numbers, with an estimator.
        pl.col("estimator").is_null(),
        pl.col("inner_product").is_null() | (pl.col("inner_product") == "euclidean"),
    )
    return rows.unique(["source", "seed", "step", "metric", "split", "null"], keep="first", maintain_order=True)


def shown_orthogonality(table: pl.DataFrame) -> pl.DataFrame:
    """Of the orthogonality rows only those of non-adjacent concepts, if there are any."""
    apart = table.filter((pl.col("metric") == "orthogonality") & (pl.col("split") == "not adjacent"))
    if apart["value"].drop_nulls().is_empty():
        return table.filter((pl.col("metric") != "orthogonality") | pl.col("split").fill_null("all").eq("all"))
    return table.filter((pl.col("metric") != "orthogonality") | (pl.col("split") == "not adjacent"))


def last(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of the last step of each source."""
    return table.filter(pl.col("step") == pl.col("step").max().over("source"))


def converged_seeds(table: pl.DataFrame) -> pl.DataFrame:
    """Per source and seed: final excess, excess half-way (in steps), status."""
    rows = table.filter(pl.col("metric") == "excess_loss", pl.col("null").is_null()).sort("step")
    half = rows.filter(pl.col("step") <= pl.col("step").max().over("source") / 2)
    start = half.group_by("source", "seed", maintain_order=True).agg(pl.col("value").last().alias("halfway"))
    end = rows.group_by("source", "seed", maintain_order=True).agg(
        pl.col("value").last().alias("excess"), pl.col("status").last()
    )
    return end.join(start, on=["source", "seed"], how="left")


def simulated_heat(run: Run) -> pl.DataFrame:
    """Direction cosines of the first seed of each cell: its adjacency is the one that is known."""
    table = clean(run).filter(pl.col("metric") == "direction_cosine", pl.col("null").is_null())
    if table.is_empty():
        return table
    first = last(table).filter(pl.col("seed") == pl.col("seed").min().over("source"))
    return first.select("source", "seed", "inner_product", "concept", "concept_other", "value")


def model_view(run: Run, source: str | None = None) -> ModelView:
    """Sort the tables of a measured model: of ``source`` where a run holds several models or checkpoints."""
    table = clean(run).filter(pl.col("layer").is_null())  # through the layers is a figure of its own
    if source is not None:
        table = table.filter(pl.col("source") == source)
    name = source or str(table["source"].drop_nulls().first() or run.info["title"])
    own, null = table.filter(pl.col("null").is_null()), table.filter(pl.col("null").is_not_null())
    keys = ["concept", "inner_product"]
    whole = own.filter(pl.col("metric") == "parallelism", pl.col("concept").is_not_null())
    one_out = own.filter(pl.col("metric") == "parallelism_leave_one_out").select(
        *keys, pl.col("value").alias("leave_one_out")
    )
    parallelism = whole.select(*keys, "n_pairs", "value", "low", "high", "status")
    heat = own.filter(pl.col("metric") == "direction_cosine").select(*keys, "concept_other", "value")
    shared = null.filter(pl.col("metric") == "direction_cosine", pl.col("null") == "shared words").select(
        *keys, "concept_other", pl.col("null_value").alias("shared")
    )
    columns = ["inner_product", "split", "value", "null", "null_value"]
    aligned = ["inner_product", "concept", "concept_other", "value", "low", "high", "split"]
    drawn = [*aligned, "null", "null_value", "null_high", "p_value"]
    return ModelView(
        run=run,
        name=name,
        slug=slug(name),
        parallelism=parallelism.join(one_out, on=keys, how="left", maintain_order="left"),
        nulls=null.filter(pl.col("metric") == "parallelism").select(
            *keys, "null", "null_value", "null_high", "p_value", "p_adjusted"
        ),
        heat=heat.join(shared, on=[*keys, "concept_other"], how="left", maintain_order="left"),
        orthogonality=table.filter(pl.col("metric") == "orthogonality").select(columns),
        alignment=own.filter(pl.col("metric") == "alignment").select(aligned),
        alignment_nulls=null.filter(pl.col("metric") == "alignment").select(drawn),
        verdicts=_table(run, source, "verdicts", ["concept", "inner_product", "verdict", "rule", "floor"]),
        pairs=_table(run, source, "pairs", ["concept", "negative", "positive", "inner_product", "cosine", "null"]),
        dropped=_table(run, source, "dropped_pairs", ["concept", "negative", "positive", "reason"]),
    )


def _table(run: Run, source: str | None, name: str, columns: list[str]) -> pl.DataFrame:
    table = run.table(name)
    if table is None:
        return pl.DataFrame(schema={c: pl.Float64 if c in ("cosine", "floor") else pl.String for c in columns})
    return (table if source is None else table.filter(pl.col("model") == source)).select(columns)
