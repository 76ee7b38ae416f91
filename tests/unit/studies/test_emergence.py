"""Rows of trained predictors: which there are, each beside its nulls, with the values of the metrics' own functions."""

from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, Vocabulary, World, fit
from linrep.geometry import metrics
from linrep.geometry.interchange import balancedness
from linrep.learning.trajectory import Trajectory
from linrep.studies.emergence import emergence_rows
from linrep.theory import oracles

THEORY = {
    "log_odds_residual", "share_in_span", "balancedness", "interchange", "interchange_total_variation",
    "projected_parallelism", "projected_residual",
}  # fmt: skip
GEOMETRY = {"excess_loss", "parallelism", "orthogonality", "alignment"}
Theory = Literal["none", "end", "always"]


def world(law: str = "at-most-2", graph: str = "chain", **vocabulary: Any) -> World:
    made = ConceptGraph.chain(3, seed=1) if graph == "chain" else ConceptGraph.random(3, 1.0, seed=1)
    return World(made, ContextLaw.parse(law), Vocabulary(**vocabulary))


@cache
def trained(predictor: str = "table") -> Trajectory:
    return fit(world(), dim=4, predictor=predictor, steps=300, step_size=0.2, n_snapshots=5, seed=2)


def rows(theory: Theory = "always", predictor: str = "table", t: Trajectory | None = None) -> list[dict[str, Any]]:
    return emergence_rows(trained(predictor) if t is None else t, 0, world(), "cell", theory=theory)


def values(found: list[dict[str, Any]], metric: str, split: str = "all") -> dict[int, Any]:
    own = [r for r in found if r.get("null") is None and (r["metric"], r["split"]) == (metric, split)]
    assert len({r["step"] for r in own}) == len(own)
    return {r["step"]: r["value"] for r in own}


def test_which_metrics_there_are():
    cases: tuple[tuple[Theory, set[str]], ...] = (
        ("none", GEOMETRY), ("end", GEOMETRY | THEORY), ("always", GEOMETRY | THEORY),
    )  # fmt: skip
    for theory, metrics_of in cases:
        found = rows(theory)
        assert {r["metric"] for r in found} == metrics_of
        assert {r["source"] for r in found} == {"cell"} and {r["seed"] for r in found} == {2}
    steps = trained().steps.tolist()
    assert list(values(rows("end"), "parallelism")) == steps
    assert list(values(rows("end"), "interchange")) == [steps[0], steps[-1]]
    assert list(values(rows("always"), "interchange")) == steps


@pytest.mark.parametrize("k", [0, 2, -1])
def test_the_values_are_those_of_the_metrics(k: int):
    t, w, found = trained(), world(), rows()
    lam, gamma = (x[0].astype(np.float64) for x in (t.embeddings, t.unembeddings))
    step = int(t.steps[k])
    pairs, contexts = w.token_pairs(), w.context_pairs()
    deltas = [gamma[k, pairs.of(n)[:, 1]] - gamma[k, pairs.of(n)[:, 0]] for n in pairs.names]
    own = [lam[k, contexts.of(n)[:, 1]] - lam[k, contexts.of(n)[:, 0]] for n in contexts.names]
    cosines = metrics.direction_cosines(np.stack([d.mean(axis=0) for d in deltas]))
    residual, share = oracles.log_odds_match(w, lam[k], gamma[k])
    swapped, control = oracles.interchanges(w, lam[k], gamma[k])
    expected = {
        ("excess_loss", "all"): t.excess[0, k],
        ("parallelism", "all"): np.mean([metrics.parallelism(d) for d in deltas]),
        ("alignment", "all"): np.mean([metrics.alignment(a, b) for a, b in zip(own, deltas, strict=True)]),
        ("orthogonality", "all"): np.abs(cosines[np.triu_indices(3, 1)]).mean(),
        ("orthogonality", "not adjacent"): abs(cosines[0, 2]),  # of a chain of three only the ends are apart
        ("log_odds_residual", "all"): residual,
        ("share_in_span", "all"): share,
        ("balancedness", "all"): balancedness(lam[k], gamma[k], lam[0], gamma[0]),
        ("interchange", "all"): swapped.right,
        ("interchange_total_variation", "all"): swapped.total_variation,
    }
    for (metric, split), value in expected.items():
        assert values(found, metric, split)[step] == pytest.approx(float(value), rel=1e-5, abs=1e-8), metric
    by_chance = {r["metric"]: r["null_value"] for r in found
                 if r.get("null") == "random directions" and r["step"] == step and r["split"] == "all"}  # fmt: skip
    assert by_chance["interchange"] == pytest.approx(control.right)
    assert by_chance["orthogonality"] == pytest.approx(metrics.random_absolute_cosine(4))


@pytest.mark.parametrize("metric", ["projected_parallelism", "projected_residual"])
def test_the_projections_are_measured_at_the_end_only(metric: str):
    t, found = trained(), values(rows(), metric)
    *before, end = found.values()
    assert before == [None] * len(before)
    assert end == pytest.approx(getattr(oracles, metric)(world(), t.embeddings[0, -1], t.unembeddings[0, -1]))


def test_every_value_has_its_untrained_null():
    found = rows()
    for metric, split in {(r["metric"], r["split"]) for r in found}:
        start = values(found, metric, split)[0]
        nulls = [r for r in found if (r["metric"], r["split"], r.get("null")) == (metric, split, "untrained")]
        assert len(nulls) == len(values(found, metric, split))
        assert all(r["null_value"] == start for r in nulls)


def test_factored_embeddings_conserve_nothing_that_is_measured_here():
    found = rows(predictor="factored")
    assert "balancedness" not in {r["metric"] for r in found} and "interchange" in {r["metric"] for r in found}


def test_a_snapshot_that_is_not_finite_has_no_values():
    t = trained()
    broken = t.unembeddings.copy()
    broken[0, -1, 0, 0] = np.nan
    found = rows(t=replace(t, unembeddings=broken))
    last = int(t.steps[-1])
    assert all((r["value"] is None) == (r["step"] == last) for r in found if r["metric"] == "parallelism")
    assert {r["value"] for r in found if r["step"] == last} == {None}
    assert {r["status"] for r in found} == {"nonfinite"}


def test_worlds_without_pairs_apart_or_with_missing_tokens_have_no_such_values():
    crowded = world(graph="complete")
    t = fit(crowded, dim=4, steps=10, n_snapshots=2)
    found = emergence_rows(t, 0, crowded, "cell", theory="end")
    assert set(values(found, "orthogonality", "not adjacent").values()) == {None}
    assert set(values(found, "projected_parallelism").values()) == {None}
    few = world("at-most-1", missing=0.25, seed=2)
    t = fit(few, dim=4, steps=10, n_snapshots=2)
    assert "projected_parallelism" not in {r["metric"] for r in emergence_rows(t, 0, few, "cell", theory="end")}
