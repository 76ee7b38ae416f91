"""What several verbs share: the progress bar, the reuse of finished runs, and how results are printed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linrep.errors import StorageError

if TYPE_CHECKING:
    from linrep.runs.store import Run
    from linrep.studies.result import Progress, StudyConfig, StudyResult

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file; options given here win over it.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a run that is already there.")]
WithReport = Annotated[bool, typer.Option("--report/--no-report", help="Write the page into the run's folder.")]


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Progress on stderr with the time left; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda fraction, text: bar.update(task, completed=fraction, description=text)


def chosen_contexts(given: list[str] | None, *, none: bool, configured: bool) -> list[str] | None:
    """Context sets asked for; an empty list for word pairs only, None for what the configuration says.

    Without torch no context can be embedded: unless some were asked for, that is said and only words are measured.
    """
    if none or given:
        return [] if none else given
    if not configured and find_spec("torch") is None:
        note("torch is not installed: word pairs only (pip install 'linrep[hf]' adds contexts)")
        return []
    return None


def keep_compiled() -> None:
    """Keep the programs that training compiles in linrep's cache folder: for verbs that train."""
    from linrep.learning.compiled import keep_compiled as keep
    from linrep.models.registry import cache_folder

    keep(cache_folder() / "compiled")


def run_study(
    study: Callable[..., StudyResult],
    config: StudyConfig,
    out: Path,
    *,
    overwrite: bool = False,
    workspace: str | None = None,
) -> Run:
    """Run a study into a folder, or reuse the complete run of the same configuration and version there.

    A study that takes a workspace is given the hidden folder ``.OUT.WORKSPACE`` beside ``out``, which goes once the run
    is complete.
    """
    from linrep.runs.save import finished, save_result
    from linrep.runs.store import check_target

    if not overwrite and (run := finished(out, config)) is not None:
        note(f"{out} already holds this run: reused (--overwrite computes it again)")
        return run
    if not overwrite and (out / "run.json").exists():
        raise StorageError(f"{out} holds a run of another configuration or version: give another --out, or --overwrite")
    check_target(out, overwrite=overwrite)  # said now, not after the work
    started, place = datetime.now(UTC), out.absolute()
    hidden = None if workspace is None else place.with_name(f".{place.name}.{workspace}")
    with progress_bar() as progress:
        result = study(config, progress=progress, **({} if hidden is None else {"workspace": hidden}))
    run = save_result(result, out, started=started, overwrite=overwrite)
    if hidden is not None:
        shutil.rmtree(hidden, ignore_errors=True)  # everything in it is in the run now
    return run


def write_page(runs: list[Run], folder: Path) -> Path:
    """Write the report page of some runs."""
    from linrep.report.page import write_report

    with progress_bar() as progress:
        return write_report(runs, folder, progress=progress)


def note(text: str) -> None:
    """Print something a person should know, on stderr."""
    typer.secho(text, fg="bright_black", err=True)


def print_table(title: str, columns: list[str], rows: list[list[str]], *, err: bool = True) -> None:
    """A table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(stderr=err)
    # A pipe or a log has no width of its own: do not fold what a file can hold.
    (console if console.is_terminal else Console(stderr=err, width=160)).print(table)


def finish(result: dict[str, Any], as_json: bool, *paths: Path) -> None:
    """Print the result: paths a line each, or everything as JSON."""
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, indent=2, default=str))
    else:
        for path in paths:
            typer.echo(str(path))
