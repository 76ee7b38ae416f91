"""What each row of γ is in running text, and which row a word is.

A word is looked up in the form it has inside a sentence, with the space before it: "Ġking" in byte-level BPE,
"▁king" in SentencePiece. Vocabularies are read from the tokenizer's own files; nothing is tokenised here, so no
tokenizer library is imported (the tests hold every answer against the real tokenizers).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from linrep.errors import MissingExtraError, ModelFileError
from linrep.models.safetensors_file import read_json

Kind = Literal["byte-level BPE", "SentencePiece"]
NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]


def _byte_alphabet() -> dict[int, str]:
    """The character that byte-level BPE writes for each byte.

    Printable Latin-1 characters stand for themselves; the other bytes, in order, for the characters from
    U+0100 on (Radford et al. 2019, GPT-2), so that a space is "Ġ".
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}


_CHARACTER_OF = _byte_alphabet()
_BYTE_OF = {c: b for b, c in _CHARACTER_OF.items()}
_PADDING = 256  # rows of padding that say nothing in a small model
_SENTENCEPIECE_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def _byte_level_surface(token: str) -> str:
    body = token.removeprefix("Ġ")
    if body.isascii():  # ASCII stands for itself: nine tokens in ten, and ten times faster
        return token.replace("Ġ", " ", 1)
    try:
        return bytes(_BYTE_OF[c] for c in token).decode("utf-8", "backslashreplace")
    except KeyError:  # not in the byte alphabet: shown as it is written
        return token


def _sentencepiece_surface(token: str) -> str:
    if byte := _SENTENCEPIECE_BYTE.fullmatch(token):
        value = int(byte[1], 16)
        return chr(value) if 0x20 <= value < 0x7F else f"\\x{value:02x}"
    return token.replace("▁", " ")


@dataclass(frozen=True)
class Vocabulary:
    r"""The tokens of a model, row by row.

    Parameters
    ----------
    kind
        How tokens are written.
    surfaces
        Each token as it looks in running text, leading space included (``" king"``). Bytes that are no
        character on their own are escaped (``"\xe2"``), special tokens are their names.
    special
        Rows that are no text: special, added, control, unused and byte tokens, and rows without a token.
    ids
        Row of each token as the tokenizer writes it.
    normal_form
        Unicode normal form the tokenizer brings text to, if any.

    Examples
    --------
    >>> v = Vocabulary.build("byte-level BPE", {"<s>": 0, "Ġking": 1, "king": 2, "ĠÃ©tÃ©": 3}, special=[0])
    >>> v.find("king"), v.find("été"), v.find("<s>"), v.surfaces
    (1, 3, None, ('<s>', ' king', 'king', ' été'))
    """

    kind: Kind
    surfaces: tuple[str, ...]
    special: frozenset[int]
    ids: Mapping[str, int]
    normal_form: NormalForm | None = None

    @classmethod
    def build(
        cls,
        kind: Kind,
        ids: Mapping[str, int],
        *,
        special: Collection[int],
        normal_form: NormalForm | None = None,
    ) -> Vocabulary:
        """Build from the tokens as the tokenizer writes them."""
        hidden = set(special)
        surface = _byte_level_surface if kind == "byte-level BPE" else _sentencepiece_surface
        surfaces: list[str | None] = [None] * (max(ids.values(), default=-1) + 1)
        for token, row in ids.items():
            surfaces[row] = token if row in hidden and not _SENTENCEPIECE_BYTE.fullmatch(token) else surface(token)
        hidden.update(row for row, text in enumerate(surfaces) if text is None)
        shown = tuple(f"<no token {row}>" if text is None else text for row, text in enumerate(surfaces))
        return cls(kind, shown, frozenset(hidden), ids, normal_form)

    def __len__(self) -> int:
        return len(self.surfaces)

    def find(self, word: str) -> int | None:
        """Row of the one token that is this word inside a sentence, or None if there is no such token."""
        if not word or any(c.isspace() for c in word):
            return None
        if self.normal_form:
            word = unicodedata.normalize(self.normal_form, word)
        if self.kind == "SentencePiece":
            row = self.ids.get("▁" + word)
        else:
            row = self.ids.get("Ġ" + "".join(_CHARACTER_OF[b] for b in word.encode("utf-8", "surrogatepass")))
        return None if row is None or row in self.special else row

    def clipped(self, n_rows: int, where: str) -> Vocabulary:
        """The same for a model with `n_rows` rows: special tokens beyond them have no γ and are left out.

        Rows beyond the tokens are padding, up to a tenth of them: no published model has more, a tokenizer of
        another model leaves more.
        """
        if n_rows > 1.1 * len(self) + _PADDING:
            raise ModelFileError(
                f"{where}: the output matrix has {n_rows} rows but the vocabulary only {len(self)} tokens: "
                "tokenizer and weights belong to different models"
            )
        if len(self) <= n_rows:
            return self
        if lost := [row for row in range(n_rows, len(self)) if row not in self.special]:
            raise ModelFileError(
                f"{where}: the vocabulary has {len(self)} tokens but the output matrix {n_rows} rows "
                f"(no row for {self.surfaces[lost[0]]!r}): tokenizer and weights belong to different models"
            )
        ids = {token: row for token, row in self.ids.items() if row < n_rows}
        special = frozenset(row for row in self.special if row < n_rows)
        return Vocabulary(self.kind, self.surfaces[:n_rows], special, ids, self.normal_form)


def read_vocabulary(folder: Path) -> Vocabulary:
    """Vocabulary of a model folder: tokenizer.json, else GPT-2's vocab.json, else a SentencePiece model.

    Raises
    ------
    ModelFileError
        When there is no tokenizer, or one whose tokens have no running-text form known here.
    MissingExtraError
        When only a SentencePiece model is there and the package that reads it is not.
    """
    for name, read in _READERS.items():
        if (folder / name).is_file():
            return read(folder / name)
    raise ModelFileError(f"{folder}: has no tokenizer ({', '.join(_READERS)}); save it beside the weights")


def _from_tokenizer_json(path: Path) -> Vocabulary:
    content = read_json(path)
    try:
        model, added = content["model"], content.get("added_tokens") or []
        tokens = model["vocab"]
        ids = dict(tokens) if isinstance(tokens, dict) else {t: i for i, (t, _) in enumerate(tokens)}
        special = {t["id"] for t in added}
        ids |= {t["content"]: t["id"] for t in added}
    except (KeyError, TypeError, ValueError) as e:
        raise ModelFileError(f"{path}: is no tokenizer (no vocabulary found); fetch it again") from e
    _check_rows(ids, path)
    special |= {
        row for token, row in ids.items() if model.get("byte_fallback") and _SENTENCEPIECE_BYTE.fullmatch(token)
    }
    forms = [s["type"] for s in _steps(content, "normalizer") if s.get("type") in ("NFC", "NFD", "NFKC", "NFKD")]
    return Vocabulary.build(_kind_of(content, path), ids, special=special, normal_form=forms[-1] if forms else None)


def _check_rows(ids: Mapping[str, Any], path: Path) -> None:
    """Rows are whole numbers that leave few gaps; a damaged one must not ask for a list of 10¹² entries."""
    highest = 2 * len(ids) + 1000
    if bad := [t for t, row in ids.items() if not isinstance(row, int) or not 0 <= row < highest]:
        raise ModelFileError(
            f"{path}: is no vocabulary: {bad[0]!r} has the row {ids[bad[0]]!r}, not 0 to {highest - 1}; fetch it again"
        )


def _steps(content: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer.json, with sequences unpacked."""
    step = content.get(part)
    if not step:
        return []
    inner = next((step[k] for k in ("normalizers", "pretokenizers", "decoders") if k in step), None)
    return [step] if inner is None else [s for i in inner for s in _steps({part: i}, part)]


def _kind_of(content: Mapping[str, Any], path: Path) -> Kind:
    steps = [s for part in ("normalizer", "pre_tokenizer", "decoder") for s in _steps(content, part)]
    if any(s.get("type") == "ByteLevel" for s in steps):
        return "byte-level BPE"
    if any(s.get("type") == "Metaspace" or s.get("content") == "▁" or s.get("prepend") == "▁" for s in steps):
        return "SentencePiece"
    raise ModelFileError(
        f"{path}: neither byte-level BPE nor SentencePiece (model {content['model'].get('type')!r}): "
        "how its tokens look in running text is not known"
    )


def _from_vocab_json(path: Path) -> Vocabulary:
    ids = read_json(path)
    _check_rows(ids, path)
    # This format does not mark special tokens; they are the ones written <...>, as in "<|endoftext|>".
    special = [row for token, row in ids.items() if len(token) > 2 and token[0] == "<" and token[-1] == ">"]
    return Vocabulary.build("byte-level BPE", ids, special=special)


def _from_sentencepiece(path: Path) -> Vocabulary:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as e:
        raise MissingExtraError("reading a SentencePiece tokenizer.model", "hf") from e
    pieces = SentencePieceProcessor()
    try:
        pieces.LoadFromSerializedProto(path.read_bytes())
    except (OSError, RuntimeError) as e:
        raise ModelFileError(f"{path}: is no SentencePiece model; fetch it again") from e
    rows = range(pieces.GetPieceSize())
    special = [i for i in rows if pieces.IsControl(i) or pieces.IsUnknown(i) or pieces.IsUnused(i) or pieces.IsByte(i)]
    return Vocabulary.build("SentencePiece", {pieces.IdToPiece(i): i for i in rows}, special=special)


_READERS = {
    "tokenizer.json": _from_tokenizer_json,
    "vocab.json": _from_vocab_json,
    "tokenizer.model": _from_sentencepiece,
}
TOKENIZER_FILES = tuple(_READERS)  # the first that a model has is read

# tokenizer.ggml.token_type: 2 unknown, 3 control, 4 added, 5 unused, 6 byte.
_GGUF_TEXT, _GGUF_UNUSED = 1, 5


def gguf_tokens(tokens: list[str], types: list[int] | None, where: str) -> tuple[list[str], list[int]]:
    """Tokens and their types of a GGUF header, without the rows that only pad the matrix.

    llama.cpp's converter names those rows ``[PAD<row>]``; a model folder has no tokens there at all.
    """
    types = [_GGUF_TEXT] * len(tokens) if types is None else types
    if len(types) != len(tokens):
        raise ModelFileError(f"{where}: {len(tokens)} tokens but {len(types)} token types; fetch it again")
    if len(set(tokens)) != len(tokens):
        raise ModelFileError(f"{where}: {len(tokens) - len(set(tokens))} tokens are listed twice; fetch it again")
    n = len(tokens)
    while n and types[n - 1] == _GGUF_UNUSED and tokens[n - 1] == f"[PAD{n - 1}]":
        n -= 1
    return tokens[:n], types[:n]


def vocabulary_of_gguf(tokens: list[str], types: list[int], model: str, pre: str | None, where: str) -> Vocabulary:
    """Vocabulary from the ``tokenizer.ggml`` keys of a GGUF header (see `gguf_tokens`)."""
    kinds: dict[str, Kind] = {"gpt2": "byte-level BPE", "llama": "SentencePiece"}
    if model not in kinds:
        raise ModelFileError(
            f"{where}: tokenizer {model!r} is not read (known: {', '.join(kinds)}): how its tokens look in "
            "running text is not known"
        )
    special = [row for row, kind in enumerate(types) if kind != _GGUF_TEXT]
    ids = {token: row for row, token in enumerate(tokens)}
    # llama.cpp does not record the normaliser; of its pre-tokenizers this one comes from tokenizers with NFC.
    return Vocabulary.build(kinds[model], ids, special=special, normal_form="NFC" if pre == "qwen2" else None)
