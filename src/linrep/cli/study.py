"""`linrep study NAME`: the named studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linrep.cli import common

if TYPE_CHECKING:
    from linrep.runs.store import Run

app = typer.Typer(help="Run a named study: a question, its experiments, its verdicts, one page.", no_args_is_help=True)


@app.command()
def origins(
    family: Annotated[list[str] | None, typer.Option(help="Letter A to J; may be given again. [default: all]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A small version of every cell, in minutes.")] = False,
    seed: Annotated[int | None, typer.Option(help="First seed. [default: 0]")] = None,
    config: common.ConfigFile = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    page: common.WithReport = True,
    as_json: common.Json = False,
) -> None:
    """Find out where and why linear representations emerge.

    Trains predictors of the next token in hundreds of simulated worlds and holds their geometry against the theory:
    dimension, contexts, tokens, graphs, embeddings, optimisers, kinds of concepts, fixed embeddings, training time.
    Finished cells are kept, so that an interrupted study goes on where it stopped. Example:
    linrep study origins --family B --family J
    """
    from linrep.runs.config import load_config
    from linrep.studies.origins import OriginsConfig, study_origins

    options = {
        "families": tuple(f.upper() for f in family) if family else None,
        "quick": quick or None,
        "first_seed": seed,
    }
    resolved = load_config(OriginsConfig, config, options)
    common.keep_compiled()
    folder = out or Path("runs/origins-quick" if resolved.quick else "runs/origins")
    run = common.run_study(study_origins, resolved, folder, overwrite=overwrite, workspace="cells")
    verdicts = show(run)
    paths = [common.write_page([run], run.path / "report")] if page else []
    common.finish(
        {"run": run.path, "report": paths[0] if paths else None, "predictions": verdicts}, as_json, run.path, *paths
    )


def show(run: Run) -> list[dict[str, Any]]:
    """Print every cell with its steps and excess, and the verdict on every prediction; return the verdicts."""
    cells, summary = run.table("cells"), run.table("summary")
    if cells is not None and summary is not None:
        common.print_table(
            "converged seeds: mean (95 % interval)",
            ["cell", "families", "converged", "steps", "excess (nats)", "parallelism", "alignment"],
            [_cell_row(row, summary) for row in cells.iter_rows(named=True)],
        )
    predictions = run.table("predictions")
    if predictions is None:
        return []
    counts = predictions.group_by("prediction", "verdict", maintain_order=True).len()
    common.print_table(
        "predictions",
        ["prediction", "verdict", "cells"],
        [[str(x) for x in row] for row in counts.iter_rows()],
    )
    return counts.to_dicts()


def _cell_row(row: dict[str, Any], summary: Any) -> list[str]:
    import polars as pl

    own = summary.filter(pl.col("source") == row["source"], pl.col("over") == "converged", pl.col("split") == "all")
    shown = []
    for metric in ("parallelism", "alignment"):
        found = own.filter(pl.col("metric") == metric).to_dicts()
        value = found[0] if found else {}
        mean, low, high = (value.get(key) for key in ("mean", "low", "high"))
        interval = "" if low is None or high is None else f" ({low:.3f}, {high:.3f})"
        shown.append("–" if mean is None else f"{mean:.3f}{interval}")
    excess = "–" if row["excess"] is None else f"{row['excess']:.4f}"
    return [row["source"], row["families"], f"{row['converged']}/{row['seeds']}", str(row["steps_taken"]), excess,
            *shown]  # fmt: skip
