"""One tiny llama model three ways: safetensors, GGUF read here, GGUF read by transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from linrep.models.convert import convert_gguf
from linrep.models.source import open_model
from tests.fixtures.tiny_files import byte_level_tokenizer, llama_tensors, write_llama_gguf

pytestmark = pytest.mark.hf

TEXTS = ["the king and the queen", "a man and a woman walk to the palace", "été 東京 naïve"]


@pytest.fixture(scope="module", params=[(q, tied) for q in ("F32", "Q8_0", "Q4_1") for tied in (False, True)], ids=str)
def both(request, tmp_path_factory) -> tuple[Path, Path]:
    """A GGUF file and the folder converted from it."""
    quantisation, tied = request.param
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = byte_level_tokenizer()
    tensors = llama_tensors(tokenizer.get_vocab_size(), tied=tied)
    file = write_llama_gguf(folder / "m.gguf", tensors, tokenizer, quantisation=quantisation)
    convert_gguf(file, folder, record={"source": "a test"})
    return file, folder


def test_gamma_is_the_same_three_ways(both):
    file, folder = (open_model(path) for path in both)
    theirs = file.forward(device="cpu")  # transformers reads the GGUF file by its own code
    np.testing.assert_array_equal(file.unembeddings(), folder.unembeddings())
    np.testing.assert_array_equal(theirs.unembeddings(), folder.unembeddings())
    assert file.describe()["tied"] is folder.describe()["tied"]


def test_embeddings_and_layers_are_the_same_two_ways(both):
    """The folder's λ needs every tensor in its place and the rotary permutation undone."""
    file, folder = (open_model(path).forward(device="cpu") for path in both)
    assert [file.encode_one(text) for text in TEXTS] == [folder.encode_one(text) for text in TEXTS]
    ours, our_states = folder.embeddings(TEXTS, layers=[0, 1, 2])
    theirs, their_states = file.embeddings(TEXTS, layers=[0, 1, 2])
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    for layer in our_states:
        np.testing.assert_allclose(
            our_states[layer], their_states[layer], atol=1e-5 * np.abs(their_states[layer]).max()
        )


def test_untrained_from_gguf_has_ordinary_random_weights(both):
    running = open_model(both[0]).forward(device="cpu")
    gamma = running.untrained(0).unembeddings()
    assert gamma.shape == running.unembeddings().shape
    assert 0.015 < gamma.std() < 0.025  # llama's initialiser: standard deviation 0.02
