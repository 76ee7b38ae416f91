"""Where and why linear representations emerge: families of worlds and ways of training, each against the theory.

Cells are trained and measured one after the other and kept on disk as they finish, so that an interrupted study goes
on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
from pydantic import Field

from linrep import __version__
from linrep.geometry.measurements import Measurements
from linrep.learning.training import fit_many
from linrep.studies.emergence import emergence_rows
from linrep.studies.frozen import frozen_cases
from linrep.studies.origins_cells import FAMILIES, QUICK_SEEDS, SEEDS, Cell, Family, Planned, plan, step_size
from linrep.studies.origins_summary import cell_table, summarise
from linrep.studies.origins_verdicts import cell_comparisons, limit_paths
from linrep.studies.recipes import make_world
from linrep.studies.result import Progress, StudyConfig, StudyResult, part
from linrep.theory.compare import table as comparison_table
from linrep.theory.wide_limit import wide_limit_parallelism
from linrep.worlds.contexts import ContextLaw

_CURVE_SNAPSHOTS, _SNAPSHOTS = 40, 8
# (predictor, on sentences) -> CPU time of a step against that of tables, roughly (m = 5).
_NETWORK_COST = {("mlp", False): 8, ("mlp", True): 16, ("transformer", True): 160}


class OriginsConfig(StudyConfig):
    """Which families of the origins study are run, and at which size."""

    families: tuple[Family, ...] = Field(default=tuple(FAMILIES), min_length=1, description="letters A to J")
    quick: bool = Field(default=False, description="three seeds, at most three concepts, at most 3,000 steps")
    first_seed: int = Field(default=0, ge=0)


def study_origins(
    config: OriginsConfig, *, workspace: Path | None = None, progress: Progress | None = None
) -> StudyResult:
    """Train and measure every cell of the chosen families and hold it against the predictions.

    Parameters
    ----------
    config
        Families and size.
    workspace
        Folder in which finished cells are kept; those found there are not computed again.
    progress
        Called with the fraction done and what is being done.
    """
    planned = plan(config.families, quick=config.quick)
    cost = [_cost(p) for p in planned]
    total, spent = sum(cost) or 1.0, 0.0
    parts: list[Measurements] = []
    for p, own in zip(planned, cost, strict=True):
        tell = part(progress, 0.9 * spent / total, 0.9 * (spent + own) / total)
        parts.append(_cell(p, config, workspace, tell))
        spent += own
    measurements = Measurements.concat(parts)
    tell = part(progress, 0.9, 1.0)
    comparisons = cell_comparisons(planned, measurements)
    tables: dict[str, pl.DataFrame] = {}
    if planned:
        tables |= {"cells": cell_table(planned, measurements), "summary": summarise(measurements)}
    if "I" in config.families:
        seeds = range(config.first_seed, config.first_seed + (QUICK_SEEDS if config.quick else SEEDS))
        steps = 2000 if config.quick else 40_000
        tables["frozen"], found = frozen_cases(
            concepts=3 if config.quick else 5, seeds=seeds, steps=steps, progress=part(progress, 0.9, 0.98)
        )
        comparisons += found
    if "B" in config.families:
        tell(0.8, "paths to the limit")
        tables["limit_path"], found = limit_paths()
        comparisons += found
    # Of the worlds in the phase diagram and the curves, which have one size.
    drawn = {ContextLaw.parse(p.cell.law): p.cell.concepts for p in planned if {"B", "J"} & set(p.families)}
    limits = {law.name: _limit(m, law) for law, m in drawn.items()}
    return StudyResult(
        kind="origins",
        title="Origins of linear representations" + (" (quick)" if config.quick else ""),
        config=config,
        measurements=measurements,
        tables={**tables, "predictions": comparison_table(comparisons)},
        details={"wide_limit": {law: limit for law, limit in limits.items() if limit is not None}},
    )


def _limit(m: int, law: ContextLaw) -> float | None:
    """Parallelism that free tables of full width over m concepts go to, for the laws whose limit is known."""
    if law.kind not in {"complete", "at-most"} or m < 2 or law.amount == 0:
        return None
    return wide_limit_parallelism(m, None if law.kind == "complete" else min(m, int(law.amount or 0)))


def _cost(p: Planned) -> float:
    """Logits a full-batch training computes, for the progress bar; a step of a network costs as much as many."""
    values = p.cell.values
    network = _NETWORK_COST.get((p.cell.predictor, p.cell.sentences), 1)
    return network * p.seeds * p.cell.steps * (values + 1.0) ** p.cell.concepts * values**p.cell.concepts + 1e9


def _cell(p: Planned, config: OriginsConfig, workspace: Path | None, progress: Progress) -> Measurements:
    """Rows of one cell, from the workspace if they are there."""
    key = {"cell": asdict(p.cell), "seeds": p.seeds, "first": config.first_seed, "version": __version__}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    kept = None if workspace is None else workspace / f"{digest}.parquet"
    if kept is not None and kept.is_file():
        return Measurements.load(kept)
    found = measure_cell(p, config.first_seed, progress)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def measure_cell(p: Planned, first_seed: int, progress: Progress) -> Measurements:
    """Train the seeds of a cell and measure every snapshot."""
    cell: Cell = p.cell
    seeds = range(first_seed, first_seed + p.seeds)
    worlds = [make_world(cell, seed) for seed in seeds]
    trajectory = fit_many(
        worlds,
        seeds=seeds,
        dim=cell.dim,
        predictor=cell.predictor,
        optimizer=cell.optimizer,
        step_size=step_size(cell),
        steps=cell.steps,
        initial_scale=cell.initial_scale,
        n_snapshots=_CURVE_SNAPSHOTS if "J" in p.families else _SNAPSHOTS,
        progress=lambda fraction: progress(0.9 * fraction, f"{cell.name}: training"),
    )
    rows = []
    for s, world in enumerate(worlds):
        progress(0.9 + 0.1 * s / len(worlds), f"{cell.name}: measuring")
        theory = "always" if "J" in p.families else "end"
        rows += emergence_rows(trajectory, s, world, cell.name, theory=theory)
    return Measurements.from_rows(rows)
