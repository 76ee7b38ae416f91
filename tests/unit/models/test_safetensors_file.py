"""Damaged or foreign safetensors folders give one clear line; sound ones exactly their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from linrep.errors import InvalidInputError, ModelFileError, ModelNotFoundError
from linrep.geometry.rows import StoredRows
from linrep.models.safetensors_file import SafetensorsFolder, read_header, read_tensor
from linrep.models.source import open_model
from tests.fixtures.tiny_files import byte_level_tokenizer

WIDTH = 16
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A llama folder with only what γ needs: the two matrices and a tokenizer."""
    folder = tmp_path_factory.mktemp("folder")
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(0)
    shape = (tokenizer.get_vocab_size() + 3, WIDTH)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name in (EMBEDDING, OUTPUT)}
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 2, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def folder(template, tmp_path) -> Path:
    return shutil.copytree(template, tmp_path / "model")


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, **changed: np.ndarray | None) -> None:
    tensors = {k: v for k, v in (tensors_of(folder) | changed).items() if v is not None}
    save_file(tensors, folder / "model.safetensors")


def one_line(folder: Path | str) -> str:
    """The message of the error that γ gives; it must be a single line."""
    with pytest.raises((ModelFileError, ModelNotFoundError, InvalidInputError)) as caught:
        open_model(folder).unembeddings()
    message = str(caught.value)
    assert "\n" not in message
    return message


@given(
    dtype=st.sampled_from([np.float16, np.float32, np.float64, ml_dtypes.bfloat16]),
    rows=st.integers(0, 7),
    columns=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_every_float_type_is_read_exactly(tmp_path_factory, dtype, rows, columns, seed):
    path = tmp_path_factory.mktemp("t") / "model.safetensors"
    value = np.random.default_rng(seed).standard_normal((rows, columns)).astype(dtype)
    save_file({"other": np.zeros(3, np.int8), "x": value}, path)
    seen = read_tensor("x", read_header(path)["x"])
    assert seen.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(seen, value.astype(seen.dtype))


def test_gamma_is_the_output_matrix_without_padding(folder):
    n = byte_level_tokenizer().get_vocab_size()
    np.testing.assert_array_equal(open_model(folder).unembeddings(), tensors_of(folder)[OUTPUT][:n])


def test_representations_carry_tokens_frequency_and_provenance(folder):
    r = open_model(folder).representations()
    assert r.tokens is not None and " king" in r.tokens
    assert r.token_frequency is not None and (np.diff(r.token_frequency) < 0).all()
    assert r.provenance["tied"] is False and r.provenance["quantisation"] == "F32"


def test_tied_is_decided_by_values_not_by_the_config(folder):
    rewrite(folder, **{OUTPUT: tensors_of(folder)[EMBEDDING]})
    assert open_model(folder).describe()["tied"] is True


def test_quantised_body_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    assert open_model(folder).describe()["quantisation"] == "gptq body, F32 output"


@pytest.mark.parametrize("keep", [0, 5, 8, 60, 300, 5000])
def test_truncated_file(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "truncated" in one_line(folder)


def test_foreign_file(folder):
    (folder / "model.safetensors").write_bytes(b"PK\x03\x04" + b"\x00" * 4 + b"this is a zip archive" * 50)
    assert "not a safetensors file" in one_line(folder)


def test_contradictory_header(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"shape":[', b'"shape":[9', 2))
    assert "cannot have" in one_line(folder)


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "has no model.safetensors" in one_line(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "save the model again as safetensors" in one_line(folder)


def shard(folder: Path) -> None:
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    names = {EMBEDDING: "model-00001-of-00002.safetensors", OUTPUT: "model-00002-of-00002.safetensors"}
    for tensor, file in names.items():
        save_file({tensor: tensors[tensor]}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_shards_and_a_missing_shard(folder):
    expected = open_model(folder).unembeddings().copy()
    shard(folder)
    np.testing.assert_array_equal(open_model(folder).unembeddings(), expected)
    # γ needs only its own shard ...
    (folder / "model-00001-of-00002.safetensors").unlink()
    np.testing.assert_array_equal(open_model(folder).unembeddings(), expected)
    # ... and that one cannot be missing.
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "shard 'model-00002-of-00002.safetensors' is missing" in one_line(folder)


def test_index_that_lies(folder):
    shard(folder)
    index = folder / "model.safetensors.index.json"
    both_in_first = {name: "model-00001-of-00002.safetensors" for name in (EMBEDDING, OUTPUT)}
    index.write_text(json.dumps({"weight_map": both_in_first}))
    assert f"lacks the tensor '{OUTPUT}'" in one_line(folder)
    index.write_text("{}")
    assert "has no table 'weight_map'" in one_line(folder)
    index.write_text("{")
    assert "not a JSON file" in one_line(folder)


@pytest.mark.parametrize("shape", [(430, WIDTH + 1), (430 * WIDTH,), (4, 4, WIDTH)])
def test_tensor_of_the_wrong_shape(folder, shape):
    rewrite(folder, **{OUTPUT: np.ones(shape, np.float32)})
    assert f"has shape {shape}" in one_line(folder)


def test_fewer_rows_than_tokens(folder):
    rewrite(folder, **{OUTPUT: np.ones((300, WIDTH), np.float32)})
    assert "tokenizer and weights belong to different models" in one_line(folder)


def test_codes_instead_of_weights(folder):
    rewrite(folder, **{OUTPUT: np.ones((430, WIDTH), np.int8)})
    assert "has type I8, which is not a plain float" in one_line(folder)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_weights(folder, bad):
    weight = tensors_of(folder)[OUTPUT]
    weight[7, 3] = bad
    rewrite(folder, **{OUTPUT: weight})
    assert "NaN or infinite weights" in one_line(folder)


def test_output_matrix_missing_though_untied(folder):
    rewrite(folder, **{OUTPUT: None})
    assert "not tied, but the weights have none" in one_line(folder)


def test_no_matrix_at_all(folder):
    save_file({"encoder.weight": np.ones((2, 2), np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": WIDTH}))
    assert "no embedding or output matrix found" in one_line(folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [("[]", "a JSON object is needed"), ("", "not a JSON file"), ("{}", "no layout for the model_type 'None'")],
)
def test_broken_config(folder, content, says):
    (folder / "config.json").write_text(content)
    assert says in one_line(folder)


def test_config_without_a_width(folder):
    (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": "wide"}')
    assert "'hidden_size' must be a whole number, not 'wide'" in one_line(folder)


def test_missing_tensor_names_the_folder(folder):
    with pytest.raises(ModelFileError, match="has no tensor 'nonesuch'"):
        SafetensorsFolder(folder).read("nonesuch")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_large_matrices_are_widened_row_by_row(folder, monkeypatch, dtype):
    """The same numbers in both forms; a small model gives an array."""
    rewrite(folder, **{name: value.astype(dtype) for name, value in tensors_of(folder).items()})
    small = open_model(folder).representations()
    assert isinstance(small.unembeddings, np.ndarray) and small.unembeddings.dtype == np.float32
    monkeypatch.setattr("linrep.models.source._SMALL", 0)
    large = open_model(folder).representations()
    assert isinstance(large.unembeddings, StoredRows)
    np.testing.assert_array_equal(np.asarray(large.unembeddings), small.unembeddings)
    assert large.provenance == small.provenance
