"""From rows per seed to rows per cell: means with intervals over seeds, beside their nulls.

Averages metrics over seeds, never directions. This file trains nothing and reads no file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.stats import t as student_t

from linrep.geometry.measurements import Measurements
from linrep.learning.trajectory import CONVERGED
from linrep.studies.origins_cells import Planned, factors

SUMMARY_SCHEMA: dict[str, type[pl.DataType]] = {
    "source": pl.String, "metric": pl.String, "split": pl.String, "over": pl.String, "n": pl.Int64,
    "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "sd": pl.Float64, "untrained": pl.Float64,
    "control": pl.Float64,
}  # fmt: skip


def final_rows(measurements: Measurements) -> pl.DataFrame:
    """Rows of the last step of each source, without NaN."""
    table = measurements.table.with_columns(pl.col(pl.Float64).fill_nan(None))
    return table.filter(pl.col("step") == pl.col("step").max().over("source"))


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean and its t-interval over independent seeds; the interval is NaN below two values.

    Examples
    --------
    >>> [round(x, 3) for x in mean_interval([0.9, 1.0, 1.1])]
    [1.0, 0.752, 1.248]
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return (float(x.mean()) if len(x) else float("nan"), float("nan"), float("nan"))
    reach = float(student_t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return float(x.mean()), float(x.mean()) - reach, float(x.mean()) + reach


def summarise(measurements: Measurements) -> pl.DataFrame:
    """One row a cell, metric and split, over all seeds and over the converged ones.

    ``untrained`` is the mean over the same seeds before training; ``control`` that of the metric's other null (random
    directions).
    """
    final = final_rows(measurements)
    keys = ["source", "metric", "split"]
    nulls = final.filter(pl.col("null").is_not_null()).select(*keys, "seed", "null", "null_value")
    rows = []
    own = final.filter(pl.col("null").is_null(), pl.col("concept").is_null())
    for (source, metric, split), group in own.group_by(keys, maintain_order=True):
        beside = nulls.filter(pl.col("source") == source, pl.col("metric") == metric, pl.col("split") == split)
        for over in ("all", "converged"):
            chosen = group if over == "all" else group.filter(pl.col("status") == "converged")
            chosen = chosen.drop_nulls("value")
            mean, low, high = mean_interval(chosen["value"].to_list())
            sd = chosen["value"].std()
            means = [
                beside.filter(pl.col("null") == null, pl.col("seed").is_in(chosen["seed"].to_list()))[
                    "null_value"
                ].mean()
                for null in ("untrained", "random directions")
            ]
            values = (source, metric, split, over, chosen.height, mean, low, high, sd, *means)
            rows.append(dict(zip(SUMMARY_SCHEMA, values, strict=True)))
    return pl.DataFrame(rows, schema=SUMMARY_SCHEMA).fill_nan(None)


def cell_table(planned: Sequence[Planned], measurements: Measurements) -> pl.DataFrame:
    """One row a cell: its factors, families, steps, and how its seeds ended."""
    excess = final_rows(measurements).filter(pl.col("metric") == "excess_loss", pl.col("null").is_null())
    ends = excess.group_by("source").agg(
        pl.len().alias("seeds"),
        (pl.col("status") == "converged").sum().alias("converged"),
        pl.col("status").is_in(["nonfinite", "diverged"]).sum().alias("diverged"),
        (pl.col("value") < CONVERGED / 20).sum().alias("below_0.001"),
        pl.col("step").max().alias("steps_taken"),
        pl.col("value").median().alias("excess"),
        pl.col("value").quantile(0.1).alias("excess_low"),
        pl.col("value").quantile(0.9).alias("excess_high"),
    )
    rows = [{"source": p.cell.name, "families": "".join(p.families), **factors(p.cell)} for p in planned]
    return pl.DataFrame(rows, infer_schema_length=None).join(ends, on="source", how="left", maintain_order="left")
