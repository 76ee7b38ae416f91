"""Every cell of the origins study against every prediction that is about cells, and the limit's path against P5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import polars as pl

from linrep.geometry.measurements import Measurements
from linrep.studies.origins_cells import Planned
from linrep.studies.origins_summary import final_rows
from linrep.theory.compare import Comparison, compare
from linrep.theory.nuclear_norm import reduced_path
from linrep.theory.predictions import MATCHED, PREDICTIONS
from linrep.theory.wide_limit import wide_limit_parallelism

_OF_CELLS = ("P1", "P3", "P4 complete", "P4 few known", "P5")
_LIMITS = ((2, None), (3, None), (4, None), (5, None), (4, 2))


def cell_comparisons(planned: Iterable[Planned], measurements: Measurements) -> list[Comparison]:
    """Each cell against each prediction about cells: the values of its seeds at the last step.

    P1 is about the seeds in which the log-odds match; if they do in none, the comparison says so.
    """
    final = final_rows(measurements).filter(pl.col("null").is_null())
    found = []
    for p in planned:
        own = final.filter(pl.col("source") == p.cell.name)
        excess = _by_seed(own, "excess_loss", "all")
        residual = _by_seed(own, "projected_residual", "all")
        matched = [seed for seed, value in residual.items() if value <= MATCHED]
        for name in _OF_CELLS:
            prediction = PREDICTIONS[name]
            values = _by_seed(own, prediction.metric, prediction.split)
            facts = {**asdict(p.cell), "frozen": None}
            if name == "P1":
                facts["projected_residual"] = MATCHED if matched else np.inf
                values = {seed: values[seed] for seed in matched or values}
            reached = [excess.get(seed, np.nan) for seed in values]
            found.append(compare(prediction, list(values.values()), facts, excess=reached, source=p.cell.name))
    return found


def _by_seed(rows: pl.DataFrame, metric: str, split: str) -> dict[int, float]:
    """Value of each seed, NaN where there is none."""
    own = rows.filter(pl.col("metric") == metric, pl.col("split") == split)
    return {seed: np.nan if value is None else value for seed, value in own.select("seed", "value").iter_rows()}


def limit_paths() -> tuple[pl.DataFrame, list[Comparison]]:
    """The reduced path of each world whose limit is computed, and its end against the limit."""
    rows, comparisons = [], []
    for m, known in _LIMITS:
        law = "complete" if known is None else f"at-most-{known}"
        path, limit = reduced_path(m, known), wide_limit_parallelism(m, known)
        name = f"m = {m}, {law}"
        for penalty, excess, parallelism in zip(path.penalties, path.excess, path.parallelism, strict=True):
            rows.append({"world": name, "log10_penalty": float(np.log10(penalty)), "excess": float(excess),
                         "parallelism": float(parallelism), "limit": limit})  # fmt: skip
        facts = {"concepts": m, "dim": 2**m - 1, "law": law, "uniform": True}
        end = [float(path.parallelism[-1])]
        comparisons.append(compare(PREDICTIONS[f"P5 m={m} {law}"], end, facts, source=f"ridge path, {name}"))
    return pl.DataFrame(rows), comparisons
