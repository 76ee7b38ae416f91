"""Simulate concept worlds, train predictors on them, and measure the geometry as it emerges.

A cell is one context law at one width d; every seed is its own random world and its own initial values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from linrep import __version__
from linrep.geometry.measurements import Measurements
from linrep.learning.optimizers import STEP_SIZES
from linrep.learning.training import fit_many
from linrep.learning.trajectory import Trajectory
from linrep.studies.emergence import emergence_rows
from linrep.studies.result import Progress, StudyConfig, StudyResult, part
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

# The one null of a toy vocabulary that redraws something meaningful; its words have neither case nor meaning.
_NULLS = ("sign flip",)


def _law(text: str) -> str:
    return ContextLaw.parse(text).name


class SimulationConfig(StudyConfig):
    """Worlds, predictors and training of `simulate`; every field is a key of the TOML file."""

    concepts: int = Field(default=5, ge=1, le=10, description="m, number of binary concepts")
    edge_probability: float = Field(default=0.5, ge=0, le=1, description="of the random concept graph")
    bernoulli_low: float = Field(default=0.3, gt=0, lt=1, description="smallest conditional probability")
    bernoulli_high: float = Field(default=0.7, gt=0, lt=1, description="largest conditional probability")
    laws: tuple[Annotated[str, AfterValidator(_law)], ...] = Field(
        default=("complete", "at-most-2"), min_length=1, description="complete, at-most-K, masked-Q or kept-FRACTION"
    )
    dims: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(5, 10), min_length=1, description="widths d of λ and γ"
    )
    seeds: int = Field(default=32, ge=1, description="number of seeds: each its own world and initial values")
    first_seed: int = Field(default=0, ge=0)
    predictor: str = Field(default="table", description="table or factored")
    optimizer: str = Field(default="gradient_descent", description="gradient_descent or adam")
    step_size: float | None = Field(default=None, gt=0, description="by default that of the optimizer and predictor")
    steps: int = Field(default=15_000, ge=1)
    initial_scale: float = Field(default=0.01, gt=0, description="standard deviation of the initial λ and γ")
    snapshots: int = Field(default=40, ge=2, description="measured moments of training, on a log schedule")

    @model_validator(mode="before")
    @classmethod
    def _resolve_step_size(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Filled in here, so that the stored configuration says what was run.
        of = (values.get("optimizer", "gradient_descent"), values.get("predictor", "table"))
        return values if values.get("step_size") is not None else values | {"step_size": STEP_SIZES.get(of)}


def simulate(
    config: SimulationConfig, *, workspace: Path | None = None, progress: Progress | None = None
) -> StudyResult:
    """Train and measure every cell of a configuration.

    Parameters
    ----------
    config
        Worlds, predictors and training.
    workspace
        Folder in which trained cells and the state of an interrupted training are kept; what is found there is not
        computed again, and the numbers are the same in every bit.
    progress
        Called with the fraction done and what is being done.

    Returns
    -------
    StudyResult
        Rows per seed and snapshot (excess loss, parallelism, alignment, orthogonality, with the untrained value of
        the same seed as null), and per concept at the last snapshot.
    """
    cells = [(law, dim) for law in config.laws for dim in config.dims]
    rows: list[dict[str, Any]] = []
    tables: list[Measurements] = []
    details: dict[str, Any] = {"cells": {}, "adjacent": {}, "wide_limit": {}}
    for k, (law, dim) in enumerate(cells):
        name = f"m={config.concepts} d={dim} {law}"
        tell = part(progress, k / len(cells), (k + 1) / len(cells))
        worlds = [_world(config, law, seed) for seed in _seeds(config)]
        train = part(tell, 0.0, 0.8)
        trajectory = _train(config, worlds, law, dim, workspace, lambda x, t=train, n=name: t(x, f"{n}: training"))
        for s, world in enumerate(worlds):
            tell(0.8 + 0.2 * s / len(worlds), f"{name}: measuring")
            rows += emergence_rows(trajectory, s, world, name)
            if np.isfinite(trajectory.unembeddings[s, -1]).all():
                tables.append(_final(trajectory, s, world, name))
        details["cells"][name] = _summary(trajectory)
        details["adjacent"][name] = _adjacent(worlds[0])
        if (limit := _limit(config.concepts, law)) is not None:
            details["wide_limit"][law] = limit
    return StudyResult(
        kind="simulate",
        title=f"{config.seeds} random concept worlds of {config.concepts} concepts, {config.predictor} predictors",
        config=config,
        measurements=Measurements.concat([Measurements.from_rows(rows), *tables]),
        details=details,
    )


def _train(
    config: SimulationConfig,
    worlds: list[World],
    law: str,
    dim: int,
    workspace: Path | None,
    progress: Callable[[float], None],
) -> Trajectory:
    """Training of one cell, from the workspace if it is there, or the rest of it."""
    cell = config.model_dump(mode="json", exclude={"laws", "dims"}) | {"law": law, "dim": dim, "version": __version__}
    name = hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]
    trained = None if workspace is None else workspace / f"{name}.safetensors"
    if trained is not None and trained.is_file():
        return Trajectory.load(trained)
    trajectory = fit_many(
        worlds,
        seeds=_seeds(config),
        dim=dim,
        predictor=config.predictor,
        optimizer=config.optimizer,
        step_size=config.step_size,
        steps=config.steps,
        initial_scale=config.initial_scale,
        n_snapshots=config.snapshots,
        checkpoint=None if workspace is None else workspace / name,
        progress=progress,
    )
    if trained is not None:
        trained.parent.mkdir(parents=True, exist_ok=True)
        trajectory.save(trained)
    return trajectory


def _seeds(config: SimulationConfig) -> list[int]:
    return list(range(config.first_seed, config.first_seed + config.seeds))


def _world(config: SimulationConfig, law: str, seed: int) -> World:
    graph = ConceptGraph.random(
        config.concepts,
        config.edge_probability,
        low=config.bernoulli_low,
        high=config.bernoulli_high,
        seed=seed,
    )
    return World(graph, ContextLaw.parse(law))


def _summary(trajectory: Trajectory) -> dict[str, Any]:
    excess = trajectory.excess[:, -1]
    median = float(np.median(np.where(np.isnan(excess), np.inf, excess)))  # a seed that diverged is one far above
    return {
        "converged": int(np.sum(trajectory.converged)),
        "seeds": len(trajectory.seeds),
        "median_excess": median if np.isfinite(median) else None,
        "status": {status: trajectory.status.count(status) for status in sorted(set(trajectory.status))},
        "settings": dict(trajectory.settings),
    }


def _adjacent(world: World) -> list[list[str]]:
    adjacency, names = world.graph.moral_adjacency(), world.graph.names
    return [[names[i], names[j]] for i, j in np.argwhere(np.triu(adjacency)).tolist()]


def _limit(m: int, law: str) -> float | None:
    """Parallelism that free tables of full width go to, for the laws whose limit is known."""
    from linrep.theory.wide_limit import wide_limit_parallelism  # here, as below

    parsed = ContextLaw.parse(law)
    if m < 2 or parsed.kind not in {"complete", "at-most"}:
        return None
    return wide_limit_parallelism(m, None if parsed.kind == "complete" else int(parsed.amount or 0) or None)


def _final(trajectory: Trajectory, s: int, world: World, source: str) -> Measurements:
    """The same measurement as of a real model, on the trained predictor of one seed."""
    from linrep.geometry.measure import measure  # here: training needs none of the statistics it takes .5 s to import

    trained = trajectory.representations(s)
    products: Sequence[str] = ("euclidean", "causal")
    measured = measure(
        trained,
        world.token_pairs(),
        world.context_pairs(),
        inner_products=products if trained.dim < trained.n_tokens - 1 else products[:1],
        null_names=_NULLS,
        untrained=trajectory.representations(s, 0),
        draws=200,
        seed=int(trajectory.seeds[s]),
    )
    step = int(trajectory.steps[-1])
    return measured.measurements.with_columns(source=source, seed=int(trajectory.seeds[s]), step=step)
