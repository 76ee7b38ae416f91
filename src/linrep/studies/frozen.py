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
# Descent on a function of curvature L is stable below a step of 2/L, and here L ≤ ½ E‖λ‖².
_SHARE_OF_STABLE = 0.75
# Parallelism at which the path is said to have reached its limit, and descent to have come close to it.
_ENDED, _REACHED = 0.999, 0.998


def frozen_cases(
    *, concepts: int, seeds: range, steps: int = _STEPS, progress: Progress
) -> tuple[pl.DataFrame, list[Comparison]]:
    """Every case and seed: where the ridge path and `steps` of descent end, how far from the dual basis, how long.

    Columns are those of the page's table. The time of descent is that of this library's compiled loop, compilation
    apart; parallelism of descent and of the path are means over concepts. "ridge seconds" are those to a parallelism of
    0.999 (the whole path where it does not get there), and "times sooner" compares them with those of descent to 0.998
    (all its steps where it does not get there: a lower bound).
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
        facts = {"frozen": case, "dim": 2 * concepts, "contexts": 3**concepts}  # of the unstructured case, see _one
        for prediction in PREDICTIONS.values():
            if prediction.name.startswith("P2"):
                column = {"parallelism": "ridge parallelism", "dual_basis_cosine": "ridge cosine with dual basis"}
                values = own[column[prediction.metric]].fill_null(float("nan")).to_list()
                comparisons.append(compare(prediction, values, facts, source=f"fixed embeddings, {case}"))
    return table, comparisons


def _one(case: str, m: int, seed: int, steps: int) -> dict[str, Any]:
    rng, dim = np.random.default_rng(seed), 2 * m
    contexts = ContextLaw.complete() if case == "unstructured" else ContextLaw.at_most(1)
    world = World(ConceptGraph.random(m, 0.5, seed=seed), contexts)
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
    law, p = world.p_context, world.p_token_given_context()
    path = ridge_path(lam, law, p)
    along = [_parallelism(world, gamma) for gamma in path.unembeddings]
    there = next((k for k, value in enumerate(along) if value >= _ENDED), len(along) - 1)
    started = time.perf_counter()
    ridge_path(lam, law, p, path.penalties[: there + 1].tolist())
    ridge_seconds = time.perf_counter() - started
    settings: dict[str, Any] = {"dim": dim, "initial_embeddings": lam, "frozen": "embeddings", "seed": seed}
    settings |= {"n_snapshots": 60, "step_size": _stable_step(world, lam)}
    fit(world, steps=steps // 100, **settings)  # compiles
    started = time.perf_counter()
    descent = fit(world, steps=steps, **settings)
    descent_seconds = time.perf_counter() - started
    slow = [_parallelism(world, gamma.astype(np.float64)) for gamma in descent.unembeddings[0]]
    reached = next((int(s) for s, value in zip(descent.steps, slow, strict=True) if value >= _REACHED), None)
    share = 1.0 if reached is None else reached / steps
    gamma = path.unembeddings[-1]
    known = case != "unstructured"
    return {
        "case": case,
        "seed": seed,
        "ridge parallelism": along[-1],
        "descent parallelism": slow[-1],
        "descent reaches 0.998 at step": reached,
        "ridge cosine with dual basis": _cosine(world, gamma, dual) if known else None,
        "ridge excess": float(path.loss[-1] - world.entropy_floor()),
        "descent excess": float(descent.excess[0, -1]),
        "smallest penalty": float(path.penalties[-1]),
        "ridge seconds": ridge_seconds,
        "descent seconds": descent_seconds,
        "times sooner": share * descent_seconds / ridge_seconds,
        **(_max_margin_columns(a, dual) if case == "centred" else {}),
    }


def _stable_step(world: World, lam: Float[np.ndarray, "context dim"]) -> float:
    return _SHARE_OF_STABLE * 4 / float(world.p_context @ np.square(lam).sum(axis=1))


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


def _max_margin_columns(
    directions: Float[np.ndarray, "concept dim"], dual: Float[np.ndarray, "concept dim"]
) -> dict[str, Any]:
    """Cosine of the hard-margin direction with the dual basis, where theory says that they are the same and elsewhere.

    The direction separates λ(d) by d_i, with bias, over all contexts in which i is known; over those with but one known
    concept it would be a_i itself.
    """
    contexts, _ = ContextLaw.complete().contexts(len(directions))
    lam = additive_embeddings(contexts, directions, np.zeros(directions.shape[1]))
    cosines = []
    for i in range(len(directions)):
        known = contexts[:, i] >= 0
        machine = SVC(kernel="linear", C=1e8, tol=1e-6).fit(lam[known], contexts[known, i])
        cosines.append(float(metrics.cosine(machine.coef_[0], dual[i])))
    same = max_margin_is_dual(directions)
    return {
        "concepts whose max margin is dual": f"{int(same.sum())} of {len(same)}",
        "least cosine of max margin and dual, those": float(np.min(np.array(cosines)[same])) if same.any() else None,
        "the others": float(np.max(np.array(cosines)[~same])) if not same.all() else None,
    }
