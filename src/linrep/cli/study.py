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


@app.command("real-model")
def real_model(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="Folder, GGUF file, hub id, or a name from `linrep list models`."),
    ] = None,
    revisions: Annotated[
        str | None,
        typer.Option(help="Checkpoints a,b,c of one model: revisions of a hub id, or folders inside its folder."),
    ] = None,
    pairs: Annotated[list[str] | None, typer.Option(help="Concept or file of word pairs; may be given again.")] = None,
    contexts: Annotated[list[str] | None, typer.Option(help="Context set or file; may be given again.")] = None,
    no_contexts: Annotated[
        bool, typer.Option("--no-contexts", help="L1 and L2 only: need the file, no torch.")
    ] = False,
    draws: Annotated[int | None, typer.Option(help="Redraws per null. [default: 1000]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all nulls. [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ... [default: auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. [default: float32]")] = None,
    config: common.ConfigFile = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    page: common.WithReport = True,
    as_json: common.Json = False,
) -> None:
    """Run the experiments L1 to L7 on causal language models, side by side.

    Parallelism and heat map of word pairs; alignment of context differences with word directions; word directions as
    probes on contexts; interventions at the final layer and in the middle; every metric through the layers; and with
    --revisions over checkpoints of training. Every number has its null beside it. What can be read but not run (an
    output matrix alone, a GGUF in parts) gets L1 and L2. Without MODEL: smollm2-135m. Example:
    linrep study real-model smollm2-135m path/to/other
    """
    from linrep.cli.study_tables import show_experiments
    from linrep.runs.config import load_config
    from linrep.studies.real_experiments import RealModelConfig, study_real_model

    chosen = common.chosen_contexts(contexts, none=no_contexts, configured=config is not None)
    options = {
        "models": tuple(models) if models else None, "pairs": pairs or None, "contexts": chosen,
        "draws": draws, "seed": seed,
        "revisions": tuple(r.strip() for r in revisions.split(",") if r.strip()) if revisions else None,
        "device": device, "dtype": dtype,
    }  # fmt: skip
    resolved = load_config(RealModelConfig, config, options)
    names = "-".join(Path(m).stem if m.endswith(".gguf") else Path(m).name for m in resolved.models)
    folder = out or Path(f"runs/real-model-{names}{'-checkpoints' if resolved.revisions else ''}")
    run = common.run_study(study_real_model, resolved, folder, overwrite=overwrite)
    summary = show_experiments(run)
    paths = [common.write_page([run], run.path / "report")] if page else []
    result = {"run": run.path, "report": paths[0] if paths else None, "experiments": summary}
    common.finish(result, as_json, run.path, *paths)


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


@app.command()
def calibration(
    model: Annotated[
        str | None,
        typer.Argument(help="Folder, GGUF file, hub id, or a name from `linrep list models`. [default: smollm2-135m]"),
    ] = None,
    inner_product: Annotated[list[str] | None, typer.Option(help="May be given again. [default: every one]")] = None,
    no_contexts: Annotated[
        bool, typer.Option("--no-contexts", help="Word pairs only: needs the file, no torch.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A small version: shows that it runs, no rate.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn. [default: 0]")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
    config: common.ConfigFile = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    page: common.WithReport = True,
    as_json: common.Json = False,
) -> None:
    """Find out what a p-value and a verdict are worth: their rates on nonsense, their power on planted directions.

    Concepts that mean nothing are drawn from the model's own vocabulary in every way known to fool a null, and put
    through the tests that a measurement uses. Example: linrep study calibration smollm2-135m --quick
    """
    from linrep.runs.config import load_config
    from linrep.studies.calibration import CalibrationConfig, study_calibration

    contexts = common.chosen_contexts(None, none=no_contexts, configured=config is not None)
    options = {
        "model": model, "inner_products": inner_product or None, "contexts": contexts, "quick": quick or None,
        "seed": seed, "revision": revision,
    }  # fmt: skip
    resolved = load_config(CalibrationConfig, config, options)
    name = f"calibration-{Path(resolved.model).name}" + ("-quick" if resolved.quick else "")
    run = common.run_study(study_calibration, resolved, out or Path("runs") / name, overwrite=overwrite)
    wrong = show_calibration(run)
    paths = [common.write_page([run], run.path / "report")] if page else []
    result = {"run": run.path, "report": paths[0] if paths else None, "breaks": wrong}
    common.finish(result, as_json, run.path, *paths)


def show_calibration(run: Run) -> list[dict[str, Any]]:
    """Print how often each kind of nonsense is called a common direction; return where that is above 5 %."""
    import polars as pl

    from linrep.geometry import verdicts
    from linrep.studies.calibration_rates import CLAIMS, REAL, breaking

    table = run.measurements.table.filter(pl.col("null").is_null(), pl.col("strength").is_null())
    rate, discoveries = CLAIMS[verdicts.SPECIFIC]
    products = table["inner_product"].unique(maintain_order=True).to_list()

    def cell(kind: str, product: str) -> str:
        own = table.filter(pl.col("concept") == kind, pl.col("inner_product") == product)
        found = [own.filter(pl.col("metric") == m)["value"].to_list() for m in (rate, discoveries)]
        return " / ".join(f"{values[0]:.3f}" for values in found if values) or "–"

    kinds = table.filter(pl.col("metric") == rate)["concept"].unique(maintain_order=True).to_list()
    common.print_table(
        f"share called {verdicts.SPECIFIC!r} / false discoveries beside the real lists ({REAL!r}: the share found)",
        ["concepts", *products],
        [[kind, *(cell(kind, product) for product in products)] for kind in kinds],
    )
    return breaking(table, verdicts.SPECIFIC)
