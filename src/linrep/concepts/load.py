"""Concept sets by name or by path, and their pairs as rows of γ and of λ.

The tuples below fix the order of every table. A vocabulary enters as ``find``, a function from a word as it
stands in running text to the row of its single token, or None; so this file never imports a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from jaxtyping import Int

from linrep.concepts.formats import read_context_pairs, read_word_pairs
from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry.pairs import ConceptPairs, DroppedPair

_CONCEPTS = (
    "verb–3pSg", "verb–Ving", "verb–Ved", "Ving–3pSg", "Ving–Ved", "3pSg–Ved",
    "verb–V+able", "verb–V+er", "verb–V+tion", "verb–V+ment", "adj–un+adj", "adj–adj+ly",
    "small–big", "thing–color", "thing–part", "country–capital", "pronoun–possessive",
    "male–female", "lower–upper", "noun–plural", "adj–comparative", "adj–superlative",
    "frequent–infrequent", "English–French", "French–German", "French–Spanish", "German–Spanish",
)  # fmt: skip
# Loaded by name only: the concepts of two context sets that are not among the 27 contrasts of every table.
_FURTHER = ("English–German", "English–Spanish")
_CONTEXTS = (
    "male–female", "present–past", "singular–plural", "negation",
    "subject-number", "lower–upper", "comparative",
    "English–French", "English–German", "English–Spanish", "winograd",
)  # fmt: skip
_DASHES = str.maketrans(dict.fromkeys("‐‑–—−→", "-"))

Find = Callable[[str], int | None]
"""Row of the single token of a word in running text (with the space before it), or None."""


@dataclass(frozen=True)
class ConceptSet:
    """Word pairs that differ in one concept.

    Parameters
    ----------
    name
        Display name, ``"negative–positive"`` for the built in sets.
    pairs
        (negative, positive) words as they stand in running text, without the space before them.
    family
        Concepts of one family are differences of each other or share words; they are never each other's
        mismatch.
    source, licence
        Who wrote the list or what it was made from, and under which terms.
    origin
        The file it was read from.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    family: str
    source: str = ""
    licence: str = ""
    origin: str = ""


@dataclass(frozen=True)
class ContextPair:
    """Two texts that differ in one concept only; the model's next token is where they should part.

    ``continuations`` are the right next words of the negative and of the positive text (each is wrong after the
    other text), without the space before them; None where the right words are those of a concept's list.
    """

    negative: str
    positive: str
    template: str
    continuations: tuple[str, str] | None = None


@dataclass(frozen=True)
class ContextSet:
    """Context pairs that differ in one concept.

    Parameters
    ----------
    name
        Display name.
    pairs
        The pairs, each with its template: templates are the sampling units.
    unembedding_concept
        Name of the word-pair concept whose unembedding direction should be aligned with the difference, if one
        is known.
    source, licence, origin
        As in `ConceptSet`.
    """

    name: str
    pairs: tuple[ContextPair, ...]
    unembedding_concept: str | None = None
    source: str = ""
    licence: str = ""
    origin: str = ""


S = TypeVar("S", ConceptSet, ContextSet)


def list_concepts() -> tuple[str, ...]:
    """Names of the built in word-pair concepts, in the order of every table."""
    return _CONCEPTS


def list_contexts() -> tuple[str, ...]:
    """Names of the built in context-pair concepts."""
    return _CONTEXTS


def load_concepts(names_or_paths: Iterable[str | Path] | None = None) -> tuple[ConceptSet, ...]:
    """Word-pair concepts by name (any letter case, ASCII hyphen accepted) or by path; `list_concepts` by default.

    English–German and English–Spanish are built in too, but loaded by name only.

    A path is a TSV file, two columns ``negative<TAB>positive`` with optional header lines ``# key: value``
    (name, family, source, licence), or a JSONL file with the fields negative/positive or word0/word1.

    Raises
    ------
    UnknownNameError
        On a name that is neither built in nor a file; near misses are listed.
    InvalidInputError
        On a file that is no list of word pairs (file and line are named), or two concepts of one name.

    Examples
    --------
    >>> load_concepts(["Male-Female"])[0].pairs[:2]
    (('king', 'queen'), ('man', 'woman'))
    """
    chosen = [
        _resolve(entry, "concept", _CONCEPTS + _FURTHER, "pairs", ".tsv")
        for entry in _entries(names_or_paths, _CONCEPTS)
    ]
    sets = []
    for path in chosen:
        header, rows = read_word_pairs(path)
        name = header.get("name") or PurePath(path.name).stem
        sets.append(
            ConceptSet(
                name=name,
                pairs=tuple((negative, positive) for negative, positive, _ in rows),
                family=header.get("family") or name,
                source=header.get("source", ""),
                licence=header.get("licence", ""),
                origin=str(path),
            )
        )
    return _distinct(sets)


def load_contexts(names_or_paths: Iterable[str | Path] | None = None) -> tuple[ContextSet, ...]:
    """Context-pair concepts by name or by path of a JSONL file; all built in ones by default.

    The field names of other tools are accepted: see `linrep.concepts.formats.read_context_pairs`. A first line
    with ``name`` may also give unembedding_concept, source and licence; without it the file's name is the name.

    Raises
    ------
    UnknownNameError
        On a name that is neither built in nor a file; near misses are listed.
    InvalidInputError
        On a file that holds no context pairs (file and line are named), or two sets of one name.
    """
    chosen = [
        _resolve(entry, "context set", _CONTEXTS, "contexts", ".jsonl") for entry in _entries(names_or_paths, _CONTEXTS)
    ]
    sets = []
    for path in chosen:
        header, rows = read_context_pairs(path)
        name = header.get("name") or PurePath(path.name).stem
        aligned = header.get("unembedding_concept")
        sets.append(
            ContextSet(
                name=name,
                pairs=tuple(ContextPair(*row) for row in rows),
                # A set of the user's own named like a built in concept is about that concept.
                unembedding_concept=_by_key(_CONCEPTS + _FURTHER).get(file_stem(aligned or name), aligned),
                source=header.get("source", ""),
                licence=header.get("licence", ""),
                origin=str(path),
            )
        )
    return _distinct(sets)


def token_pairs(concepts: Iterable[ConceptSet], find: Find) -> ConceptPairs:
    """Word pairs as rows of γ: each listed pair is either measured or among ``dropped`` with its reason.

    A word counts only if it is one token in running text. Words are looked up as written, so letter case is
    kept. Pairs that share a word form one group, the sampling unit.

    Examples
    --------
    >>> gender = ConceptSet("gender", (("king", "queen"), ("duke", "duchess")), "gender")
    >>> p = token_pairs([gender], {"king": 3, "queen": 5, "duke": 7}.get)
    >>> p.of("gender").tolist(), p.dropped[0].reason
    ([[3, 5]], "'duchess' is not a single token")
    """
    concepts = tuple(concepts)
    rows: dict[str, list[tuple[int, int]]] = {}
    dropped: list[DroppedPair] = []
    for concept in _distinct(concepts):
        kept = rows.setdefault(concept.name, [])
        seen: set[tuple[int, int]] = set()
        for negative, positive in concept.pairs:
            a, b = find(negative), find(positive)
            reason = _reason_to_drop(negative, positive, a, b, seen)
            if reason or a is None or b is None:
                dropped.append(DroppedPair(concept.name, negative, positive, reason))
                continue
            seen.add((a, b))
            kept.append((a, b))
    families = {c.name: c.family for c in concepts}
    return ConceptPairs.from_lists(rows, side="unembedding", families=families, dropped=dropped)


def _reason_to_drop(negative: str, positive: str, a: int | None, b: int | None, seen: set[tuple[int, int]]) -> str:
    if a is None and b is None:
        return f"{negative!r} and {positive!r} are not single tokens"
    if a is None or b is None:
        return f"{(negative if a is None else positive)!r} is not a single token"
    if a == b:
        return "same token"
    if (a, b) in seen:
        return "duplicate pair"
    if (b, a) in seen:
        return "reverse of an earlier pair"
    return ""


def context_pairs(contexts: Iterable[ContextSet]) -> tuple[tuple[str, ...], ConceptPairs]:
    """The distinct texts, in order of first use, and the context pairs as rows of λ, grouped by template.

    Pairs of two equal texts, and pairs listed twice, are dropped with their reason.
    """
    contexts = _distinct(contexts)
    text_row: dict[str, int] = {}
    rows: dict[str, list[tuple[int, int]]] = {}
    groups: dict[str, list[int]] = {}
    dropped: list[DroppedPair] = []
    for context in contexts:
        kept, units = rows.setdefault(context.name, []), groups.setdefault(context.name, [])
        templates: dict[str, int] = {}
        seen: set[tuple[str, str]] = set()
        for pair in context.pairs:
            texts = (pair.negative, pair.positive)
            if reason := _reason_to_drop_texts(texts, seen):
                dropped.append(DroppedPair(context.name, *texts, reason))
                continue
            seen.add(texts)
            a, b = (text_row.setdefault(text, len(text_row)) for text in texts)
            kept.append((a, b))
            units.append(templates.setdefault(pair.template, len(templates)))
    return tuple(text_row), ConceptPairs.from_lists(rows, groups=groups, side="embedding", dropped=dropped)


def _reason_to_drop_texts(texts: tuple[str, str], seen: set[tuple[str, str]]) -> str:
    return "the two texts are equal" if texts[0] == texts[1] else "duplicate pair" if texts in seen else ""


def continuation_rows(
    context: ContextSet, find: Find
) -> tuple[ContextSet, Int[np.ndarray, "pair 2"], tuple[DroppedPair, ...]]:
    """The pairs whose two continuations are single tokens, and those tokens as rows of γ.

    Returns the set with the pairs that are left, for each of them the rows (right after the negative text, right
    after the positive text), and what was dropped with its reason. `context_pairs` of the returned set drops
    nothing more, so its pairs and these rows are in one order.

    Raises
    ------
    InvalidInputError
        On a set without continuations.

    Examples
    --------
    >>> pair = ContextPair("The sun is", "The snow is", "The [sun|snow] is", ("hot", "cold"))
    >>> kept, rows, dropped = continuation_rows(ContextSet("weather", (pair,)), {"hot": 4}.get)
    >>> len(kept.pairs), rows.shape, dropped[0].reason
    (0, (0, 2), "continuations: 'cold' is not a single token")
    """
    kept: list[ContextPair] = []
    rows: list[tuple[int, int]] = []
    dropped: list[DroppedPair] = []
    seen: set[tuple[str, str]] = set()
    for pair in context.pairs:
        if pair.continuations is None:
            raise InvalidInputError(
                f"context set {context.name!r} has no continuations; give [negative, positive] in every pair of "
                f"{context.origin or 'the set'}"
            )
        texts, (negative, positive) = (pair.negative, pair.positive), pair.continuations
        a, b = find(negative), find(positive)
        reason = _reason_to_drop_texts(texts, seen)
        if not reason and (lost := _reason_to_drop(negative, positive, a, b, set())):
            reason = f"continuations: {lost}"
        if reason or a is None or b is None:
            dropped.append(DroppedPair(context.name, *texts, reason))
            continue
        seen.add(texts)
        kept.append(pair)
        rows.append((a, b))
    return replace(context, pairs=tuple(kept)), np.array(rows, dtype=np.int64).reshape(-1, 2), tuple(dropped)


def file_stem(name: str) -> str:
    """A name without letter case and with ASCII hyphens, as its file is called."""
    return name.strip().translate(_DASHES).casefold()


def _by_key(names: tuple[str, ...]) -> dict[str, str]:
    return {file_stem(name): name for name in names}


def _entries(names_or_paths: Iterable[str | Path] | None, names: tuple[str, ...]) -> tuple[str | Path, ...]:
    if names_or_paths is None:
        return names
    if isinstance(names_or_paths, (str, Path)):
        return (names_or_paths,)
    return tuple(names_or_paths)


def _resolve(entry: str | Path, kind: str, names: tuple[str, ...], folder: str, suffix: str) -> Path | Traversable:
    """File of a built in set, or the path given."""
    if isinstance(entry, str):
        if file_stem(entry) in _by_key(names):
            return files("linrep.concepts") / "data" / folder / f"{file_stem(entry)}{suffix}"
        path = Path(entry)
        if not (path.suffix or len(path.parts) > 1 or path.exists()):
            raise UnknownNameError(kind, entry, names)
        return path
    return entry


def _distinct(sets: Iterable[S]) -> tuple[S, ...]:
    """The sets as a tuple, or one clear line if two have one name."""
    by_name: dict[str, S] = {}
    for s in sets:
        other = by_name.setdefault(s.name, s)
        if other is not s:
            raise InvalidInputError(
                f"two sets are named {s.name!r}: {other.origin or 'the first'} and {s.origin or 'the second'}; "
                "rename one (header line '# name: ...', or the field name of a first JSON line)"
            )
    return tuple(by_name.values())
