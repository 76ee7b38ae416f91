"""The built in sets: sizes, licences, no word twice, balanced templates, and files equal to their sources."""

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from linrep.concepts.lint import lint
from linrep.concepts.load import ConceptSet, ContextSet, file_stem, list_concepts, load_concepts, load_contexts

ROOT = Path(__file__).parents[3]
CONCEPTS, CONTEXTS = load_concepts(), load_contexts()
FURTHER = load_concepts(["English–German", "English–Spanish"])
TRANSLATIONS = ("English–French", "English–German", "English–Spanish")
MATCHED = [c for c in CONTEXTS if c.name != "winograd"]
(WINOGRAD,) = (c for c in CONTEXTS if c.name == "winograd")


@pytest.fixture(scope="module")
def build():
    """The generator as a module; only what it needs no linguistic package for is used here."""
    spec = importlib.util.spec_from_file_location("build_concepts", ROOT / "scripts" / "build_concepts.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("build_concepts", None)


def test_the_27_contrasts_in_their_order():
    assert list_concepts()[:3] == ("verb–3pSg", "verb–Ving", "verb–Ved") and list_concepts()[-1] == "German–Spanish"
    assert len(set(list_concepts())) == 27


@pytest.mark.parametrize("concept", CONCEPTS + FURTHER, ids=lambda c: c.name)
def test_header_and_pairs(concept: ConceptSet):
    assert concept.licence == "Apache-2.0" and concept.source and concept.family
    floor = {"pronoun–possessive": 12}.get(concept.name, 50)
    assert len(concept.pairs) >= floor
    assert all(a != b and a == a.strip() and b == b.strip() and " " not in a + b for a, b in concept.pairs)


@pytest.mark.parametrize("concept", CONCEPTS + FURTHER, ids=lambda c: c.name)
def test_every_word_once(concept: ConceptSet):
    twice = [w for w, n in Counter(w for p in concept.pairs for w in p).items() if n > 1]
    if concept.name == "thing–color":  # colours are few; things are not
        assert not set(twice) & {thing for thing, _ in concept.pairs}
    else:
        assert not twice


def test_verb_forms_share_no_verb():
    """The six concepts are differences of each other, so a shared verb would make their directions dependent."""
    verbs = Counter(w for c in CONCEPTS if c.family == "verb form" for pair in c.pairs for w in pair)
    assert [w for w, n in verbs.items() if n > 1] == []


def test_words_shared_between_families_are_the_known_few():
    shared = {
        frozenset((f.concept, f.message.split(" with ")[1].split(",")[0]))
        for f in lint(CONCEPTS, lambda w: None).findings
        if f.kind == "words shared between concepts" and f.severity == "warning"
    }
    assert shared == {frozenset(("small–big", "adj–superlative"))}


@pytest.mark.parametrize("contexts", CONTEXTS, ids=lambda c: c.name)
def test_contexts(contexts: ContextSet):
    """At least 200 pairs, equally many of each of 12 or more templates; six words or so a text."""
    assert contexts.licence == "Apache-2.0" and contexts.source
    templates = Counter(p.template for p in contexts.pairs)
    assert len(contexts.pairs) >= 200 and len(templates) >= 12 and len(set(templates.values())) == 1
    texts = [t for p in contexts.pairs for t in (p.negative, p.positive)]
    assert max(Counter((p.negative, p.positive) for p in contexts.pairs).values()) == 1
    assert not [t for t in texts if re.search(r"[\[\]{}|]|\s$|\s\s", t)]
    assert not [p.negative for p in contexts.pairs if re.search(r"\ba [aeiou]", p.negative)]
    lengths = [len(t.split()) for t in texts]
    assert min(lengths) >= 4 and sum(n >= 5 for n in lengths) > 0.8 * len(lengths)
    # The two sides are alike in length: the difference is the concept, not how much was read.
    assert 0.85 < sum(lengths[::2]) / sum(lengths[1::2]) < 1.18


@pytest.mark.parametrize("contexts", CONTEXTS, ids=lambda c: c.name)
def test_no_word_of_a_lexicon_dominates(contexts: ContextSet):
    def words(text: str) -> set[str]:
        return set(re.findall(r"\w+", text.lower())) - {"the", "our"}

    filled = Counter(w for p in contexts.pairs for w in words(p.negative) - words(p.template))
    assert max(filled.values()) <= 0.1 * len(contexts.pairs)


@pytest.mark.parametrize("contexts", CONTEXTS, ids=lambda c: c.name)
def test_templates_differ_by_more_than_a_word(contexts: ContextSet):
    frames = [set(re.findall(r"\w+", t.lower())) for t in {p.template for p in contexts.pairs}]
    for i, a in enumerate(frames):
        assert all(len(a ^ b) >= 3 for b in frames[:i])


@pytest.mark.parametrize("contexts", MATCHED, ids=lambda c: c.name)
def test_each_set_names_its_word_concept(contexts: ContextSet):
    assert contexts.unembedding_concept in {c.name for c in CONCEPTS + FURTHER}
    assert {p.continuations for p in contexts.pairs} == {None}


def test_endings():
    """Which sets have δ = 0 at layer 0 in every pair, in some, in none."""

    def alike(contexts: ContextSet) -> float:
        return sum(p.negative.split()[-1] == p.positive.split()[-1] for p in contexts.pairs) / len(contexts.pairs)

    share = {c.name: alike(c) for c in CONTEXTS}
    assert {n for n, s in share.items() if s == 0} == {"lower–upper", "comparative", *TRANSLATIONS}
    assert {n for n, s in share.items() if s == 1} == {"negation", "winograd"}


def test_contexts_have_no_finding():
    """No matched list word inside, no blank at the end, enough templates, no pair twice: only how pairs end."""
    concepts = CONCEPTS + FURTHER
    vocabulary = {w: i for i, w in enumerate(sorted({w for c in concepts for p in c.pairs for w in p}))}
    vocabulary |= {
        w: len(vocabulary) + i for i, w in enumerate({w for p in WINOGRAD.pairs for w in p.continuations or ()})
    }
    word_kinds = {"word in several pairs", "words shared between concepts"}
    found = [f for f in lint(concepts, vocabulary.get, CONTEXTS).findings if f.kind not in word_kinds]
    assert [(f.kind, f.severity, f.concept) for f in found] == [("endings", "note", c.name) for c in CONTEXTS]


def test_translations_share_their_english_texts():
    english = {tuple(p.negative for p in c.pairs) for c in CONTEXTS if c.name in TRANSLATIONS}
    assert len(english) == 1
    assert not set(*english) & {p.positive for c in CONTEXTS if c.name in TRANSLATIONS for p in c.pairs}


def test_winograd_pairs_differ_by_one_word_and_their_continuation_flips():
    assert WINOGRAD.unembedding_concept is None
    for pair in WINOGRAD.pairs:
        a, b = pair.negative.split(), pair.positive.split()
        assert len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1
        assert pair.continuations is not None
        right, wrong = pair.continuations
        assert right != wrong and " " not in right + wrong
        # Both stand in both texts, so neither is right because it is new or repeated.
        for text in (pair.negative, pair.positive):
            assert {right, wrong} <= set(re.findall(r"\w+", text))


def test_winograd_answers_cannot_be_guessed_from_order_or_word():
    """The right word of the negative text is the first one named in half of the pairs; no word favours a side."""
    both = [(p.negative, *p.continuations) for p in WINOGRAD.pairs if p.continuations]
    first = sum(re.search(rf"\b(?:{a}|{b})\b", text)[0] == a for text, a, b in both)  # type: ignore[index]
    assert first == len(both) / 2
    negative, positive = Counter(a for _, a, _ in both), Counter(b for _, _, b in both)
    assert all(abs(negative[w] - positive[w]) <= 1 for w in negative | positive)


def test_contexts_are_what_their_sources_say(build):
    for contexts in CONTEXTS:
        path = build.DATA / "contexts" / f"{file_stem(contexts.name)}.jsonl"
        written = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert written == build.context_records(contexts.name) == build.context_records(contexts.name)


def test_no_file_without_a_source(build):
    """`--check` compares the generated lists as well, but needs the linguistic packages."""
    names = [f"{file_stem(c.name)}.tsv" for c in CONCEPTS + FURTHER] + [f"{file_stem(c.name)}.jsonl" for c in CONTEXTS]
    assert sorted(p.name for p in build.DATA.rglob("*.*")) == sorted(names)


def test_translated_pair_lists_are_rows_of_their_source(build):
    """English–German and English–Spanish, without the package that leaves out homographs."""
    lines = (build.SOURCES / "languages.tsv").read_text(encoding="utf-8").splitlines()
    table = [line.split("\t") for line in lines if line and not line.startswith("#")]
    for concept, column in zip(FURTHER, (2, 3), strict=True):
        rows = [(row[0], row[column]) for row in table]
        assert [p for p in rows if p in set(concept.pairs)] == list(concept.pairs) and concept.family == "language"


def test_handwritten_pairs_are_what_their_source_says(build):
    built = build.handwritten() | {
        "lower–upper": build.lower_upper(build.read_toml("words.toml")),
        "adj–adj+ly": build.adverbs(build.read_toml("words.toml")),
    }
    by_name = {c.name: c for c in CONCEPTS}
    for name, (family, source, _, pairs) in built.items():
        assert by_name[name].pairs == tuple(pairs) and by_name[name].family == family
        assert by_name[name].source == source


def test_adverbs_by_rule(build):
    words = {"ly_adjectives": "slow happy basic gentle public final polite"}
    assert build.adverbs(words)[3] == [
        ("slow", "slowly"), ("happy", "happily"), ("basic", "basically"), ("gentle", "gently"),
        ("public", "publicly"), ("final", "finally"), ("polite", "politely"),
    ]  # fmt: skip
