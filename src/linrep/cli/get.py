"""`linrep get`: the one command that downloads."""

from __future__ import annotations

from typing import Annotated

import typer

from linrep.cli import common


def get(
    name: Annotated[str, typer.Argument(help="A name from `linrep list models`, or a hub id (org/name).")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    unembeddings_only: Annotated[
        bool, typer.Option("--unembeddings-only", help="Of a hub id: output matrix, tokenizer and config only.")
    ] = False,
    as_json: common.Json = False,
) -> None:
    """Fetch a model once into the user's cache, check it, and print its folder.

    With --unembeddings-only a hub model of any size costs its output matrix: enough for everything that word pairs
    answer (linrep measure NAME --no-contexts). Example: linrep get EleutherAI/pythia-1b --revision step1000

    Nothing else in linrep downloads anything. The environment variable LINREP_CACHE moves the cache.
    """
    from linrep.models.get import get_model

    with common.progress_bar() as progress:
        folder = get_model(
            name,
            revision=revision,
            unembeddings_only=unembeddings_only,
            progress=lambda stage, done, total: progress(done / max(total, 1), f"{name}: {stage}"),
        )
    common.finish({"name": name, "folder": folder}, as_json, folder)
