"""Where a MODEL argument is found, and what the message says when it is not. Nothing is downloaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from linrep.errors import InvalidInputError, MissingExtraError, ModelNotFoundError
from linrep.models.registry import cache_folder, locate
from linrep.models.source import open_model
from tests.fixtures.tiny_files import byte_level_tokenizer, llama_tensors, write_llama_gguf


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LINREP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def model_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_known_name_before_and_after_it_is_fetched(own_cache):
    with pytest.raises(ModelNotFoundError, match="has not been fetched yet: linrep get smollm2-135m"):
        open_model("smollm2-135m")
    folder = model_at(own_cache / "models" / "smollm2-135m")
    assert locate("smollm2-135m") == (folder, "smollm2-135m")


def test_known_name_comes_before_a_folder_of_that_name(tmp_path):
    model_at(tmp_path / "smollm2-135m")
    with pytest.raises(ModelNotFoundError, match="linrep get"):
        locate("smollm2-135m")
    assert locate("./smollm2-135m")[1] == "smollm2-135m"


def test_paths_as_text_and_as_path_are_the_same(tmp_path):
    folder = model_at(tmp_path / "org" / "name")  # a path comes before a hub id
    assert locate("org/name")[0].resolve() == locate(folder)[0] == folder


def test_gguf_file(tmp_path):
    tokenizer = byte_level_tokenizer()
    path = write_llama_gguf(tmp_path / "m.gguf", llama_tensors(tokenizer.get_vocab_size()), tokenizer)
    source = open_model(path)
    assert (source.name, source.path) == ("m", path)


def test_folder_without_config(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match=r"empty has no config\.json; a model folder has one"):
        open_model(tmp_path / "empty")
    (tmp_path / "empty" / "x.gguf").touch()
    with pytest.raises(ModelNotFoundError, match=r"open .*x\.gguf"):
        open_model(tmp_path / "empty")


def test_other_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InvalidInputError, match=r"is a \.safetensors: MODEL is a folder"):
        open_model(tmp_path / "model.safetensors")


def test_near_misses_and_nonsense():
    with pytest.raises(ModelNotFoundError, match="did you mean 'smollm2-135m'"):
        open_model("SmolLM2-135")
    with pytest.raises(ModelNotFoundError, match="known names: smollm2-135m"):
        open_model("xyzzy")


@pytest.mark.parametrize("path", ["./org/name", "a/b/c", "models/m.gguf", "/nonexistent"])
def test_paths_that_do_not_exist_are_no_hub_ids(path):
    with pytest.raises(ModelNotFoundError, match=r"no folder, no \.gguf file"):
        open_model(path)


def test_hub_id_is_looked_up_in_the_local_cache_only(tmp_path, monkeypatch):
    import huggingface_hub.constants

    hub = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    with pytest.raises(ModelNotFoundError, match="not in the local hub cache: linrep get org/name"):
        open_model("org/name")
    entry = hub / "models--org--name"
    folder = model_at(entry / "snapshots" / ("0" * 40))
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text("0" * 40)
    assert locate("org/name") == (folder, "org/name")
    assert locate("org/name", revision="0" * 40) == (folder, "org/name")
    with pytest.raises(ModelNotFoundError, match="linrep get org/name"):
        locate("org/name", revision="other")


def test_revision_is_for_hub_ids(tmp_path):
    folder = model_at(tmp_path / "m")
    with pytest.raises(InvalidInputError, match=r"revision='v2' is for hub ids"):
        open_model(folder, revision="v2")


def test_cache_folder(monkeypatch, tmp_path):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("LINREP_CACHE")
    assert cache_folder().name == "linrep"


def test_forward_without_torch_names_the_extra(tmp_path, monkeypatch):
    tokenizer = byte_level_tokenizer()
    path = write_llama_gguf(tmp_path / "m.gguf", llama_tensors(tokenizer.get_vocab_size()), tokenizer)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "linrep.models.transformers_model", raising=False)
    with pytest.raises(MissingExtraError, match=r"linrep\[hf\]"):
        open_model(path).forward()


def test_reading_a_folder_imports_nothing_heavy(tmp_path):
    """γ of a folder, in a fresh interpreter where torch cannot be imported."""
    from safetensors.numpy import save_file

    tokenizer = byte_level_tokenizer()
    tensors = llama_tensors(tokenizer.get_vocab_size(), tied=True)
    save_file(tensors, tmp_path / "model.safetensors")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from linrep.models.source import open_model\n"
        f"print(open_model({str(tmp_path)!r}).representations().unembeddings.shape)\n"
        "print([m for m in ('jax', 'tokenizers', 'gguf', 'huggingface_hub', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(tensors["model.embed_tokens.weight"].shape), "[]"]
