"""A full-factorial sweep: every combination of the settings of a simulation, a row of results for each run.

Runs whose arrays have the same shapes are trained in one call, whatever their law, graph, step size or initial scale.
Pieces of the sweep are kept on disk as they finish, so that an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import AfterValidator, Field

from linrep import __version__
from linrep.errors import UnknownNameError
from linrep.geometry.measurements import Measurements
from linrep.learning.optimizers import OPTIMIZERS, STEP_SIZES
from linrep.learning.training import fit_many
from linrep.learning.trajectory import CONVERGED, Trajectory
from linrep.studies.emergence import emergence_rows
from linrep.studies.origins_cells import Cell, step_size
from linrep.studies.recipes import make_world
from linrep.studies.result import Progress, StudyConfig, StudyResult, part
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.sentences import AnyWorld

_SNAPSHOTS = 80  # a run stops at one of these: each is about a tenth later than the one before
_MOST_RUNS = 128  # of one call: what an interrupt can cost

Positive = Annotated[float, Field(gt=0)]

# Settings that are varied -> column of the table of runs.
FACTORS = {
    "concepts": "concepts", "d_over_m": "d_over_m", "laws": "law", "graphs": "graph", "predictors": "predictor",
    "optimizers": "optimizer", "step_sizes": "step_size", "initial_scales": "initial_scale",
}  # fmt: skip
# (metric, split) -> column of the table of runs; the null has its name after it.
_METRICS = {
    ("excess_loss", "all"): "excess", ("parallelism", "all"): "parallelism", ("alignment", "all"): "alignment",
    ("orthogonality", "all"): "orthogonality", ("orthogonality", "not adjacent"): "orthogonality_not_adjacent",
}  # fmt: skip
_NULLS = {"untrained": "untrained", "random directions": "random"}


def _law(text: str) -> str:
    return ContextLaw.parse(text).name


def _graph(text: str) -> str:
    make_world(Cell(concepts=2, graph=text), 0)  # refuses what it cannot read
    return text


def _optimizer(text: str) -> str:
    if text not in OPTIMIZERS:
        raise UnknownNameError("optimizer", text, OPTIMIZERS)
    return text


class SweepConfig(StudyConfig):
    """The grid; every field is a key of the TOML file, and a field of several values is an axis."""

    concepts: tuple[Annotated[int, Field(ge=1, le=7)], ...] = Field(
        default=(2, 3, 4), min_length=1, description="m, numbers of binary concepts"
    )
    d_over_m: tuple[Positive, ...] = Field(default=(1.0, 2.0), min_length=1, description="widths d/m, d rounded up")
    laws: tuple[Annotated[str, AfterValidator(_law)], ...] = Field(
        default=("complete", "at-most-2"), min_length=1, description="complete, at-most-K, masked-Q or kept-FRACTION"
    )
    graphs: tuple[Annotated[str, AfterValidator(_graph)], ...] = Field(
        default=("random-0.5",), min_length=1, description="independent, chain, tree, random-P or ising-P"
    )
    predictors: tuple[Literal["table", "factored", "mlp"], ...] = Field(default=("table",), min_length=1)
    optimizers: tuple[Annotated[str, AfterValidator(_optimizer)], ...] = Field(
        default=("gradient_descent", "adam"), min_length=1
    )
    step_sizes: tuple[Positive, ...] = Field(default=(), description="by default that of the optimizer and predictor")
    initial_scales: tuple[Positive, ...] = Field(default=(0.01, 0.1), min_length=1)
    seeds: int = Field(default=21, ge=1, description="seeds of each combination: each its own world")
    first_seed: int = Field(default=0, ge=0)
    steps: int = Field(default=5000, ge=1, description="a run that has not converged by then ends there")


@dataclass(frozen=True)
class _Job:
    """One run of the sweep."""

    cell: Cell
    step_size: float
    seed: int
    world: AnyWorld
    source: str

    @property
    def shapes(self) -> tuple[Any, ...]:
        """What decides the compiled program."""
        world, cell = self.world, self.cell
        return cell.concepts, world.n_contexts, world.n_tokens, cell.dim, cell.predictor, cell.optimizer

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the numbers."""
        return {"cell": asdict(self.cell), "step_size": self.step_size, "seed": self.seed}


def sweep(config: SweepConfig, *, workspace: Path | None = None, progress: Progress | None = None) -> StudyResult:
    """Train and measure every run of the grid, each until its excess loss is below 0.02 nats or its steps are over.

    A run is measured at the first of 80 moments, on a logarithmic schedule, at which its excess is below 0.02.

    Parameters
    ----------
    config
        The grid.
    workspace
        Folder in which finished pieces are kept; those found there are not computed again.
    progress
        Called with the fraction done and what is being done.

    Returns
    -------
    StudyResult
        The tidy table, and the table ``runs``: a row a run with its settings, steps, excess, status, parallelism,
        alignment and orthogonality, each with its value before training, orthogonality also with that of random
        directions.
    """
    jobs = list(_jobs(config, part(progress, 0.0, 0.05)))
    pieces = _pieces(jobs)
    cost = [len(p) * p[0].world.n_contexts * p[0].world.n_tokens * config.steps + 2e9 for p in pieces]  # 2e9: compiling
    total, spent = sum(cost), 0.0
    parts: list[Measurements] = []
    for piece, own in zip(pieces, cost, strict=True):
        tell = part(progress, 0.05 + 0.95 * spent / total, 0.05 + 0.95 * (spent + own) / total)
        parts.append(_piece(piece, config.steps, workspace, tell))
        spent += own
    measurements = Measurements.concat(parts)
    varied = [name for name in FACTORS if len(getattr(config, name)) > 1]
    return StudyResult(
        kind="sweep",
        title=f"{len(jobs)} runs: every combination of {', '.join(varied).replace('_', ' ') or 'one setting each'}",
        config=config,
        measurements=measurements,
        tables={"runs": _runs(jobs, measurements)},
        details={"runs": len(jobs), "calls": len(pieces), "programs": len({p[0].shapes for p in pieces})},
    )


def _jobs(config: SweepConfig, progress: Progress) -> Iterator[_Job]:
    combinations: dict[tuple[Cell, float | None], None] = {}  # each once: two widths may round to one d
    axes: list[tuple[Any, ...]] = [getattr(config, name) or (None,) for name in FACTORS]
    for m, width, law, graph, predictor, optimizer, step, scale in product(*axes):
        cell = Cell(concepts=m, dim=ceil(width * m), law=law, graph=graph, predictor=predictor, optimizer=optimizer,
                    initial_scale=scale, steps=config.steps)  # fmt: skip
        combinations[cell, step] = None
    for k, (cell, step) in enumerate(combinations):
        progress(k / len(combinations), "making worlds")
        chosen = step or step_size(cell) or STEP_SIZES[cell.optimizer, cell.predictor]
        source = cell.name if step is None else f"{cell.name} step size={step:g}"
        for seed in range(config.first_seed, config.first_seed + config.seeds):
            yield _Job(cell, chosen, seed, make_world(cell, seed), source)


def _pieces(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Runs that are trained in one call, in the order of the grid."""
    alike: dict[tuple[Any, ...], list[_Job]] = {}
    for job in jobs:
        alike.setdefault(job.shapes, []).append(job)
    return [own[k : k + _MOST_RUNS] for own in alike.values() for k in range(0, len(own), _MOST_RUNS)]


def _piece(jobs: list[_Job], steps: int, workspace: Path | None, progress: Progress) -> Measurements:
    """Rows of some runs, from the workspace if they are there."""
    key = {"jobs": [job.settings for job in jobs], "version": __version__}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    kept = None if workspace is None else workspace / f"{digest}.parquet"
    if kept is not None and kept.is_file():
        return Measurements.load(kept)
    first = jobs[0].cell
    name = f"m={first.concepts} d={first.dim} {first.predictor} {first.optimizer}"
    trajectory = fit_many(
        [job.world for job in jobs],
        seeds=[job.seed for job in jobs],
        dim=first.dim,
        predictor=first.predictor,
        optimizer=first.optimizer,
        step_size=[job.step_size for job in jobs],
        steps=steps,
        initial_scale=[job.cell.initial_scale for job in jobs],
        n_snapshots=_SNAPSHOTS,
        progress=lambda fraction: progress(0.6 * fraction, f"{name}: training {len(jobs)} runs"),
    )
    rows: list[dict[str, Any]] = []
    for s, job in enumerate(jobs):
        progress(0.6 + 0.4 * s / len(jobs), f"{name}: measuring")
        run = _stopped(trajectory, s)
        rows += [row for row in emergence_rows(run, 0, job.world, job.source) if row["step"] == run.steps[-1]]
    found = Measurements.from_rows(rows)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def _stopped(trajectory: Trajectory, s: int) -> Trajectory:
    """One run, untrained and where it stopped: at the first snapshot that has converged, else at the last."""
    below = np.flatnonzero(trajectory.excess[s] < CONVERGED)
    taken = np.array([0, below[0] if len(below) and below[0] else -1])
    rows = np.array([s])
    return replace(
        trajectory,
        steps=trajectory.steps[taken],
        **{name: getattr(trajectory, name)[rows] for name in ("seeds", "floor", "token_frequency")},
        **{name: getattr(trajectory, name)[rows][:, taken] for name in ("loss", "embeddings", "unembeddings")},
        **{name: (getattr(trajectory, name)[s],) for name in ("worlds", "tokens", "contexts")},
    )


def _runs(jobs: Sequence[_Job], measurements: Measurements) -> pl.DataFrame:
    """A row a run, in the order of the grid."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    columns = ["source", "seed", "metric", "split", "null", "value", "null_value", "step", "status"]
    for row in measurements.table.select(columns).iter_rows(named=True):
        own = found.setdefault((row["source"], row["seed"]), {"steps": row["step"], "status": row["status"]})
        column = _METRICS[row["metric"], row["split"]]
        if row["null"] is None:
            own[column] = row["value"]
        else:
            own[f"{column}_{_NULLS[row['null']]}"] = row["null_value"]
    return pl.DataFrame([_settings(job) | found[job.source, job.seed] for job in jobs], infer_schema_length=None)


def _settings(job: _Job) -> dict[str, Any]:
    cell = job.cell
    return {
        "source": job.source, "seed": job.seed, "concepts": cell.concepts, "dim": cell.dim,
        "d_over_m": cell.dim / cell.concepts, "law": cell.law, "graph": cell.graph, "predictor": cell.predictor,
        "optimizer": cell.optimizer, "step_size": job.step_size, "initial_scale": cell.initial_scale,
    }  # fmt: skip
