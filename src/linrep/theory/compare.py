"""Hold measured values against predictions: agree, disagree, or assumptions not met, and never silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.stats import t as student_t

from linrep.theory.predictions import Facts, Prediction

Verdict = Literal["agree", "disagree", "assumptions not met"]


@dataclass(frozen=True)
class Comparison:
    """One prediction against one experiment.

    Parameters
    ----------
    source
        The experiment.
    prediction, statement, metric, predicted
        What is predicted.
    measured, low, high, n
        Mean over the seeds that count, its 95 % interval, and their number.
    verdict
        ``agree`` or ``disagree`` by the mean, ``assumptions not met``.
    decided
        Whether the whole interval is on one side of the bound.
    reason
        Why: which assumptions are not met, or where the interval lies.
    """

    source: str
    prediction: str
    statement: str
    metric: str
    predicted: str
    measured: float | None
    low: float | None
    high: float | None
    n: int
    verdict: Verdict
    decided: bool
    reason: str


def compare(
    prediction: Prediction, values: Sequence[float], facts: Facts, *, excess: Sequence[float] | None = None, source: str
) -> Comparison:
    """Compare the values of one metric over the seeds of one experiment with a prediction.

    Parameters
    ----------
    prediction
        What is predicted.
    values
        One value a seed; NaN where the metric does not exist.
    facts
        What the experiment was, for the assumptions.
    excess
        Excess loss of each seed, in nats; needed if the prediction asks for it to be small.
    source
        Name of the experiment.
    """
    x = np.asarray(values, dtype=np.float64)
    missing = [a.text for a in prediction.assumptions if not a.met(facts)]
    counted = np.isfinite(x)
    if prediction.max_excess is not None:
        reached = np.asarray(excess if excess is not None else np.full(len(x), np.inf), dtype=np.float64)
        counted &= np.nan_to_num(reached, nan=np.inf) <= prediction.max_excess
    x = x[counted]
    if not missing and not len(x):
        few = f"excess at most {prediction.max_excess:g} nats" if prediction.max_excess is not None else "a value"
        missing = [f"no seed has {few}"]
    mean, low, high = _interval(x)
    if missing:
        verdict, decided, reason = "assumptions not met", False, "; ".join(f"not met: {text}" for text in missing)
    else:
        assert mean is not None  # noqa: S101 - there are values
        holds = prediction.holds(mean)
        verdict = "agree" if holds else "disagree"
        ends = [mean] if low is None or high is None else [low, high]
        decided = all(prediction.holds(end) == holds for end in ends) and len(x) > 1
        where = "the interval is on one side of the bound" if decided else "the interval reaches across the bound"
        reason = where if len(x) > 1 else "one value, no interval"
    return Comparison(
        source, prediction.name, prediction.statement, prediction.metric, prediction.predicted,
        mean, low, high, len(x), verdict, decided, reason,
    )  # fmt: skip


def _interval(x: np.ndarray) -> tuple[float | None, float | None, float | None]:
    if not len(x):
        return None, None, None
    mean = float(x.mean())
    if len(x) < 2:
        return mean, None, None
    reach = float(student_t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return mean, mean - reach, mean + reach


SCHEMA = {
    "source": pl.String, "prediction": pl.String, "statement": pl.String, "metric": pl.String, "predicted": pl.String,
    "measured": pl.Float64, "low": pl.Float64, "high": pl.Float64, "n": pl.Int64, "verdict": pl.String,
    "decided": pl.Boolean, "reason": pl.String,
}  # fmt: skip


def table(comparisons: Iterable[Comparison]) -> pl.DataFrame:
    """Comparisons as rows."""
    return pl.DataFrame([asdict(c) for c in comparisons], schema=SCHEMA)
