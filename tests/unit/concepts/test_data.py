"""The built in sets: sizes, licences, no word twice, contexts that end alike, and files equal to their sources."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from linrep.concepts.lint import lint
from linrep.concepts.load import ConceptSet, ContextSet, list_concepts, load_concepts, load_contexts

ROOT = Path(__file__).parents[3]
CONCEPTS, CONTEXTS = load_concepts(), load_contexts()


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


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.name)
def test_header_and_pairs(concept: ConceptSet):
    assert concept.licence == "Apache-2.0" and concept.source and concept.family
    floor = {"pronoun–possessive": 12}.get(concept.name, 50)
    assert len(concept.pairs) >= floor
    assert all(a != b and a == a.strip() and b == b.strip() and " " not in a + b for a, b in concept.pairs)


@pytest.mark.parametrize("concept", CONCEPTS, ids=lambda c: c.name)
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
    """At least 100 pairs of 10 templates; the two texts end in the same word and hold six words or so."""
    assert contexts.licence == "Apache-2.0" and contexts.source
    assert contexts.unembedding_concept in list_concepts()
    assert len(contexts.pairs) >= 100 and len({p.template for p in contexts.pairs}) >= 10
    texts = [t for p in contexts.pairs for t in (p.negative, p.positive)]
    assert max(Counter((p.negative, p.positive) for p in contexts.pairs).values()) == 1
    assert not [t for t in texts if re.search(r"[\[\]{}|]|\s$|\s\s", t)]
    lengths = [len(t.split()) for t in texts]
    assert min(lengths) >= 4 and sum(n >= 6 for n in lengths) > 0.8 * len(lengths)


def test_contexts_have_no_finding():
    """No aligned list word inside, equal endings, no blank at the end, enough templates."""
    vocabulary = {w: i for i, w in enumerate(sorted({w for c in CONCEPTS for p in c.pairs for w in p}))}
    names = {c.name for c in CONTEXTS}
    words = {c.name for c in CONCEPTS}
    findings = lint(CONCEPTS, vocabulary.get, CONTEXTS).findings
    assert [f for f in findings if f.concept in names - words] == []
    word_kinds = {"word in several pairs", "words shared between concepts"}
    assert [f for f in findings if f.kind not in word_kinds] == []


def test_contexts_are_what_their_templates_say(build):
    source = build.read_toml("contexts.toml")
    for contexts in CONTEXTS:
        _, *records = build.context_records(contexts.name, source)
        assert [(r["negative"], r["positive"]) for r in records] == [(p.negative, p.positive) for p in contexts.pairs]


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
