"""What is wrong, or worth knowing, about concept sets before they are measured with a model's vocabulary.

An *error* makes a concept unmeasurable or its numbers meaningless, a *warning* biases them, a *note* is a fact to
know. This file only reports: it changes and drops nothing (`linrep.concepts.load` does), and prints nothing.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from linrep.concepts.load import (
    ConceptSet,
    ContextPair,
    ContextSet,
    Find,
    context_pairs,
    continuation_rows,
    token_pairs,
)
from linrep.geometry.pairs import ConceptPairs, DroppedPair
from linrep.geometry.verdicts import MIN_PAIRS

Severity = Literal["error", "warning", "note"]

ENOUGH_TEMPLATES = 8
"""Templates, not texts, are the sampling units of contexts."""

LONGEST_CHANGE = 3
"""Words in which two texts with continuations may differ: more is no minimal pair."""

_MISSING = ("is not a single token", "are not single tokens")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Coverage:
    """How many of the listed pairs of one concept can be measured."""

    concept: str
    kind: Literal["words", "contexts"]
    listed: int
    measured: int


@dataclass(frozen=True)
class Finding:
    """One remark: how bad, of which kind, about which concept, about which words or texts."""

    severity: Severity
    kind: str
    concept: str
    message: str
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class LintReport:
    """Coverage of every concept and all findings, the worst first."""

    coverage: tuple[Coverage, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Number of findings of that severity."""
        return sum(f.severity == severity for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The report in plain types, for JSON."""
        return {
            "coverage": [asdict(c) for c in self.coverage],
            "findings": [asdict(f) | {"items": list(f.items)} for f in self.findings],
            "counts": {"error": self.count("error"), "warning": self.count("warning"), "note": self.count("note")},
        }


def lint(concepts: Iterable[ConceptSet], find: Find, contexts: Iterable[ContextSet] = ()) -> LintReport:
    """Judge word-pair concepts against a vocabulary, and context sets against the concepts they belong to.

    Parameters
    ----------
    concepts
        The word-pair concepts.
    find
        Row of the single token of a word in running text, or None.
    contexts
        Context sets to judge as well.

    Examples
    --------
    >>> gender = ConceptSet("gender", (("king", "queen"), ("duke", "queen")), "gender")
    >>> report = lint([gender], {"king": 0, "queen": 1, "duke": 2}.get)
    >>> [(f.severity, f.kind) for f in report.findings]
    [('warning', 'too few pairs'), ('warning', 'word in several pairs')]
    """
    concepts, contexts = tuple(concepts), tuple(contexts)
    words = token_pairs(concepts, find)
    texts = context_pairs(contexts)[1]
    continued = {
        c.name: continuation_rows(c, find)[2] for c in contexts if all(p.continuations for p in c.pairs) and c.pairs
    }
    findings = [
        *itertools.chain.from_iterable(_word_findings(c, words) for c in concepts),
        *_shared_words(concepts),
        *itertools.chain.from_iterable(_context_findings(c, concepts, texts) for c in contexts),
        *itertools.chain.from_iterable(
            _continuation_findings(c, continued[c.name]) for c in contexts if c.name in continued
        ),
    ]
    coverage = [Coverage(c.name, "words", len(c.pairs), int(n)) for c, n in zip(concepts, words.n_pairs, strict=True)]
    coverage += [
        Coverage(
            c.name, "contexts", len(c.pairs), len(c.pairs) - len(continued[c.name]) if c.name in continued else int(n)
        )
        for c, n in zip(contexts, texts.n_pairs, strict=True)
    ]
    rank = {"error": 0, "warning": 1, "note": 2}
    return LintReport(tuple(coverage), tuple(sorted(findings, key=lambda f: rank[f.severity])))


def _word_findings(concept: ConceptSet, rows: ConceptPairs) -> Iterator[Finding]:
    n = int(rows.n_pairs[rows.index(concept.name)])
    if n < MIN_PAIRS:
        message = f"{n} of {len(concept.pairs)} pairs can be measured; a verdict needs {MIN_PAIRS}"
        yield Finding("error" if n < 2 else "warning", "too few pairs", concept.name, message)
    yield from _dropped(concept.name, rows.dropped)
    uses = Counter(word for pair in set(concept.pairs) for word in set(pair))
    hubs = [word for word, k in uses.items() if k > 1]
    if hubs:
        message = f"{_listed(hubs)} in several pairs: such pairs are one observation, and inflate leave-one-out"
        yield Finding("warning", "word in several pairs", concept.name, message, tuple(hubs))


def _dropped(concept: str, dropped: Sequence[DroppedPair]) -> Iterator[Finding]:
    """One finding per reason, naming every pair that was dropped."""
    reasons: dict[str, list[str]] = {}
    for d in dropped:
        if d.concept == concept:
            missing = d.reason.endswith(_MISSING)
            label = f"{d.negative} / {d.positive}"
            reasons.setdefault("not a single token" if missing else d.reason, []).append(
                f"{label}: {d.reason}" if missing else label
            )
    for reason, pairs in reasons.items():
        # Words a vocabulary lacks are its property; everything else is a slip in the list.
        severity: Severity = "note" if reason == "not a single token" else "warning"
        yield Finding(severity, reason, concept, f"{_pairs(len(pairs))} dropped ({reason})", tuple(pairs))


def _shared_words(concepts: Sequence[ConceptSet]) -> Iterator[Finding]:
    """Words that stand in two concepts: they alone make the two directions alike."""
    words = {c.name: {w for pair in c.pairs for w in pair} for c in concepts}
    for a, b in itertools.combinations(concepts, 2):
        shared = sorted(words[a.name] & words[b.name])
        if shared:
            related = a.family == b.family
            families = f"of one family ({a.family})" if related else f"of families {a.family!r} and {b.family!r}"
            message = f"shares {_listed(shared)} with {b.name}, {families}"
            severity: Severity = "note" if related else "warning"
            yield Finding(severity, "words shared between concepts", a.name, message, tuple(shared))


def _context_findings(context: ContextSet, concepts: Sequence[ConceptSet], rows: ConceptPairs) -> Iterator[Finding]:
    name = context.name
    n = int(rows.n_pairs[rows.index(name)])
    if n < MIN_PAIRS:
        message = f"{n} of {len(context.pairs)} pairs can be measured; a verdict needs {MIN_PAIRS}"
        yield Finding("error" if n < 2 else "warning", "too few pairs", name, message)
    severities: dict[str, Severity] = {"the two texts are equal": "error", "duplicate pair": "warning"}
    for reason, severity in severities.items():
        texts = tuple(d.negative for d in rows.dropped if d.concept == name and d.reason == reason)
        if texts:
            yield Finding(severity, reason, name, f"{_pairs(len(texts))} dropped ({reason})", texts)
    templates = len({pair.template for pair in context.pairs})
    if templates < ENOUGH_TEMPLATES:
        message = f"{templates} templates: the pairs of one template are one observation, so intervals will be wide"
        yield Finding("warning", "few templates", name, message)
    endings = [(_last_word(p.negative), _last_word(p.positive)) for p in context.pairs if p.negative != p.positive]
    alike = sum(a == b for a, b in endings)
    if endings:
        share = f"{alike} of {_pairs(len(endings))} ({alike / len(endings):.0%})"
        message = f"{share} end in the same word: δ of such a pair is 0 at layer 0"
        differ = dict.fromkeys(f"…{a} / …{b}" for a, b in endings if a != b)
        yield Finding("note", "endings", name, message, tuple(differ))
    spaced = tuple(t for p in context.pairs for t in (p.negative, p.positive) if t != t.rstrip())
    if spaced:
        message = f"{len(spaced)} texts end in white space, after which no word comes in running text"
        yield Finding("warning", "white space at the end", name, message, spaced)
    yield from _target_words(context, concepts)


def _continuation_findings(context: ContextSet, dropped: Sequence[DroppedPair]) -> Iterator[Finding]:
    """Continuations a vocabulary lacks, and texts that are no minimal pair."""
    reasons: dict[str, list[str]] = {}
    for d in dropped:
        if d.reason.startswith("continuations: "):
            reasons.setdefault(d.reason.removeprefix("continuations: "), []).append(d.negative)
    for reason, texts in reasons.items():
        message = f"{_pairs(len(texts))} dropped (continuations: {reason})"
        yield Finding("note", "continuations not single tokens", context.name, message, tuple(texts))
    far = tuple(p.negative for p in context.pairs if p.negative != p.positive and _change(p) > LONGEST_CHANGE)
    if far:
        message = f"the texts of {_pairs(len(far))} differ in more than {LONGEST_CHANGE} words on end: no minimal pair"
        yield Finding("warning", "no minimal pair", context.name, message, far)


def _change(pair: ContextPair) -> int:
    """Length in words of the one stretch in which the two texts differ, of the longer text."""
    a, b = pair.negative.split(), pair.positive.split()
    shorter = min(len(a), len(b))
    start = next((i for i in range(shorter) if a[i] != b[i]), shorter)
    end = next((i for i in range(shorter - start) if a[-1 - i] != b[-1 - i]), shorter - start)
    return max(len(a), len(b)) - start - end


def _target_words(context: ContextSet, concepts: Sequence[ConceptSet]) -> Iterator[Finding]:
    """List words of the aligned concept that the contexts already contain."""
    aligned = context.unembedding_concept or context.name
    concept = next((c for c in concepts if c.name == aligned), None)
    if concept is None:
        if context.unembedding_concept:
            message = f"unembedding_concept {aligned!r} is not among the concepts: no alignment can be measured"
            yield Finding("warning", "no matching concept", context.name, message)
        return
    targets = {word for pair in concept.pairs for word in pair}
    inside: Counter[str] = Counter()
    ending: list[str] = []
    for text in dict.fromkeys(t for p in context.pairs for t in (p.negative, p.positive)):
        found = _WORD.findall(text)
        # The capital of a sentence's first word is not the word's own.
        if found and found[0] not in targets:
            found[0] = found[0].lower()
        inside.update(targets.intersection(found))
        if found and found[-1] in targets:
            ending.append(text)
    if inside:
        words = [f"{word} ({k} texts)" for word, k in inside.most_common()]
        message = f"words of {concept.name} stand in the contexts: {_listed(words)}; drop those pairs, or show both"
        yield Finding("warning", "list words in contexts", context.name, message, tuple(inside))
    if ending:
        message = f"{len(ending)} texts end with a word of {concept.name}: the concept's word should be the next one"
        yield Finding("error", "ends with a target word", context.name, message, tuple(ending))


def _last_word(text: str) -> str:
    words = text.split()
    return words[-1] if words else ""


def _pairs(n: int) -> str:
    return f"{n} pair{'s' if n != 1 else ''}"


def _listed(words: Sequence[str], most: int = 6) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
