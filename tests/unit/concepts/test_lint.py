"""Each kind of finding appears for its cause and not without it."""

import json

from linrep.concepts.lint import Coverage, Finding, LintReport, lint
from linrep.concepts.load import ConceptSet, ContextPair, ContextSet

WORDS = tuple((f"a{i}", f"b{i}") for i in range(9))
ROWS = {w: k for k, w in enumerate(w for p in WORDS for w in p)}
CLEAN = ConceptSet("clean", WORDS, "f")


def contexts(*extra: ContextPair, aligned: str | None = "clean") -> ContextSet:
    pairs = tuple(ContextPair(f"x {i} end", f"y {i} end", f"t{i}") for i in range(9))
    return ContextSet("ctx", pairs + extra, aligned)


def found(report: LintReport, kind: str) -> Finding:
    (finding,) = [f for f in report.findings if f.kind == kind]
    return finding


def test_clean_sets_have_no_finding_but_how_they_end():
    report = lint([CLEAN], ROWS.get, [contexts()])
    assert [(f.severity, f.kind, f.items) for f in report.findings] == [("note", "endings", ())]
    assert report.findings[0].message.startswith("9 of 9 pairs (100%) end in the same word")
    assert report.coverage == (Coverage("clean", "words", 9, 9), Coverage("ctx", "contexts", 9, 9))


def test_dropped_pairs_by_reason():
    report = lint([ConceptSet("c", (*WORDS, ("a0", "zz"), ("a0", "b0"), ("b1", "a1")), "f")], ROWS.get)
    missing = found(report, "not a single token")
    assert (missing.severity, missing.items) == ("note", ("a0 / zz: 'zz' is not a single token",))
    assert found(report, "duplicate pair").severity == "warning"
    assert found(report, "reverse of an earlier pair").items == ("b1 / a1",)
    assert report.coverage[0] == Coverage("c", "words", 12, 9)


def test_too_few_pairs():
    assert found(lint([ConceptSet("c", WORDS[:7], "f")], ROWS.get), "too few pairs").severity == "warning"
    assert found(lint([ConceptSet("c", WORDS[:3], "f")], {"a0": 0, "b0": 1}.get), "too few pairs").severity == "error"


def test_hub_words():
    report = lint([ConceptSet("c", (*WORDS, ("a0", "b5")), "f")], ROWS.get)
    assert set(found(report, "word in several pairs").items) == {"a0", "b5"}


def test_shared_words_are_a_warning_only_across_families():
    for family, severity in (("f", "note"), ("g", "warning")):
        finding = found(
            lint([CLEAN, ConceptSet("c", (("a0", "c0"), ("b3", "c1")), family)], ROWS.get),
            "words shared between concepts",
        )
        assert (finding.severity, finding.items) == (severity, ("a0", "b3"))


def test_context_findings():
    bad = contexts(
        ContextPair("A4 is here end", "the a3, he says end", "t"),
        ContextPair("so much for b2", "so little for b2", "t"),
        ContextPair("one", "two", "t"),
        ContextPair("same", "same", "t"),
        ContextPair("blank ", "space ", "t"),
        ContextPair("x 0 end", "y 0 end", "t"),
    )
    report = lint([CLEAN], ROWS.get, [bad])
    assert set(found(report, "list words in contexts").items) == {"a4", "a3", "b2"}
    assert found(report, "ends with a target word").items == ("so much for b2", "so little for b2")
    assert found(report, "endings").items == ("…one / …two", "…blank / …space")
    assert found(report, "endings").message.startswith("12 of 14 pairs (86%) end in the same word")
    assert found(report, "the two texts are equal").severity == "error"
    assert found(report, "duplicate pair").items == ("x 0 end",)
    assert found(report, "white space at the end").items == ("blank ", "space ")
    assert report.coverage[1] == Coverage("ctx", "contexts", 15, 13)


def test_few_templates_and_no_matching_concept():
    one = ContextSet("ctx", tuple(ContextPair(f"x {i} end", f"y {i} end", "t") for i in range(9)), "other")
    report = lint([CLEAN], ROWS.get, [one])
    assert found(report, "few templates").severity == "warning"
    assert "'other' is not among the concepts" in found(report, "no matching concept").message
    assert [f.kind for f in lint([CLEAN], ROWS.get, [contexts(aligned=None)]).findings] == ["endings"]


def test_continuations():
    """Words the vocabulary lacks are noted with their reason; texts that are far apart are no minimal pair."""
    pairs = [ContextPair(f"it {i} x end", f"it {i} y end", f"t{i}", WORDS[i]) for i in range(9)]
    clean = lint([], ROWS.get, [ContextSet("w", tuple(pairs))])
    assert [f.kind for f in clean.findings] == ["endings"]
    pairs += [
        ContextPair("one x end", "one y end", "t", ("a0", "zz")),
        ContextPair("two x end", "two y end", "t", ("q", "zz")),
        ContextPair("a b c end", "d e f end", "t", ("a0", "b0")),
        ContextPair("so a b c d end", "so a end", "t", ("a0", "b0")),
        ContextPair("so a b c d e", "so f b c g e", "t", ("a0", "b0")),
    ]
    report = lint([], ROWS.get, [ContextSet("w", tuple(pairs))])
    lost = [(f.severity, f.message, f.items) for f in report.findings if f.kind == "continuations not single tokens"]
    assert lost == [
        ("note", "1 pair dropped (continuations: 'zz' is not a single token)", ("one x end",)),
        ("note", "1 pair dropped (continuations: 'q' and 'zz' are not single tokens)", ("two x end",)),
    ]
    assert found(report, "no minimal pair").items == ("so a b c d e",)
    assert report.coverage == (Coverage("w", "contexts", 14, 12),)


def test_worst_first_and_plain_types():
    report = lint([CLEAN, ConceptSet("c", (*WORDS[:2], ("q", "r")), "f")], {"a0": 0, "b0": 1}.get, [contexts()])
    order = ["error", "warning", "note"]
    assert [f.severity for f in report.findings] == sorted((f.severity for f in report.findings), key=order.index)
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert sum(plain["counts"].values()) == len(report.findings) and plain["counts"]["error"] == report.count("error")
