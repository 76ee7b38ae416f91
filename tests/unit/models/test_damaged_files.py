"""Whatever is done to the bytes of a model file, the answer is numbers or one clear line, never another error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from linrep.errors import LinrepError
from linrep.models.source import open_model
from tests.fixtures.tiny_files import byte_level_tokenizer, llama_tensors, write_llama_gguf


@pytest.fixture(scope="module")
def gguf_bytes(tmp_path_factory) -> bytes:
    tokenizer = byte_level_tokenizer()
    path = tmp_path_factory.mktemp("sound") / "m.gguf"
    return write_llama_gguf(path, llama_tensors(tokenizer.get_vocab_size(), layers=1), tokenizer).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    weight = np.ones((tokenizer.get_vocab_size(), 8), np.float32)
    save_file({"model.embed_tokens.weight": weight, "lm_head.weight": weight}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1}))
    return folder


def numbers_or_one_line(path: Path) -> None:
    try:
        gamma = open_model(path).representations().unembeddings
    except LinrepError as e:
        assert "\n" not in str(e)
    else:
        assert np.isfinite(gamma).all()


# Mostly the header, where a byte means most; a byte anywhere else now and then.
damage = st.lists(st.tuples(st.one_of(st.integers(0, 800), st.integers(0, 10**6)), st.integers(0, 255)), min_size=1)


def damaged(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    out = bytearray(content)
    for at, value in changes:
        out[at % len(out)] = value
    return bytes(out)


@given(changes=damage)
@settings(max_examples=150, deadline=None)
def test_damaged_gguf(gguf_bytes, tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(damaged(gguf_bytes, changes))
    numbers_or_one_line(path)


@given(changes=damage, file=st.sampled_from(["model.safetensors", "config.json", "tokenizer.json"]))
@settings(max_examples=150, deadline=None)
def test_damaged_folder(folder, changes, file):
    sound = (folder / file).read_bytes()
    (folder / file).write_bytes(damaged(sound, changes))
    try:
        numbers_or_one_line(folder)
    finally:
        (folder / file).write_bytes(sound)
