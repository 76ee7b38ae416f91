"""Facts about the real default model, and that its converted folder is the model in the GGUF file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from linrep.models.source import open_model

pytestmark = pytest.mark.smollm2

TEXTS = [
    "The ruler of a kingdom is a",
    "In 1987, 12 men and 3 women walked 4.5 km.",
    "def f(x):\n    return x ** 2  # squared\n\n\tdone",
    "Ils étaient à Paris l'été dernier; naïve Ångström, Größe, größer.",
    "東京は日本の首都です。 Москва — столица. مرحبا שלום 🎉🏳️‍🌈",
    "don't they've we'll I'M he'S (quotes) “curly” ‘single’ …",
    "<|im_start|>user\nhello<|im_end|>\n<|endoftext|> <repo_name>x",
    "  leading, trailing and   inner    spaces  ",
    "ALLCAPS camelCase snake_case https://example.org/a?b=c&d=%20",
    "x²³ ½ 1,000,000.00 0x1F v2.0.1",
    "",
]


def test_provenance(smollm2_folder, smollm2_gguf):
    told, before = open_model(smollm2_folder).describe(), open_model(smollm2_gguf).describe()
    assert {k: v for k, v in told.items() if k not in ("model", "path", "format")} == {
        "architecture": "llama",
        "tied": True,
        "vocabulary": 49152,
        "vocabulary_kind": "byte-level BPE",
        "dim": 576,
        "quantisation": "Q4_1 body, Q8_0 output",
        "n_layers": 30,
        "bos_token": "<|im_start|>",
        "chat_template": True,
        "logit_scale": 1.0,
        "logit_cap": "none",
        "logit_bias": False,
    }
    assert all(told[k] == before[k] for k in told if k not in ("model", "path", "format"))


def test_gamma_and_vocabulary_equal_the_files(smollm2_folder, smollm2_gguf):
    folder, file = open_model(smollm2_folder), open_model(smollm2_gguf)
    np.testing.assert_array_equal(folder.unembeddings(), file.unembeddings())
    assert folder.vocabulary().surfaces == file.vocabulary().surfaces
    assert folder.vocabulary().special == file.vocabulary().special == set(range(17))


def test_every_single_token_word_is_what_the_tokenizer_says(smollm2_folder):
    """All words of the vocabulary, not a sample: "x word" ends with the one token that find gives."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2_folder / "tokenizer.json"))
    vocabulary = open_model(smollm2_folder).vocabulary()
    words = {s[1:]: row for row, s in enumerate(vocabulary.surfaces) if s.startswith(" ")}
    words = {w: row for w, row in words.items() if vocabulary.find(w) is not None}
    assert len(words) > 30_000
    encoded = tokenizer.encode_batch(["x " + w for w in words])
    wrong = [w for (w, row), e in zip(words.items(), encoded, strict=True) if e.ids[1:] != [row]]
    assert not wrong
    assert all(vocabulary.find(w) == row for w, row in words.items())


def test_gamma_side_imports_nothing_heavy(smollm2_folder):
    code = (
        "import sys\nfrom linrep.models.source import open_model\n"
        f"open_model({str(smollm2_folder)!r}).representations()\n"
        "print([m for m in ('torch', 'transformers', 'jax', 'tokenizers', 'gguf', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.hf
def test_token_ids_equal_transformers_reading_of_the_gguf(smollm2_folder, smollm2_gguf):
    import transformers

    ours = transformers.AutoTokenizer.from_pretrained(smollm2_folder)
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2_gguf.parent, gguf_file=smollm2_gguf.name)
    differing = [text for text in TEXTS if ours(text)["input_ids"] != theirs(text)["input_ids"]]
    # transformers does not apply this file's pre-tokenizer "smollm" (each number character on its own, then GPT-2's
    # rule): it joins "½" or "1" to a space before it, or leaves a run of spaces before a digit unmerged.
    assert differing == ["x²³ ½ 1,000,000.00 0x1F v2.0.1"]
    assert ours("x ½")["input_ids"] == [*ours("x ")["input_ids"], *ours("½")["input_ids"]]
    assert ours("a  1")["input_ids"] == [*ours("a  ")["input_ids"], *ours("1")["input_ids"]]
    assert ours.chat_template == theirs.chat_template
    assert ours.special_tokens_map == theirs.special_tokens_map
    for text in TEXTS:
        assert ours.decode(ours(text)["input_ids"]) == text


@pytest.mark.hf
@pytest.mark.slow
def test_logits_equal_transformers_reading_of_the_gguf(smollm2_folder, smollm2_gguf):
    """Every logit at every position, and every layer at the last one."""
    import torch

    ours = open_model(smollm2_folder).forward(device="cpu")
    theirs = open_model(smollm2_gguf).forward(device="cpu")
    ids = torch.tensor([ours.encode_one(TEXTS[0])])
    with torch.inference_mode():
        a, b = ours.model(ids).logits, theirs.model(ids).logits
    assert float((a - b).abs().max()) <= 1e-5 * float(b.abs().max())
    (x, x_states), (y, y_states) = (m.embeddings(TEXTS[:1], layers=range(31)) for m in (ours, theirs))
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * np.abs(y).max())
    for layer in x_states:
        np.testing.assert_allclose(x_states[layer], y_states[layer], atol=1e-5 * np.abs(y_states[layer]).max())


@pytest.mark.hf
def test_forward_pass_of_the_default_model(smollm2_folder):
    source = open_model(smollm2_folder)
    running = source.forward(device="cpu")
    embeddings, _ = running.embeddings(["Paris is the capital of", "Berlin is the capital of"])
    surfaces = source.vocabulary().surfaces
    logits = running.logits(embeddings, source.unembeddings())
    assert logits[:, [surfaces.index(" France"), surfaces.index(" Germany")]].argmax(axis=1).tolist() == [0, 1]
    assert running.describe()["bos_added"] == "none"
