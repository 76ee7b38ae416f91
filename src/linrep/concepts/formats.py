"""Files of counterfactual pairs: TSV and JSONL in, plain tuples out, one clear line on bad input.

Every error names the file and the line. This file knows formats only: no built in names, no vocabularies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from linrep.errors import InvalidInputError

Row = tuple[str, str, str]
"""A pair as it is read: negative, positive, and the template it comes from (empty for words)."""

ContextRow = tuple[str, str, str, tuple[str, str] | None]
"""A context pair as it is read: a `Row` and the right next words of its two texts, where the file gives them."""

R = TypeVar("R", Row, ContextRow)

_HEADER_KEYS = ("name", "family", "source", "licence", "unembedding_concept")
_WORD_FIELDS = (("negative", "positive"), ("word0", "word1"))
_CONTEXT_FORMS = (
    "negative and positive",
    "word0, word1, contexts0 and contexts1",
    "prompt, negative_response and positive_response",
)
_MIN_PAIRS = 2


def read_word_pairs(path: Path | Traversable) -> tuple[dict[str, str], list[Row]]:
    """Header and word pairs of a file: JSONL where the name ends so, else TSV ``negative<TAB>positive``.

    A TSV header is lines ``# key: value``; a JSONL header is a first line with ``name``. Byte order marks, CRLF
    and blank lines are skipped. Keys that linrep does not know are ignored.

    Raises
    ------
    InvalidInputError
        On a file that cannot be read, is not UTF-8, is empty, or has a line that is no pair of words.
    """
    lines = _lines(path)
    if not _is_jsonl(path):
        header, rows = _tsv(path, lines)
    else:
        header, records = _json_records(path, lines)
        rows = [_word_record(path, number, record) for number, record in records]
    return header, _enough(path, rows)


def read_context_pairs(path: Path | Traversable) -> tuple[dict[str, str], list[ContextRow]]:
    """Header and context pairs of a JSONL file in any of the field names in use.

    ``negative``/``positive`` (and ``template``); ``word0``/``word1``/``contexts0``/``contexts1``, paired by
    position, the word pair being the template; ``prompt``/``negative_response``/``positive_response``, the text
    being prompt + response as written, and the prompt the template. A pair without a template is its own.

    ``continuations: [negative, positive]`` may stand beside negative/positive and prompt: the word that is right
    after the negative text and the one that is right after the positive text, without the space before them. All
    pairs of a file have them or none.

    Raises
    ------
    InvalidInputError
        As `read_word_pairs`, on lists of contexts of unequal length, and on continuations that are missing in some
        pairs, equal, or not one word each.
    """
    header, records = _json_records(path, _lines(path))
    rows: list[ContextRow] = []
    for number, record in records:
        continuations = _continuations(path, number, record)
        if rows and (rows[0][3] is None) != (continuations is None):
            have = "has continuations but the pairs before it have none" if continuations else "misses continuations"
            _fail(path, number, f"{have}: give [negative, positive] in every pair of a file, or in none")
        rows += [(*row, continuations) for row in _context_record(path, number, record)]
    return header, _enough(path, rows)


def _is_jsonl(path: Path | Traversable) -> bool:
    return path.name.lower().endswith((".jsonl", ".ndjson", ".json"))


def _fail(path: Path | Traversable, number: int | None, message: str) -> NoReturn:
    where = f"{path}" if number is None else f"{path}, line {number}"
    raise InvalidInputError(f"{where}: {message}")


def _lines(path: Path | Traversable) -> list[tuple[int, str]]:
    """Numbered lines that are not blank."""
    try:
        content = path.read_bytes()
    except OSError as e:
        raise InvalidInputError(f"{path}: cannot be read ({e.strerror or e}); give the path of a pair file") from e
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        _fail(path, line, f"byte 0x{content[e.start]:02x} is not UTF-8; save the file as UTF-8")
    # Not splitlines(): a text may hold U+2028, which JSON allows inside a string.
    numbered = [(i, line.rstrip("\r")) for i, line in enumerate(text.split("\n"), start=1)]
    lines = [(i, line) for i, line in numbered if line.strip()]
    if not lines:
        _fail(path, None, "is empty; it needs at least two pairs, one a line")
    return lines


def _enough(path: Path | Traversable, rows: list[R]) -> list[R]:
    if not rows:
        _fail(path, None, "has a header but no pairs; it needs at least two, one a line")
    if len(rows) < _MIN_PAIRS:
        _fail(path, None, "has one pair; whether differences are parallel needs at least two")
    return rows


def _tsv(path: Path | Traversable, lines: list[tuple[int, str]]) -> tuple[dict[str, str], list[Row]]:
    header: dict[str, str] = {}
    rows: list[Row] = []
    for number, line in lines:
        if line.startswith("#"):
            key, colon, value = line.lstrip("# ").partition(":")
            if colon and key.strip().lower() in _HEADER_KEYS:
                header[key.strip().lower()] = value.strip()
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2:
            columns = "one column" if len(cells) == 1 else f"{len(cells)} columns"
            _fail(path, number, f"{columns} in {line.strip()!r}, not two: write negative<TAB>positive")
        if not all(cells):
            _fail(path, number, f"an empty word in {cells}; write negative<TAB>positive")
        if rows or cells != ["negative", "positive"]:  # a first line of column names is no pair
            rows.append((cells[0], cells[1], ""))
    return header, rows


def _json_records(
    path: Path | Traversable, lines: list[tuple[int, str]]
) -> tuple[dict[str, str], list[tuple[int, dict[str, Any]]]]:
    """Header (a first record with a name and no pair) and numbered records."""
    records = []
    for number, line in lines:
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as e:
            reason = e.msg if isinstance(e, json.JSONDecodeError) else "nested too deeply"
            _fail(path, number, f"is not JSON ({reason}); write one JSON object a line")
        if not isinstance(record, dict):
            _fail(path, number, f"is a JSON {type(record).__name__}, not an object with the fields of a pair")
        records.append((number, record))
    first = records[0][1]
    pair_fields = {"negative", "positive", "word0", "word1", "prompt"}
    if "name" not in first or pair_fields & first.keys():
        return {}, records
    header = {k: v for k, v in first.items() if k in _HEADER_KEYS and isinstance(v, str)}
    return header, records[1:]


def _text(path: Path | Traversable, number: int, record: Mapping[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str) or not value.strip():
        _fail(path, number, f"field {key!r} must be a non-empty text, not {value!r:.60}")
    return value


def _word_record(path: Path | Traversable, number: int, record: Mapping[str, Any]) -> Row:
    for a, b in _WORD_FIELDS:
        if a in record and b in record:
            return _text(path, number, record, a).strip(), _text(path, number, record, b).strip(), ""
    _fail(path, number, f"needs negative and positive, or word0 and word1; it has {_listed(record)}")


def _context_record(path: Path | Traversable, number: int, record: Mapping[str, Any]) -> list[Row]:
    if "contexts0" in record and "contexts1" in record:
        missing = [k for k in ("word0", "word1") if k not in record]
        if missing:
            _fail(path, number, f"misses the field {missing[0]!r} beside contexts0 and contexts1")
        word0, word1 = (_text(path, number, record, k) for k in ("word0", "word1"))
        texts0, texts1 = (_texts(path, number, record, k) for k in ("contexts0", "contexts1"))
        if len(texts0) != len(texts1):
            _fail(path, number, f"{len(texts0)} contexts0 but {len(texts1)} contexts1: they are paired by position")
        return [(a, b, f"{word0}/{word1}") for a, b in zip(texts0, texts1, strict=True)]
    if "prompt" in record and "negative_response" in record and "positive_response" in record:
        prompt = _text(path, number, record, "prompt")
        negative, positive = (_text(path, number, record, f"{k}_response") for k in ("negative", "positive"))
        return [(prompt + negative, prompt + positive, str(record.get("template", prompt)))]
    if "negative" in record and "positive" in record:
        negative, positive = (_text(path, number, record, k) for k in ("negative", "positive"))
        return [(negative, positive, str(record.get("template", f"line {number}")))]
    _fail(path, number, f"needs {'; or '.join(_CONTEXT_FORMS)}; it has {_listed(record)}")


def _continuations(path: Path | Traversable, number: int, record: Mapping[str, Any]) -> tuple[str, str] | None:
    """The right next word of either text, or None where the record does not give them."""
    if "continuations" not in record:
        return None
    value = record["continuations"]
    if "contexts0" in record:
        _fail(path, number, "continuations stand beside negative and positive, not beside lists of contexts")
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(v, str) and v.strip() for v in value):
        _fail(path, number, f"field 'continuations' must be two words [negative, positive], not {value!r:.60}")
    negative, positive = (v.strip() for v in value)
    if many := [v for v in (negative, positive) if len(v.split()) > 1]:
        _fail(path, number, f"the continuation {many[0]!r} is more than one word; it must be the next word alone")
    if negative == positive:
        _fail(path, number, f"both continuations are {negative!r}; the right one must differ between the two texts")
    return negative, positive


def _texts(path: Path | Traversable, number: int, record: Mapping[str, Any], key: str) -> Sequence[str]:
    value = record[key]
    if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        _fail(path, number, f"field {key!r} must be a non-empty list of texts, not {value!r:.60}")
    return value


def _listed(record: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, list(record)[:8])) or "no fields"
