"""Conservation: every listed pair is measured or dropped with a reason, whatever the list and the vocabulary."""

import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from linrep.concepts.formats import read_context_pairs, read_word_pairs
from linrep.concepts.lint import lint
from linrep.concepts.load import ConceptSet, ContextPair, ContextSet, context_pairs, continuation_rows, token_pairs

words = st.sampled_from([f"{c}{i}" for c in "ab" for i in range(5)])
pair_lists = st.lists(st.tuples(words, words), max_size=12)
concept_lists = st.lists(pair_lists, max_size=3)
# Several words may be one token: a vocabulary that folds case or accents.
vocabularies = st.dictionaries(words, st.integers(0, 6))


@given(concept_lists, vocabularies)
def test_each_listed_pair_is_measured_or_dropped(lists: list, rows: dict):
    concepts = [ConceptSet(f"c{i}", tuple(pairs), "f") for i, pairs in enumerate(lists)]
    measured = token_pairs(concepts, rows.get)
    for concept in concepts:
        dropped = [(d.negative, d.positive) for d in measured.dropped if d.concept == concept.name]
        kept = Counter(concept.pairs) - Counter(dropped)
        assert len(measured.of(concept.name)) + len(dropped) == len(concept.pairs)
        # The kept pairs are exactly the rows of the listed pairs that were not dropped, no row pair twice.
        assert Counter((rows[a], rows[b]) for a, b in kept.elements()) == Counter(
            (a, b) for a, b in measured.of(concept.name).tolist()
        )
        unordered = [frozenset(p) for p in measured.of(concept.name).tolist()]
        assert len(set(unordered)) == len(unordered) and all(len(p) == 2 for p in unordered)
    assert all(d.reason for d in measured.dropped)


@given(concept_lists, vocabularies, st.data())
def test_a_larger_vocabulary_loses_no_pair(lists: list, rows: dict, data: st.DataObject):
    """Adding a word with a row of its own never loses a pair."""
    concepts = [ConceptSet(f"c{i}", tuple(pairs), "f") for i, pairs in enumerate(lists)]
    word = data.draw(words)
    larger = rows | ({} if word in rows else {word: 99})
    before, after = token_pairs(concepts, rows.get), token_pairs(concepts, larger.get)
    assert (after.n_pairs >= before.n_pairs).all()


texts = st.text("xyz ", min_size=1, max_size=3)
context_lists = st.lists(st.lists(st.builds(ContextPair, texts, texts, st.sampled_from("st")), max_size=8), max_size=3)


@given(context_lists)
def test_context_pairs_are_conserved_and_texts_distinct(lists: list):
    sets = [ContextSet(f"c{i}", tuple(pairs)) for i, pairs in enumerate(lists)]
    rows, pairs = context_pairs(sets)
    assert len(set(rows)) == len(rows)
    for s in sets:
        dropped = Counter((d.negative, d.positive) for d in pairs.dropped if d.concept == s.name)
        kept = [(rows[a], rows[b]) for a, b in pairs.of(s.name).tolist()]
        assert Counter(kept) + dropped == Counter((p.negative, p.positive) for p in s.pairs)
        templates = {(p.negative, p.positive): p.template for p in reversed(s.pairs)}
        by_group = {(g, templates[p]) for g, p in zip(pairs.groups_of(s.name).tolist(), kept, strict=True)}
        # One group is one template, one template one group.
        assert len(by_group) == len({g for g, _ in by_group}) == len({t for _, t in by_group})


@given(concept_lists, vocabularies)
def test_lint_counts_what_token_pairs_drops(lists: list, rows: dict):
    concepts = [ConceptSet(f"c{i}", tuple(pairs), "f") for i, pairs in enumerate(lists)]
    report, measured = lint(concepts, rows.get), token_pairs(concepts, rows.get)
    reasons = {"not a single token", "duplicate pair", "reverse of an earlier pair", "same token"}
    assert sum(len(f.items) for f in report.findings if f.kind in reasons) == len(measured.dropped)
    assert sum(c.listed - c.measured for c in report.coverage) == len(measured.dropped)


word = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6).filter(lambda w: w[0] != "#")


@given(st.lists(st.tuples(word, word), min_size=2), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_tsv_round_trip(pairs: list, newline: str, mark: bool):
    text = newline.join("\t".join(p) for p in pairs) + newline
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tsv"
        path.write_bytes(text.encode("utf-8-sig" if mark else "utf-8"))
        header, rows = read_word_pairs(path)
    assert header == {} and [(a, b) for a, b, _ in rows] == pairs


continued = st.builds(ContextPair, texts, texts, st.sampled_from("st"), st.tuples(words, words))


@given(st.lists(continued, max_size=10), vocabularies)
def test_continuations_are_conserved_and_in_the_order_of_context_pairs(pairs: list, rows: dict):
    context = ContextSet("w", tuple(pairs))
    kept, found, dropped = continuation_rows(context, rows.get)
    assert len(kept.pairs) + len(dropped) == len(pairs) and all(d.reason for d in dropped)
    assert found.tolist() == [[rows[w] for w in p.continuations or ()] for p in kept.pairs]
    assert all(a != b for a, b in found.tolist())
    text, again = context_pairs([kept])
    assert [(text[a], text[b]) for a, b in again.of("w").tolist()] == [(p.negative, p.positive) for p in kept.pairs]
    # A pair is lost only for its texts or for a continuation that is no token of its own.
    for pair in pairs:
        a, b = (rows.get(w) for w in pair.continuations)
        if pair.negative != pair.positive and a is not None and b is not None and a != b:
            assert (pair.negative, pair.positive) in {(p.negative, p.positive) for p in kept.pairs}


filled = st.text(min_size=1, max_size=8).filter(lambda t: bool(t.strip()))
continuation = st.lists(word.filter(lambda w: len(w.split()) == 1), min_size=2, max_size=2, unique=True)


@given(st.lists(st.tuples(filled, filled, st.text(max_size=4), continuation), min_size=2, max_size=5), st.booleans())
def test_context_round_trip(pairs: list, right: bool):
    keys = ("negative", "positive", "template", "continuations")
    records = [dict(zip(keys if right else keys[:3], pair, strict=False)) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        path.write_text("\n".join(json.dumps(r) for r in [{"name": "n"}, *records]), encoding="utf-8")
        header, rows = read_context_pairs(path)
    assert header == {"name": "n"}
    assert rows == [(a, b, t, tuple(c) if right else None) for a, b, t, c in pairs]
