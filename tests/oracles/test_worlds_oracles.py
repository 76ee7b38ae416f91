"""Worlds against naive enumeration in plain Python, networkx and scipy."""

from itertools import product

import networkx as nx
import numpy as np
import pytest
from scipy.stats import entropy

from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World, extend_by_sums

GRAPHS = [
    ConceptGraph.independent(3, seed=1),
    ConceptGraph.chain(4, seed=2),
    ConceptGraph.tree(5, seed=3),
    *(ConceptGraph.random(m, p, seed=s) for s, (m, p) in enumerate(product((1, 3, 5), (0.3, 0.9)))),
    ConceptGraph.random(4, 0.5, low=0.001, high=0.999, seed=11),
]
LAWS = [ContextLaw.parse(t) for t in ("complete", "at-most-1", "masked-0.5", "kept-0.4")]


def naive_joint(graph: ConceptGraph) -> dict[tuple[int, ...], float]:
    """p(c) as the product of the factors, one assignment at a time."""
    joint = {}
    for c in product((0, 1), repeat=graph.n_concepts):
        p = 1.0
        for i, parents in enumerate(graph.parents):
            p1 = float(graph.tables[i][tuple(c[j] for j in parents)])
            p *= p1 if c[i] else 1 - p1
        joint[c] = p
    return joint


def agrees(c, d) -> bool:
    return all(known in (-1, value) for value, known in zip(c, d, strict=True))


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: f"{g.label}-{g.n_concepts}")
def test_joint(graph):
    joint = graph.joint()
    for c, p in naive_joint(graph).items():
        assert joint[c] == pytest.approx(p, rel=1e-13)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: f"{g.label}-{g.n_concepts}")
def test_posterior(graph, law):
    w = World(graph, law)
    joint = naive_joint(graph)
    table = w.p_token_given_context()
    for x, d in enumerate(w.context_concepts.tolist()):
        z = sum(p for c, p in joint.items() if agrees(c, d))
        for y, c in enumerate(w.token_concepts.tolist()):
            wanted = joint[tuple(c)] / z if agrees(c, d) else 0.0
            assert table[x, y] == pytest.approx(wanted, rel=1e-12, abs=0)


@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_tensor_trick_against_one_sum_a_context(m):
    tensor = np.random.default_rng(m).normal(size=(2,) * m)
    extended = extend_by_sums(tensor)
    assert extended.shape == (3,) * m
    for d in product((0, 1, -1), repeat=m):
        selected = tensor[tuple(slice(None) if v == -1 else slice(v, v + 1) for v in d)]
        assert extended[d] == pytest.approx(selected.sum(), rel=1e-12, abs=1e-12)


def test_normalisers_at_ten_concepts_on_a_sample_of_contexts():
    graph = ConceptGraph.random(10, seed=4)
    log_z = World(graph, ContextLaw.complete()).log_normalisers()
    joint = graph.joint()
    for d in np.random.default_rng(0).integers(-1, 2, size=(300, 10)).tolist():
        selected = joint[tuple(slice(None) if v == -1 else v for v in d)]
        assert log_z[tuple(d)] == pytest.approx(np.log(selected.sum()), rel=1e-12)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: f"{g.label}-{g.n_concepts}")
def test_entropy_floor_against_the_table(graph, law):
    w = World(graph, law)
    wanted = w.p_context @ entropy(w.p_token_given_context(), axis=1)
    assert w.entropy_floor() == pytest.approx(wanted, rel=1e-10, abs=1e-14)


def test_entropy_floor_is_zero_where_everything_is_known():
    """With one context kept, the floor is 0 exactly if that context leaves nothing open."""
    everything_known = []
    for seed in range(50):
        w = World(ConceptGraph.chain(2), ContextLaw.kept(1 / 9, seed=seed))
        everything_known.append((w.context_concepts != -1).all())
        assert (w.entropy_floor() < 1e-15) == everything_known[-1]
    assert 0 < sum(everything_known) < 50


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_moral_graph(p, seed):
    graph = ConceptGraph.random(8, p, seed=seed)
    dag = nx.DiGraph(list(graph.edges))
    dag.add_nodes_from(range(8))
    assert nx.is_directed_acyclic_graph(dag)
    wanted = nx.to_numpy_array(nx.moral_graph(dag), nodelist=range(8)).astype(bool)
    assert np.array_equal(graph.moral_adjacency(), wanted)


@pytest.mark.parametrize("branching", [1, 2, 3])
@pytest.mark.parametrize("m", [1, 4, 9])
def test_tree(m, branching):
    wanted = nx.full_rary_tree(branching, m, create_using=nx.DiGraph)
    assert set(ConceptGraph.tree(m, branching=branching).edges) == set(wanted.edges)
