"""Values held against a prediction: every verdict is reached, with its reason, and nothing is ever silent."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from linrep.theory.compare import SCHEMA, Comparison, compare, table
from linrep.theory.predictions import Assumption, Prediction

AT_LEAST = Prediction(
    name="T", statement="A test", metric="alignment", relation="≥", value=0.9, tolerance=0.0,
    assumptions=(
        Assumption("the table is flat", lambda facts: facts.get("flat", False)),
        Assumption("the table is long", lambda facts: facts.get("long", False)),
    ),
    max_excess=0.01, source="here",
)  # fmt: skip
NO_NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf])
MET = {"flat": True, "long": True}


def held(values, *, prediction: Prediction = AT_LEAST, facts=MET, excess=None) -> Comparison:
    return compare(prediction, values, facts, excess=[0.0] * len(values) if excess is None else excess, source="cell")


def test_agree_and_disagree_by_the_mean():
    assert held([0.95, 0.97, 0.96]).verdict == "agree"
    assert held([0.85, 0.84, 0.86]).verdict == "disagree"
    assert held([0.99, 0.80, 0.89]).verdict == "disagree"  # one seed above the bound does not save the mean


@pytest.mark.parametrize(
    ("values", "verdict", "decided", "reason"),
    [
        ([0.95, 0.96, 0.97], "agree", True, "the interval is on one side of the bound"),
        ([0.80, 0.81, 0.82], "disagree", True, "the interval is on one side of the bound"),
        ([0.88, 0.95, 0.99], "agree", False, "the interval reaches across the bound"),
        ([0.80, 0.92, 0.95], "disagree", False, "the interval reaches across the bound"),
        ([0.95], "agree", False, "one value, no interval"),
        ([0.10], "disagree", False, "one value, no interval"),
    ],
)
def test_decided_only_where_the_whole_interval_is_on_one_side(values, verdict, decided, reason):
    found = held(values)
    assert (found.verdict, found.decided, found.reason) == (verdict, decided, reason)


@pytest.mark.parametrize(
    ("relation", "values", "verdict"),
    [("≤", [0.8, 0.81], "agree"), ("≤", [0.98, 0.99], "disagree"), ("=", [0.9, 0.9], "agree"),
     ("=", [0.8, 0.8], "disagree"), ("=", [1.0, 1.0], "disagree")],
)  # fmt: skip
def test_the_other_relations(relation, values, verdict):
    assert held(values, prediction=replace(AT_LEAST, relation=relation)).verdict == verdict


def test_an_interval_on_both_sides_of_an_equality_is_not_decided():
    found = held([0.85, 0.95], prediction=replace(AT_LEAST, relation="=", tolerance=0.02))
    assert found.verdict == "agree" and not found.decided


@pytest.mark.parametrize(
    ("facts", "named"),
    [({"flat": True}, ["the table is long"]), ({}, ["the table is flat", "the table is long"])],
)
def test_every_assumption_that_is_not_met_is_named(facts, named):
    found = held([0.95, 0.96], facts=facts)
    assert found.verdict == "assumptions not met" and not found.decided
    assert found.reason == "; ".join(f"not met: {text}" for text in named)
    assert found.measured == pytest.approx(0.955)  # the measured value is shown all the same


def test_seeds_with_too_large_an_excess_do_not_count():
    found = held([0.95, 0.97, 0.1], excess=[0.001, 0.01, 0.02])
    assert (found.n, found.verdict) == (2, "agree")
    assert found.measured == pytest.approx(0.96)


@pytest.mark.parametrize("excess", [[0.5, 0.5], [np.nan, np.nan], [np.inf, 0.011], None])
def test_no_seed_with_small_excess_is_said(excess):
    found = compare(AT_LEAST, [0.95, 0.96], MET, excess=excess, source="cell")
    assert found.verdict == "assumptions not met"
    assert found.reason == "not met: no seed has excess at most 0.01 nats"
    assert (found.n, found.measured, found.low, found.high) == (0, None, None, None)


@pytest.mark.parametrize("values", [[], [np.nan, np.nan], [np.inf]])
@pytest.mark.parametrize(("most", "said"), [(0.01, "excess at most 0.01 nats"), (None, "a value")])
def test_values_that_do_not_exist_are_said(values, most, said):
    found = held(values, prediction=replace(AT_LEAST, max_excess=most))
    assert found.verdict == "assumptions not met"
    assert found.reason == f"not met: no seed has {said}"
    assert found.n == 0 and found.measured is None


def test_values_that_are_missing_are_left_out():
    found = held([0.95, np.nan, 0.97])
    assert (found.n, found.measured) == (2, pytest.approx(0.96))


def test_the_excess_is_not_asked_for_where_it_need_not_be_small():
    found = compare(replace(AT_LEAST, max_excess=None), [0.95, 0.96], MET, source="cell")
    assert found.verdict == "agree"


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
@settings(max_examples=50, deadline=None)
def test_the_interval_is_that_of_students_t(values):
    found = held(values)
    x = np.array(values)
    assert found.low is not None and found.high is not None
    spread = stats.sem(x)
    if spread == 0:
        assert found.low == found.high == found.measured
        return
    low, high = stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=spread)
    np.testing.assert_allclose([found.low, found.high], [low, high], rtol=1e-9, atol=1e-12)


@given(
    # Metrics are cosines, shares and nats: of any size that is one, or not numbers at all.
    st.lists(
        st.tuples(st.floats(-1e6, 1e6) | NO_NUMBERS | st.floats(0.8, 1), NO_NUMBERS | st.floats(0, 0.02)), max_size=6
    ),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_never_silent(pairs, flat, long):
    """Whatever comes in, there is a verdict with a reason, and a number unless the reason says why not."""
    found = compare(
        AT_LEAST, [v for v, _ in pairs], {"flat": flat, "long": long}, excess=[e for _, e in pairs], source="cell"
    )
    assert found.verdict in ("agree", "disagree", "assumptions not met") and found.reason
    assert (found.verdict == "assumptions not met") == found.reason.startswith("not met")
    assert (found.measured is None) == (found.n == 0)
    assert found.n or found.verdict == "assumptions not met"
    assert found.n == sum(np.isfinite(v) and e <= 0.01 for v, e in pairs)


def test_comparisons_as_rows():
    rows = [held([0.95, 0.97]), held([])]
    made = table(rows)
    assert made.schema == SCHEMA and made.to_dicts() == [asdict(row) for row in rows]
    assert table([]).schema == SCHEMA and table([]).is_empty()
