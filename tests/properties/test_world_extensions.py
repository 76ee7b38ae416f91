"""Identities 1 and 3 in every extension of the plain world, and closed forms against the dense table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linrep import CategoricalGraph, ConceptGraph, ContextLaw, Hierarchy, MarkovField, Vocabulary, World
from linrep.errors import InvalidInputError, UnknownNameError
from linrep.worlds.graph import Graph
from linrep.worlds.presets import PRESETS, preset
from linrep.worlds.world import extend_by_sums

GRAPHS = ("binary", "nominal", "ordinal", "cyclic", "ising", "potts", "hierarchy")
VOCABULARIES = {
    "plain": Vocabulary(),
    "synonyms": Vocabulary(synonyms=3),
    "nuisance": Vocabulary(nuisance=5),
    "all": Vocabulary(synonyms=2, nuisance=3, seed=1),
}


def graph(kind: str, seed: int) -> Graph:
    if kind == "binary":
        return ConceptGraph.random(4, 0.5, seed=seed)
    if kind == "ising":
        return MarkovField.ising(4, 0.6, seed=seed)
    if kind == "potts":
        return MarkovField.potts((2, 3, 4), 0.8, seed=seed)
    if kind == "hierarchy":
        base = ConceptGraph.random(4, 0.5, seed=seed)
        return Hierarchy(base, {"C2": ("C1", 1), "C3": ("C2", 1)})
    return CategoricalGraph.random((3, 2, 4), 0.6, kind=kind, seed=seed)


def concepts_of(world: World, name: str) -> tuple[int, int, int]:
    """Concept, negative value and positive value of a list of pairs."""
    concept, _, step = name.partition(":")
    a, b = step.split("→") if step else ("0", "1")
    return world.graph.names.index(concept), int(a), int(b)


@given(kind=st.sampled_from(GRAPHS), vocabulary=st.sampled_from(list(VOCABULARIES)), seed=st.integers(0, 10**6))
def test_identity_1_log_odds_of_an_unknown_concept_do_not_depend_on_the_context(kind, vocabulary, seed):
    world = World(graph(kind, seed), ContextLaw.complete(), VOCABULARIES[vocabulary])
    p, d, c = world.p_token_given_context(), world.context_concepts, world.token_concepts
    pairs, odds = world.token_pairs(), world.token_pair_log_odds()
    seen = 0
    for k, name in enumerate(pairs.names):
        i, a, b = concepts_of(world, name)
        for j, (negative, positive) in enumerate(pairs.of(name).tolist()):
            assert (c[negative, i], c[positive, i]) == (a, b)
            assert (np.delete(c[negative], i) == np.delete(c[positive], i)).all()
            both = (p[:, negative] > 0) & (p[:, positive] > 0)
            assert (d[both, i] == -1).all()  # both possible: the concept is unknown there
            np.testing.assert_allclose(
                np.log(p[both, positive] / p[both, negative]), odds[k, j], rtol=1e-10, atol=1e-10
            )
            seen += int(both.sum())
    assert seen > 0
    assert (odds[~pairs.mask] == 0).all()


@given(kind=st.sampled_from(GRAPHS), vocabulary=st.sampled_from(list(VOCABULARIES)), seed=st.integers(0, 10**6))
def test_identity_3_known_concepts_make_every_other_value_impossible_exactly(kind, vocabulary, seed):
    world = World(graph(kind, seed), ContextLaw.complete(), VOCABULARIES[vocabulary])
    p, d, c = world.p_token_given_context(), world.context_concepts, world.token_concepts
    names_something = (c >= 0).all(axis=1)
    agrees = ((d[:, None] == -1) | (d[:, None] == c[None])).all(axis=2)
    assert (p[:, names_something] > 0).tolist() == agrees[:, names_something].tolist()
    assert (p[:, ~names_something] > 0).all()


def posterior(world: World) -> np.ndarray:
    """p(y|x) by one sum a context and token, from the joint alone."""
    joint, v = world.graph.joint(), world.vocabulary
    named = v.named(joint > 0)
    assignments = np.argwhere(named)
    p = joint[named]
    rows = []
    for d in world.context_concepts:
        agrees = np.array([all(known in (-1, x) for known, x in zip(d, c, strict=True)) for c in assignments])
        q = np.where(agrees, p, 0)
        content = (q / q.sum())[:, None] * v.weights(len(p))
        rows.append(np.concatenate([v.content_share * content.ravel(), v.nuisance_probabilities()]))
    return np.array(rows)


@given(
    kind=st.sampled_from(GRAPHS),
    missing=st.sampled_from([0.0, 0.2]),
    synonyms=st.integers(1, 3),
    nuisance=st.integers(0, 4),
    seed=st.integers(0, 10**6),
)
def test_table_floor_and_marginal_agree_with_naive_sums(kind, missing, synonyms, nuisance, seed):
    vocabulary = Vocabulary(missing=missing, synonyms=synonyms, nuisance=nuisance, seed=seed)
    world = World(graph(kind, seed), ContextLaw.at_most(1), vocabulary)
    try:
        p = world.p_token_given_context()
    except InvalidInputError as e:
        assert missing and "no token agrees" in str(e)
        return
    np.testing.assert_allclose(p, posterior(world), rtol=1e-10)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    np.testing.assert_allclose(world.entropy_floor(), -world.p_context @ (p * logs).sum(axis=1), rtol=1e-10)
    np.testing.assert_allclose(world.p_token(), world.p_context @ p, rtol=1e-10, atol=1e-15)
    assert len(world.token_names) == len(set(world.token_names)) == world.n_tokens == p.shape[1]
    assert len(set(world.context_names)) == world.n_contexts == len(p)


@given(kind=st.sampled_from(("ising", "potts")), seed=st.integers(0, 10**6))
def test_markov_field_neighbours_are_exactly_the_dependent_ones(kind, seed):
    field = graph(kind, seed)
    log_p, adjacency = np.log(field.joint()), field.moral_adjacency()
    for i in range(field.n_concepts):
        for j in range(i):
            # The mixed second difference along i and j vanishes if and only if i and j do not interact.
            mixed = np.diff(np.diff(log_p, axis=i), axis=j)
            assert (np.abs(mixed).max() > 1e-9) == adjacency[i, j]


def test_hierarchy_leaves_out_what_cannot_be():
    base = ConceptGraph.random(3, 1.0, seed=3)
    world = World(Hierarchy(base, {"C2": ("C1", 1)}), ContextLaw.complete())
    c, d = world.token_concepts, world.context_concepts
    assert not ((c[:, 0] == 0) & (c[:, 1] == 1)).any() and len(c) == 6
    assert not ((d[:, 0] == 0) & (d[:, 1] == 1)).any()
    np.testing.assert_allclose(world.p_context.sum(), 1)
    # What does not depend on whether the child exists is as in the base graph.
    np.testing.assert_allclose(world.graph.joint().sum(axis=1), base.joint().sum(axis=1))
    steps = world.token_pairs()
    assert {tuple(c[a]) for a, _ in steps.of("C2").tolist()} == {(1, 0, 0), (1, 0, 1)}


def test_extended_sums_of_unequal_axes():
    tensor = np.random.default_rng(0).random((2, 3, 4))
    extended = extend_by_sums(tensor)
    assert extended.shape == (3, 4, 5)
    np.testing.assert_allclose(extended[2, 1, 4], tensor[:, 1, :].sum())
    np.testing.assert_allclose(extended[-1, -1, -1], tensor.sum())


@pytest.mark.parametrize("kind", GRAPHS)
def test_features_are_the_one_hots_of_the_symbols(kind):
    world = World(graph(kind, 0), ContextLaw.complete())
    features, values = world.context_features(), world.graph.cardinalities
    assert features.shape == (world.n_contexts, sum(k + 1 for k in values))
    for row, d in zip(features, world.context_concepts, strict=True):
        for block, symbol, k in zip(np.split(row, np.cumsum([k + 1 for k in values])[:-1]), d, values, strict=True):
            assert block.tolist() == [float(x == (k if symbol == -1 else symbol)) for x in range(k + 1)]


def test_laws_over_concepts_with_more_values():
    values = (3, 2, 4)
    assert ContextLaw.complete().n_contexts(values) == 4 * 3 * 5
    rows, p = ContextLaw.at_most(1).contexts(values)
    assert len(rows) == ContextLaw.at_most(1).n_contexts(values) == 1 + 3 + 2 + 4
    assert ((rows >= 0).sum(axis=1) <= 1).all() and len({tuple(r) for r in rows.tolist()}) == len(rows)
    _, p = ContextLaw.masked(0.4).contexts(values)
    np.testing.assert_allclose(p.sum(), 1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_worlds(name):
    world = preset(name, seed=1)
    np.testing.assert_allclose(world.p_context.sum(), 1)
    assert np.isfinite(world.entropy_floor())
    assert world.token_pairs().n_pairs.min() > 0


def table(first: list[float], *others: list[float]) -> np.ndarray:
    return np.array([first, *others] if others else first)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CategoricalGraph(("a",), ((),), (table([0.5, 0.4]),), ("nominal",)), "sums to 0.9"),
        (lambda: CategoricalGraph(("a",), ((),), (table([1.0, 0.0]),), ("nominal",)), "strictly between 0 and 1"),
        (lambda: CategoricalGraph(("a", "b"), ((1,), (0,)), (table([0.5, 0.5]),) * 2, ("nominal",) * 2), "cycle"),
        (lambda: CategoricalGraph(("a", "b"), ((), (0,)), (table([0.5, 0.5]),) * 2, ("nominal",) * 2), "shape"),
        (lambda: CategoricalGraph.random((3, 1)), "at least 2"),
        (lambda: MarkovField.ising(3, 1.5), "edge_probability is 1.5"),
        (lambda: MarkovField.ising(3, coupling=(1.0, -1.0)), "smaller first"),
        (lambda: MarkovField.ising(2, edges=[(0, 5)]), "positions i < j"),
        (lambda: MarkovField(("a", "b"), (np.zeros(2),) * 2, {(0, 1): np.zeros((2, 3))}), "2 × 2 finite"),
        (lambda: MarkovField(("a", "a"), (np.zeros(2),) * 2, {}), "unique"),
        (lambda: Hierarchy(ConceptGraph.chain(2), {"C2": ("C9", 1)}), "'C9'"),
        (lambda: Hierarchy(ConceptGraph.chain(2), {"C2": ("C1", 4)}), "does not have"),
        (lambda: Hierarchy(ConceptGraph.chain(2), {"C2": ("C1", 1), "C1": ("C2", 1)}), "circle"),
        (lambda: Vocabulary(missing=1.0), "[0, 1)"),
        (lambda: Vocabulary(synonyms=0), "at least 1 token"),
        (lambda: Vocabulary(nuisance=-1), "at least 0"),
        (lambda: Vocabulary(nuisance=1, nuisance_share=1.0), "(0, 1)"),
        (lambda: Vocabulary(zipf=float("nan")), "finite"),
        (
            lambda: World(ConceptGraph.chain(3), ContextLaw.complete(), Vocabulary(missing=0.25)).p_context,
            "no token agrees with context",
        ),
        (lambda: World(ConceptGraph.chain(20), ContextLaw.complete()).log_normalisers(), "GiB"),
    ],
)
def test_bad_worlds_are_one_clear_line(make, said):
    with pytest.raises(InvalidInputError) as e:
        make()
    assert said in str(e.value) and "\n" not in str(e.value)


def test_an_unknown_kind_of_concept_is_named():
    with pytest.raises(UnknownNameError, match="cyclic"):
        CategoricalGraph(("a",), ((),), (np.array([0.5, 0.5]),), ("cyclical",))


def test_twenty_concepts_construct():
    world = World(ConceptGraph.random(20, 0.2, seed=0), ContextLaw.complete())
    assert (world.n_tokens, world.n_contexts) == (2**20, 3**20)
    np.testing.assert_allclose(world.graph.joint().sum(), 1)
