"""From tests on concepts whose truth is known to rates: how often each null and each verdict is wrong, or right.

Plain functions of the table of tests: a rule of `geometry.verdicts` that changes can be held against a finished run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import beta, binom

from linrep.geometry import nulls, verdicts
from linrep.studies.calibration_nonsense import N_PAIRS

BATCH = 27  # concepts of one run, over which Benjamini–Hochberg adjusts: as many as there are built-in ones
REAL, PLANTED, RANDOM_WEIGHTS = "real lists", "planted", "real lists, random weights"
BAND = 0.999

# Kinds whose columns differ by case, frequency or likeness only: what the effect floor must lie above.
GAPS = ("case gap", "frequency gap", "nearest word", "related, case gap", "related, frequency gap")
FLOOR_QUANTILE = 0.99

# Verdict -> (metric of its rate on nonsense or planted concepts, metric of its false discoveries beside real ones).
CLAIMS = {
    verdicts.COMMON: ("differing_columns_rate", "differing_columns_false_discoveries"),
    verdicts.SPECIFIC: ("common_direction_rate", "common_direction_false_discoveries"),
}


def exact_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper–Pearson interval of a share: covers at least `level` whatever the share.

    Examples
    --------
    >>> [round(x, 3) for x in exact_interval(0, 10)]
    [0.0, 0.308]
    """
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))
    return low, high


def binomial_band(n: int, share: float = verdicts.LEVEL, level: float = BAND) -> tuple[float, float]:
    """Between which shares `level` of all samples of n fall if each is a hit with probability `share`."""
    low, high = binom.interval(level, n, share)
    return float(low) / n, float(high) / n


def called(tests: pl.DataFrame) -> np.ndarray:
    """Verdict on every concept, those of one run of one kind judged together; in the order of the rows.

    All rows are of one inner product.
    """
    said = np.full(tests.height, "", dtype=object)
    for _, part in tests.with_row_index("row").group_by("kind", "strength", "run", maintain_order=True):
        said[part["row"].to_numpy()] = judge(part)
    return said


def judge(tests: pl.DataFrame) -> list[str]:
    """Verdicts on concepts of one run under one inner product."""
    p = {null: tests[null].to_numpy() for null in nulls.NULLS}
    value = tests["parallelism"].to_numpy()
    return list(verdicts.decide(tests["n_pairs"].to_numpy(), value, p, tests["inner_product"][0]).verdict)


def false_discoveries(nonsense: pl.DataFrame, real: pl.DataFrame) -> dict[str, tuple[float, float, float]]:
    """False-discovery rate of each verdict, with interval, when each run of nonsense is judged beside the real lists.

    The rate is the mean over runs of (nonsense called so) / (all called so). Its interval is that of the share of
    nonsense called so, Clopper–Pearson, carried through n·share / (n·share + real ones called so) with n concepts of
    nonsense a run.
    """
    runs = [run for _, run in nonsense.group_by("run", maintain_order=True) if run.height == BATCH]
    result = {}
    said = [np.array(judge(pl.concat([real, run]))) for run in runs]
    for verdict in CLAIMS:
        true = np.array([np.sum(s[: real.height] == verdict) for s in said])
        false = np.array([np.sum(s[real.height :] == verdict) for s in said])
        share = float(np.mean(false / np.maximum(true + false, 1)))
        ends = (BATCH * x for x in exact_interval(int(false.sum()), BATCH * len(runs)))
        low, high = (x / (x + true.mean()) if x else 0.0 for x in ends)
        result[verdict] = (share, min(low, share), max(high, share))
    return result


def measurement_rows(tests: pl.DataFrame, aligned: pl.DataFrame) -> list[dict[str, Any]]:
    """Every rate with its interval, as rows of the tidy table.

    ``rejection_rate`` (null named in the column of that name), ``parallelism`` (median of the kind), ``floor_needed``,
    the four metrics of `CLAIMS`, with ``strength`` on planted concepts, and ``alignment_rejection_rate``.
    """
    rows = []
    for (product,), own in tests.group_by(["inner_product"], maintain_order=True):
        real = own.filter(pl.col("kind") == REAL)
        own = own.with_columns(verdict=pl.Series(called(own).tolist(), dtype=pl.String))
        for (kind, strength), group in own.group_by(["kind", "strength"], maintain_order=True):
            about = {"inner_product": product, "concept": kind, "strength": strength, "status": "ok",
                     "side": "unembedding", "unit": "share"}  # fmt: skip
            rows += _kind_rows(group, about)
            fake = kind not in (REAL, PLANTED, RANDOM_WEIGHTS)
            if fake and real.height and (group["run"].value_counts()["count"] == BATCH).any():
                for verdict, (value, low, high) in false_discoveries(group.drop("verdict"), real).items():
                    rows.append(about | {"metric": CLAIMS[verdict][1], "value": value, "low": low, "high": high})
        gaps = own.filter(pl.col("kind").is_in(GAPS))
        if gaps.height:
            points = gaps.group_by("kind").agg(pl.col("parallelism").quantile(FLOOR_QUANTILE, "linear"))
            value = float(points["parallelism"].to_numpy().max())
            rows.append({"inner_product": product, "metric": "floor_needed", "unit": "cosine", "value": value,
                         "side": "unembedding", "status": "ok"})  # fmt: skip
    for (product, kind, test), group in aligned.group_by(["inner_product", "kind", "test"], maintain_order=True):
        about = {"inner_product": product, "concept": kind, "null": test, "status": "ok", "side": "both"}
        rows.append(about | _share(group["p_value"].to_numpy() <= verdicts.LEVEL, "alignment_rejection_rate"))
    return rows


def _kind_rows(group: pl.DataFrame, about: dict[str, Any]) -> list[dict[str, Any]]:
    middle = float(np.median(group["parallelism"].to_numpy()))
    rows = [about | {"metric": "parallelism", "unit": "cosine", "value": middle, "n_pairs": N_PAIRS}]
    rows += [
        about | {"null": null} | _share(group[null].to_numpy() <= verdicts.LEVEL, "rejection_rate")
        for null in nulls.NULLS
    ]
    said = group["verdict"].to_numpy()
    return rows + [about | _share(said == verdict, CLAIMS[verdict][0]) for verdict in CLAIMS]


def _share(hit: np.ndarray, metric: str) -> dict[str, Any]:
    low, high = exact_interval(int(hit.sum()), len(hit))
    return {"metric": metric, "unit": "share", "value": float(hit.mean()), "low": low, "high": high}


def breaking(measurements: pl.DataFrame, verdict: str) -> list[dict[str, Any]]:
    """Kinds of nonsense on which a verdict is wrong more often than it says: rate or false discoveries above 5 %.

    One row a kind and inner product: rate and false-discovery rate, the latter None where there are no real lists.
    """
    rate, discoveries = CLAIMS[verdict]
    keys = ("inner_product", "concept")
    rows = measurements.filter(~pl.col("concept").is_in([REAL, PLANTED]))
    rates = rows.filter(pl.col("metric") == rate).select(*keys, rate="value")
    both = rates.join(
        rows.filter(pl.col("metric") == discoveries).select(*keys, false_discoveries="value"),
        on=keys, how="left", maintain_order="left",
    )  # fmt: skip
    wrong = both.filter((pl.col("rate") > verdicts.LEVEL) | (pl.col("false_discoveries") > verdicts.LEVEL))
    return wrong.to_dicts()
