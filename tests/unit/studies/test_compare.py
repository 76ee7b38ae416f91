"""Rank correlations, differences and what is refused, against scipy and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from linrep.errors import InvalidInputError
from linrep.geometry.measurements import Measurements
from linrep.studies.compare import compare, rank_correlation, sides_of
from tests.fixtures.report_runs import simulated_run

VALUES = {"a": 0.1, "b": 0.5, "c": 0.3, "d": 0.7}


def rows(values: dict[str, float], reach: float | None = 0.1, **more: Any) -> list[dict[str, Any]]:
    ends = {} if reach is None else {"reach": reach}
    return [
        {"metric": "parallelism", "source": "model", "inner_product": "causal", "side": "unembedding", "split": "all",
         "concept": c, "value": v, "low": v - ends["reach"] if ends else None,
         "high": v + ends["reach"] if ends else None} | more
        for c, v in values.items()
    ]  # fmt: skip


def side(values: dict[str, float], label: str, **more: Any):
    (found,) = sides_of(Measurements.from_rows(rows(values, **{"source": label, **more})), "run", simulated=False)
    return found


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12), st.integers(0, 100))
def test_rank_correlation_is_that_of_scipy(pairs, seed):
    x, y = (np.array(p, dtype=np.float64) for p in zip(*pairs, strict=True))
    value, low, high = rank_correlation(x, y, 50, np.random.default_rng(seed))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert (value, low, high) == (None, None, None)
    else:
        theirs: Any = spearmanr(x, y)
        assert value == pytest.approx(theirs.statistic, abs=1e-12)
        assert low is None or high is None or -1 - 1e-12 <= low <= high <= 1 + 1e-12


def test_the_bootstrap_interval_covers_the_truth():
    rng, covered, n = np.random.default_rng(0), 0, 60
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's correlation of a bivariate normal with correlation 0.7
    for _ in range(n):
        x = rng.standard_normal(40)
        y = 0.7 * x + np.sqrt(1 - 0.49) * rng.standard_normal(40)
        _, low, high = rank_correlation(x, y, 200, rng)
        assert low is not None and high is not None
        covered += low <= truth <= high
    assert covered >= 0.85 * n  # below 51 of 60 has probability .002 at a coverage of .95


def test_the_same_order_is_one_and_differences_are_second_minus_first():
    found = compare([side(VALUES, "A"), side({k: 0.5 * v for k, v in VALUES.items()}, "B", reach=0.2)])
    (row,) = found.correlations.to_dicts()
    assert row["spearman"] == pytest.approx(1) and row["n_concepts"] == 4
    by = {r["concept"]: r for r in found.differences.iter_rows(named=True)}
    assert by["d"]["difference"] == pytest.approx(-0.35)
    reach = np.hypot(0.1, 0.2)
    assert (by["d"]["low"], by["d"]["high"]) == pytest.approx((-0.35 - reach, -0.35 + reach))
    assert row["median_difference"] == pytest.approx(np.median([-0.5 * v for v in VALUES.values()]))
    reversed_ = compare([side(VALUES, "A"), side({k: -v for k, v in VALUES.items()}, "B")])
    assert reversed_.correlations["spearman"][0] == pytest.approx(-1)


def test_asymmetric_intervals_add_the_right_ends():
    one = Measurements.from_rows([r | {"low": r["value"] - 0.3, "high": r["value"] + 0.1} for r in rows(VALUES)])
    (a,) = sides_of(one, "run", simulated=False)
    row = compare([a, side(VALUES, "B", reach=0.0)]).differences.to_dicts()[0]
    assert (row["low"], row["high"]) == pytest.approx((-0.1, 0.3))


def test_a_value_without_interval_gives_a_difference_without_one():
    found = compare([side(VALUES, "A", reach=None), side(VALUES, "B")])
    assert set(found.differences["low"]) == {None} and set(found.differences["difference"]) == {0.0}


def test_too_few_common_concepts_are_refused_in_one_line():
    other = {"a": 0.1, "b": 0.2, "x": 0.3}
    with pytest.raises(InvalidInputError, match="A and B have 2 concepts in common") as e:
        compare([side(VALUES, "A"), side(other, "B")])
    assert "\n" not in str(e.value)
    with pytest.raises(InvalidInputError, match="needs two"):
        compare([side(VALUES, "A")])


def test_only_the_rows_that_say_how_linear_a_concept_is_count():
    extra = [
        *rows(VALUES, null="sign flip", null_value=0.0),
        *rows(VALUES, layer=3),
        *rows(VALUES, split="test"),
        *rows(VALUES, metric="alignment", side="both", split="all", concept_other="x"),
        *rows(VALUES, metric="alignment", side="both", split="matched"),
        *rows(VALUES, metric="spread"),
    ]
    (found,) = sides_of(Measurements.from_rows([*rows(VALUES), *extra]), "run", simulated=False)
    assert found.values.height == 8 and set(found.values["metric"]) == {"parallelism", "alignment"}
    both = compare([found, side(VALUES, "B")])
    assert both.correlations["metric"].to_list() == ["parallelism"]  # B has no alignment


def test_models_and_checkpoints_of_one_run_are_sides_of_their_own():
    steps = [row | {"step": s} for s in (0, 100) for row in rows(VALUES)]
    found = sides_of(Measurements.from_rows(steps), "run", simulated=False)
    assert [s.label for s in found] == ["model, step 0", "model, step 100"]
    with pytest.raises(InvalidInputError, match="several values"):
        sides_of(Measurements.from_rows([*rows(VALUES), *rows(VALUES)]), "run", simulated=False)
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        sides_of(Measurements.from_rows(rows(VALUES, metric="spread")), "run", simulated=False)


def test_a_simulation_is_compared_by_distribution_only(tmp_path: Path):
    run = simulated_run(tmp_path / "run")
    cells = sides_of(run.measurements, "run", simulated=True)
    assert len(cells) == 3 and all(c.simulated for c in cells)
    found = compare([*cells, side(VALUES, "A")])
    assert found.correlations.is_empty() and found.differences.is_empty()
    by = {(r["side"], r["metric"], r["inner_product"]): r for r in found.distributions.iter_rows(named=True)}
    mine = by[("A", "parallelism", "causal")]
    assert (mine["n"], mine["of"], mine["median"]) == (4, "concepts", pytest.approx(0.4))
    cell = by[("m=3 d=3 complete", "parallelism", "euclidean")]
    last = run.measurements.where(metric="parallelism", null=None, source="m=3 d=3 complete", step=2000, concept=None)
    assert cell["n"] == 8 and cell["median"] == pytest.approx(float(np.median(last.table["value"].to_numpy())))


def test_same_seed_same_interval():
    sides = [side(VALUES, "A"), side({"a": 0.2, "b": 0.1, "c": 0.4, "d": 0.3}, "B")]
    assert compare(sides).correlations.equals(compare(sides).correlations)
    assert not compare(sides).correlations.is_empty()
