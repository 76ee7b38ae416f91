"""Damaged or foreign GGUF files give one clear line; sound ones what the gguf package's own reader sees."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from linrep.errors import ModelFileError
from linrep.models.gguf_file import GgufFile
from linrep.models.layouts import LAYOUTS
from linrep.models.source import open_model
from tests.fixtures.tiny_files import add_tokenizer, byte_level_tokenizer, finish, llama_tensors, write_llama_gguf


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def tensors(tokenizer):
    return llama_tensors(tokenizer.get_vocab_size() + 3)


@pytest.fixture(scope="module")
def sound(tmp_path_factory, tensors, tokenizer) -> Path:
    return write_llama_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tensors, tokenizer)


def one_line(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        open_model(path).unembeddings()
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("quantisation", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q5_1"])
def test_tensors_and_header_equal_the_gguf_packages_reader(tmp_path, tensors, tokenizer, quantisation):
    path = write_llama_gguf(tmp_path / "m.gguf", tensors, tokenizer, quantisation=quantisation)
    ours, theirs = GgufFile(path), gguf.GGUFReader(path)
    assert list(ours.tensors) == [t.name for t in theirs.tensors]
    for t in theirs.tensors:
        np.testing.assert_array_equal(ours.read(t.name), gguf.quants.dequantize(t.data, t.tensor_type))
    for key, value in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert ours.get(key) == value.contents()


def test_gamma_of_a_plain_file_is_exact(sound, tensors, tokenizer):
    source = open_model(sound)
    np.testing.assert_array_equal(source.unembeddings(), tensors["lm_head.weight"][: tokenizer.get_vocab_size()])
    told = source.describe()
    assert (told["tied"], told["quantisation"], told["format"]) == (False, "F32", "GGUF")
    assert (told["bos_token"], told["chat_template"], told["n_layers"]) == ("<s>", True, 2)


def test_tied_file_and_mixed_quantisation(tmp_path, tokenizer):
    tied = llama_tensors(tokenizer.get_vocab_size(), tied=True)
    told = open_model(write_llama_gguf(tmp_path / "q.gguf", tied, tokenizer, quantisation="Q8_0")).describe()
    assert (told["tied"], told["quantisation"]) == (True, "Q8_0")


@pytest.mark.parametrize("family", [family for family, layout in LAYOUTS.items() if layout.gguf])
def test_every_familys_architecture_is_known(tmp_path, tokenizer, family):
    """Scale, cap and bias come from the keys llama.cpp writes, whatever the family."""
    n = tokenizer.get_vocab_size()
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", str(LAYOUTS[family].gguf))
    writer.add_block_count(3)
    writer.add_embedding_length(32)
    writer.add_logit_scale(0.5)
    writer.add_final_logit_softcapping(30.0)
    add_tokenizer(writer, tokenizer)
    gamma = np.random.default_rng(0).standard_normal((n, 32)).astype(np.float32)
    writer.add_tensor("token_embd.weight", gamma)
    writer.add_tensor("output.bias", np.zeros(n, np.float32))
    source = open_model(finish(writer, tmp_path / "m.gguf"))
    np.testing.assert_array_equal(source.unembeddings(), gamma)
    told = source.describe()
    one_name = {"mistral": "llama", "gemma3": "gemma3_text"}  # llama.cpp has one name for both
    assert told["architecture"] == one_name.get(family, family)
    assert (told["logit_scale"], told["logit_cap"], told["logit_bias"], told["n_layers"]) == (0.5, 30.0, True, 3)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.1, 0.5, 0.99])
def test_truncated_file(sound, tmp_path, share):
    path = tmp_path / "cut.gguf"
    content = sound.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert any(word in one_line(path) for word in ("truncated", "not a GGUF file"))


def test_every_cut_of_the_header_is_one_clear_line(sound, tmp_path):
    content, path = sound.read_bytes(), tmp_path / "cut.gguf"
    for size in range(8, 3000, 97):
        path.write_bytes(content[:size])
        assert "truncated" in one_line(path)


def test_foreign_magic(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"ggjt\x03\x00\x00\x00" + b"\x00" * 100)
    assert "not a GGUF file (starts with b'ggjt'" in one_line(path)


@pytest.mark.parametrize(("version", "says"), [(1, "version 1"), (9, "version 9"), (3 << 24, "big-endian data")])
def test_other_version(sound, tmp_path, version, says):
    path = tmp_path / "model.gguf"
    content = sound.read_bytes()
    path.write_bytes(content[:4] + struct.pack("<I", version) + content[8:])
    assert says in one_line(path)


def retyped(sound: Path, path: Path, tensor: str, kind: int) -> Path:
    """The same file with another type number on one tensor."""
    content = bytearray(sound.read_bytes())
    name = tensor.encode()
    at = content.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
    (n_dims,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at + 4 + 8 * n_dims, kind)
    path.write_bytes(content)
    return path


def test_unknown_tensor_type(sound, tmp_path):
    path = retyped(sound, tmp_path / "m.gguf", "output.weight", 250)
    assert "tensor 'output.weight' has type 250, unknown to the gguf package" in one_line(path)


def test_tensor_type_without_dequantisation(sound, tmp_path):
    path = retyped(sound, tmp_path / "m.gguf", "output.weight", gguf.GGMLQuantizationType.Q8_1)
    assert "is Q8_1, which the gguf package cannot dequantise" in one_line(path)


def test_rows_that_do_not_fill_blocks(sound, tmp_path):
    path = retyped(sound, tmp_path / "m.gguf", "output.weight", gguf.GGMLQuantizationType.Q4_K)
    assert "rows must be a multiple of 256" in one_line(path)


def test_only_the_tensor_that_is_read_matters(sound, tmp_path, tensors):
    """An unknown type elsewhere in the file does not keep γ from being read."""
    path = retyped(sound, tmp_path / "m.gguf", "blk.0.attn_q.weight", 250)
    assert len(open_model(path).unembeddings()) > 0


def test_nan_weights(tmp_path, tensors, tokenizer):
    damaged = {**tensors, "lm_head.weight": np.full_like(tensors["lm_head.weight"], np.nan)}
    assert "NaN or infinite weights" in one_line(write_llama_gguf(tmp_path / "m.gguf", damaged, tokenizer))


def test_wrong_shape(tmp_path, tensors, tokenizer):
    narrow = {**tensors, "lm_head.weight": np.ones((430, 16), np.float32)}
    assert "has shape (430, 16)" in one_line(write_llama_gguf(tmp_path / "m.gguf", narrow, tokenizer))


def test_fewer_rows_than_tokens(tmp_path, tensors, tokenizer):
    short = {**tensors, "lm_head.weight": np.ones((100, 32), np.float32)}
    assert "belong to different models" in one_line(write_llama_gguf(tmp_path / "m.gguf", short, tokenizer))


def bare(path: Path, architecture: str = "llama", **values) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(32)
    for key, value in values.items():
        writer.add_uint32(key.replace("__", "."), value)
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    return finish(writer, path)


def test_no_language_model(tmp_path):
    assert "lacks 'tokenizer.ggml." in one_line(bare(tmp_path / "m.gguf"))
    assert "no layout for the GGUF architecture 'clip'" in one_line(bare(tmp_path / "c.gguf", "clip"))


def test_split_file(tmp_path):
    assert "merge them" in one_line(bare(tmp_path / "m.gguf", split__count=3))


def test_unknown_tokenizer(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_embedding_length(32)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.ones((2, 32), np.float32))
    assert "tokenizer 'bert' is not read" in one_line(finish(writer, tmp_path / "m.gguf"))


def test_special_token_beyond_the_vocabulary(sound, tmp_path):
    path, key = tmp_path / "m.gguf", b"tokenizer.ggml.bos_token_id"
    content = bytearray(sound.read_bytes())
    struct.pack_into("<I", content, content.index(key) + len(key) + 4, 10**6)
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="the bos token is row 1000000 of"):
        open_model(path).describe()


def test_missing_tensor(sound):
    with pytest.raises(ModelFileError, match="has no tensor 'nonesuch'"):
        GgufFile(sound).read("nonesuch")
