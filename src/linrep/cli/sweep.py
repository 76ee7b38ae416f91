"""`linrep sweep`: every combination of the settings of a simulation, a row a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linrep.cli import common

if TYPE_CHECKING:
    from linrep.runs.store import Run


def sweep(
    config: common.ConfigFile = None,
    concepts: Annotated[list[int] | None, typer.Option(help="m, may be given again. [default: 2, 3 and 4]")] = None,
    d_over_m: Annotated[
        list[float] | None, typer.Option("--d-over-m", help="Width d/m; may be given again. [default: 1 and 2]")
    ] = None,
    law: Annotated[
        list[str] | None, typer.Option(help="Context law; may be given again. [default: complete and at-most-2]")
    ] = None,
    graph: Annotated[
        list[str] | None,
        typer.Option(help="independent, chain, tree, random-P or ising-P; may be given again. [default: random-0.5]"),
    ] = None,
    predictor: Annotated[
        list[str] | None, typer.Option(help="table, factored or mlp; may be given again. [default: table]")
    ] = None,
    optimizer: Annotated[
        list[str] | None, typer.Option(help="May be given again. [default: gradient_descent and adam]")
    ] = None,
    step_size: Annotated[
        list[float] | None, typer.Option(help="May be given again. [default: that of optimizer and predictor]")
    ] = None,
    initial_scale: Annotated[
        list[float] | None, typer.Option(help="May be given again. [default: 0.01 and 0.1]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds of each combination. [default: 21]")] = None,
    seed: Annotated[int | None, typer.Option(help="First seed. [default: 0]")] = None,
    steps: Annotated[int | None, typer.Option(help="Most training steps of a run. [default: 5000]")] = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    as_json: common.Json = False,
) -> None:
    """Train every combination of some settings, each run to an excess loss below 0.02 nats.

    The options that may be given again are the axes of the grid. Writes a table with a row a run, runs.parquet; there
    is no report page. The same command goes on where an interrupted one stopped. Example:
    linrep sweep --concepts 3 --concepts 4 --initial-scale 0.01 --initial-scale 1 --seeds 8
    """
    from linrep.runs.config import load_config
    from linrep.studies.sweep import SweepConfig
    from linrep.studies.sweep import sweep as study

    options = {
        "concepts": concepts or None, "d_over_m": d_over_m or None, "laws": law or None, "graphs": graph or None,
        "predictors": predictor or None, "optimizers": optimizer or None, "step_sizes": step_size or None,
        "initial_scales": initial_scale or None, "seeds": seeds, "first_seed": seed, "steps": steps,
    }  # fmt: skip
    resolved = load_config(SweepConfig, config, options)
    common.keep_compiled()
    run = common.run_study(study, resolved, out or Path("runs/sweep"), overwrite=overwrite, workspace="pieces")
    summary = show(run)
    table = run.path / "runs.parquet"
    common.finish({"run": run.path, "runs": table, "summary": summary}, as_json, run.path, table)


def show(run: Run) -> list[dict[str, Any]]:
    """Print the runs by each setting that is varied, and return that."""
    import polars as pl

    from linrep.studies.sweep import FACTORS

    runs = run.table("runs")
    if runs is None:
        return []
    summary = [_level(runs, "all", "")]
    for factor in (column for name, column in FACTORS.items() if len(run.config[name]) > 1):
        levels = runs[factor].unique(maintain_order=True).to_list()
        summary += [_level(runs.filter(pl.col(factor) == level), factor, level) for level in levels]
    keys = ("excess", "parallelism", "alignment", "orthogonality")
    common.print_table(
        "runs by each varied setting; of those that converged, mean over runs (before training)",
        ["setting", "value", "converged", "median steps", *keys],
        [[s["setting"], str(s["value"]), f"{s['converged']}/{s['runs']}", _text(s["steps"], 0),
          *(_text(s[k], 3) + ("" if k == "excess" else f" ({_text(s[f'{k}_untrained'], 3)})") for k in keys)]
         for s in summary],
    )  # fmt: skip
    return summary


def _level(runs: Any, setting: str, value: Any) -> dict[str, Any]:
    import polars as pl

    converged = runs.filter(pl.col("status") == "converged")
    level = {"setting": setting, "value": value, "runs": len(runs), "converged": len(converged)}
    level |= {"steps": converged["steps"].median(), "excess": converged["excess"].mean()}
    for metric in ("parallelism", "alignment", "orthogonality"):
        level |= {column: converged[column].mean() for column in (metric, f"{metric}_untrained")}
    return level


def _text(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
