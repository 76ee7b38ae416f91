"""The geometry of trained predictors, seed by seed and snapshot by snapshot, as rows of the tidy table.

Shared by every study that trains. The metrics are those of `linrep.geometry`; nothing is computed here that a real
model would compute otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from linrep.geometry import metrics
from linrep.geometry.pairs import ConceptPairs
from linrep.learning.trajectory import Trajectory
from linrep.worlds.world import World

UNITS = {"excess_loss": "nats", "orthogonality": "mean |cosine|"}


def emergence_rows(trajectory: Trajectory, s: int, world: World, source: str) -> list[dict[str, Any]]:
    """Rows of one seed over its snapshots, each with its value before training (step 0) as null.

    Metrics are means over the concepts of the world, Euclidean. Orthogonality has the expectation for random
    directions as a second null. A snapshot that is not finite has no values.
    """
    gamma, lam = trajectory.unembeddings[s], trajectory.embeddings[s]
    finite = np.isfinite(gamma).all(axis=(1, 2)) & np.isfinite(lam).all(axis=(1, 2))
    gamma, lam = (np.where(finite[:, None, None], x, 0) for x in (gamma, lam))
    curves = {("excess_loss", "all"): trajectory.excess[s], **_geometry(gamma, lam, world)}
    dim = gamma.shape[2]
    chance = metrics.random_absolute_cosine(dim)
    common = {"source": source, "seed": int(trajectory.seeds[s]), "status": trajectory.status[s]}
    common |= {"inner_product": "euclidean", "inner_product_rank": dim}
    rows = []
    for (metric, split), curve in curves.items():
        for k, step in enumerate(trajectory.steps.tolist()):
            value = float(curve[k]) if finite[k] and np.isfinite(curve[k]) else None
            row = common | {"step": step, "metric": metric, "split": split, "value": value}
            row |= {"unit": UNITS.get(metric, "cosine"), "side": "both" if metric == "alignment" else "unembedding"}
            if metric == "excess_loss":
                row |= {"inner_product": None, "inner_product_rank": None, "side": None}
            rows.append(row)
            start = float(curve[0]) if np.isfinite(curve[0]) else None
            rows.append(row | {"null": "untrained", "null_value": start})
            if metric == "orthogonality":
                rows.append(row | {"null": "random directions", "null_value": chance})
    return rows


def _geometry(
    gamma: Float[np.ndarray, "snapshot token dim"], lam: Float[np.ndarray, "snapshot context dim"], world: World
) -> dict[tuple[str, str], Float[np.ndarray, "snapshot"]]:
    """Parallelism, alignment and orthogonality by (metric, split), means over concepts."""
    deltas = _differences(gamma, world.token_pairs())
    contexts = _differences(lam, world.context_pairs())
    cosines = metrics.direction_cosines(np.stack([d.mean(axis=1) for d in deltas], axis=1))
    other, apart = _other_concepts(world)
    aligned = [metrics.alignment(c, d) for c, d in zip(contexts, deltas, strict=True) if c.shape[1]]
    curves = {
        ("parallelism", "all"): np.mean([metrics.parallelism(d) for d in deltas], axis=0),
        ("orthogonality", "all"): metrics.orthogonality(cosines, other),
        ("orthogonality", "not adjacent"): metrics.orthogonality(cosines, apart),
    }
    return curves | ({("alignment", "all"): np.mean(aligned, axis=0)} if aligned else {})


def _differences(rows: Float[np.ndarray, "snapshot row dim"], pairs: ConceptPairs) -> Sequence[np.ndarray]:
    """Difference vectors of each concept, "snapshot pair dim"."""
    ends = [pairs.of(name) for name in pairs.names]
    return [rows[:, of[:, 1]].astype(np.float64) - rows[:, of[:, 0]] for of in ends]


def _other_concepts(world: World) -> tuple[Bool[np.ndarray, "pair pair"], Bool[np.ndarray, "pair pair"]]:
    """Which pair lists belong to different concepts, and which of these to concepts that are not adjacent.

    A concept with more than two values has a list for each step a→b, named ``C1:0→1``.
    """
    names = world.graph.names
    of = np.array([names.index(name.split(":")[0]) for name in world.token_pairs().names])
    other = of[:, None] != of
    return other, other & ~world.graph.moral_adjacency()[np.ix_(of, of)]
