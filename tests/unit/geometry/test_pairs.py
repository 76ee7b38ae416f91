"""ConceptPairs: padding, mask, sampling units, refusals."""

import importlib.util
import sys
from types import ModuleType

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry import pairs
from linrep.geometry.pairs import ConceptPairs, DroppedPair, shared_row_groups


def without_type_checks(module: ModuleType) -> ModuleType:
    """The same module as a caller sees it, without the tests' own shape checks (which would speak first)."""
    name = f"plain_{module.__name__.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    plain = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    return plain


pair = st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda p: p[0] != p[1])
pair_lists = st.lists(pair, max_size=12, unique=True)


@given(st.lists(pair_lists, min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_nothing_is_lost_or_invented_by_padding(lists):
    p = ConceptPairs.from_lists({f"c{i}": rows for i, rows in enumerate(lists)})
    assert p.mask.shape == (len(lists), max(map(len, lists)))
    assert p.n_pairs.tolist() == [len(rows) for rows in lists]
    for i, rows in enumerate(lists):
        assert list(map(tuple, p.of(f"c{i}").tolist())) == rows
        assert p.mask[i].tolist() == [True] * len(rows) + [False] * (p.mask.shape[1] - len(rows))
        assert len(p.groups_of(f"c{i}")) == len(rows)
    for array in (p.negative, p.positive, p.group):
        assert not array[~p.mask].any()


@given(pair_lists)
@settings(max_examples=200, deadline=None)
def test_groups_are_connected_components(rows):
    components = list(nx.connected_components(nx.Graph(rows)))
    expected = [next(i for i, c in enumerate(components) if a in c) for a, _ in rows]
    found = shared_row_groups(rows)
    for j in range(len(rows)):
        for k in range(len(rows)):
            assert (found[j] == found[k]) == (expected[j] == expected[k])
    units = ConceptPairs.from_lists({"c": rows}).groups_of("c")
    assert set(units.tolist()) == set(range(len(components)))


def test_given_groups_are_kept_and_numbered_from_zero():
    p = ConceptPairs.from_lists({"c": [(0, 1), (2, 3), (4, 5)]}, groups={"c": [70, 30, 70]})
    assert p.groups_of("c").tolist() == [1, 0, 1]


def test_families_default_to_the_names_and_dropped_pairs_are_kept():
    dropped = DroppedPair("b", "x", "y", "not a single token")
    p = ConceptPairs.from_lists({"a": [(0, 1)], "b": []}, families={"b": "verbs"}, dropped=[dropped])
    assert p.families == ("a", "verbs")
    assert p.dropped == (dropped,)
    assert p.of("b").shape == (0, 2)


@pytest.mark.parametrize(
    ("build", "seen"),
    [
        (lambda: ConceptPairs.from_lists({"c": [(1, 1)]}), "(1, 1)"),
        (lambda: ConceptPairs.from_lists({"c": [(-1, 1)]}), "(-1, 1)"),
        (lambda: ConceptPairs.from_lists({"c": [(0, 1), (2, 3), (0, 1)]}), "(0, 1)"),
        (lambda: ConceptPairs.from_lists({"c": [(0, 1)]}, groups={"c": [0, 1]}), "2 groups"),
        (lambda: ConceptPairs.from_lists({"c": [(0, 1)]}, groups={"d": [0]}), "0 groups"),
        (lambda: ConceptPairs.from_lists({"c": [(0, 7)]}).check_rows(7), "row 7"),
    ],
)
def test_bad_pairs_are_one_clear_line(build, seen):
    with pytest.raises(InvalidInputError) as e:
        build()
    assert seen in str(e.value)
    assert "\n" not in str(e.value)


def test_arrays_of_another_shape_and_repeated_names_are_refused():
    good = ConceptPairs.from_lists({"a": [(0, 1)], "b": [(2, 3), (4, 5)]})
    for names, mask, families, seen in (
        (("a", "a"), good.mask, (), "seen twice: a"),
        (("a", "b"), good.mask[:1], (), "mask has shape (1, 2)"),
        (("a", "b"), good.mask, ("x",), "1 families for 2 concepts"),
    ):
        with pytest.raises(InvalidInputError) as e:
            without_type_checks(pairs).ConceptPairs(
                names, good.negative, good.positive, mask, good.group, families=families
            )
        assert seen in str(e.value)


def test_an_unknown_concept_lists_its_near_misses():
    with pytest.raises(UnknownNameError, match=r"unknown concept 'gendr': did you mean 'gender'\?"):
        ConceptPairs.from_lists({"gender": [(0, 1)], "tense": [(0, 1)]}).of("gendr")


def test_rows_of_the_last_token_pass_the_check():
    ConceptPairs.from_lists({"c": [(0, 6)]}).check_rows(7)
