"""Names, orders, rows: what loading and `token_pairs` / `context_pairs` promise."""

from pathlib import Path

import numpy as np
import pytest

from linrep.concepts.load import (
    ConceptSet,
    ContextPair,
    ContextSet,
    context_pairs,
    continuation_rows,
    list_concepts,
    list_contexts,
    load_concepts,
    load_contexts,
    token_pairs,
)
from linrep.errors import InvalidInputError, UnknownNameError


@pytest.mark.parametrize("spelling", ["male–female", "male-female", "Male-Female", " MALE—FEMALE ", "male→female"])
def test_names_in_any_case_and_with_any_dash(spelling: str):
    assert load_concepts([spelling])[0].name == "male–female"
    assert load_concepts(spelling) == load_concepts([spelling])
    assert load_contexts([spelling])[0].name == "male–female"


def test_order_is_the_order_asked_for():
    assert [c.name for c in load_concepts(["verb-v+er", "male-female", "3psg-ved"])] == [
        "verb–V+er",
        "male–female",
        "3pSg–Ved",
    ]


def test_unknown_names_list_near_misses():
    with pytest.raises(UnknownNameError, match=r"unknown concept 'male-femal'.*did you mean 'male–female'"):
        load_concepts(["male-femal"])
    with pytest.raises(UnknownNameError, match=r"unknown context set 'negations'.*'negation'"):
        load_contexts(["negations"])


def test_two_sets_of_one_name_are_refused(tmp_path: Path):
    path = tmp_path / "x.tsv"
    path.write_text("# name: male–female\ncat\tdog\nkitten\tpuppy\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match="two sets are named 'male–female'"):
        load_concepts(["male-female", path])
    with pytest.raises(InvalidInputError, match="two sets are named"):
        load_contexts(["negation", "negation"])


def test_built_in_and_own_sets_mix(tmp_path: Path):
    path = tmp_path / "pets.tsv"
    path.write_text("cat\tdog\nkitten\tpuppy\n", encoding="utf-8")
    assert [c.name for c in load_concepts(["small-big", str(path)])] == ["small–big", "pets"]


def test_reasons_of_dropped_pairs():
    rows = {"a": 0, "b": 1, "c": 2, "B": 1}
    pairs = (("a", "b"), ("a", "x"), ("y", "b"), ("x", "y"), ("a", "b"), ("b", "a"), ("b", "B"), ("a", "B"), ("a", "c"))
    p = token_pairs([ConceptSet("t", pairs, "fam")], rows.get)
    assert p.of("t").tolist() == [[0, 1], [0, 2]]
    assert p.families == ("fam",) and p.side == "unembedding"
    assert [(d.negative, d.positive, d.reason) for d in p.dropped] == [
        ("a", "x", "'x' is not a single token"),
        ("y", "b", "'y' is not a single token"),
        ("x", "y", "'x' and 'y' are not single tokens"),
        ("a", "b", "duplicate pair"),
        ("b", "a", "reverse of an earlier pair"),
        ("b", "B", "same token"),
        ("a", "B", "duplicate pair"),
    ]
    # Two pairs that share "a" are one sampling unit.
    assert len(set(p.groups_of("t").tolist())) == 1


def test_letter_case_is_kept():
    p = token_pairs([ConceptSet("case", (("king", "King"), ("a", "A")), "case")], {"king": 4, "King": 9, "a": 1}.get)
    assert p.of("case").tolist() == [[4, 9]]


def test_context_pairs_rows_groups_and_dropped():
    pairs = tuple(
        ContextPair(*p)
        for p in [("a", "b", "t1"), ("b", "a", "t1"), ("a", "c", "t2"), ("a", "b", "t3"), ("d", "d", "t3")]
    )
    texts, p = context_pairs([ContextSet("x", pairs), ContextSet("y", (ContextPair("c", "e", "t"),))])
    assert texts == ("a", "b", "c", "e") and p.side == "embedding"
    assert p.of("x").tolist() == [[0, 1], [1, 0], [0, 2]] and p.of("y").tolist() == [[2, 3]]
    assert p.groups_of("x").tolist() == [0, 0, 1]
    assert [d.reason for d in p.dropped] == ["duplicate pair", "the two texts are equal"]


def test_continuation_rows_in_the_order_of_context_pairs():
    rows = {"on": 4, "off": 9, "ON": 4}
    pairs = tuple(
        ContextPair(a, b, t, c)
        for a, b, t, c in [
            ("a", "b", "t1", ("on", "off")),
            ("a", "c", "t1", ("on", "of")),
            ("d", "d", "t2", ("on", "off")),
            ("a", "b", "t2", ("off", "on")),
            ("e", "f", "t2", ("on", "ON")),
            ("g", "h", "t3", ("x", "y")),
            ("b", "a", "t3", ("off", "on")),
        ]
    )
    kept, found, dropped = continuation_rows(ContextSet("w", pairs), rows.get)
    assert found.tolist() == [[4, 9], [9, 4]] and kept.pairs == (pairs[0], pairs[-1])
    assert [d.reason for d in dropped] == [
        "continuations: 'of' is not a single token",
        "the two texts are equal",
        "duplicate pair",
        "continuations: same token",
        "continuations: 'x' and 'y' are not single tokens",
    ]
    _, again = context_pairs([kept])
    assert again.of("w").tolist() == [[0, 1], [1, 0]] and again.dropped == ()
    assert again.groups_of("w").tolist() == [0, 1]


def test_a_set_without_continuations_has_no_rows():
    with pytest.raises(InvalidInputError, match=r"context set 'negation' has no continuations; give .*negation\.jsonl"):
        continuation_rows(load_contexts("negation")[0], {}.get)


def test_a_concept_without_measurable_pairs_stays_listed():
    p = token_pairs(
        [ConceptSet("none", (("a", "b"),), "f"), ConceptSet("some", (("c", "d"),), "f")], {"c": 0, "d": 1}.get
    )
    assert p.names == ("none", "some") and p.n_pairs.tolist() == [0, 1]
    np.testing.assert_array_equal(p.of("none"), np.zeros((0, 2)))


def test_lists_name_what_loads():
    assert tuple(c.name for c in load_concepts()) == list_concepts() and len(list_concepts()) == 27
    assert tuple(c.name for c in load_contexts()) == list_contexts() and len(list_contexts()) == 11


def test_two_further_concepts_are_loaded_by_name_only():
    assert [c.name for c in load_concepts(["english-german", "English–Spanish"])] == [
        "English–German",
        "English–Spanish",
    ]
    assert not {"English–German", "English–Spanish"} & set(list_concepts())
