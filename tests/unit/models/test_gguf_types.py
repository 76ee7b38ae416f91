"""Every tensor type the gguf package dequantises, tied and untied; models in several parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type

from linrep.errors import ModelFileError
from linrep.models.gguf_file import GgufFile
from linrep.models.source import open_model
from tests.fixtures.tiny_files import add_tokenizer, byte_level_tokenizer, finish, llama_tensors, write_llama_gguf

WIDTH = 256  # the longest block of any type


def works(function, kind: Type, rows: np.ndarray) -> bool:
    try:
        function(rows, kind)
    except NotImplementedError:
        return False
    return True


def row_bytes(kind: Type) -> int:
    block, size = GGML_QUANT_SIZES[kind]
    return WIDTH // block * size


READABLE = [t for t in Type if works(gguf.quants.dequantize, t, np.zeros((1, row_bytes(t)), np.uint8))]
WRITABLE = [t for t in READABLE if works(gguf.quants.quantize, t, np.zeros((1, WIDTH), np.float32))]
# Largest root mean square error, as a share of the root mean square of normal numbers, that each width in bits allows.
ERROR = {"F32": 0.0, "F16": 1e-3, "BF16": 1e-2, "Q8_0": 0.02, "Q5_0": 0.1, "Q5_1": 0.1, "Q4_0": 0.2, "Q4_1": 0.2}


def write(path: Path, kind: Type, raw: np.ndarray, *, tied: bool) -> Path:
    tokenizer = byte_level_tokenizer()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(WIDTH)
    add_tokenizer(writer, tokenizer)
    if not tied:
        writer.add_tensor("token_embd.weight", np.zeros((tokenizer.get_vocab_size(), WIDTH), np.float32))
    writer.add_tensor("token_embd.weight" if tied else "output.weight", raw, raw_dtype=kind)
    return finish(writer, path)


def test_the_types_are_those_of_the_package():
    names = {t.name for t in READABLE}
    assert names > {"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ2_XXS", "IQ3_S", "IQ4_XS", "TQ1_0", "MXFP4"}
    assert {t.name for t in WRITABLE} > set(ERROR)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", WRITABLE, ids=lambda t: t.name)
def test_quantised_matrix_comes_back(tmp_path, kind, tied):
    n = byte_level_tokenizer().get_vocab_size()
    matrix = np.random.default_rng(0).standard_normal((n, WIDTH)).astype(np.float32)
    source = open_model(write(tmp_path / "m.gguf", kind, gguf.quants.quantize(matrix, kind), tied=tied))
    gamma, told = source.unembeddings(), source.describe()
    assert gamma.dtype == np.float32 and told["tied"] is tied
    assert told["quantisation"] == f"no body, {kind.name} output"
    # Whatever the type, numbers stay in their places: a row is nearest to itself.
    error = np.abs(gamma - matrix)
    assert np.sqrt(np.square(error).mean()) <= ERROR.get(kind.name, np.inf)
    # The coarsest type rounds to 0 or plus or minus the largest of a block (stored as float16).
    assert (error <= 0.501 * np.abs(matrix).max(axis=1, keepdims=True)).all()
    assert ((gamma @ matrix.T).argmax(axis=1) == np.arange(n)).all()


@pytest.mark.parametrize("kind", [t for t in READABLE if t not in WRITABLE], ids=lambda t: t.name)
def test_type_the_package_only_reads(tmp_path, kind):
    """Random codes: every type has its own block layout, and rows must not run into each other."""
    n = byte_level_tokenizer().get_vocab_size()
    raw = np.random.default_rng(1).integers(0, 256, size=(n, row_bytes(kind)), dtype=np.uint8)
    file = GgufFile(write(tmp_path / "m.gguf", kind, raw, tied=True))
    with np.errstate(all="ignore"):
        seen = file.read("token_embd.weight")
        assert seen.shape == (n, WIDTH)
        for row in (0, 7, n - 1):
            np.testing.assert_array_equal(seen[row], gguf.quants.dequantize(raw[row : row + 1], kind)[0])


def test_float64_stays_exact(tmp_path):
    n = byte_level_tokenizer().get_vocab_size()
    matrix = np.random.default_rng(2).standard_normal((n, WIDTH))
    gamma = open_model(write(tmp_path / "m.gguf", Type.F64, matrix, tied=True)).unembeddings()
    assert gamma.dtype == np.float64
    np.testing.assert_array_equal(gamma, matrix)


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def parts(request, tmp_path_factory) -> tuple[Path, Path]:
    """A model in one file and the same in parts: (file, first part)."""
    folder, tokenizer = tmp_path_factory.mktemp("parts"), byte_level_tokenizer()
    tensors = llama_tensors(tokenizer.get_vocab_size(), tied=request.param)
    whole = write_llama_gguf(folder / "whole.gguf", tensors, tokenizer, quantisation="Q8_0")
    write_llama_gguf(folder / "m.gguf", tensors, tokenizer, quantisation="Q8_0", max_tensors=7)
    first = sorted(folder.glob("m-0*.gguf"))[0]
    return whole, first


def test_parts_are_one_model(parts):
    whole, first = parts
    assert first.name == "m-00001-of-00003.gguf"
    np.testing.assert_array_equal(open_model(first).unembeddings(), open_model(whole).unembeddings())
    one, several = GgufFile(whole), GgufFile(first)
    assert set(one.tensors) == set(several.tensors) and several.n_parts == 3
    for name in one.tensors:
        np.testing.assert_array_equal(several.read(name), one.read(name))
    told, expected = open_model(first).describe(), open_model(whole).describe()
    assert {k: v for k, v in told.items() if k not in ("model", "path")} == {
        k: v for k, v in expected.items() if k not in ("model", "path")
    }


def refused(path: Path, says: str) -> None:
    with pytest.raises(ModelFileError, match=says) as caught:
        open_model(path).unembeddings()
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit(parts, tmp_path):
    _, first = parts
    names = sorted(p.name for p in first.parent.glob("m-0*.gguf"))
    for name in names:
        shutil.copy(first.parent / name, tmp_path / name)
    refused(tmp_path / names[1], r"part 2 of 3; open the first, .*m-00001-of-00003\.gguf")
    (tmp_path / names[2]).rename(tmp_path / "away")
    refused(tmp_path / names[0], r"m-00003-of-00003\.gguf: this part of 3 is missing")
    shutil.copy(tmp_path / names[1], tmp_path / names[2])
    refused(tmp_path / names[0], "says part 1 of 3 .*, not 2 of 3: it belongs to another model")
    content = (tmp_path / "away").read_bytes()
    (tmp_path / names[2]).write_bytes(content[:-50])
    refused(tmp_path / names[0], "00003.* truncated|00003.*: truncated")
    (tmp_path / names[2]).write_bytes(content.replace(b"blk.1", b"blk.0"))
    refused(tmp_path / names[0], "different tensors, not .*: they belong to different models")
    (tmp_path / names[0]).rename(tmp_path / "m.gguf")
    refused(tmp_path / "m.gguf", r"not named NAME-00001-of-00003\.gguf")


def test_parts_do_not_run(parts):
    with pytest.raises(ModelFileError, match="weights are in 3 GGUF files and transformers reads one; merge"):
        open_model(parts[1]).forward()
