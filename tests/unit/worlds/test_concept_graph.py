"""ConceptGraph: constructors, the joint, and one clear line for every bad input."""

import numpy as np
import pytest

from linrep.errors import InvalidInputError
from linrep.worlds.graph import ConceptGraph

ALL_KINDS = [ConceptGraph.independent, ConceptGraph.chain, ConceptGraph.tree, ConceptGraph.random]


def test_joint_of_two_concepts_by_hand():
    graph = ConceptGraph(("a", "b"), ((1,), ()), (np.array([0.1, 0.8]), np.array(0.25)))
    # axes (a, b): p(b) = (.75, .25), P(a=1|b) = (.1, .8)
    np.testing.assert_allclose(graph.joint(), [[0.75 * 0.9, 0.25 * 0.2], [0.75 * 0.1, 0.25 * 0.8]], rtol=1e-15)


def test_axes_of_a_table_follow_the_order_of_the_parents():
    table = np.array([[0.1, 0.2], [0.3, 0.4]])  # P(C3 = 1 | C1, C2)
    graph = ConceptGraph(("x", "y", "z"), ((), (), (0, 1)), (np.array(0.5), np.array(0.5), table))
    joint = graph.joint()
    np.testing.assert_allclose(joint[:, :, 1] / joint.sum(axis=2), table, rtol=1e-14)


def test_chain_tree_and_independent_have_the_edges_of_their_name():
    assert ConceptGraph.independent(4).edges == ()
    assert ConceptGraph.chain(4).edges == ((0, 1), (1, 2), (2, 3))
    assert ConceptGraph.tree(6).edges == ((0, 1), (0, 2), (1, 3), (1, 4), (2, 5))
    assert ConceptGraph.tree(4, branching=3).edges == ((0, 1), (0, 2), (0, 3))
    assert ConceptGraph.tree(4, branching=1).edges == ConceptGraph.chain(4).edges


def test_edge_probability_zero_and_one_are_the_empty_and_the_complete_graph():
    assert len(ConceptGraph.random(6, 0.0).edges) == 0
    assert len(ConceptGraph.random(6, 1.0).edges) == 15


def test_random_graph_puts_the_concepts_in_a_random_order():
    """Over many graphs an edge goes up as often as down: no concept is the root by its position."""
    up = [a < b for seed in range(300) for a, b in ConceptGraph.random(4, 0.5, seed=seed).edges]
    # about 900 edges, of which those of one graph are not independent: 5 standard deviations of 300 halves
    assert abs(np.mean(up) - 0.5) < 5 * 0.5 / np.sqrt(300)
    assert abs(len(up) / (300 * 6) - 0.5) < 5 * 0.5 / np.sqrt(300 * 6)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_same_seed_same_numbers_other_seed_other_numbers(kind):
    first, again, other = kind(5, seed=3), kind(5, seed=3), kind(5, seed=4)
    assert first.parents == again.parents
    assert np.array_equal(first.joint(), again.joint())
    assert not np.array_equal(first.joint(), other.joint())


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_parameters_lie_in_their_range(kind):
    values = np.concatenate([t.ravel() for t in kind(6, low=0.45, high=0.5, seed=1).tables])
    assert values.min() >= 0.45
    assert values.max() <= 0.5
    assert np.ptp(values) > 0


def test_given_edges_and_names():
    graph = ConceptGraph.from_edges([(2, 0), (1, 0), (2, 0)], names=["a", "b", "c"])
    assert graph.parents == ((1, 2), (), ())
    assert graph.names == ("a", "b", "c")
    assert ConceptGraph.from_edges([(0, 3)]).names == ("C1", "C2", "C3", "C4")
    assert ConceptGraph.from_edges([], 2).edges == ()


def test_tables_are_copied_and_read_only():
    mine = np.array(0.5)
    graph = ConceptGraph(("a",), ((),), (mine,))
    mine[...] = 0.9
    assert graph.tables[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        graph.tables[0][...] = 0.1


def one_line(info: pytest.ExceptionInfo[InvalidInputError]) -> str:
    text = str(info.value)
    assert "\n" not in text
    return text


def test_a_cycle_is_named():
    with pytest.raises(InvalidInputError) as info:
        ConceptGraph.from_edges([(0, 1), (1, 2), (2, 3), (3, 1)], names=["a", "b", "c", "d"])
    text = one_line(info)
    assert any(f"cycle {c}:" in text for c in ("b → c → d → b", "c → d → b → c", "d → b → c → d"))


def test_a_concept_that_is_its_own_parent_is_a_cycle():
    with pytest.raises(InvalidInputError, match="cycle C1 → C1:"):
        ConceptGraph.from_edges([(0, 0)])


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_probabilities_outside_the_open_interval(p):
    with pytest.raises(InvalidInputError, match=r"P\(a = 1 \| parents\).*strictly between 0 and 1"):
        ConceptGraph(("a",), ((),), (np.array(p),))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConceptGraph.random(0), "n_concepts is 0"),
        (lambda: ConceptGraph.chain(-2), "n_concepts is -2"),
        (lambda: ConceptGraph.tree(0), "n_concepts is 0"),
        (lambda: ConceptGraph.independent(0), "n_concepts is 0"),
        (lambda: ConceptGraph.from_edges([]), "n_concepts is 0"),
        (lambda: ConceptGraph.tree(3, branching=0), "branching is 0"),
        (lambda: ConceptGraph.random(3, 1.2), r"edge_probability is 1.2: it must lie in \[0, 1\]"),
        (lambda: ConceptGraph.random(3, seed=-1), "seed is -1"),
        (lambda: ConceptGraph.chain(3, low=0.0), "0 < low ≤ high < 1"),
        (lambda: ConceptGraph.chain(3, low=0.6, high=0.5), r"\[0.6, 0.5\]"),
        (lambda: ConceptGraph.chain(3, high=1.0), "0 < low ≤ high < 1"),
        (lambda: ConceptGraph.from_edges([(0, 5)], 3), r"edge \(0, 5\) names a concept outside 0..2"),
        (lambda: ConceptGraph.from_edges([(-1, 0)], 3), r"edge \(-1, 0\)"),
        (lambda: ConceptGraph.from_edges([(0, 1)], 3, names=["a", "b"]), "2 names for 3 concepts"),
        (lambda: ConceptGraph.from_edges([(0, 1)], names=["a", "a"]), "seen twice: a"),
        (lambda: ConceptGraph(("a", "b"), ((),), (np.array(0.5),)), "2 names, 1 lists of parents"),
        (lambda: ConceptGraph(("a",), ((3,),), (np.array([0.5, 0.5]),)), "parents of concept 'a'"),
        (lambda: ConceptGraph(("a",), ((),), (np.array([0.5, 0.5]),)), r"shape \(2,\), not \(\)"),
        (lambda: ConceptGraph.random(40, 1.0), "GiB"),
        (lambda: ConceptGraph.independent(28).joint(), "joint of 28 concepts would take 2 GiB"),
        (lambda: ConceptGraph.independent(3, low=1e-200, high=1e-200).joint(), "probability 0 in float64"),
    ],
)
def test_bad_input_is_one_clear_line(build, message):
    with pytest.raises(InvalidInputError, match=message) as info:
        build()
    one_line(info)
