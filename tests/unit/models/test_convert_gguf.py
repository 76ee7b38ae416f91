"""A converted folder is the same model as the GGUF file: tensors, tokenizer, settings. Without torch."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from linrep.errors import ModelFileError, StorageError
from linrep.models.convert import convert_gguf
from linrep.models.source import open_model
from tests.fixtures.tiny_files import CORPUS, byte_level_tokenizer, llama_tensors, with_special, write_llama_gguf


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return with_special(byte_level_tokenizer(), "<tool>")


@pytest.fixture(scope="module")
def converted(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("converted")
    file = write_llama_gguf(folder / "m.gguf", llama_tensors(tokenizer.get_vocab_size()), tokenizer)
    convert_gguf(file, folder, record={"source": "a test"})
    return folder


def test_tensors_are_those_the_file_was_made_of(converted, tokenizer):
    """Names back, rotary permutation undone, nothing added or lost."""
    expected, seen = llama_tensors(tokenizer.get_vocab_size()), load_file(converted / "model.safetensors")
    assert seen.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(seen[name], value, err_msg=name)


@pytest.mark.parametrize("quantisation", ["Q4_1", "Q8_0"])
def test_quantised_values_are_kept_exactly_and_recorded(tmp_path, tokenizer, quantisation):
    tensors = llama_tensors(tokenizer.get_vocab_size(), tied=True)
    file = write_llama_gguf(tmp_path / "m.gguf", tensors, tokenizer, quantisation=quantisation)
    convert_gguf(file, tmp_path, record={"source": "a test", "licence": "none"})
    folder, original = open_model(tmp_path), open_model(file)
    np.testing.assert_array_equal(folder.unembeddings(), original.unembeddings())
    told, before = folder.describe(), original.describe()
    assert told["quantisation"] == before["quantisation"] == quantisation
    assert told["tied"] is before["tied"] is True
    assert json.loads((tmp_path / "linrep.json").read_text())["licence"] == "none"


def test_descriptions_of_file_and_folder_agree(converted):
    told, before = open_model(converted).describe(), open_model(converted / "m.gguf").describe()
    differing = {key for key in told if told[key] != before[key]}
    assert differing == {"model", "path", "format"}


def test_vocabularies_agree(converted):
    folder, file = open_model(converted).vocabulary(), open_model(converted / "m.gguf").vocabulary()
    assert folder.surfaces == file.surfaces and folder.special == file.special


@given(
    st.lists(
        st.one_of(st.sampled_from([*" ".join(CORPUS).split(), "<s>", "<tool>"]), st.text(max_size=6)), max_size=12
    ).map(" ".join)
)
@settings(deadline=None)
def test_token_ids_equal_the_original_tokenizers(converted, tokenizer, text):
    rebuilt = Tokenizer.from_file(str(converted / "tokenizer.json"))
    ids = rebuilt.encode(text).ids
    assert ids == tokenizer.encode(text).ids
    assert rebuilt.decode(ids, skip_special_tokens=False) == text


def test_beginning_of_text_is_added_where_the_file_says_so(tmp_path, tokenizer):
    tensors = llama_tensors(tokenizer.get_vocab_size())
    convert_gguf(write_llama_gguf(tmp_path / "m.gguf", tensors, tokenizer, add_bos=True), tmp_path, record={})
    ids = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("a king").ids
    assert ids == [0, *tokenizer.encode("a king").ids]


def test_progress_covers_every_tensor(tmp_path, tokenizer):
    steps: list[tuple[str, int, int]] = []
    file = write_llama_gguf(tmp_path / "m.gguf", llama_tensors(tokenizer.get_vocab_size()), tokenizer)
    convert_gguf(file, tmp_path, record={}, progress=lambda *step: steps.append(step))
    assert steps == [("convert", i, 21) for i in range(22)]


def refused(file: Path, folder: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        convert_gguf(file, folder, record={})
    assert not (folder / "linrep.json").exists() and not (folder / "model.safetensors").exists()
    return str(caught.value)


def test_what_has_no_place_in_the_folder_is_refused(tmp_path, tokenizer):
    tensors = llama_tensors(tokenizer.get_vocab_size())
    less = {k: v for k, v in tensors.items() if k != "model.layers.1.mlp.up_proj.weight"}
    says = refused(write_llama_gguf(tmp_path / "less.gguf", less, tokenizer), tmp_path)
    assert "tensors missing or without a place in a llama folder: blk.1.ffn_up.weight" in says
    says = refused(write_llama_gguf(tmp_path / "pre.gguf", tensors, tokenizer, pre="dbrx"), tmp_path)
    assert "pre-tokenizer 'dbrx' is not converted" in says
    scaled = write_llama_gguf(tmp_path / "scaled.gguf", tensors, tokenizer, extra={"llama.rope.scaling.type": "yarn"})
    assert "scaled rotary positions are not converted" in refused(scaled, tmp_path)


def test_other_architecture_is_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "gpt2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "architecture 'gpt2' is not converted" in refused(tmp_path / "m.gguf", tmp_path)


def test_folder_that_cannot_be_written(converted, tmp_path):
    with pytest.raises(StorageError, match="cannot write the model to"):
        convert_gguf(converted / "m.gguf", tmp_path / "missing", record={})
