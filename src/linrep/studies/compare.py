"""Runs against each other: are the concepts that are linear in one also linear in the other?

Models and checkpoints are compared concept by concept; a simulated world has no concept in common with anything, so
only distributions are. This file reads tidy tables; it measures nothing anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.stats import rankdata

from linrep.errors import InvalidInputError
from linrep.geometry.measurements import Measurements

MIN_CONCEPTS = 3
METRICS = ("parallelism", "alignment")
# Which rows of a metric say how linear a concept is: γ's own pairs, and a context set with its own word concept.
_SPLITS = {"parallelism": ("all", "unembedding"), "alignment": ("matched", "both")}
_VALUES = {"metric": pl.String, "inner_product": pl.String, "concept": pl.String, "value": pl.Float64,
           "low": pl.Float64, "high": pl.Float64}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """One model, checkpoint or simulated cell of a run.

    Parameters
    ----------
    label
        Its name in every table.
    simulated
        Whether ``values`` holds seeds (mean over the concepts of a world) instead of concepts.
    values
        Columns metric, inner_product, concept (or seed), value, low, high.
    """

    label: str
    simulated: bool
    values: pl.DataFrame

    def of(self, metric: str, inner_product: str) -> pl.DataFrame:
        """Concept, value, low and high of one metric under one inner product, values that are missing left out."""
        own = self.values.filter(pl.col("metric") == metric, pl.col("inner_product") == inner_product)
        return own.drop_nulls("value").select("concept", "value", "low", "high")


def sides_of(measurements: Measurements, run: str, *, simulated: bool) -> list[Side]:
    """Every model and checkpoint of a run, or every simulated cell at its last step.

    Raises
    ------
    InvalidInputError
        If the run measured neither parallelism nor alignment, or holds several values of one concept of one model.
    """
    own = measurements.table.with_columns(pl.col(pl.Float64).fill_nan(None)).filter(
        pl.col("null").is_null(), pl.col("layer").is_null(), pl.col("metric").is_in(METRICS)
    )
    own = own.filter(pl.col("concept").is_null() if simulated else pl.any_horizontal(*map(_says, METRICS)))
    if simulated:
        own = own.filter(pl.col("split") == "all", pl.col("step") == pl.col("step").max().over("source"))
        # The closer look at the last snapshot repeats some numbers, with an estimator.
        own = own.filter(pl.col("estimator").is_null()).with_columns(pl.format("seed {}", "seed").alias("concept"))
        own = own.unique(["source", "metric", "inner_product", "concept"], keep="first", maintain_order=True)
    sides = []
    for (source, step), rows in own.group_by(["source", "step"], maintain_order=True):
        if rows.select("metric", "inner_product", "concept").is_duplicated().any():
            raise InvalidInputError(f"{run} has several values of one concept of {source}: compare runs with one each")
        label = str(source or run) + ("" if simulated or step is None else f", step {step}")
        sides.append(Side(label, simulated, rows.select(_VALUES.keys()).cast(_VALUES)))  # pyright: ignore[reportArgumentType]
    if not sides:
        raise InvalidInputError(f"{run} holds no parallelism and no alignment: nothing to compare")
    return sides


def _says(metric: str) -> pl.Expr:
    split, side = _SPLITS[metric]
    return (pl.col("metric") == metric) & (pl.col("split") == split) & (pl.col("side") == side)


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Parameters
    ----------
    correlations
        One row a pair of models, metric and inner product: Spearman correlation over their common concepts, with a
        bootstrap interval, and the median difference.
    differences
        One row a concept of such a pair: both values and second − first, each with its interval.
    distributions
        One row a side, metric and inner product: number, median, quartiles; of pairs that share no concept too.
    """

    correlations: pl.DataFrame
    differences: pl.DataFrame
    distributions: pl.DataFrame


def compare(sides: Sequence[Side], *, draws: int = 2000, seed: int = 0) -> Comparison:
    """Compare every two sides under every metric and inner product that both have.

    Raises
    ------
    InvalidInputError
        With fewer than two sides, or two models that have fewer than three concepts in common.
    """
    if len(sides) < 2:
        raise InvalidInputError(f"a comparison needs two models or cells, the runs hold {len(sides)}: give another run")
    correlations, differences = [], []
    for first, second in combinations(sides, 2):
        if first.simulated or second.simulated:
            continue
        found = False
        for metric, product in _products(first, second):
            both = first.of(metric, product).join(second.of(metric, product), on="concept", suffix="_second")
            if both.height < MIN_CONCEPTS:
                continue
            found = True
            about = {"first": first.label, "second": second.label, "metric": metric, "inner_product": product}
            x, y = both["value"].to_numpy(), both["value_second"].to_numpy()
            rng = np.random.default_rng([seed, *f"{metric} {product} {first.label} {second.label}".encode()])
            value, low, high = rank_correlation(x, y, draws, rng)
            correlations.append(
                about | {"n_concepts": both.height, "spearman": value, "low": low, "high": high,
                         "median_difference": float(np.median(y - x))}
            )  # fmt: skip
            differences += [about | _difference(row) for row in both.iter_rows(named=True)]
        if not found:
            common = set(first.values["concept"]) & set(second.values["concept"])
            raise InvalidInputError(
                f"{first.label} and {second.label} have {len(common)} concepts in common under one inner product, "
                f"fewer than {MIN_CONCEPTS}: measure the same concepts in both"
            )
    return Comparison(
        pl.DataFrame(correlations, infer_schema_length=None),
        pl.DataFrame(differences, infer_schema_length=None),
        _distributions(sides),
    )


def _products(first: Side, second: Side) -> list[tuple[str, str]]:
    """(metric, inner product) that both sides have, in the order of the first."""
    keys = ["metric", "inner_product"]
    shared = first.values.select(keys).unique(maintain_order=True).join(second.values.select(keys).unique(), on=keys)
    return sorted(shared.iter_rows(), key=lambda k: METRICS.index(k[0]))


def rank_correlation(
    first: Float[np.ndarray, "concept"], second: Float[np.ndarray, "concept"], draws: int, rng: np.random.Generator
) -> tuple[float | None, float | None, float | None]:
    """Spearman correlation, in [−1, 1], with a 95 % percentile bootstrap interval over concepts.

    Ties have their mean rank. None where all values of a side are equal; resamples in which they are do not count.

    Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    (value,) = _spearman(first[None], second[None])
    if np.isnan(value):
        return (None, None, None)
    index = rng.integers(len(first), size=(draws, len(first)))
    drawn = _spearman(first[index], second[index])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return (float(value), None, None)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return (float(value), float(low), float(high))


def _spearman(first: Float[np.ndarray, "draw concept"], second: Float[np.ndarray, "draw concept"]) -> np.ndarray:
    """Correlation of ranks of each row, NaN where a side has one value only."""
    a, b = (rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (first, second))
    length = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), length, out=np.full(len(a), np.nan), where=length > 0)


def _difference(row: dict[str, Any]) -> dict[str, Any]:
    """Second − first, with an interval from those of the two values.

    The distances of each value from the ends of its own interval are added as squares, which is right for independent
    errors; the two models were measured on the same words, so that it is rather too wide than too narrow.
    """
    difference = row["value_second"] - row["value"]
    found = {"concept": row["concept"], "value_first": row["value"], "value_second": row["value_second"],
             "difference": difference, "low": None, "high": None}  # fmt: skip
    if any(row[k] is None for k in ("low", "high", "low_second", "high_second")):
        return found
    down = np.hypot(row["value_second"] - row["low_second"], row["high"] - row["value"])
    up = np.hypot(row["high_second"] - row["value_second"], row["value"] - row["low"])
    return found | {"low": float(difference - down), "high": float(difference + up)}


def _distributions(sides: Sequence[Side]) -> pl.DataFrame:
    rows = []
    for side in sides:
        for (metric, product), own in side.values.drop_nulls("value").group_by(
            ["metric", "inner_product"], maintain_order=True
        ):
            low, middle, high = np.quantile(own["value"].to_numpy(), [0.25, 0.5, 0.75])
            rows.append(
                {"side": side.label, "of": "seeds" if side.simulated else "concepts", "metric": metric,
                 "inner_product": product, "n": own.height, "low": float(low), "median": float(middle),
                 "high": float(high)}
            )  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)
