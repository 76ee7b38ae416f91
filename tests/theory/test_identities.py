"""The exact identities, and the form each takes in every extension of the plain world.

Identity 1 and 3 of binary graphs are in tests/properties/test_worlds.py, and that they hold for the table of every
kind of world in tests/properties/test_world_extensions.py. Here each extension has its own formula, computed from the
graph or the vocabulary and not from the world's own log-odds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from linrep import CategoricalGraph, ConceptGraph, ContextLaw, Hierarchy, MarkovField, Vocabulary, World, fit
from linrep.geometry import metrics
from linrep.geometry.inner_products import causal
from linrep.geometry.interchange import balancedness
from linrep.learning.objectives import Target, cross_entropy
from linrep.worlds.graph import Graph

RTOL = 1e-10
SEEDS = st.integers(0, 10**6)
LAWS = st.sampled_from(["complete", "at-most-1", "masked-0.3", "kept-0.6-seed1"])
FEW = settings(max_examples=30, deadline=None)


def steps_of(world: World) -> list[tuple[str, int, int, int, list[list[int]]]]:
    """Name, concept, a, b and the pairs of tokens of every list of steps a → b."""
    pairs, found = world.token_pairs(), []
    for name in pairs.names:
        concept, _, step = name.partition(":")
        a, b = map(int, step.split("→")) if step else (0, 1)
        found.append((name, world.graph.names.index(concept), a, b, pairs.of(name).tolist()))
    return found


def conditional_log_odds(graph: Graph, i: int, a: int, b: int, c: list[int]) -> float:
    """log P(C_i = b | C_−i = c_−i) / P(C_i = a | C_−i = c_−i), from the joint."""
    row = graph.joint()[tuple(slice(None) if k == i else v for k, v in enumerate(c))]
    conditional = row / row.sum()
    return float(np.log(conditional[b]) - np.log(conditional[a]))


def measured_log_odds(world: World, i: int, pair: list[int]) -> np.ndarray:
    """log p(positive|x)/p(negative|x) in every context with i unknown that agrees with the pair."""
    c, d, p = world.token_concepts[pair[0]], world.context_concepts, world.p_token_given_context()
    others = np.arange(len(c)) != i
    rows = (d[:, i] == -1) & ((d == -1) | (d == c))[:, others].all(axis=1)
    return np.log(p[rows, pair[1]]) - np.log(p[rows, pair[0]])


def check_identity_1(world: World, extra: Any = lambda pair: 0.0) -> None:
    """The log-odds of each step are those of the graph plus `extra`, in every context that allows both."""
    seen = 0
    for _, i, a, b, pairs in steps_of(world):
        for pair in pairs:
            expected = conditional_log_odds(world.graph, i, a, b, world.token_concepts[pair[0]].tolist()) + extra(pair)
            found = measured_log_odds(world, i, pair)
            np.testing.assert_allclose(found, expected, rtol=RTOL, atol=RTOL)
            seen += len(found)
    assert seen > 0


# Identity 1 of each extension


@given(st.sampled_from(["nominal", "ordinal", "cyclic"]), LAWS, SEEDS)
@FEW
def test_identity_1_k_values_have_one_log_odds_for_each_step(kind, law, seed):
    check_identity_1(World(CategoricalGraph.random((3, 2, 4), 0.6, kind=kind, seed=seed), ContextLaw.parse(law)))


@given(st.sampled_from(["ising", "potts"]), LAWS, SEEDS)
@FEW
def test_identity_1_markov_fields_have_log_odds_in_closed_form(kind, law, seed):
    """h_i(b) − h_i(a) + Σ_j J_ij(b, c_j) − J_ij(a, c_j): no sum over assignments anywhere."""
    field = MarkovField.ising(4, 0.6, seed=seed) if kind == "ising" else MarkovField.potts((2, 3, 4), 0.8, seed=seed)
    world = World(field, ContextLaw.parse(law))
    for _, i, a, b, pairs in steps_of(world):
        for pair in pairs:
            c = world.token_concepts[pair[0]].tolist()
            expected = field.field[i][b] - field.field[i][a]
            for (j, k), coupling in field.couplings.items():
                if j == i:
                    expected += coupling[b, c[k]] - coupling[a, c[k]]
                elif k == i:
                    expected += coupling[c[j], b] - coupling[c[j], a]
            np.testing.assert_allclose(measured_log_odds(world, i, pair), expected, rtol=RTOL, atol=RTOL)


@given(st.integers(2, 4), LAWS, SEEDS)
@FEW
def test_identity_1_synonyms_add_the_log_ratio_of_their_weights(synonyms, law, seed):
    vocabulary = Vocabulary(synonyms=synonyms, seed=seed)
    world = World(ConceptGraph.random(3, 0.5, seed=seed), ContextLaw.parse(law), vocabulary)
    weight = vocabulary.weights(8).ravel()
    log_s = np.log(weight)
    check_identity_1(world, lambda pair: log_s[pair[1]] - log_s[pair[0]])
    # Synonyms of one assignment: the same concepts, so their odds are those of the weights in every context.
    p = world.p_token_given_context()
    allowed = p[:, 0] > 0
    np.testing.assert_allclose(p[allowed, 1] / p[allowed, 0], weight[1] / weight[0], rtol=RTOL)


@given(st.integers(1, 5), st.floats(0.05, 0.9), st.floats(0.0, 2.0), LAWS, SEEDS)
@FEW
def test_identity_1_nuisance_tokens_change_no_log_odds_and_follow_every_context_alike(n, share, zipf, law, seed):
    vocabulary = Vocabulary(nuisance=n, nuisance_share=share, zipf=zipf)
    graph = ConceptGraph.random(3, 0.5, seed=seed)
    world = World(graph, ContextLaw.parse(law), vocabulary)
    check_identity_1(world)
    p, plain = world.p_token_given_context(), World(graph, ContextLaw.parse(law)).p_token_given_context()
    np.testing.assert_allclose(p[:, :8], (1 - share) * plain, rtol=RTOL)
    rank = np.arange(1, n + 1)
    assert (p[:, 8:] == p[0, 8:]).all()
    np.testing.assert_allclose(p[0, 8:], share * rank**-zipf / (rank**-zipf).sum(), rtol=RTOL)


@given(st.sampled_from([0.125, 0.25, 0.4]), st.integers(0, 300))
@FEW
def test_identity_1_missing_tokens_renormalise_and_keep_every_log_odds_that_is_left(missing, seed):
    graph = ConceptGraph.random(4, 0.5, seed=seed)
    law = ContextLaw.at_most(1)
    world, full = World(graph, law, Vocabulary(missing=missing, seed=seed)), World(graph, law)
    left = 16 - round(missing * 16)
    assert world.n_tokens == left
    check_identity_1(world)
    kept = [full.token_concepts.tolist().index(c) for c in world.token_concepts.tolist()]
    q = full.p_token_given_context()[:, kept]
    np.testing.assert_allclose(world.p_token_given_context(), q / q.sum(axis=1, keepdims=True), rtol=RTOL)
    assert sum(len(pairs) for *_, pairs in steps_of(world)) < 4 * 8  # the pairs of missing tokens are gone


@given(SEEDS, LAWS)
@FEW
def test_identity_1_hierarchies_have_the_log_odds_of_reachable_assignments(seed, law):
    """A child's odds are the base graph's where it exists; the parent's gather what the child would have been."""
    base = ConceptGraph.random(3, 0.7, seed=seed)
    world = World(Hierarchy(base, {"C2": ("C1", 1)}), ContextLaw.parse(law))
    check_identity_1(world)
    p = base.joint()
    for _, i, _, _, pairs in steps_of(world):
        for pair in pairs:
            c = world.token_concepts[pair[0]].tolist()
            if i == 0:  # the child's value is 0 where the parent's is 0, whatever it would have been
                assert c[1] == 0
                expected = np.log(p[1, 0, c[2]]) - np.log(p[0, :, c[2]].sum())
            elif i == 1:
                assert c[0] == 1  # nowhere else are there two values
                expected = np.log(p[1, 1, c[2]]) - np.log(p[1, 0, c[2]])
            else:
                of = p.sum(axis=1)[0] if c[0] == 0 else p[1, c[1]]
                expected = np.log(of[1]) - np.log(of[0])
            np.testing.assert_allclose(measured_log_odds(world, i, pair), expected, rtol=RTOL, atol=RTOL)


# Identity 3


@given(st.sampled_from([0.125, 0.3]), st.integers(1, 3), st.integers(0, 3), st.integers(0, 300))
@FEW
def test_identity_3_zeros_are_exact_with_missing_tokens_synonyms_and_nuisance(missing, synonyms, nuisance, seed):
    vocabulary = Vocabulary(missing=missing, synonyms=synonyms, nuisance=nuisance, seed=seed)
    world = World(ConceptGraph.random(4, 0.5, seed=seed), ContextLaw.at_most(1), vocabulary)
    p, d, c = world.p_token_given_context(), world.context_concepts, world.token_concepts
    for x in range(len(p)):
        for y in range(p.shape[1]):
            contradicts = any(known not in (-1, value) for known, value in zip(d[x], c[y], strict=True))
            assert (p[x, y] == 0) == (contradicts and c[y, 0] != -1)


# Identity 2


@given(SEEDS, st.integers(1, 6), st.floats(0.1, 3), LAWS)
@FEW
def test_identity_2_the_log_odds_of_a_predictor_are_embedding_times_difference(seed, dim, scale, law):
    """The probabilities are those the training's loss sees: −loss on one token of one context is log p̂(y|x)."""
    world = World(ConceptGraph.random(3, 0.5, seed=seed), ContextLaw.parse(law))
    rng = np.random.default_rng(seed)
    lam, gamma = scale * rng.standard_normal((world.n_contexts, dim)), scale * rng.standard_normal((8, dim))
    x = int(rng.integers(world.n_contexts))
    only = np.zeros(world.n_contexts)
    only[x] = 1.0
    with jax.enable_x64(True):
        rows = jnp.asarray(lam), jnp.asarray(gamma)

        def log_p(y: int) -> float:
            token = np.zeros((world.n_contexts, 8))
            token[:, y] = 1.0
            return -float(cross_entropy(*rows, Target.of(only, token, np.dtype("float64"))))

        found = [log_p(y) for y in range(8)]
    for _, _, _, _, pairs in steps_of(world):
        for negative, positive in pairs:
            expected = float(lam[x] @ (gamma[positive] - gamma[negative]))
            np.testing.assert_allclose(found[positive] - found[negative], expected, rtol=RTOL, atol=RTOL)


# Identity 4


def softmax(lam: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    logits = lam @ gamma.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def causal_geometry(world: World, lam: np.ndarray, gamma: np.ndarray) -> np.ndarray:
    """Parallelism and alignment of each concept, cosines of the directions of γ and of λ, all causal."""
    product = causal(gamma)
    assert product.rank == gamma.shape[1] < len(gamma) - 1
    assert product.floor == product.shrinkage == 0
    sides = []
    for rows, pairs in ((product.unembeddings(gamma), world.token_pairs()), (product.embeddings(lam), world.context_pairs())):  # fmt: skip # noqa: E501
        ends = [pairs.of(name) for name in pairs.names]
        sides.append([rows[of[:, 1]] - rows[of[:, 0]] for of in ends])
    values = [metrics.parallelism(d) for side in sides for d in side]
    values += [metrics.alignment(b, a) for a, b in zip(*sides, strict=True)]
    for side in sides:
        values += metrics.direction_cosines(np.stack([d.mean(axis=0) for d in side])).ravel().tolist()
    return np.array(values, dtype=float)


@given(SEEDS, st.integers(3, 4), st.integers(1, 5), st.floats(0, 2), st.floats(-5, 5))
@FEW
def test_identity_4_probabilities_and_causal_metrics_do_not_see_a_change_of_basis(seed, m, dim, log_cond, shift):
    """(Aλ, A⁻ᵀγ + v) with cond(A) up to 100."""
    world = World(ConceptGraph.random(m, 0.5, seed=seed), ContextLaw.complete())
    rng = np.random.default_rng(seed)
    lam, gamma = rng.standard_normal((world.n_contexts, dim)), rng.standard_normal((world.n_tokens, dim))
    left, right = (ortho_group.rvs(dim, random_state=rng) if dim > 1 else np.ones((1, 1)) for _ in range(2))
    a = left * 10 ** (np.linspace(0, log_cond, dim) - log_cond / 2) @ right
    assert np.linalg.cond(a) <= 100 * (1 + 1e-9)
    other = lam @ a.T, gamma @ np.linalg.inv(a) + shift * rng.standard_normal(dim)
    np.testing.assert_allclose(softmax(*other), softmax(lam, gamma), rtol=RTOL)
    np.testing.assert_allclose(causal_geometry(world, *other), causal_geometry(world, lam, gamma), rtol=RTOL, atol=RTOL)


# Identity 5


def drifts(world: World, seed: int, initial_scale: float, predictor: str) -> np.ndarray:
    """Balancedness at 200 units of step × time, for a step and its half, quarter and eighth."""
    found = []
    # Symbols of the factored predictor see a third of all contexts: their step is that much smaller.
    first = 1.0 if predictor == "table" else 0.2
    parameters = np.eye(world.n_contexts)
    if predictor == "factored":
        # What changes of the symbols' vectors is in the span of the one-hots, so that it can be read off λ.
        parameters = np.linalg.pinv(world.context_features().astype(np.float64))
    with jax.enable_x64(True):
        for k in range(4):
            t = fit(
                world, dim=4, predictor=predictor, seed=seed, step_size=first / 2**k, steps=round(200 / first) * 2**k,
                initial_scale=initial_scale, n_snapshots=2, precision="float64",
            )  # fmt: skip
            lam, gamma = parameters @ t.embeddings[0], t.unembeddings[0]
            found.append(float(balancedness(lam[1], gamma[1], lam[0], gamma[0])))
    return np.array(found)


@pytest.mark.parametrize("initial_scale", [0.01, 0.3])
@pytest.mark.parametrize("law", ["complete", "at-most-1"])
@pytest.mark.parametrize("seed", range(3))
def test_identity_5_the_drift_of_balance_halves_with_the_step(seed, law, initial_scale):
    world = World(ConceptGraph.random(3, 0.5, seed=seed), ContextLaw.parse(law))
    found = drifts(world, seed, initial_scale, "table")
    ratios = found[:-1] / found[1:]
    assert ((ratios > 1.8) & (ratios < 2.2)).all(), ratios
    assert np.abs(ratios[-1] - 2) < np.abs(ratios[0] - 2) + 0.01  # nearer to 2 as the step shrinks
    assert found[0] > 1e-6  # and not zero by itself


@pytest.mark.parametrize("seed", range(3))
def test_identity_5_factored_embeddings_conserve_the_balance_of_their_parameters(seed):
    world = World(ConceptGraph.random(3, 0.5, seed=seed), ContextLaw.complete())
    found = drifts(world, seed, 0.3, "factored")
    ratios = found[:-1] / found[1:]
    assert ((ratios > 1.8) & (ratios < 2.2)).all(), ratios


def test_identity_5_does_not_hold_under_adam_or_of_factored_embeddings_themselves():
    world = World(ConceptGraph.random(3, 0.5, seed=0), ContextLaw.complete())
    for other in ({"optimizer": "adam", "step_size": 0.001}, {"predictor": "factored", "step_size": 0.025}):
        with jax.enable_x64(True):
            t = fit(world, dim=4, steps=3000, initial_scale=0.3, n_snapshots=2, precision="float64", **other)
        lam, gamma = t.embeddings[0], t.unembeddings[0]
        assert balancedness(lam[1], gamma[1], lam[0], gamma[0]) > 0.05
