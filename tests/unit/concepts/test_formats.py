"""Readers of pair files: the formats in use, and one clear line for every kind of bad file."""

import json
from pathlib import Path

import pytest

from linrep.concepts.load import ContextPair, load_concepts, load_contexts
from linrep.errors import InvalidInputError, LinrepError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def jsonl(path: Path, *records: object) -> Path:
    return write(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def test_tsv_with_header(tmp_path: Path):
    path = write(
        tmp_path / "pets.tsv",
        "# name: cat–dog\n# Family: animal\n# licence: CC0-1.0\n# source: me\n#\n# a remark\n\n"
        "cat\tdog\n kitten \tpuppy\n",
    )
    (c,) = load_concepts([path])
    assert (c.name, c.family, c.licence, c.source, c.origin) == ("cat–dog", "animal", "CC0-1.0", "me", str(path))
    assert c.pairs == (("cat", "dog"), ("kitten", "puppy"))


def test_name_and_family_default_to_the_file(tmp_path: Path):
    (c,) = load_concepts([str(write(tmp_path / "my pets.tsv", "cat\tdog\nkitten\tpuppy\n"))])
    assert (c.name, c.family) == ("my pets", "my pets")


@pytest.mark.parametrize("name", ["a.tsv", "a.txt"])
def test_byte_order_mark_crlf_and_column_names(tmp_path: Path, name: str):
    content = "\ufeffnegative\tpositive\r\ncat\tdog\r\n\r\nété\tWinter\r\n".encode()
    (c,) = load_concepts([write(tmp_path / name, content)])
    assert c.pairs == (("cat", "dog"), ("été", "Winter"))


@pytest.mark.parametrize("fields", [("negative", "positive"), ("word0", "word1")])
def test_jsonl_word_pairs(tmp_path: Path, fields: tuple[str, str]):
    pairs = (("cat", "dog"), ("kitten", "puppy"))
    path = jsonl(
        tmp_path / "pets.jsonl", {"name": "pets", "family": "f"}, *(dict(zip(fields, p, strict=True)) for p in pairs)
    )
    (c,) = load_concepts([path])
    assert (c.name, c.family, c.pairs) == ("pets", "f", pairs)


def test_contexts_negative_positive(tmp_path: Path):
    path = jsonl(
        tmp_path / "c.jsonl",
        {"name": "mine", "unembedding_concept": "male-female", "licence": "CC0-1.0"},
        {"negative": "He is a", "positive": "She is a", "template": "t"},
        {"negative": "His", "positive": "Her", "extra": 1},
    )
    (c,) = load_contexts([path])
    assert (c.name, c.unembedding_concept, c.licence) == ("mine", "male–female", "CC0-1.0")
    assert c.pairs == (ContextPair("He is a", "She is a", "t"), ContextPair("His", "Her", "line 3"))


def test_contexts_of_counterfactual_word_pairs(tmp_path: Path):
    """word0/word1/contexts0/contexts1: contexts are paired by position and the word pair is the sampling unit."""
    path = jsonl(
        tmp_path / "c.jsonl",
        {"word0": "cat", "word1": "dog", "contexts0": ["a", "b"], "contexts1": ["A", "B"], "tokens0": [[1]]},
        {"word0": "ox", "word1": "cow", "contexts0": ["c"], "contexts1": ["C"]},
    )
    (c,) = load_contexts([path])
    assert c.unembedding_concept is None
    assert c.pairs == (
        ContextPair("a", "A", "cat/dog"),
        ContextPair("b", "B", "cat/dog"),
        ContextPair("c", "C", "ox/cow"),
    )


def test_contexts_prompt_and_responses(tmp_path: Path):
    """The text is prompt + response exactly as written; pairs of one prompt are one unit."""
    path = jsonl(
        tmp_path / "c.jsonl",
        {"prompt": "Q: ok?", "negative_response": " No", "positive_response": " Yes"},
        {"prompt": "Q: ok?", "negative_response": " Never", "positive_response": " Always"},
    )
    (c,) = load_contexts([path])
    assert c.pairs == (
        ContextPair("Q: ok? No", "Q: ok? Yes", "Q: ok?"),
        ContextPair("Q: ok? Never", "Q: ok? Always", "Q: ok?"),
    )


def test_contexts_with_continuations(tmp_path: Path):
    path = jsonl(
        tmp_path / "c.jsonl",
        {"negative": "It is", "positive": "It was", "template": "t", "continuations": ["on", " off "]},
        {"prompt": "a ", "negative_response": "b", "positive_response": "c", "continuations": ["x", "y"]},
    )
    (c,) = load_contexts([path])
    assert c.pairs == (
        ContextPair("It is", "It was", "t", ("on", "off")),
        ContextPair("a b", "a c", "a ", ("x", "y")),
    )


def test_a_line_separator_inside_a_text_is_no_new_line(tmp_path: Path):
    path = jsonl(
        tmp_path / "c.jsonl", {"negative": "a\u2028b", "positive": "c"}, {"negative": "d\u0085", "positive": "e"}
    )
    assert load_contexts([path])[0].pairs[0].negative == "a\u2028b"


BAD_WORDS = {
    "non-UTF-8": (b"cat\tdog\nna\xefve\tr\xe9al\n", r"line 2: byte 0xef is not UTF-8"),
    "UTF-16": ("cat\tdog\n".encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
    "empty": (b"", r"is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", r"is empty"),
    "only blank lines": (b"\n  \r\n\n", r"is empty"),
    "header only": (b"# name: pets\n", r"header but no pairs"),
    "one pair": (b"cat\tdog\n", r"one pair"),
    "one column": (b"# x\ncat\tdog\nkitten puppy\n", r"line 3: one column in 'kitten puppy'"),
    "three columns": (b"cat\tdog\tfox\n", r"line 1: 3 columns"),
    "an empty word": (b"cat\tdog\nkitten\t \n", r"line 2: an empty word"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_tsv_is_one_line_with_file_and_line(tmp_path: Path, case: str):
    content, message = BAD_WORDS[case]
    path = write(tmp_path / "bad.tsv", content)
    with pytest.raises(InvalidInputError, match=message) as e:
        load_concepts([path])
    assert str(path) in str(e.value) and "\n" not in str(e.value)


PAIR = {"negative": "a", "positive": "b"}
BAD_JSONL = {
    "not JSON": ('{"negative": "a", "positive": "b"}\n{"negative": \n', r"line 2: is not JSON"),
    "nested too deeply": ("[" * 100_000, r"line 1: is not JSON \(nested too deeply\)"),
    "a list": ('["a", "b"]\n', r"line 1: is a JSON list, not an object"),
    "no fields": ("{}\n", r"line 1: needs .*; it has no fields"),
    "a missing field": ('{"negative": "a"}\n', r"line 1: needs .*; it has 'negative'"),
    "a number": ('{"negative": "a", "positive": 3}\n', r"line 1: field 'positive' must be a non-empty text, not 3"),
    "an empty text": ('{"negative": " ", "positive": "b"}\n', r"line 1: field 'negative' must be a non-empty"),
    "empty": ("", r"is empty"),
    "header only": ('{"name": "x"}\n', r"header but no pairs"),
    "one pair": (json.dumps(PAIR), r"one pair"),
}
RIGHT = PAIR | {"continuations": ["x", "y"]}


def continued(value: object) -> str:
    return json.dumps(RIGHT) + "\n" + json.dumps(PAIR | {"continuations": value}, ensure_ascii=False)


BAD_CONTEXTS = BAD_JSONL | {
    "missing continuations": (json.dumps(RIGHT) + "\n" + json.dumps(PAIR), r"line 2: misses continuations: give "),
    "continuations late": (json.dumps(PAIR) + "\n" + json.dumps(RIGHT), r"line 2: has continuations but the pairs bef"),
    "one continuation": (continued(["x"]), r"line 2: field 'continuations' must be two words .*, not \['x'\]"),
    "continuations that are a text": (continued("xy"), r"line 2: field 'continuations' must be two words .*, not 'xy'"),
    "an empty continuation": (continued(["x", " "]), r"line 2: field 'continuations' must be two words"),
    "a continuation of null": (continued(None), r"line 2: field 'continuations' must be two words .*, not None"),
    "equal continuations": (continued(["x", " x"]), r"line 2: both continuations are 'x'; the right one must differ"),
    "two words": (continued(["x", "y z"]), r"line 2: the continuation 'y z' is more than one word"),
    "continuations of lists": (
        '{"word0": "x", "word1": "y", "contexts0": ["a"], "contexts1": ["b"], "continuations": ["c", "d"]}\n',
        r"line 1: continuations stand beside negative and positive",
    ),
    "no words": ('{"contexts0": ["a"], "contexts1": ["b"]}\n', r"line 1: misses the field 'word0'"),
    "unequal lists": (
        '{"word0": "x", "word1": "y", "contexts0": ["a"], "contexts1": ["b", "c"]}\n',
        r"line 1: 1 contexts0 but 2 contexts1",
    ),
    "contexts that are a text": (
        '{"word0": "x", "word1": "y", "contexts0": "a", "contexts1": ["b"]}\n',
        r"line 1: field 'contexts0' must be a non-empty list of texts",
    ),
    "a chat": (
        '{"prompt": [{"role": "user"}], "negative_response": "a", "positive_response": "b"}\n',
        r"line 1: field 'prompt' must be a non-empty text",
    ),
}


@pytest.mark.parametrize("case", BAD_JSONL)
def test_bad_jsonl_words(tmp_path: Path, case: str):
    content, message = BAD_JSONL[case]
    path = write(tmp_path / "bad.jsonl", content)
    with pytest.raises(InvalidInputError, match=message) as e:
        load_concepts([path])
    assert str(path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("case", BAD_CONTEXTS)
def test_bad_contexts(tmp_path: Path, case: str):
    content, message = BAD_CONTEXTS[case]
    path = write(tmp_path / "bad.jsonl", content)
    with pytest.raises(InvalidInputError, match=message) as e:
        load_contexts([path])
    assert str(path) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize("load", [load_concepts, load_contexts])
def test_a_missing_file_and_a_folder_cannot_be_read(tmp_path: Path, load):
    for path in (tmp_path / "none.tsv", tmp_path):
        with pytest.raises(LinrepError, match="cannot be read") as e:
            load([path])
        assert str(path) in str(e.value) and "\n" not in str(e.value)
