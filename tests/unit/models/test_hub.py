"""γ from a hub that is a server on this machine: only the bytes needed, faults survived, nothing half done opened."""

from __future__ import annotations

import concurrent.futures
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from linrep.errors import InvalidInputError, LinrepError, ModelFileError, ModelNotFoundError, StorageError
from linrep.models import hub as hub_module
from linrep.models.get import get_model
from linrep.models.source import open_model
from tests.fixtures.hub_server import Hub, commit_of, serve
from tests.fixtures.tiny_files import byte_level_tokenizer, llama_tensors

OUTPUT, EMBEDDING, NAME, WIDTH = "lm_head.weight", "model.embed_tokens.weight", "org/big", 256
SHARDS = 3


def write_checkpoint(folder: Path, seed: int = 0, *, tied: bool = False) -> Path:
    """A sharded llama checkpoint in which the output matrix is a small part, in the middle of a shard."""
    folder.mkdir()
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = llama_tensors(tokenizer.get_vocab_size() + 3, width=WIDTH, ffn=1024, tied=tied)
    tensors = {name: value + np.float32(seed) for name, value in tensors.items()}
    shards: list[dict[str, np.ndarray]] = [{} for _ in range(SHARDS)]
    for i, (name, value) in enumerate(sorted(tensors.items())):
        shards[i % SHARDS][name] = value
    files = [f"model-{i + 1:05}-of-{SHARDS:05}.safetensors" for i in range(SHARDS)]
    for file, shard in zip(files, shards, strict=True):
        save_file(shard, folder / file)
    places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    config = {"model_type": "llama", "hidden_size": WIDTH, "num_hidden_layers": 2, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("not needed" * 1000)
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    write_checkpoint(root / "main")
    write_checkpoint(root / "step1000", 1)
    write_checkpoint(root / "tied", tied=True)
    return root


@pytest.fixture
def hub(checkpoints, tmp_path, monkeypatch) -> Iterator[Hub]:
    import huggingface_hub.constants

    monkeypatch.setenv("LINREP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(hub_module, "_CHUNK", 100_000)  # several requests for a matrix of 0.4 MB
    monkeypatch.setattr(hub_module, "_WAIT", 0.001)
    folders = {(NAME, r): checkpoints / r for r in ("main", "step1000")} | {("org/tied", "main"): checkpoints / "tied"}
    with serve(folders, monkeypatch) as server:
        yield server


def get(name: str = NAME, **options) -> Path:
    return get_model(name, unembeddings_only=True, **options)


def expected(checkpoints: Path, revision: str = "main") -> np.ndarray:
    return open_model(checkpoints / revision).unembeddings()


def one_line(kind: type[LinrepError], name: str = NAME, **options) -> str:
    with pytest.raises(kind) as caught:
        get(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small_files(checkpoints: Path) -> int:
    return sum((checkpoints / "main" / f).stat().st_size for f in ("config.json", "tokenizer.json")) + (
        (checkpoints / "main" / "model.safetensors.index.json").stat().st_size
    )


def test_only_the_matrix_is_fetched(hub, checkpoints):
    get()
    source = open_model(NAME)
    gamma = source.unembeddings()
    np.testing.assert_array_equal(gamma, expected(checkpoints))
    matrix = (len(gamma) + 3) * WIDTH * 4
    assert matrix < hub.total < matrix + small_files(checkpoints) + 5000
    weights = sum(p.stat().st_size for p in (checkpoints / "main").glob("*.safetensors"))
    assert hub.total < weights / 8
    assert hub.served["tokenizer.json"] and "README.md" not in hub.served


def test_is_labelled_partial_and_does_not_run(hub):
    folder = get()
    source = open_model(NAME)
    told = source.describe()
    assert (told["model"], told["partial"], told["revision"]) == (NAME, "output matrix only", commit_of("main"))
    assert (told["dim"], told["quantisation"]) == (WIDTH, "F32")
    assert "not compared" in str(told["tied"])
    assert source.representations().provenance["partial"] == "output matrix only"
    for act in (source.forward, source.input_embeddings):
        with pytest.raises(ModelFileError, match=r"only a part of the model was fetched.*linrep get org/big"):
            act()
    record = json.loads((folder / "linrep.json").read_text())
    assert record["source"].startswith("org/big, model-0000")
    assert list(load_file(folder / "model.safetensors")) == [OUTPUT]
    names = {p.name for p in folder.iterdir()} - {".lock"}
    assert names == {"config.json", "tokenizer.json", "model.safetensors", "linrep.json"}


def test_a_whole_model_is_not_labelled(checkpoints):
    told = open_model(checkpoints / "main").describe()
    assert "partial" not in told and told["tied"] is False


def test_tied_model_gives_its_embedding_matrix(hub, checkpoints):
    get("org/tied")
    source = open_model("org/tied")
    np.testing.assert_array_equal(source.unembeddings(), expected(checkpoints, "tied"))
    np.testing.assert_array_equal(source.input_embeddings(), source.unembeddings())
    assert source.describe()["tied"] is True


def test_revisions_are_kept_apart(hub, checkpoints):
    get(revision="step1000")
    with pytest.raises(ModelNotFoundError, match=r"not in the local hub cache: linrep get org/big"):
        open_model(NAME)
    get()
    for revision in ("main", "step1000"):
        for asked in (revision, commit_of(revision)):
            source = open_model(NAME, revision=asked)
            np.testing.assert_array_equal(source.unembeddings(), expected(checkpoints, revision))
            assert source.describe()["revision"] == commit_of(revision)


def test_fetched_before_costs_no_weights(hub):
    get()
    hub.served.clear()
    assert get() == get(revision=commit_of("main"))
    assert hub.total == 0


def test_nothing_is_downloaded_by_opening(hub):
    with pytest.raises(ModelNotFoundError, match="--unembeddings-only for its word geometry alone"):
        open_model(NAME)
    assert not hub.served


def test_whole_model_comes_before_the_matrix_alone(hub, checkpoints):
    get()
    folder = get_model(NAME)
    source = open_model(NAME)
    assert source.path == folder and "partial" not in source.describe()
    np.testing.assert_array_equal(source.unembeddings(), expected(checkpoints))


def test_tokenizer_alone_in_the_hub_cache_is_no_model(hub, checkpoints):
    from huggingface_hub import hf_hub_download

    hf_hub_download(NAME, "config.json")
    get()
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


@pytest.mark.parametrize("drops", [[0], [1], [50_000], [99_999, 50, 7]])
def test_dropped_connection_is_resumed(hub, checkpoints, drops):
    hub.drops[:] = drops
    get()
    assert not hub.drops
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_connection_that_keeps_dropping(hub, checkpoints):
    # Two chunks come, then nothing but broken answers.
    hub.drops[:] = [10**9, 10**9, *[10] * 5]
    says = one_line(ModelNotFoundError)
    assert "connection broke 5 times at byte" in says and "get it again to go on" in says
    with pytest.raises(ModelNotFoundError):
        open_model(NAME)
    hub.drops.clear()
    hub.served.clear()
    get()
    gamma = open_model(NAME).unembeddings()
    np.testing.assert_array_equal(gamma, expected(checkpoints))
    assert hub.total < (len(gamma) + 3) * WIDTH * 4 - 200_000 + small_files(checkpoints) + 5000  # two chunks were kept


def test_part_of_another_matrix_is_not_gone_on_with(hub, checkpoints):
    hub.drops[:] = [10**9, *[10] * 5]
    one_line(ModelNotFoundError)
    (part,) = (Path(os.environ["LINREP_CACHE"])).glob("hub/*/*/*.part")
    content = part.read_bytes()
    part.write_bytes(content.replace(b"org/big", b"org/bag"))
    get()
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_killed_while_fetching_is_not_taken_for_finished(hub, checkpoints):
    code = (
        "import os, sys\n"
        "from linrep.models import hub\n"
        "from linrep.models.get import get_model\n"
        "hub._CHUNK = 100_000\n"
        "stop = lambda stage, done, total: os.kill(os.getpid(), 9) if done >= 200_000 else None\n"
        f"get_model({NAME!r}, unembeddings_only=True, progress=stop)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hub.environment, check=False)
    assert done.returncode == -9
    with pytest.raises(ModelNotFoundError):
        open_model(NAME)
    get()
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_two_at_once(hub, checkpoints):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: get(), range(2))
    assert first == second
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_full_disk(hub, checkpoints):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        says = one_line(StorageError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write 'org/big' to the cache" in says and "free space" in says
    with pytest.raises(ModelNotFoundError):
        open_model(NAME)
    get()
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_shard_shorter_than_its_header_says(hub):
    hub.cut = 64
    assert "truncated" in one_line(ModelFileError)
    hub.cut = 10**9
    assert "truncated (0 bytes)" in one_line(ModelFileError)


def test_server_without_ranges(hub):
    hub.whole = True
    assert "only whole, not a part" in one_line(ModelFileError)


def test_revision_that_does_not_exist(hub):
    for whole in (False, True):
        with pytest.raises(ModelNotFoundError, match="'org/big' has no revision 'step9'"):
            get_model(NAME, revision="step9", unembeddings_only=not whole)


def test_model_that_does_not_exist(hub):
    assert "no such model, or it is private" in one_line(ModelNotFoundError, "org/nonesuch")


def test_token_is_sent_and_a_gated_model_says_so(hub, monkeypatch, checkpoints):
    hub.token = "hf_right"
    assert "is gated: accept its conditions" in one_line(ModelNotFoundError)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    get()
    np.testing.assert_array_equal(open_model(NAME).unembeddings(), expected(checkpoints))


def test_no_server(hub, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "check the network" in one_line(ModelNotFoundError)


def changed(hub: Hub, checkpoints: Path, tmp_path: Path) -> Path:
    """A model of its own to damage, served as org/bad."""
    folder = shutil.copytree(checkpoints / "main", tmp_path / "bad")
    hub.folders["org/bad", "main"] = folder
    return folder


def test_tokenizer_of_another_model_is_refused_before_the_matrix(hub, checkpoints, tmp_path):
    folder = changed(hub, checkpoints, tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for extra in (2000, -1):  # more tokens than rows; far fewer
        vocab = {f"t{i}": i for i in range(extra)} if extra > 0 else {"Ġa": 0}
        content = tokenizer | {"model": tokenizer["model"] | {"vocab": vocab}, "added_tokens": []}
        (folder / "tokenizer.json").write_text(json.dumps(content))
        assert "tokenizer and weights belong to different models" in one_line(ModelFileError, "org/bad")
        shutil.rmtree(os.environ["LINREP_CACHE"])
    assert max(hub.served[f] for f in hub.served if f.endswith(".safetensors")) < 5000


def test_pickled_weights_are_refused_with_advice(hub, checkpoints, tmp_path):
    folder = changed(hub, checkpoints, tmp_path)
    for file in [*folder.glob("*.safetensors*")]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80")
    for only in (True, False):
        with pytest.raises(ModelFileError, match=r"only pickled weights \(\.bin\).*conversion of it with safetensors"):
            get_model("org/bad", unembeddings_only=only)
    assert "pytorch_model.bin" not in hub.served


def test_checkpoint_that_contradicts_itself(hub, checkpoints, tmp_path):
    folder = changed(hub, checkpoints, tmp_path)
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    others = sorted(set(places.values()) - {places[OUTPUT]})
    index.write_text(json.dumps({"weight_map": places | {OUTPUT: others[0]}}))
    assert f"lacks the tensor '{OUTPUT}'" in one_line(ModelFileError, "org/bad")
    index.write_text(json.dumps({"weight_map": places | {OUTPUT: "nowhere.safetensors"}}))
    assert "shard 'nowhere.safetensors' is missing" in one_line(ModelFileError, "org/bad")
    index.write_text(json.dumps({"weight_map": {k: v for k, v in places.items() if k != OUTPUT}}))
    assert "says the output matrix is not tied" in one_line(ModelFileError, "org/bad")
    index.write_text("{}")
    assert "has no table 'weight_map'" in one_line(ModelFileError, "org/bad")


def test_single_file_and_unknown_family(hub, checkpoints, tmp_path):
    folder = changed(hub, checkpoints, tmp_path)
    tensors = {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
    for file in [*folder.glob("*.safetensors*")]:
        file.unlink()
    save_file(tensors, folder / "model.safetensors")
    get("org/bad")
    np.testing.assert_array_equal(open_model("org/bad").unembeddings(), expected(checkpoints))
    assert hub.served["model.safetensors"] < 600_000
    shutil.rmtree(os.environ["LINREP_CACHE"])
    (folder / "config.json").write_text('{"model_type": "nonesuch"}')
    assert "no layout for the model_type 'nonesuch'" in one_line(ModelFileError, "org/bad")


def test_known_models_come_whole(hub):
    with pytest.raises(InvalidInputError, match="comes whole; unembeddings_only is for hub ids"):
        get("smollm2-135m")


def test_command_line(hub, checkpoints):
    command = [
        sys.executable,
        "-c",
        "from linrep.cli.app import main; main()",
        "get",
        NAME,
        "--unembeddings-only",
        "--revision",
        "step1000",
        "--json",
    ]
    done = subprocess.run(command, env=hub.environment, check=True, capture_output=True, text=True)
    folder = Path(json.loads(done.stdout)["folder"])
    np.testing.assert_array_equal(open_model(folder).unembeddings(), expected(checkpoints, "step1000"))
