"""Family I: with embeddings fixed, the ridge path beside plain descent, in the four cases of implicit bias (P2)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from sklearn.svm import SVC

from linrep.geometry import metrics
from linrep.learning.training import fit
from linrep.studies.result import Progress
from linrep.theory.compare import Comparison, compare
from linrep.theory.oracles import dual_basis, max_margin_is_dual
from linrep.theory.predictions import FROZEN_CASES, PREDICTIONS
from linrep.theory.ridge_path import additive_embeddings, ridge_path
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

_STEPS = 40_000


def frozen_cases(
    *, concepts: int, seeds: range, steps: int = _STEPS, progress: Progress
) -> tuple[pl.DataFrame, list[Comparison]]:
    """Every case and seed: where the ridge path and `steps` of descent end, how far from the dual basis, how long.

    Columns are those of the page's table. The time of descent is that of this library's compiled loop, compilation
    apart; parallelism of descent and of the path are means over concepts.
    """
    rows: list[dict[str, Any]] = []
    for k, case in enumerate(FROZEN_CASES):
        for n, seed in enumerate(seeds):
            progress((k + n / len(seeds)) / len(FROZEN_CASES), f"fixed embeddings: {case}, seed {seed}")
            rows.append(_one(case, concepts, seed, steps))
    table = pl.DataFrame(rows, infer_schema_length=None)
    comparisons = []
    for case in FROZEN_CASES:
        own = table.filter(pl.col("case") == case)
        for prediction in PREDICTIONS.values():
            if prediction.name.startswith("P2"):
                column = {"parallelism": "ridge parallelism", "dual_basis_cosine": "ridge cosine with dual basis"}
                values = own[column[prediction.metric]].fill_null(float("nan")).to_list()
                comparisons.append(compare(prediction, values, {"frozen": case}, source=f"fixed embeddings, {case}"))
    return table, comparisons


def _one(case: str, m: int, seed: int, steps: int) -> dict[str, Any]:
    rng, dim = np.random.default_rng(seed), 2 * m
    law = ContextLaw.complete() if case == "unstructured" else ContextLaw.at_most(1)
    world = World(ConceptGraph.random(m, 0.5, seed=seed), law)
    a = rng.standard_normal((m, dim)) / np.sqrt(dim)
    offset = {
        "independent offset": rng.standard_normal(dim) / np.sqrt(dim),
        "offset in the span": rng.standard_normal(m) @ a,
    }.get(case, np.zeros(dim))
    if case == "unstructured":
        lam = rng.standard_normal((world.n_contexts, dim)) / np.sqrt(dim)
    else:
        lam = additive_embeddings(world.context_concepts, a, offset)
    dual = dual_basis(a, offset if case == "independent offset" else None)
    started = time.perf_counter()
    path = ridge_path(lam, world.p_context, world.p_token_given_context())
    ridge_seconds = time.perf_counter() - started
    settings: dict[str, Any] = {"dim": dim, "initial_embeddings": lam, "frozen": "embeddings", "seed": seed}
    settings |= {"n_snapshots": 2, "step_size": 1.0}
    fit(world, steps=1, **settings)  # compiles
    started = time.perf_counter()
    descent = fit(world, steps=steps, **settings)
    descent_seconds = time.perf_counter() - started
    gamma, slow = path.unembeddings[-1], descent.unembeddings[0, -1].astype(np.float64)
    known = case != "unstructured"
    return {
        "case": case,
        "seed": seed,
        "ridge parallelism": _parallelism(world, gamma),
        "descent parallelism": _parallelism(world, slow),
        "ridge cosine with dual basis": _cosine(world, gamma, dual) if known else None,
        "ridge cosine with max margin": _cosine(world, gamma, _max_margin(world, lam, m)) if known else None,
        "max margin is dual": f"{int(max_margin_is_dual(a).sum())} of {m}" if known else None,
        "ridge excess": float(path.loss[-1] - world.entropy_floor()),
        "descent excess": float(descent.excess[0, -1]),
        "smallest penalty": float(path.penalties[-1]),
        "ridge seconds": ridge_seconds,
        "descent seconds": descent_seconds,
    }


def _differences(world: World, gamma: Float[np.ndarray, "token dim"]) -> list[Float[np.ndarray, "pair dim"]]:
    pairs = world.token_pairs()
    ends = [pairs.of(name) for name in pairs.names]
    return [gamma[of[:, 1]] - gamma[of[:, 0]] for of in ends]


def _parallelism(world: World, gamma: Float[np.ndarray, "token dim"]) -> float:
    return float(np.mean([metrics.parallelism(d) for d in _differences(world, gamma)]))


def _cosine(world: World, gamma: Float[np.ndarray, "token dim"], directions: Float[np.ndarray, "concept dim"]) -> float:
    """Mean over concepts of cos(mean Δ_i, direction_i)."""
    means = np.stack([d.mean(axis=0) for d in _differences(world, gamma)])
    return float(metrics.cosine(means, directions).mean())


def _max_margin(world: World, lam: Float[np.ndarray, "context dim"], m: int) -> Float[np.ndarray, "concept dim"]:
    """Hard-margin separating direction of each concept's two contexts values, with bias."""
    rows = []
    for i in range(m):
        known = world.context_concepts[:, i] >= 0
        machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit(lam[known], world.context_concepts[known, i])
        rows.append(machine.coef_[0])
    return np.stack(rows)
