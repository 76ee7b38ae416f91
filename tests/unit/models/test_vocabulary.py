"""Words are found exactly where the real tokenizers put them; everything else is not a word."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from linrep.errors import MissingExtraError, ModelFileError
from linrep.models.vocabulary import Vocabulary, gguf_tokens, read_vocabulary, vocabulary_of_gguf
from tests.fixtures.tiny_files import CORPUS, WORDS, byte_level_tokenizer, sentencepiece_tokenizer, with_special

BUILD = {"byte-level BPE": byte_level_tokenizer, "SentencePiece": sentencepiece_tokenizer}


@pytest.fixture(scope="module", params=BUILD)
def both(request, tmp_path_factory) -> tuple[Tokenizer, Vocabulary]:
    tokenizer = with_special(BUILD[request.param](), "<tool>", " spaced")
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = read_vocabulary(folder)
    assert vocabulary.kind == request.param
    return tokenizer, vocabulary


def test_every_token_that_is_a_word_is_found_and_encodes_to_itself(both):
    tokenizer, vocabulary = both
    found = [w.removeprefix(" ") for w in vocabulary.surfaces if vocabulary.find(w.removeprefix(" ")) is not None]
    assert len(found) > 20
    for word in found:
        assert tokenizer.encode("x " + word).ids[-1] == vocabulary.find(word)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_is_found_exactly_if_the_tokenizer_has_one_token_for_it(both, word):
    tokenizer, vocabulary = both
    alone = len(tokenizer.encode("x").ids)
    ids = tokenizer.encode("x " + word).ids[alone:]
    assert vocabulary.find(word) == (ids[0] if len(ids) == 1 else None)


def test_words_beyond_ascii_are_found(both):
    _, vocabulary = both
    row = vocabulary.find("été")
    assert row is not None and vocabulary.surfaces[row] == " été"


def test_surfaces_join_to_the_text(both):
    tokenizer, vocabulary = both
    for line in CORPUS[:4]:
        joined = "".join(vocabulary.surfaces[i] for i in tokenizer.encode(line).ids)
        if "\\x" not in joined:  # a character split over tokens is shown escaped
            assert joined.removeprefix(" ") == line


@pytest.mark.parametrize(
    "word", ["", " ", "  ", " king", "king ", "a king", "\n", "<s>", "<tool>", " spaced", "spaced", "<0x41>", "<unk>"]
)
def test_what_is_no_word_is_not_found(both, word):
    assert both[1].find(word) is None


@given(st.text(max_size=8))
def test_any_text_gives_none_or_its_own_surface(text):
    vocabulary = Vocabulary.build("byte-level BPE", {"Ġking": 0, "ĠÃ©tÃ©": 1, "king": 2}, special=[])
    row = vocabulary.find(text)
    assert row is None or vocabulary.surfaces[row] == " " + text


def test_rows_that_are_no_text():
    ids = {"<0x41>": 0, "<0x0A>": 1, "▁king": 3, "<s>": 5}
    vocabulary = Vocabulary.build("SentencePiece", ids, special=[0, 1, 5])
    assert vocabulary.surfaces == ("A", "\\x0a", "<no token 2>", " king", "<no token 4>", "<s>")
    assert vocabulary.special == {0, 1, 2, 4, 5}


def test_bytes_that_are_no_character_are_escaped():
    vocabulary = Vocabulary.build("byte-level BPE", {"Ã": 0, "âĤ¬": 1, "Ġâ": 2, "日": 3}, special=[])
    assert vocabulary.surfaces == ("\\xc3", "€", " \\xe2", "日")


def test_normal_form_of_the_tokenizer_is_followed(tmp_path):
    tokenizer = byte_level_tokenizer()
    decomposed = "e\u0301te\u0301"
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read_vocabulary(tmp_path).find(decomposed) is None
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC()])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = read_vocabulary(tmp_path).find(decomposed)
    assert found is not None and tokenizer.encode("x " + decomposed).ids[-1] == found


def test_vocab_json_of_gpt2(tmp_path):
    tokenizer = byte_level_tokenizer()
    tokenizer.model.save(str(tmp_path))
    vocabulary = read_vocabulary(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    whole = read_vocabulary(tmp_path)
    assert vocabulary.surfaces == whole.surfaces and vocabulary.special == whole.special


def sentencepiece_model() -> bytes:
    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(CORPUS), model_writer=out, vocab_size=380, model_type="bpe", byte_fallback=True,
        character_coverage=1.0, minloglevel=3, hard_vocab_limit=False, user_defined_symbols=["<tool>"],
    )  # fmt: skip
    return out.getvalue()


@pytest.mark.hf
def test_sentencepiece_model(tmp_path):
    import sentencepiece

    content = sentencepiece_model()
    (tmp_path / "tokenizer.model").write_bytes(content)
    vocabulary = read_vocabulary(tmp_path)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=content)
    assert len(vocabulary) == oracle.GetPieceSize() and vocabulary.kind == "SentencePiece"
    found = 0
    for surface in vocabulary.surfaces:
        if surface.startswith(" ") and (row := vocabulary.find(surface[1:])) is not None:
            found += 1
            assert oracle.EncodeAsIds("x " + surface[1:])[-1] == row
    assert found > 20
    assert vocabulary.find("<s>") is vocabulary.find("<unk>") is vocabulary.find("<0x41>") is None


def test_sentencepiece_model_without_the_package(tmp_path, monkeypatch):
    import sys

    (tmp_path / "tokenizer.model").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match="linrep\\[hf\\]"):
        read_vocabulary(tmp_path)


@pytest.mark.hf
def test_foreign_sentencepiece_model(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model at all")
    with pytest.raises(ModelFileError, match="is no SentencePiece model"):
        read_vocabulary(tmp_path)


def test_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(ModelFileError, match=r"has no tokenizer \(tokenizer.json, vocab.json, tokenizer.model\)"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "no vocabulary found"),
        ('{"model": {"vocab": 3}}', "no vocabulary found"),
        ('{"model": {"vocab": {}}, "added_tokens": [{"id": 1}]}', "no vocabulary found"),
        ("nonsense", "not a JSON file"),
        ('{"model": {"vocab": {"a": -1}}}', "'a' has the row -1"),
        (
            '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 900000000000, "content": "b"}]}',
            "'b' has the row 9000",
        ),
    ],
)
def test_broken_tokenizer_json(tmp_path, content, says):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelFileError, match=says):
        read_vocabulary(tmp_path)


def test_file_that_is_not_utf8(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(b'{"model": "\xff\xfe"}')
    with pytest.raises(ModelFileError, match="not a JSON file"):
        read_vocabulary(tmp_path)


def test_tokenizer_of_another_kind_is_refused(tmp_path):
    words = Tokenizer(models.WordPiece({"[UNK]": 0, "king": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelFileError, match="neither byte-level BPE nor SentencePiece \\(model 'WordPiece'\\)"):
        read_vocabulary(tmp_path)


def test_vocab_json_that_is_none(tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": "b"}))
    with pytest.raises(ModelFileError, match="is no vocabulary"):
        read_vocabulary(tmp_path)


def test_special_tokens_without_a_row_are_left_out():
    vocabulary = Vocabulary.build("byte-level BPE", {"Ġa": 0, "Ġb": 1, "<pad>": 2}, special=[2])
    assert vocabulary.clipped(2, "here").surfaces == (" a", " b")
    assert vocabulary.clipped(5, "here") is vocabulary
    with pytest.raises(ModelFileError, match="here: the vocabulary has 3 tokens but the output matrix 1 rows"):
        vocabulary.clipped(1, "here")


def test_gguf_token_types_decide_what_is_text():
    tokens, types = ["<s>", "Ġking", "Ġunused", "Ġadded", "<0x41>"], [3, 1, 5, 4, 6]
    vocabulary = vocabulary_of_gguf(*gguf_tokens(tokens, types, "here"), "gpt2", "smollm", "here")
    assert [vocabulary.find(w) for w in ("king", "unused", "added", "A")] == [1, None, None, None]
    assert len(vocabulary) == 5
    with pytest.raises(ModelFileError, match="here: 5 tokens but 2 token types"):
        gguf_tokens(tokens, [1, 1], "here")
    with pytest.raises(ModelFileError, match="here: 1 tokens are listed twice"):
        gguf_tokens([*tokens, "Ġking"], None, "here")


def test_gguf_padding_rows_are_no_tokens():
    tokens, types = ["Ġa", "[PAD1]", "Ġunused", "[PAD3]", "[PAD4]"], [1, 1, 5, 5, 5]
    assert gguf_tokens(tokens, types, "here") == (["Ġa", "[PAD1]", "Ġunused"], [1, 1, 5])
    assert gguf_tokens(["[PAD0]"], None, "here") == (["[PAD0]"], [1])  # called text: kept
