"""The `linrep` command: its verbs, and what a user sees of an error."""

from __future__ import annotations

import sys
import traceback
import warnings
from typing import Annotated

import typer

from linrep import __version__
from linrep.cli import compare, demo, get, lint, list_, measure, report, simulate, study, sweep
from linrep.errors import LinrepError, LinrepWarning

_INTERRUPTED = 130

app = typer.Typer(
    name="linrep",
    help="Linear representations of concepts in language models: where they come from, and where they are.\n\n"
    "Start with [bold]linrep demo[/]. Every command explains itself with --help.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(simulate.simulate)
app.command()(sweep.sweep)
app.command()(measure.measure)
app.add_typer(study.app, name="study")
app.command()(report.report)
app.command()(compare.compare)
app.command()(lint.lint)
app.command("list")(list_.list_)
app.command()(get.get)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"linrep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""


def _show_warning(message: Warning | str, category: type[Warning], *_: object) -> None:
    if issubclass(category, LinrepWarning):
        typer.secho(f"warning: {message}", fg="yellow", err=True)


def main() -> None:
    """Run the command line: exit 0 on success, 2 on an error of input, 1 on a bug, 130 if interrupted."""
    warnings.showwarning = _show_warning
    debug = "--debug" in sys.argv
    try:
        app()
    except LinrepError as e:
        if debug:
            traceback.print_exc()
        typer.secho(f"error: {e}", fg="red", err=True)
        sys.exit(2)
    except SystemExit as e:
        if e.code == _INTERRUPTED:  # typer has caught the interrupt, and says nothing
            typer.secho("interrupted: finished runs are kept; the same command goes on with the rest", err=True)
        raise
    except Exception as e:
        if debug:
            traceback.print_exc()
        typer.secho(
            f"bug in linrep: {type(e).__name__}: {e} (run again with linrep --debug to see where)", fg="red", err=True
        )
        sys.exit(1)
