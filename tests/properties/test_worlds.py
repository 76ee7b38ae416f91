"""Exact identities of concept worlds, over random graphs and context laws."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from linrep.worlds.contexts import UNKNOWN, ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World

RTOL = 1e-10

# Strategies draw settings and the tests build from them: beartype's checks inside a strategy use the `random`
# module, which hypothesis forbids there.
graph_settings = st.fixed_dictionaries(
    {
        "n_concepts": st.integers(1, 5),
        "edge_probability": st.floats(0.0, 1.0),
        "range": st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted),
        "seed": st.integers(0, 2**32),
    }
)
laws = st.one_of(
    st.just("complete"),
    st.integers(0, 1).map("at-most-{}".format),
    st.floats(0.05, 0.95).map("masked-{}".format),
    st.builds("kept-{}-seed{}".format, st.floats(0.34, 1.0), st.integers(0, 100)),
)


def build_graph(drawn: dict) -> ConceptGraph:
    low, high = drawn["range"]
    return ConceptGraph.random(drawn["n_concepts"], drawn["edge_probability"], low=low, high=high, seed=drawn["seed"])


def build_world(drawn: dict, law: str) -> World:
    return World(build_graph(drawn), ContextLaw.parse(law))


def conditional_probability(graph: ConceptGraph, i: int, c: list[int]) -> float:
    """P(C_i = 1 | C_−i = c_−i) from the factors that contain C_i, in plain Python."""
    weight = [1.0, 1.0]
    for value in (0, 1):
        full = [*c[:i], value, *c[i + 1 :]]
        for j in range(graph.n_concepts):
            if j == i or i in graph.parents[j]:
                p1 = float(graph.tables[j][tuple(full[k] for k in graph.parents[j])])
                weight[value] *= p1 if full[j] else 1 - p1
    return weight[1] / (weight[0] + weight[1])


@given(graph_settings, laws)
@settings(max_examples=60, deadline=None)
def test_identity_1_unknown_concepts_have_log_odds_that_do_not_depend_on_the_context(drawn, law):
    graph, w = build_graph(drawn), build_world(drawn, law)
    p = w.p_token_given_context()
    pairs = w.token_pairs()
    for i, name in enumerate(w.graph.names):
        for zero, one in pairs.of(name).tolist():
            c = w.token_concepts[zero].tolist()
            q = conditional_probability(graph, i, c)
            known = w.context_concepts != UNKNOWN
            agrees = ((w.context_concepts == np.array(c)) | ~known).all(axis=1)
            rows = p[agrees & ~known[:, i]]
            np.testing.assert_allclose(rows[:, one] / rows[:, zero], q / (1 - q), rtol=RTOL)


@given(graph_settings, laws)
@settings(max_examples=60, deadline=None)
def test_identity_3_known_concepts_make_the_losing_token_impossible(drawn, law):
    w = build_world(drawn, law)
    p = w.p_token_given_context()
    for i in range(w.graph.n_concepts):
        for zero, one in w.token_pairs().of(w.graph.names[i]).tolist():
            for d, row in zip(w.context_concepts.tolist(), p, strict=True):
                if d[i] == UNKNOWN:
                    continue
                c = w.token_concepts[zero].tolist()
                elsewhere = all(d[j] in (UNKNOWN, c[j]) for j in range(len(d)) if j != i)
                winner, loser = (one, zero) if d[i] == 1 else (zero, one)
                assert row[loser] == 0
                assert (row[winner] > 0) == elsewhere


@given(graph_settings, laws)
@settings(max_examples=100, deadline=None)
def test_probabilities_sum_to_one_and_zeros_are_exactly_the_contradictions(drawn, law):
    w = build_world(drawn, law)
    p = w.p_token_given_context()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=RTOL)
    np.testing.assert_allclose([w.graph.joint().sum(), w.p_context.sum(), w.p_token().sum()], 1, rtol=RTOL)
    d, c = w.context_concepts[:, None, :], w.token_concepts[None, :, :]
    assert np.array_equal(p > 0, ((d == UNKNOWN) | (d == c)).all(axis=-1))


@given(graph_settings, laws)
@settings(max_examples=100, deadline=None)
def test_marginal_over_tokens_is_that_of_the_table(drawn, law):
    w = build_world(drawn, law)
    np.testing.assert_allclose(w.p_token(), w.p_context @ w.p_token_given_context(), rtol=RTOL)


@given(graph_settings, laws)
@settings(max_examples=100, deadline=None)
def test_pairs_differ_in_exactly_one_concept_from_zero_to_one(drawn, law):
    w = build_world(drawn, law)
    for pairs, rows in ((w.token_pairs(), w.token_concepts), (w.context_pairs(), w.context_concepts)):
        pairs.check_rows(len(rows))
        for i, name in enumerate(pairs.names):
            of = pairs.of(name)
            difference = rows[of[:, 1]] - rows[of[:, 0]]
            assert (rows[of[:, 0], i] == 0).all()
            assert (rows[of[:, 1], i] == 1).all()
            assert np.array_equal(difference, np.eye(len(pairs.names), dtype=np.int8)[np.full(len(of), i)])
            assert len(np.unique(of)) == of.size


@given(graph_settings, laws)
@settings(max_examples=100, deadline=None)
def test_no_pair_is_missing(drawn, law):
    w = build_world(drawn, law)
    m = w.graph.n_concepts
    assert w.token_pairs().n_pairs.tolist() == [2 ** (m - 1)] * m
    there = {tuple(d) for d in w.context_concepts.tolist()}
    for i, n in enumerate(w.context_pairs().n_pairs.tolist()):
        assert n == sum((*d[:i], 1, *d[i + 1 :]) in there for d in there if d[i] == 0)


@given(graph_settings)
@settings(max_examples=100, deadline=None)
def test_concepts_that_are_no_neighbours_are_independent_given_all_the_others(drawn):
    """log p(c) has no interaction of i and j: the log odds of C_i do not move with C_j."""
    graph = build_graph(drawn)
    log_p, neighbours = np.log(graph.joint()), graph.moral_adjacency()
    assert np.array_equal(neighbours, neighbours.T)
    for i in range(graph.n_concepts):
        log_odds = np.diff(log_p, axis=i)
        for j in range(graph.n_concepts):
            if i != j and not neighbours[i, j]:
                np.testing.assert_allclose(np.diff(log_odds, axis=j), 0, atol=RTOL)


@given(st.integers(1, 6), st.integers(0, 1000), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_masked_independent_concepts_each_add_q_times_their_entropy_to_the_floor(m, seed, q):
    graph = ConceptGraph.independent(m, low=0.01, high=0.99, seed=seed)
    p1 = np.array([float(t) for t in graph.tables])
    entropies = -(p1 * np.log(p1) + (1 - p1) * np.log(1 - p1))
    floor = World(graph, ContextLaw.masked(q)).entropy_floor()
    np.testing.assert_allclose(floor, q * entropies.sum(), rtol=RTOL)
