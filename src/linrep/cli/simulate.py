"""`linrep simulate`: concept worlds, trained predictors, and the geometry that emerges."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linrep.cli import common

if TYPE_CHECKING:
    from linrep.runs.store import Run


def simulate(
    config: common.ConfigFile = None,
    concepts: Annotated[int | None, typer.Option(help="m, number of binary concepts. [default: 5]")] = None,
    law: Annotated[
        list[str] | None, typer.Option(help="complete, at-most-K, masked-Q or kept-F; may be given again.")
    ] = None,
    dim: Annotated[
        list[int] | None, typer.Option(help="Width d of λ and γ; may be given again. [default: 5 and 10]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds. [default: 32]")] = None,
    seed: Annotated[int | None, typer.Option(help="First seed. [default: 0]")] = None,
    predictor: Annotated[str | None, typer.Option(help="table or factored. [default: table]")] = None,
    optimizer: Annotated[str | None, typer.Option(help="gradient_descent or adam. [default: gradient_descent]")] = None,
    step_size: Annotated[float | None, typer.Option(help="Step size. [default: 5 for descent on tables]")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps. [default: 15000]")] = None,
    initial_scale: Annotated[float | None, typer.Option(help="Scale of initial values. [default: 0.01]")] = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    page: common.WithReport = True,
    as_json: common.Json = False,
) -> None:
    """Simulate concept worlds, train predictors on them, and measure their geometry as it emerges.

    Each seed is its own random world and its own initial values. The same command goes on where an interrupted one
    stopped. Example:
    linrep simulate --dim 10 --law at-most-2 --seeds 8
    """
    from linrep.runs.config import load_config
    from linrep.studies.simulation import SimulationConfig
    from linrep.studies.simulation import simulate as study

    options = {
        "concepts": concepts, "laws": law or None, "dims": dim or None, "seeds": seeds, "first_seed": seed,
        "predictor": predictor, "optimizer": optimizer, "step_size": step_size, "steps": steps,
        "initial_scale": initial_scale,
    }  # fmt: skip
    resolved = load_config(SimulationConfig, config, options)
    common.keep_compiled()
    run = common.run_study(study, resolved, out or Path("runs/simulate"), overwrite=overwrite, workspace="training")
    summary = show(run)
    paths = [common.write_page([run], run.path / "report")] if page else []
    common.finish({"run": run.path, "report": paths[0] if paths else None, "cells": summary}, as_json, run.path, *paths)


def show(run: Run) -> list[dict[str, Any]]:
    """Print the last snapshot of every cell, and return it."""
    import polars as pl

    own = run.measurements.table.filter(pl.col("null").is_null() & pl.col("concept").is_null())
    last = own.filter((pl.col("step") == pl.col("step").max()) & pl.col("split").is_in(["all"]))
    last = last.filter(pl.col("inner_product").is_null() | (pl.col("inner_product") == "euclidean"))
    summary, rows = [], []
    for cell, facts in run.info["details"]["cells"].items():
        of = last.filter(pl.col("source") == cell).unique(["metric", "seed"])
        entry = {
            "cell": cell,
            "converged": f"{facts['converged']}/{facts['seeds']}",
            "excess_loss": facts["median_excess"],
        }
        excess = "not finite" if entry["excess_loss"] is None else f"{entry['excess_loss']:.4f}"
        cells = [cell, entry["converged"], excess]
        for metric in ("parallelism", "alignment", "orthogonality"):
            values = of.filter(pl.col("metric") == metric)["value"].drop_nulls()
            mean, spread = values.mean(), values.std()
            entry[metric], entry[f"{metric}_sd"] = mean, spread
            cells.append("–" if mean is None else f"{mean:.3f}" + ("" if spread is None else f" ± {spread:.3f}"))
        summary.append(entry)
        rows.append(cells)
    common.print_table(
        "last snapshot, Euclidean: mean ± standard deviation over seeds",
        ["cell", "converged", "excess (nats)", "parallelism", "alignment", "orthogonality"],
        rows,
    )
    return summary
