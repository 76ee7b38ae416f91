"""World: tokens, tables, pairs, labels, refusals, memory."""

import tracemalloc

import numpy as np
import pytest

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry.pairs import ConceptPairs
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.presets import PRESETS, preset
from linrep.worlds.world import World

LAWS = ["complete", "at-most-2", "masked-0.4", "kept-0.5"]


def world(m: int = 4, law: str = "complete", seed: int = 0) -> World:
    return World(ConceptGraph.random(m, seed=seed), ContextLaw.parse(law))


def test_king_and_queen_follow_the_graph():
    """A context that fixes royal and human leaves female to P(female | royal, human); lions have no chance."""
    w = preset("royalty")
    assert isinstance(w.graph, ConceptGraph)
    row = w.p_token_given_context()[w.context_names.index("royal+ human+ female⋄")]
    queen, king = (w.token_names.index(f"royal+ human+ female{s}") for s in "+−")
    table = w.graph.tables[2]
    np.testing.assert_allclose(row[[queen, king]], [table[1, 1], 1 - table[1, 1]], rtol=1e-14)
    assert np.count_nonzero(row) == 2


def test_a_token_is_the_binary_number_of_its_assignment():
    w = world(3)
    assert w.token_concepts[6].tolist() == [1, 1, 0]
    assert w.token_names[6] == "110"
    assert (w.token_concepts @ [4, 2, 1]).tolist() == list(range(8))
    joint = w.graph.joint()
    for y, c in enumerate(w.token_concepts.tolist()):
        assert joint.ravel()[y] == joint[tuple(c)]


def test_a_context_with_minus_one_is_an_index_of_the_normalisers():
    w = world(4, "kept-0.5")
    log_z = w.log_normalisers()
    joint = w.graph.joint()
    for d in w.context_concepts.tolist():
        selected = joint[tuple(slice(None) if v == -1 else v for v in d)]
        assert log_z[tuple(d)] == pytest.approx(np.log(selected.sum()), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("block", [None, 1, 7, 10_000])
def test_blocks_are_the_same_numbers_as_the_table(law, block):
    w = world(4, law)
    blocks = list(w.p_token_given_context_blocks(block))
    assert np.array_equal(np.concatenate(blocks), w.p_token_given_context())
    if block is not None:
        assert max(map(len, blocks)) <= block


@pytest.mark.parametrize("law", LAWS)
def test_pairs_are_those_of_from_lists(law):
    w = world(4, law)
    for pairs in (w.token_pairs(), w.context_pairs()):
        lists = {n: [(a, b) for a, b in pairs.of(n).tolist()] for n in pairs.names}
        again = ConceptPairs.from_lists(lists, side=pairs.side)
        for field in ("names", "side", "families"):
            assert getattr(pairs, field) == getattr(again, field)
        for field in ("negative", "positive", "mask", "group"):
            assert np.array_equal(getattr(pairs, field), getattr(again, field))


def test_pairs_know_their_side_and_concepts():
    w = preset("royalty")
    assert (w.token_pairs().side, w.context_pairs().side) == ("unembedding", "embedding")
    assert w.token_pairs().names == w.context_pairs().names == ("royal", "human", "female")


def test_context_pairs_need_both_contexts_in_the_law():
    w = world(3, "at-most-0")
    assert w.context_pairs().n_pairs.tolist() == [0, 0, 0]
    complete = world(3).context_pairs()
    assert complete.n_pairs.tolist() == [9, 9, 9]
    kept = world(4, "kept-0.5").context_pairs()
    assert (kept.n_pairs < 27).all()
    assert kept.n_pairs.sum() > 0


def test_independent_concepts_factorise():
    graph = ConceptGraph.independent(4, seed=5)
    w = World(graph, ContextLaw.complete())
    p1 = np.array([float(t) for t in graph.tables])
    d, c = w.context_concepts[:, None, :], w.token_concepts[None, :, :]
    factors = np.where(d == -1, np.where(c == 1, p1, 1 - p1), d == c)
    np.testing.assert_allclose(w.p_token_given_context(), factors.prod(axis=-1), rtol=1e-12, atol=0)


def test_labels_are_readable_and_unique():
    for w in (world(3), preset("royalty")):
        for names, n in ((w.token_names, w.n_tokens), (w.context_names, w.n_contexts)):
            assert len(set(names)) == len(names) == n
    assert world(3).context_names[-1] == "⋄⋄⋄"
    assert preset("royalty").token_names[6] == "royal+ human+ female−"


def test_name_says_size_graph_and_law():
    assert world(5).name == "m=5 random(0.5) complete"
    assert World(ConceptGraph.tree(3), ContextLaw.masked(0.5)).name == "m=3 tree(2) masked-0.5"


def test_cached_arrays_are_read_only():
    w = world(3)
    for array in (w.context_concepts, w.p_context, w.token_concepts):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_everything_but_the_table_stays_small_at_ten_concepts():
    """The table of p(y|x) has 6^10 entries, 0.45 GiB; what does not need it takes a few of its rows' worth."""
    w = world(10)
    tracemalloc.start()
    w.log_normalisers()
    w.entropy_floor()
    w.p_token()
    next(w.p_token_given_context_blocks())
    w.context_pairs()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 6**10 / 5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: world(3, "at-most-4"), "at most 4 known concepts of 3"),
        (lambda: world(2, "kept-0.01"), "keeps none"),
        (lambda: world(11).p_token_given_context(), r"177147 contexts and 2048 tokens would take 2\.7 GiB"),
        (lambda: world(3).p_token_given_context_blocks(0), "block is 0"),
        (lambda: world(18, "at-most-1").log_normalisers(), r"all 3\^18 contexts would take 2\.89 GiB"),
        (lambda: world(18, "at-most-1").entropy_floor(), "GiB"),
        (lambda: world(18, "at-most-1").p_token(), "GiB"),
    ],
)
def test_bad_input_is_one_clear_line_before_any_large_allocation(build, message):
    tracemalloc.start()
    with pytest.raises(InvalidInputError, match=message) as info:
        build()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "\n" not in str(info.value)
    assert peak < 50e6


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build_from_a_seed(name):
    w = preset(name, seed=1)
    assert w.law.name == PRESETS[name].law
    assert np.array_equal(w.graph.joint(), preset(name, seed=1).graph.joint())
    assert 0 < w.entropy_floor() < w.graph.n_concepts * np.log(2)


def test_demo_worlds_share_their_graph_and_differ_by_seed():
    joint = preset("demo").graph.joint()
    assert np.array_equal(joint, preset("demo-few-known").graph.joint())
    assert not np.array_equal(joint, preset("demo", seed=1).graph.joint())
    assert preset("demo").graph.n_concepts == 5


def test_unknown_preset_names_near_misses():
    with pytest.raises(UnknownNameError, match=r"unknown preset 'demo-few': did you mean .*'demo-few-known'"):
        preset("demo-few")
