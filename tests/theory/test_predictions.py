"""Every prediction where it must hold, and where one of its assumptions is broken so that it must fail.

Each experiment gives values of seeds 0, 1, 2, ..., the facts and the excess. Where the assumptions are met the verdict
must be "agree". Where one is broken the verdict must name it, and the values must violate the bound: an assumption
that could be broken without harm would not belong there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from linrep import CategoricalGraph, ConceptGraph, ContextLaw, World
from linrep.geometry import metrics
from linrep.learning.training import fit_many
from linrep.theory import oracles
from linrep.theory.compare import compare
from linrep.theory.nuclear_norm import reduced_path
from linrep.theory.predictions import FROZEN_CASES, PREDICTIONS, Facts
from linrep.theory.ridge_path import additive_embeddings, ridge_path


@dataclass(frozen=True)
class Outcome:
    """Values and excess of each seed, and what the experiment was."""

    values: list[float]
    excess: list[float]
    facts: Facts


def differences(world: World, gamma: np.ndarray) -> list[np.ndarray]:
    pairs = world.token_pairs()
    ends = [pairs.of(name) for name in pairs.names]
    return [gamma[of[:, 1]].astype(np.float64) - gamma[of[:, 0]] for of in ends]


def parallelism(world: World, gamma: np.ndarray) -> float:
    return float(np.mean([metrics.parallelism(d) for d in differences(world, gamma)]))


def orthogonality(world: World, gamma: np.ndarray, *, adjacent: bool) -> float:
    """Mean |cos| between directions of neighbours, or of those that are none; NaN if there are none."""
    means = np.stack([d.mean(axis=0) for d in differences(world, gamma)])
    chosen = world.graph.moral_adjacency() == adjacent
    return float(metrics.orthogonality(metrics.direction_cosines(means), chosen))


def alignment(world: World, lam: np.ndarray, gamma: np.ndarray) -> float:
    pairs = world.context_pairs()
    ends = [pairs.of(name) for name in pairs.names]
    contexts = [lam[of[:, 1]].astype(np.float64) - lam[of[:, 0]] for of in ends]
    both = zip(contexts, differences(world, gamma), strict=True)
    return float(np.mean([float(metrics.alignment(c, d)) for c, d in both]))


# --- trained predictors ------------------------------------------------------------------------------------------


@cache
def trained(
    m: int, dim: int, law: str, steps: int, graph: str = "random", seeds: int = 10, values: int = 2, **training: Any
) -> tuple[list[World], Any, dict[str, Any]]:
    worlds = []
    for seed in range(seeds):
        if values > 2:
            made = CategoricalGraph.random((values,) * m, 0.5, seed=seed)
        elif graph == "strong chain":
            made = ConceptGraph.chain(m, low=0.1, high=0.9, seed=seed)
        else:
            made = ConceptGraph.random(m, 0.5, seed=seed)
        worlds.append(World(made, ContextLaw.parse(law)))
    facts = {"predictor": "table", "optimizer": "gradient_descent", "initial_scale": 0.01, **training}
    settings = dict(facts)
    if facts["optimizer"] == "gradient_descent" and facts["predictor"] == "table":
        settings["step_size"] = 5 * 3 ** ((m - 5) / 2)
    trajectory = fit_many(worlds, seeds=range(seeds), dim=dim, steps=steps, n_snapshots=2, **settings)
    facts |= {"concepts": m, "dim": dim, "law": law, "values": values, "missing": 0, "frozen": training.get("frozen")}
    return worlds, trajectory, facts


def outcome(measure: Callable[..., float], *size: Any, snapshot: int = -1, **training: Any) -> Outcome:
    worlds, t, facts = trained(*size, **training)
    ends = [(w, t.embeddings[s, snapshot], t.unembeddings[s, snapshot]) for s, w in enumerate(worlds)]
    return Outcome([measure(*end) for end in ends], t.excess[:, snapshot].tolist(), facts)


def projected(*size: Any, snapshot: int = -1, **training: Any) -> Outcome:
    found = outcome(oracles.projected_parallelism, *size, snapshot=snapshot, **training)
    residual = outcome(oracles.projected_residual, *size, snapshot=snapshot, **training)
    facts = {**found.facts, "projected_residual": float(np.nanmedian(residual.values))}
    return Outcome(found.values, found.excess, facts)


def aligned(*size: Any, **training: Any) -> Outcome:
    return outcome(alignment, *size, **training)


def crossed(*size: Any, adjacent: bool = False, **training: Any) -> Outcome:
    return outcome(lambda w, lam, gamma: orthogonality(w, gamma, adjacent=adjacent), *size, **training)


def parallel(*size: Any, **training: Any) -> Outcome:
    return outcome(lambda w, lam, gamma: parallelism(w, gamma), *size, **training)


# --- fixed embeddings --------------------------------------------------------------------------------------------


@cache
def frozen(case: str, m: int, seeds: int) -> tuple[list[float], list[float]]:
    """Parallelism and mean dual-basis cosine at the end of the ridge path, d = 2m."""
    parallel, dual = [], []
    for seed in range(seeds):
        rng, d = np.random.default_rng(seed), 2 * m
        law = ContextLaw.complete() if case == "unstructured" else ContextLaw.at_most(1)
        world = World(ConceptGraph.random(m, 0.5, seed=seed), law)
        a = rng.standard_normal((m, d)) / np.sqrt(d)
        offset = {
            "independent offset": rng.standard_normal(d) / np.sqrt(d),
            "offset in the span": rng.standard_normal(m) @ a,
        }.get(case, np.zeros(d))
        lam = additive_embeddings(world.context_concepts, a, offset)
        if case == "unstructured":
            lam = rng.standard_normal(lam.shape) / np.sqrt(d)
        gamma = ridge_path(lam, world.p_context, world.p_token_given_context()).unembeddings[-1]
        parallel.append(parallelism(world, gamma))
        means = np.stack([x.mean(axis=0) for x in differences(world, gamma)])
        wanted = oracles.dual_basis(a, offset if case == "independent offset" else None)
        dual.append(float(metrics.cosine(means, wanted).mean()))
    return parallel, dual


def fixed(case: str, m: int, which: int = 0) -> Outcome:
    values = frozen(case, m, 2 if m == 5 else 10)[which]
    facts = {"frozen": case, "dim": 2 * m, "contexts": 3**m}
    return Outcome(values, [0.5] * len(values), facts)  # the excess need not be small


# --- the limit ---------------------------------------------------------------------------------------------------


@cache
def path_end(m: int, known: int | None) -> Outcome:
    law = "complete" if known is None else f"at-most-{known}"
    facts = {"concepts": m, "dim": 2**m - 1, "law": law, "uniform": True}
    return Outcome([float(reduced_path(m, known).parallelism[-1])], [0.0], facts)


# --- what must hold, and what must not ---------------------------------------------------------------------------

HOLDS: dict[str, list[Callable[[], Outcome]]] = {
    "P1": [lambda: projected(5, 10, "at-most-1", 3000)],
    "P3": [lambda: aligned(3, 6, "complete", 3000), lambda: aligned(3, 6, "at-most-2", 3000)],
    "P4 complete": [lambda: crossed(5, 10, "complete", 10_000)],
    "P4 few known": [
        lambda: crossed(5, 10, "at-most-2", 3000),
        lambda: crossed(5, 10, "at-most-2", 3000, graph="strong chain"),
        lambda: crossed(5, 10, "at-most-1", 3000),
    ],
    "P5": [lambda: parallel(3, 7, "complete", 3000)],
}
# Prediction -> part of the reason that the comparison must give, and the experiment.
BROKEN: dict[str, list[tuple[str, Callable[[], Outcome]]]] = {
    "P1": [
        ("log-odds match", lambda: projected(5, 10, "at-most-1", 3000, snapshot=0)),
        # Trained to a small excess, and log-odds within 0.01 nats: not enough along what the contexts hardly differ in.
        ("log-odds match", lambda: projected(5, 10, "at-most-2", 3000)),
    ],
    "P3": [
        ("initial scale at most 0.01", lambda: aligned(3, 6, "complete", 3000, initial_scale=1.0)),
        ("optimizer is gradient_descent", lambda: aligned(3, 6, "complete", 3000, optimizer="adam")),
        ("d ≥ 2m", lambda: aligned(3, 2, "complete", 3000)),
        ("neither side is frozen", lambda: aligned(3, 6, "complete", 3000, frozen="unembeddings")),
    ],
    "P4 complete": [
        ("initial scale at most 0.01", lambda: crossed(5, 10, "complete", 10_000, initial_scale=1.0)),
    ],
    "P4 few known": [
        ("initial scale at most 0.01", lambda: crossed(5, 10, "at-most-2", 3000, initial_scale=1.0)),
        ("law is at-most-1 or at-most-2", lambda: crossed(5, 10, "complete", 10_000)),
    ],
    "P5": [
        ("predictor is table", lambda: parallel(3, 7, "complete", 3000, predictor="factored")),
        ("law is complete", lambda: parallel(3, 7, "at-most-1", 3000)),
        ("d ≥ 2^m − 1", lambda: parallel(3, 3, "complete", 3000)),
    ],
}
for _case in FROZEN_CASES:
    for _suffix, _which in (("", 0), (", dual", 1)):
        if (_name := f"P2 {_case}{_suffix}") in PREDICTIONS:
            # Unstructured: the 6 dimensions of m = 3 are not much fewer than its 27 contexts, see below.
            _sizes = (4, 5) if _case == "unstructured" else (3, 4, 5)
            HOLDS[_name] = [lambda c=_case, m=m, w=_which: fixed(c, m, w) for m in _sizes]
            # The first two cases are what the other two are not, and the other way round.
            _other = "offset in the span" if "≥" in PREDICTIONS[_name].relation else "centred"
            BROKEN[_name] = [
                (f"fixed embeddings: {_case}", lambda c=_other, m=m, w=_which: fixed(c, m, w)) for m in (3, 4)
            ]
for _m, _known in ((2, None), (3, None), (4, None), (5, None), (4, 2)):
    _name = f"P5 m={_m} " + ("complete" if _known is None else f"at-most-{_known}")
    HOLDS[_name] = [lambda m=_m, k=_known: path_end(m, k)]
    BROKEN[_name] = [
        ("law is", lambda m=_m: path_end(m, 1)),
        ("concepts is", lambda m=_m: path_end(m - 1 if m > 2 else 3, None)),
    ]


def cases(of: dict[str, list]) -> list:
    return [pytest.param(name, case, id=f"{name}-{k}") for name, found in of.items() for k, case in enumerate(found)]


def test_no_prediction_is_left_out():
    assert set(HOLDS) == set(BROKEN) == set(PREDICTIONS)


@pytest.mark.parametrize(("name", "experiment"), cases(HOLDS))
def test_it_holds_where_its_assumptions_are_met(name: str, experiment: Callable[[], Outcome]):
    found = experiment()
    result = compare(PREDICTIONS[name], found.values, found.facts, excess=found.excess, source="here")
    assert result.verdict == "agree", result
    assert result.n >= min(3, len(found.values))


@pytest.mark.parametrize(("name", "experiment"), cases(BROKEN))
def test_it_fails_where_an_assumption_is_broken_and_the_comparison_says_which(name: str, experiment: Any):
    reason, run = experiment
    found, prediction = run(), PREDICTIONS[name]
    result = compare(prediction, found.values, found.facts, excess=found.excess, source="here")
    assert result.verdict == "assumptions not met"
    assert reason in result.reason, result.reason
    # Seeds in a poor local minimum do not count; where none counts (an untrained predictor) all are looked at.
    assert not prediction.holds(float(np.nanmean(found.values)) if result.measured is None else result.measured)


# --- beside the predictions --------------------------------------------------------------------------------------


def test_p4_speaks_of_concepts_that_are_not_adjacent():
    """With few known concepts and strong edges the directions of neighbours break the bound of the others."""
    bound = PREDICTIONS["P4 few known"]
    neighbours = crossed(5, 10, "at-most-2", 3000, graph="strong chain", adjacent=True)
    assert not bound.holds(float(np.mean(neighbours.values)))
    others = crossed(5, 10, "at-most-2", 3000, graph="strong chain")
    assert np.mean(neighbours.values) > 3 * np.mean(others.values)


def test_p2_unstructured_needs_many_more_contexts_than_dimensions():
    """At m = 3, d = 6 there are 4.5 contexts a dimension: the mean is above the bound, and the comparison says why."""
    found, prediction = fixed("unstructured", 3), PREDICTIONS["P2 unstructured"]
    assert not prediction.holds(float(np.mean(found.values)))
    assert "ten contexts a dimension" in compare(prediction, found.values, found.facts, source="here").reason


@pytest.mark.parametrize("m", [3, 4, 5])
def test_an_offset_inside_the_span_is_no_dual_basis(m: int):
    assert not PREDICTIONS["P2 centred, dual"].holds(float(np.mean(fixed("offset in the span", m, 1).values)))


def test_worlds_without_pairs_that_are_not_adjacent_are_left_out():
    found = crossed(5, 10, "at-most-2", 3000)
    result = compare(PREDICTIONS["P4 few known"], found.values, found.facts, excess=found.excess, source="here")
    assert result.n == np.isfinite(found.values).sum() < len(found.values)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_the_relation_has_its_tolerance_on_the_right_side(name: str):
    p = PREDICTIONS[name]
    step = {"≥": -1, "≤": 1, "=": 1}[p.relation]
    assert p.holds(p.value)
    assert p.holds(p.value + step * p.tolerance * 0.999)
    assert not p.holds(p.value + step * (p.tolerance + 1e-6))
    if p.relation == "=":
        assert not p.holds(p.value - p.tolerance - 1e-6)
    assert p.name == name and p.statement and p.source and p.predicted.startswith(p.relation)
