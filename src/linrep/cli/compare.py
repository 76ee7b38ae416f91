"""`linrep compare`: finished runs against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from linrep.cli import common


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold runs.")],
    out: common.Out = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.", min=0)] = 0,
    as_json: common.Json = False,
) -> None:
    """Hold models, checkpoints or simulations against each other: are the same concepts linear?

    Models are compared concept by concept (rank correlation, differences with intervals); a simulation has no concept
    in common with a model, so that their distributions are. Example:
    linrep compare runs/measure-a runs/measure-b --out page
    """
    from linrep.report.compare import compare_content, sides
    from linrep.report.page import write_page
    from linrep.runs.store import find_runs
    from linrep.studies import compare as study

    found = [run for path in runs for run in find_runs(path)]
    labelled = sides(found)
    result = study.compare(labelled, seed=seed)
    show(result.correlations.to_dicts(), result.distributions.to_dicts())
    with common.progress_bar() as progress:
        page = write_page(compare_content(labelled, result), found, out or Path("runs/compare"), progress=progress)
    said = {
        "report": page,
        "runs": [run.path for run in found],
        "correlations": result.correlations.to_dicts(),
        "differences": result.differences.to_dicts(),
        "distributions": result.distributions.to_dicts(),
    }
    common.finish(said, as_json, page)


def show(correlations: list[dict[str, Any]], distributions: list[dict[str, Any]]) -> None:
    """Print the rank correlations, or the distributions where nothing is in common."""
    if correlations:
        common.print_table(
            "rank correlation of per-concept linearity, 95 % bootstrap interval over concepts",
            ["first", "second", "metric", "inner product", "concepts", "Spearman", "interval", "median difference"],
            [[r["first"], r["second"], r["metric"], r["inner_product"], str(r["n_concepts"]), _text(r["spearman"]),
              f"{_text(r['low'])} … {_text(r['high'])}", f"{r['median_difference']:.3f}"] for r in correlations],
        )  # fmt: skip
        return
    common.print_table(
        "no concept in common (a simulated world has concepts of its own): distributions only",
        ["of", "metric", "inner product", "number", "median", "middle half"],
        [[r["side"], r["metric"], r["inner_product"], f"{r['n']} {r['of']}", f"{r['median']:.3f}",
          f"{r['low']:.3f} … {r['high']:.3f}"] for r in distributions],
    )  # fmt: skip


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
