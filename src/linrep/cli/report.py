"""`linrep report`: the page of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linrep.cli import common


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold runs.")],
    out: common.Out = None,
    as_json: common.Json = False,
) -> None:
    """Write the page (and every figure as SVG, PNG and PDF) of one or more runs.

    Example: linrep report runs/simulate runs/measure-smollm2-135m --out page
    """
    from linrep.runs.store import find_runs

    found = [run for path in runs for run in find_runs(path)]
    page = common.write_page(found, out or runs[0] / "report")
    common.finish({"report": page, "runs": [r.path for r in found]}, as_json, page)
