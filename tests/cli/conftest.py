"""The command line as a user runs it, in this process: exit code, stdout, stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A cache folder that is not the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def linrep(monkeypatch, capsys, tmp_path, cache):
    """Run `linrep ARGS...` in an empty folder."""
    from linrep.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINREP_CACHE", str(cache))

    def run(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["linrep", *map(str, args)])
        try:
            app.main()
            code = 0
        except SystemExit as e:
            code = int(e.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """A model folder with real words, written without torch: γ with one planted direction for past tense."""
    import json

    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    folder.mkdir()
    from linrep.concepts.load import load_concepts

    verbs = load_concepts(["verb-Ved"])[0].pairs[:18]
    others = [a + b for a in "ba ce di fo gu ha ki lo mu ne".split() for b in "rt sp nd lk mp st ch ng".split()]
    words = [*(word for pair in verbs for word in pair), *others]
    vocabulary = {"<s>": 0} | {"Ġ" + w: i + 1 for i, w in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    gamma = np.random.default_rng(0).standard_normal((len(vocabulary), 24)).astype(np.float32)
    for base, past in verbs:
        row, other = vocabulary["Ġ" + past], vocabulary["Ġ" + base]
        gamma[row] = gamma[other] + 4 * np.eye(24)[3] + 0.3 * gamma[row]
    save_file({"lm_head.weight": gamma, "model.embed_tokens.weight": gamma[::-1].copy()}, folder / "model.safetensors")
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24, "vocab_size": len(gamma),
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "tie_word_embeddings": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder
