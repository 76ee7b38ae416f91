"""From the hub: a whole model, or the output matrix alone by its byte range. Only `linrep get` calls this.

For questions about γ a model of any size is its output matrix, its tokenizer and its configuration. The matrix lies
in one piece in one shard, so that piece is fetched in chunks and becomes a small model folder of one tensor. What has
arrived stays in a ``.part`` file and is taken up again; a folder without its linrep.json is never opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from linrep.errors import LinrepError, ModelFileError, ModelNotFoundError, StorageError
from linrep.models.layouts import Layout, layout_of
from linrep.models.registry import RECORD, hub_folder, hub_reference
from linrep.models.safetensors_file import INDEX, SINGLE, TensorInfo, parse_header, read_json, tensor_bytes
from linrep.models.vocabulary import TOKENIZER_FILES, read_vocabulary

# What a hub model needs: never pickled weights, which can run code when they are read.
_HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model"]
_BESIDE = ("tokenizer_config.json", "chat_template.jinja")  # read for `describe`, where a model has them
_CHUNK = 16 << 20  # bytes a request: what a dropped connection can cost
_TRIES = 5  # attempts at one chunk
_WAIT = 0.5  # seconds before the second attempt, doubled each time
# The HTTP library under huggingface_hub has changed with its versions; its root error is a base of this one.
_NETWORK_ERRORS: tuple[type[Exception], ...] = (OSError, HfHubHTTPError.__bases__[0])

Progress = Callable[[str, int, int], None]


def get_snapshot(name: str, revision: str | None, cache_dir: Path | None) -> Path:
    """Fetch a whole model into the hub's own cache; return its folder."""
    with _clear_errors(name, revision):
        info = HfApi().model_info(name, revision=revision)
        _refuse_pickled(name, _files_of(info))
        return Path(snapshot_download(name, revision=revision, cache_dir=cache_dir, allow_patterns=_HUB_FILES))


def get_unembeddings(name: str, revision: str | None, cache_dir: Path | None, progress: Progress) -> Path:
    """Fetch configuration, tokenizer and output matrix of a hub model; return a small model folder.

    Raises
    ------
    ModelNotFoundError
        When the model or revision does not exist, or the server cannot be reached or keeps dropping the connection;
        what has arrived is kept, and the next call takes it up.
    ModelFileError
        When the files of the model contradict each other: a shard shorter than its header says, a tokenizer with
        other tokens than the matrix has rows.
    StorageError
        When the cache cannot be written.
    """
    with _clear_errors(name, revision):
        info = HfApi().model_info(name, revision=revision)
        commit = str(info.sha)
        folder = hub_folder(name, commit, cache_dir)
        folder.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(folder / ".lock"):  # a second process waits, then finds the folder complete
            if not (folder / RECORD).is_file():
                _fill(folder, _Remote(name, commit, _files_of(info)), progress)
        # The name of the revision last: it must never point at a folder that is not complete.
        reference = hub_reference(name, revision, cache_dir)
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit, encoding="utf-8")
        return folder


@contextmanager
def _clear_errors(name: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except LinrepError:
        raise
    except GatedRepoError as e:
        raise ModelNotFoundError(
            f"{name!r} is gated: accept its conditions on the hub, log in (hf auth login) and get it again"
        ) from e
    except RevisionNotFoundError as e:
        raise ModelNotFoundError(f"{name!r} has no revision {revision!r}; its page on the hub lists them") from e
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, HFValidationError) as e:
        hint = "no such model, or it is private: " if isinstance(e, RepositoryNotFoundError) else ""
        raise ModelNotFoundError(
            f"could not download {name!r} from the hub ({hint}{_first_line(e)}); check the id, the network, and "
            "(for a gated model) that you are logged in"
        ) from e
    except _NETWORK_ERRORS as e:
        if type(e).__module__ == "builtins" and not isinstance(e, (ConnectionError, TimeoutError)):
            reason = getattr(e, "strerror", None) or e
            raise StorageError(f"cannot write {name!r} to the cache: {reason}; free space there") from e
        raise ModelNotFoundError(
            f"could not download {name!r} from the hub ({_first_line(e)}); check the network and get it again"
        ) from e


def _first_line(e: BaseException) -> str:
    return (str(e).strip() or type(e).__name__).splitlines()[0]


def _files_of(info: Any) -> frozenset[str]:
    return frozenset(file.rfilename for file in info.siblings or ())


def _refuse_pickled(name: str, files: frozenset[str]) -> None:
    if any(file.endswith(".safetensors") for file in files):
        return
    if any(file.endswith((".bin", ".pth", ".pt")) for file in files):
        raise ModelFileError(
            f"{name!r} has only pickled weights (.bin), which can run code when read; "
            "look for a revision or a conversion of it with safetensors, or a GGUF file"
        )
    raise ModelFileError(f"{name!r} has no safetensors weights; is it a causal language model?")


@dataclass(frozen=True)
class _Remote:
    """One commit of one model on the hub."""

    name: str
    commit: str
    files: frozenset[str]

    def small(self, file: str, folder: Path) -> Path:
        """Fetch a small file whole."""
        return Path(hf_hub_download(self.name, file, revision=self.commit, local_dir=folder))

    def url(self, file: str) -> str:
        return hf_hub_url(self.name, file, revision=self.commit)

    def piece(self, file: str, start: int, stop: int) -> bytes:
        """Bytes start to stop of a file, tried again when the connection drops."""
        headers = build_hf_headers() | {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_WAIT * 2 ** (attempt - 1))
            try:
                answer = get_session().get(self.url(file), headers=headers, timeout=60)
                if answer.status_code != 416:  # past the end: said below
                    hf_raise_for_status(answer)
            except HfHubHTTPError as e:
                if e.response is not None and e.response.status_code < 500 and e.response.status_code != 429:
                    raise
                reason = _first_line(e)
            except _NETWORK_ERRORS as e:
                reason = _first_line(e)
            else:
                if answer.status_code == 206 and len(answer.content) == stop - start:
                    return answer.content
                if answer.status_code == 200:
                    raise ModelFileError(
                        f"{self.name}: the server sends {file} only whole, not a part of it; get the whole model "
                        f"(linrep get {self.name}), or unset HF_ENDPOINT"
                    )
                reason = f"{len(answer.content)} bytes came, not {stop - start}"
        raise ModelNotFoundError(
            f"{self.name}: the connection broke {_TRIES} times at byte {start} of {file} ({reason}); what has arrived "
            "is kept: get it again to go on"
        )


def _fill(folder: Path, remote: _Remote, progress: Progress) -> None:
    """Fetch into `folder`; linrep.json is written when everything else is there."""
    if "config.json" not in remote.files:
        raise ModelFileError(f"{remote.name!r} has no config.json; is it a causal language model?")
    _refuse_pickled(remote.name, remote.files)
    config = read_json(remote.small("config.json", folder))
    layout = layout_of(str(config.get("model_type")), remote.name)
    tokenizer = next((file for file in TOKENIZER_FILES if file in remote.files), None)
    for file in (tokenizer, *_BESIDE):
        if file in remote.files:
            remote.small(file, folder)
    shard, tensor, names = _place(folder, remote, layout)
    if tensor in layout.embedding and config.get("tie_word_embeddings") is False:
        raise ModelFileError(
            f"{remote.name}: config.json says the output matrix is not tied, but its files have none "
            f"({', '.join(layout.output)})"
        )
    info, header = _header(remote, shard, tensor)
    # Before gigabytes are fetched: do tokenizer and matrix belong together?
    if len(info.shape) == 2:
        read_vocabulary(folder).clipped(info.shape[0], remote.name)
    digest = _fetch(folder, remote, shard, tensor, info, progress)
    both = any(x in names for x in layout.embedding) and any(x in names for x in layout.output)
    record = {
        "source": f"{remote.name}, {shard}",
        "revision": remote.commit,
        "partial": "output matrix only",
        "tensor": tensor,
        "sha256": digest,
        "tied": "not compared (only the output matrix was fetched)" if both else True,
        "logit_bias": layout.bias in names or layout.bias in header,
    }
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub's notes on a folder it fills
    _write_whole(folder / RECORD, json.dumps(record, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.rename(path)


def _place(folder: Path, remote: _Remote, layout: Layout) -> tuple[str, str, frozenset[str]]:
    """Shard and name of the output matrix, and the names of all tensors of the model."""
    if INDEX not in remote.files:
        if SINGLE not in remote.files:
            raise ModelFileError(f"{remote.name!r} has neither {SINGLE} nor {INDEX}; which file is its weights?")
        names = frozenset(_header(remote, SINGLE, None)[1])
        return SINGLE, _output_of(names, layout, remote), names
    index = remote.small(INDEX, folder)
    weight_map = read_json(index).get("weight_map")
    index.unlink()  # it lists shards that this folder does not have
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise ModelFileError(f"{remote.name}: {INDEX} has no table 'weight_map' of tensor names to files")
    names = frozenset(weight_map)
    tensor = _output_of(names, layout, remote)
    if weight_map[tensor] not in remote.files:
        raise ModelFileError(f"{remote.name}: shard {weight_map[tensor]!r} is missing though {INDEX} names it")
    return weight_map[tensor], tensor, names


def _output_of(names: frozenset[str], layout: Layout, remote: _Remote) -> str:
    found = [name for name in (*layout.output, *layout.embedding) if name in names]
    if not found:
        raise ModelFileError(f"{remote.name}: no embedding or output matrix ({', '.join(layout.output)}) in its files")
    return found[0]


def _header(remote: _Remote, shard: str, tensor: str | None) -> tuple[TensorInfo, dict[str, TensorInfo]]:
    """Place of a tensor in a shard, and the shard's header; checked against the size the server states."""
    size = get_hf_file_metadata(remote.url(shard)).size or 0
    where = Path(remote.name) / shard
    length = int.from_bytes(remote.piece(shard, 0, 8), "little") if size >= 8 else 0
    if not 0 < length <= size - 8:
        raise ModelFileError(f"{where}: not a safetensors file, or truncated ({size} bytes)")
    header = parse_header(remote.piece(shard, 8, 8 + length), size, where)
    if tensor is None:
        return next(iter(header.values())), header
    if tensor not in header:
        raise ModelFileError(f"{where}: lacks the tensor {tensor!r} that {INDEX} places there")
    return header[tensor], header


def _fetch(folder: Path, remote: _Remote, shard: str, tensor: str, info: TensorInfo, progress: Progress) -> str:
    """Write model.safetensors with one tensor, chunk by chunk; return the hash of its bytes."""
    total = tensor_bytes(tensor, info)
    entry = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": [0, total]}
    origin = {"format": "pt", "source": remote.name, "revision": remote.commit, "shard": shard}
    text = json.dumps({"__metadata__": origin, tensor: entry}).encode()
    text += b" " * (-len(text) % 8)  # the format asks for aligned data
    start = len(text).to_bytes(8, "little") + text
    part, digest = folder / (SINGLE + ".part"), hashlib.sha256()
    with part.open("a+b") as out:
        out.seek(0)
        if out.read(len(start)) != start:  # new, or of another origin
            out.truncate(0)
            out.write(start)
        out.truncate(min(out.seek(0, os.SEEK_END), len(start) + total))
        out.seek(len(start))
        while chunk := out.read(_CHUNK):
            digest.update(chunk)
        done = out.tell() - len(start)
        while done < total:
            progress("download", done, total)
            chunk = remote.piece(shard, info.start + done, info.start + min(done + _CHUNK, total))
            out.write(chunk)
            out.flush()
            digest.update(chunk)
            done += len(chunk)
        os.fsync(out.fileno())
        progress("download", total, total)
    part.rename(folder / SINGLE)
    return digest.hexdigest()
