"""The geometry of trained predictors, seed by seed and snapshot by snapshot, as rows of the tidy table.

Shared by every study that trains. The metrics are those of `linrep.geometry`; nothing is computed here that a real
model would compute otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from linrep.geometry import metrics
from linrep.geometry.interchange import balancedness
from linrep.geometry.pairs import ConceptPairs
from linrep.learning.trajectory import Trajectory
from linrep.theory import oracles
from linrep.worlds.sentences import AnyWorld

_UNITS = {
    "excess_loss": "nats", "orthogonality": "mean |cosine|", "log_odds_residual": "nats", "share_in_span": "share",
    "balancedness": "share", "projected_residual": "share", "interchange": "share",
    "interchange_total_variation": "total variation",
}  # fmt: skip
_SIDES = {
    "excess_loss": None, "alignment": "both", "log_odds_residual": "both", "share_in_span": "both",
    "balancedness": "both", "projected_residual": "both", "interchange": "embedding",
    "interchange_total_variation": "embedding",
}  # fmt: skip
_PROJECTED = {"projected_parallelism": oracles.projected_parallelism, "projected_residual": oracles.projected_residual}
_MOST_PROJECTED = 6  # concepts for which P1 is measured: the projections of 8 take minutes

# (metric, split) -> values over some snapshots, and those of the metric's control.
Curves = dict[tuple[str, str], tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"] | None]]


def emergence_rows(
    trajectory: Trajectory, s: int, world: AnyWorld, source: str, *, theory: Literal["none", "end", "always"] = "none"
) -> list[dict[str, Any]]:
    """Rows of one seed over its snapshots, each with its value before training (step 0) as null.

    Metrics are means over the concepts of the world, Euclidean. Orthogonality and interchange have random directions as
    a second null. A snapshot that is not finite has no values. What only the theory asks for (log-odds, balancedness,
    interchange) is measured never, at the first and last snapshot, or at all.
    """
    gamma, lam = trajectory.unembeddings[s], trajectory.embeddings[s]
    finite = np.isfinite(gamma).all(axis=(1, 2)) & np.isfinite(lam).all(axis=(1, 2))
    gamma, lam = (np.where(finite[:, None, None], x, 0) for x in (gamma, lam))
    every = np.arange(len(trajectory.steps))
    curves = {("excess_loss", "all"): (trajectory.excess[s], None), **_geometry(gamma, lam, world)}
    rows = _rows(trajectory, s, source, curves, every, finite)
    if theory != "none":
        chosen = every if theory == "always" else every[[0, -1]]
        rows += _rows(trajectory, s, source, _theory(gamma, lam, world, trajectory, chosen), chosen, finite)
    return rows


def _rows(
    trajectory: Trajectory,
    s: int,
    source: str,
    curves: Curves,
    snapshots: Int[np.ndarray, "snapshot"],
    finite: Bool[np.ndarray, "all_snapshots"],
) -> list[dict[str, Any]]:
    dim = trajectory.unembeddings.shape[-1]
    common = {"source": source, "seed": int(trajectory.seeds[s]), "status": trajectory.status[s]}
    rows = []
    for (metric, split), (curve, control) in curves.items():
        start = _finite(curve[0]) if finite[0] else None
        for k, at in enumerate(snapshots.tolist()):
            row = common | {"step": int(trajectory.steps[at]), "metric": metric, "split": split}
            row |= {"value": _finite(curve[k]) if finite[at] else None, "unit": _UNITS.get(metric, "cosine")}
            if (side := _SIDES.get(metric, "unembedding")) is not None:
                row |= {"side": side, "inner_product": "euclidean", "inner_product_rank": dim}
            rows += [row, row | {"null": "untrained", "null_value": start}]
            if control is not None:
                rows.append(row | {"null": "random directions", "null_value": _finite(control[k])})
    return rows


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _theory(
    gamma: Float[np.ndarray, "snapshot token dim"],
    lam: Float[np.ndarray, "snapshot context dim"],
    world: AnyWorld,
    trajectory: Trajectory,
    snapshots: Int[np.ndarray, "chosen"],
) -> Curves:
    """What the predictions speak of besides cosines."""
    curves: Curves = {}
    matches = np.array([oracles.log_odds_match(world, lam[k], gamma[k]) for k in snapshots])
    curves["log_odds_residual", "all"], curves["share_in_span", "all"] = (matches[:, 0], None), (matches[:, 1], None)
    if trajectory.settings["predictor"] == "table":
        drift = balancedness(lam[snapshots], gamma[snapshots], lam[0].astype(np.float64), gamma[0].astype(np.float64))
        curves["balancedness", "all"] = (drift, None)
    if set(world.graph.cardinalities) == {2} and world.context_pairs().n_pairs.min() > 0:
        found = np.array([oracles.interchanges(world, lam[k], gamma[k]) for k in snapshots])
        curves["interchange", "all"] = (found[:, 0, 0], found[:, 1, 0])
        curves["interchange_total_variation", "all"] = (found[:, 0, 1], found[:, 1, 1])
        if world.graph.n_concepts <= _MOST_PROJECTED and world.n_tokens == 2**world.graph.n_concepts:
            for name, oracle in _PROJECTED.items():
                last = [oracle(world, lam[k], gamma[k]) if k == snapshots[-1] else np.nan for k in snapshots]
                curves[name, "all"] = (np.array(last), None)
    return curves


def _geometry(
    gamma: Float[np.ndarray, "snapshot token dim"], lam: Float[np.ndarray, "snapshot context dim"], world: AnyWorld
) -> Curves:
    """Parallelism, alignment and orthogonality by (metric, split), means over concepts."""
    deltas = _differences(gamma, world.token_pairs())
    contexts = _differences(lam, world.context_pairs())
    cosines = metrics.direction_cosines(np.stack([d.mean(axis=1) for d in deltas], axis=1))
    other, apart = _other_concepts(world)
    aligned = [metrics.alignment(c, d) for c, d in zip(contexts, deltas, strict=True) if c.shape[1]]
    chance = np.full(len(gamma), metrics.random_absolute_cosine(gamma.shape[2]))
    curves: Curves = {
        ("parallelism", "all"): (np.mean([metrics.parallelism(d) for d in deltas], axis=0), None),
        ("orthogonality", "all"): (metrics.orthogonality(cosines, other), chance),
        ("orthogonality", "not adjacent"): (metrics.orthogonality(cosines, apart), chance),
    }
    if aligned:
        curves["alignment", "all"] = (np.mean(aligned, axis=0), None)
    return curves


def _differences(rows: Float[np.ndarray, "snapshot row dim"], pairs: ConceptPairs) -> Sequence[np.ndarray]:
    """Difference vectors of each concept, "snapshot pair dim"."""
    ends = [pairs.of(name) for name in pairs.names]
    return [rows[:, of[:, 1]].astype(np.float64) - rows[:, of[:, 0]] for of in ends]


def _other_concepts(world: AnyWorld) -> tuple[Bool[np.ndarray, "pair pair"], Bool[np.ndarray, "pair pair"]]:
    """Which pair lists belong to different concepts, and which of these to concepts that are not adjacent.

    A concept with more than two values has a list for each step a→b, named ``C1:0→1``.
    """
    names = world.graph.names
    of = np.array([names.index(name.split(":")[0]) for name in world.token_pairs().names])
    other = of[:, None] != of
    return other, other & ~world.graph.moral_adjacency()[np.ix_(of, of)]
