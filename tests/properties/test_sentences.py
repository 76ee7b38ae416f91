"""What must hold for the sentences of any world: they say what their context knows, and change no probability."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linrep.errors import InvalidInputError
from linrep.worlds.categorical import CategoricalGraph
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.sentences import SentenceWorld
from linrep.worlds.vocabulary import Vocabulary
from linrep.worlds.world import World

renderings = st.fixed_dictionaries(
    {
        "renderings": st.integers(1, 3),
        "fillers": st.integers(0, 3),
        "filler_words": st.integers(1, 4),
        "paraphrases": st.integers(1, 3),
        "mentions": st.integers(0, 2),
        "seed": st.integers(0, 2**32),
    }
)
worlds = st.tuples(
    st.sampled_from(["binary", "three values", "synonyms", "nuisance"]),
    st.integers(2, 4),
    st.sampled_from(["complete", "at-most-1", "at-most-2", "masked-0.3", "kept-0.5-seed3"]),
    st.integers(0, 10**6),
)
SOME = settings(max_examples=40, deadline=None)


def build(drawn: tuple[str, int, str, int], rendering: dict[str, Any]) -> SentenceWorld:
    kind, m, law, seed = drawn
    vocabulary = Vocabulary(
        synonyms=2 if kind == "synonyms" else 1,
        nuisance=2 if kind == "nuisance" else 0,
        nuisance_share=0.1,
    )
    graph = (
        CategoricalGraph.random((3,) * m, 0.5, seed=seed)
        if kind == "three values"
        else ConceptGraph.random(m, 0.5, seed=seed)
    )
    return SentenceWorld(World(graph, ContextLaw.parse(law), vocabulary), **rendering)


def read(sentences: SentenceWorld, row: np.ndarray) -> list[int]:
    """What a sentence says, from its words alone: ⋄ where no word speaks of a concept."""
    names = sentences.graph.names
    d = [-1] * len(names)
    for word in (sentences.words[w] for w in row.tolist()):
        if "=" in word:
            concept, value = word.split("/")[0].split("=")
            assert d[names.index(concept)] == -1, "said twice"
            d[names.index(concept)] = int(value)
    return d


@given(worlds, renderings)
@SOME
def test_a_sentence_says_what_its_context_knows_and_ends_in_the_query(drawn, rendering):
    s = build(drawn, rendering)
    assert len(set(s.words)) == len(s.words)
    for k, row in enumerate(s.sequences):
        assert read(s, row) == s.context_concepts[k].tolist() == s.world.context_concepts[k // s.renderings].tolist()
        said = np.flatnonzero(row)
        n_known = (s.context_concepts[k] >= 0).sum()
        assert len(said) == n_known + s.fillers + s.mentions + 1
        assert said.tolist() == list(range(s.length - len(said), s.length))  # pads are on the left
        assert (row == 1).sum() == 1
        assert row[-1] == 1


@given(worlds, renderings)
@SOME
def test_every_row_has_the_probabilities_of_its_context(drawn, rendering):
    s = build(drawn, rendering)
    w, r = s.world, s.renderings
    p, of = s.p_token_given_context(), w.p_token_given_context()
    assert s.n_contexts == len(p) == r * w.n_contexts
    for k in range(s.n_contexts):
        np.testing.assert_array_equal(p[k], of[k // r])
        assert s.p_context[k] == w.p_context[k // r] / r
    np.testing.assert_array_equal(np.concatenate(list(s.p_token_given_context_blocks(2))), p)
    np.testing.assert_allclose([p.sum(axis=1).min(), p.sum(axis=1).max(), s.p_context.sum()], 1, rtol=1e-12)
    np.testing.assert_allclose(s.p_context @ p, s.p_token(), rtol=1e-10)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    np.testing.assert_allclose(-(s.p_context[:, None] * p * logs).sum(), s.entropy_floor(), rtol=1e-10, atol=1e-12)
    assert s.entropy_floor() == w.entropy_floor()


@given(worlds, renderings)
@SOME
def test_pairs_are_sentences_that_differ_in_one_word_of_the_concept_and_in_mentions(drawn, rendering):
    s = build(drawn, rendering)
    pairs, r = s.context_pairs(), s.renderings
    of_world = s.world.context_pairs()
    assert pairs.names == of_world.names
    first_mention = len(s.words) - s.n_tokens if s.mentions else len(s.words)
    for k, name in enumerate(pairs.names):
        concept = name.split(":")[0]
        rows = pairs.of(name)
        expected = {(a * r + j, b * r + j) for a, b in of_world.of(name).tolist() for j in range(r)}
        assert set(map(tuple, rows.tolist())) == expected
        assert len(rows) == len(expected)
        for a, b in rows.tolist():
            differ = s.sequences[a] != s.sequences[b]
            changed = [(u, v) for u, v in zip(s.sequences[a][differ], s.sequences[b][differ], strict=True)
                       if u < first_mention or v < first_mention]  # fmt: skip
            assert len(changed) == 1
            u, v = (s.words[w] for w in changed[0])
            assert u.split("=")[0] == v.split("=")[0] == concept
        groups = pairs.group[k][pairs.mask[k]]
        assert sorted(np.unique(groups, return_counts=True)[1].tolist()) == [r] * len(of_world.of(name))
        contexts = {g: a // r for g, (a, _) in zip(groups.tolist(), rows.tolist(), strict=True)}
        assert all(contexts[g] == a // r for g, (a, _) in zip(groups.tolist(), rows.tolist(), strict=True))


@given(worlds, renderings)
@SOME
def test_mentioned_tokens_agree_with_the_context(drawn, rendering):
    s = build(drawn, rendering | {"mentions": 2})
    first = len(s.words) - s.n_tokens
    assert s.words[first:] == s.token_names
    for row, p in zip(s.sequences, s.p_token_given_context(), strict=True):
        tokens = row[row >= first] - first
        assert len(tokens) == 2
        assert (p[tokens] > 0).all()
        assert (s.token_concepts[tokens] >= 0).all()  # a nuisance token says nothing: it is not mentioned


@given(worlds, renderings)
@SOME
def test_features_are_one_hots_of_the_words(drawn, rendering):
    s = build(drawn, rendering)
    features = s.context_features()
    assert features.shape == (s.n_contexts, s.length, len(s.words))
    np.testing.assert_array_equal(features.sum(axis=2), 1)
    np.testing.assert_array_equal(features.argmax(axis=2), s.sequences)


def test_renderings_of_one_context_differ():
    """At the defaults two known concepts have 3! orders, 4 fillers and 2² paraphrases, 96 layouts: few coincide."""
    s = SentenceWorld(World(ConceptGraph.random(5, 0.5, seed=0), ContextLaw.complete()))
    same = (s.sequences[::2] == s.sequences[1::2]).all(axis=1)
    assert same.mean() < 0.05
    orders = {tuple(w.split("=")[0] for w in name.split() if "=" in w) for name in s.context_names[: 2 * 8]}
    assert len(orders) > 1
    words = {w for name in s.context_names for w in name.split()}
    assert words == set(s.words) - {"·"}  # everything is said somewhere


def test_a_layout_depends_on_the_seed_and_not_on_the_law():
    graph = ConceptGraph.random(4, 0.5, seed=0)
    whole, few = (SentenceWorld(World(graph, ContextLaw.parse(law))) for law in ("complete", "at-most-2"))
    position = {tuple(d): k for k, d in enumerate(whole.world.context_concepts.tolist())}
    for k, d in enumerate(few.world.context_concepts.tolist()):
        at = position[tuple(d)]
        np.testing.assert_array_equal(few.sequences[2 * k : 2 * k + 2], whole.sequences[2 * at : 2 * at + 2])
    other = SentenceWorld(whole.world, seed=1)
    assert (other.sequences != whole.sequences).any(axis=1).mean() > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"renderings": 0}, "renderings is 0: it must be at least 1"),
        ({"fillers": -1}, "fillers is -1: it must be at least 0"),
        ({"filler_words": 0}, "filler_words is 0: it must be at least 1"),
        ({"paraphrases": 0}, "paraphrases is 0: it must be at least 1"),
        ({"mentions": -2}, "mentions is -2: it must be at least 0"),
        ({"seed": -1}, "the seed is -1: it must be a whole number of at least 0"),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    world = World(ConceptGraph.chain(2), ContextLaw.complete())
    with pytest.raises(InvalidInputError) as caught:
        SentenceWorld(world, **changes)
    assert str(caught.value) == message


def test_what_does_not_fit_in_memory_is_refused():
    big = SentenceWorld(World(ConceptGraph.chain(10), ContextLaw.complete()), renderings=4)
    with pytest.raises(InvalidInputError, match=r"sentences with 12 positions and 46 words would take .* GiB"):
        SentenceWorld(big.world, renderings=10).context_features()
    with pytest.raises(InvalidInputError, match="236196 sentences and 1024 tokens would take"):
        big.p_token_given_context()
