"""Samples of worlds against the exact law, and the estimate of the excess against its exact value."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from linrep.errors import InvalidInputError
from linrep.worlds import sampling
from linrep.worlds.categorical import CategoricalGraph
from linrep.worlds.contexts import UNKNOWN, ContextLaw
from linrep.worlds.graph import ConceptGraph, Graph
from linrep.worlds.hierarchy import Hierarchy
from linrep.worlds.markov_field import MarkovField
from linrep.worlds.sampling import WorldSampler, excess_estimate
from linrep.worlds.vocabulary import Vocabulary
from linrep.worlds.world import World

ALPHA = 1e-9  # of each test: the many draws of hypothesis must not fail by chance

laws = st.one_of(
    st.just("complete"),
    st.integers(0, 2).map("at-most-{}".format),
    st.floats(0.05, 0.95).map("masked-{}".format),
    st.builds("kept-{}-seed{}".format, st.floats(0.4, 1.0), st.integers(0, 100)),
)
# Strategies draw settings and the tests build from them, see test_worlds.
kinds = st.tuples(st.sampled_from(["dag", "ising", "potts"]), st.integers(2, 4), st.integers(0, 1000))


def build(kind: tuple[str, int, int], law: str = "complete") -> World:
    name, m, seed = kind
    graph: Graph
    if name == "dag":
        graph = ConceptGraph.random(m, 0.6, low=0.05, high=0.95, seed=seed)
    elif name == "ising":
        graph = MarkovField.ising(m, 0.8, coupling=(-1.0, 1.0), seed=seed)
    else:
        graph = MarkovField.potts([3, 2, 4, 2][:m], 0.8, seed=seed)
    return World(graph, ContextLaw.parse(law))


def chi_square_p(counts: np.ndarray, expected: np.ndarray) -> float:
    """P-value of counts under positive expectations; cells expected below 5 are put together."""
    small = expected < 5
    seen, wanted = np.append(counts[~small], counts[small].sum()), np.append(expected[~small], expected[small].sum())
    seen, wanted = seen[wanted > 0], wanted[wanted > 0]
    return float(chi2.sf(((seen - wanted) ** 2 / wanted).sum(), max(1, len(seen) - 1)))


def index_of(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    table = {tuple(row): k for k, row in enumerate(among.tolist())}
    return np.array([table[tuple(row)] for row in rows.tolist()])


@given(kinds, laws, st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_contexts_have_the_law(kind, law, seed):
    world = build(kind, law)
    n = 20_000
    drawn = WorldSampler(world).contexts(n, np.random.default_rng(seed))
    counts = np.bincount(index_of(drawn, world.context_concepts), minlength=world.n_contexts)
    assert chi_square_p(counts, n * world.p_context) > ALPHA


@given(kinds, st.integers(0, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_tokens_have_the_conditional_law_of_their_context(kind, seed, by_trying):
    world = build(kind)
    rng, n = np.random.default_rng(seed), 4000
    x = rng.integers(world.n_contexts)
    d, p = world.context_concepts[x], world.p_token_given_context()[x]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_WIDE", 0 if by_trying else 2**62)
        patch.setattr(sampling, "_TRIES", 3)  # so that tries and sums mix
        tokens = WorldSampler(world).tokens(np.tile(d, (n, 1)), rng)
    counts = np.bincount(tokens, minlength=world.n_tokens)
    assert counts[p == 0].sum() == 0
    assert chi_square_p(counts[p > 0], n * p[p > 0]) > ALPHA


@given(kinds, laws, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_pairs_are_near_the_joint_law_in_total_variation(kind, law, seed):
    world, n = build(kind, law), 20_000
    contexts, tokens = WorldSampler(world).sample(n, np.random.default_rng(seed))
    exact = world.p_context[:, None] * world.p_token_given_context()
    seen = np.zeros_like(exact)
    np.add.at(seen, (index_of(contexts, world.context_concepts), tokens), 1 / n)
    # E TV ≤ ½ Σ √(p (1 − p)/n), and one sample moves it by at most 1/n (McDiarmid).
    expected = 0.5 * np.sqrt(exact * (1 - exact) / n).sum()
    assert 0.5 * np.abs(seen - exact).sum() < expected + np.sqrt(np.log(1 / ALPHA) / (2 * n))


@given(kinds, laws)
@settings(max_examples=40, deadline=None)
def test_entropies_average_to_the_floor(kind, law):
    world = build(kind, law)
    entropies = WorldSampler(world).entropies(world.context_concepts)
    assert world.p_context @ entropies == pytest.approx(world.entropy_floor(), rel=1e-11, abs=1e-12)


@given(kinds)
@settings(max_examples=40, deadline=None)
def test_codes_say_which_tokens_agree(kind):
    world = build(kind)
    sampler = WorldSampler(world)
    known, wanted = sampler.context_codes(world.context_concepts)
    agrees = (sampler.token_codes[None] & known[:, None]) == wanted[:, None]
    np.testing.assert_array_equal(agrees, world.p_token_given_context() > 0)


def test_large_classes_are_summed_in_several_chunks(monkeypatch):
    world = build(("potts", 4, 3))
    whole = WorldSampler(world).entropies(world.context_concepts)
    monkeypatch.setattr(sampling, "_CHUNK_ENTRIES", 7)
    np.testing.assert_array_equal(WorldSampler(world).entropies(world.context_concepts), whole)


def test_excess_estimate_is_unbiased_and_its_error_honest():
    world = build(("dag", 4, 5), "masked-0.4")
    sampler, rng = WorldSampler(world), np.random.default_rng(0)
    p = world.p_token_given_context()
    log_q = rng.normal(size=p.shape)
    log_q -= np.log(np.exp(log_q).sum(axis=1, keepdims=True))
    losses = -(p * log_q).sum(axis=1)
    exact = world.p_context @ losses - world.entropy_floor()
    estimates = []
    for _ in range(400):
        d = sampler.contexts(50, rng)
        estimates.append(excess_estimate(losses[index_of(d, world.context_concepts)], sampler.entropies(d)))
    values, errors = np.array(estimates).T
    assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(len(values))
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)  # the spread of a spread of 400 is 3.5 %


def test_excess_of_non_finite_losses_is_nan():
    estimate = excess_estimate(np.array([1.0, np.inf]), np.zeros(2))
    assert np.isnan(estimate.value) and np.isnan(estimate.standard_error)
    with pytest.raises(InvalidInputError, match="at least 2"):
        excess_estimate(np.ones(1), np.zeros(1))


@pytest.mark.parametrize("law", ["complete", "at-most-2", "masked-0.3"])
def test_twenty_concepts_without_their_contexts(law):
    world = World(ConceptGraph.chain(20), ContextLaw.parse(law))
    sampler = WorldSampler(world)
    contexts, tokens = sampler.sample(40, np.random.default_rng(0))
    assert sampler.agrees(contexts, tokens).all()
    bits = (tokens[:, None] >> np.arange(19, -1, -1)) & 1
    assert ((contexts == UNKNOWN) | (contexts == bits)).all()
    assert np.isfinite(sampler.entropies(contexts[:5])).all()
    assert not {"_contexts", "_normalisers", "token_concepts"} & set(vars(world))  # nothing of 3^20 or 2^20 · 20


def test_the_chain_of_twenty_concepts_has_its_own_conditional():
    """P(C_2 | C_1, C_3) of a chain by hand, all other concepts open: the way with tries at its real size."""
    graph = ConceptGraph.chain(20, low=0.2, high=0.8, seed=4)
    sampler = WorldSampler(World(graph, ContextLaw.complete()))
    d = np.full((20_000, 20), UNKNOWN, dtype=np.int8)
    d[:, 0], d[:, 2] = 1, 0
    tokens = sampler.tokens(d, np.random.default_rng(1))
    second, third = graph.tables[1][1], graph.tables[2]
    weight = np.array([(1 - second) * (1 - third[0]), second * (1 - third[1])])
    p = weight[1] / weight.sum()
    share = ((tokens >> 18) & 1).mean()
    assert abs(share - p) < 6 * np.sqrt(p * (1 - p) / len(tokens))


def test_at_most_k_with_different_numbers_of_values():
    graph = MarkovField.potts([2, 3, 5], 0.5)
    world = World(graph, ContextLaw.at_most(2))
    drawn = WorldSampler(world).contexts(30_000, np.random.default_rng(2))
    counts = np.bincount(index_of(drawn, world.context_concepts), minlength=world.n_contexts)
    assert chi_square_p(counts, 30_000 * world.p_context) > ALPHA
    assert {tuple(d) for d in drawn.tolist()} == {
        d for d in product((-1, 0, 1), range(-1, 3), range(-1, 5)) if sum(v >= 0 for v in d) <= 2
    }


def test_refusals():
    with pytest.raises(InvalidInputError, match="GiB"):
        WorldSampler(World(ConceptGraph.chain(20), ContextLaw.kept(0.01)))
    with pytest.raises(InvalidInputError, match="the joint of 28 concepts would take 2 GiB"):
        WorldSampler(World(MarkovField.ising(28, 0.1), ContextLaw.complete()))
    with pytest.raises(InvalidInputError, match="31 bits"):
        WorldSampler(World(MarkovField.ising(40, 0.1), ContextLaw.complete()))
    with pytest.raises(InvalidInputError, match="vocabulary"):
        WorldSampler(World(ConceptGraph.chain(3), ContextLaw.complete(), Vocabulary(synonyms=2)))
    with pytest.raises(InvalidInputError, match="hierarchy"):
        WorldSampler(World(Hierarchy(ConceptGraph.chain(2), {"C2": ("C1", 1)}), ContextLaw.complete()))


def test_a_categorical_graph():
    graph = CategoricalGraph.random([3, 4], 1.0, seed=1)
    world = World(graph, ContextLaw.complete())
    assert world.p_context @ WorldSampler(world).entropies(world.context_concepts) == pytest.approx(
        world.entropy_floor()
    )
