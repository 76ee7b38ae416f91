"""`linrep measure`: the geometry of concepts in a real model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linrep.cli import common

if TYPE_CHECKING:
    from linrep.runs.store import Run


def measure(
    model: Annotated[str, typer.Argument(help="Folder, GGUF file, hub id, or a name from `linrep list models`.")],
    pairs: Annotated[list[str] | None, typer.Option(help="Concept or file of word pairs; may be given again.")] = None,
    contexts: Annotated[list[str] | None, typer.Option(help="Context set or file; may be given again.")] = None,
    no_contexts: Annotated[
        bool, typer.Option("--no-contexts", help="Word pairs only: needs the file, no torch.")
    ] = False,
    inner_product: Annotated[list[str] | None, typer.Option(help="See `linrep list inner-products`.")] = None,
    draws: Annotated[int | None, typer.Option(help="Redraws per null. [default: 1000]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all nulls. [default: 0]")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of a hub model.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ... [default: auto]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16. [default: float32]")] = None,
    config: common.ConfigFile = None,
    out: common.Out = None,
    overwrite: common.Overwrite = False,
    page: common.WithReport = True,
    as_json: common.Json = False,
) -> None:
    """Measure parallelism, heat map and alignment of concepts in a model, each against its nulls.

    Without --pairs the 27 built-in concepts are measured; without --contexts all built-in context sets, if
    torch is installed. Example: linrep measure smollm2-135m --pairs male-female --pairs my_pairs.tsv --no-contexts
    """
    from linrep.runs.config import load_config
    from linrep.studies.real_model import MeasureConfig, measure_model

    chosen = common.chosen_contexts(contexts, none=no_contexts, configured=config is not None)
    options = {
        "model": model, "pairs": pairs or None, "contexts": chosen, "inner_products": inner_product or None,
        "draws": draws, "seed": seed, "revision": revision, "device": device, "dtype": dtype,
    }  # fmt: skip
    resolved = load_config(MeasureConfig, config, options)
    run = common.run_study(measure_model, resolved, out or Path(f"runs/measure-{_slug(model)}"), overwrite=overwrite)
    summary = show(run)
    paths = [common.write_page([run], run.path / "report")] if page else []
    result = {"run": run.path, "report": paths[0] if paths else None, "verdicts": summary}
    common.finish(result, as_json, run.path, *paths)


def _slug(model: str) -> str:
    return Path(model).stem if Path(model).suffix == ".gguf" else Path(model).name


def show(run: Run) -> list[dict[str, Any]]:
    """Print the verdict of every concept, and return it."""
    verdicts = run.table("verdicts")
    if verdicts is None:
        return []
    shown = "causal" if "causal" in verdicts["inner_product"] else verdicts["inner_product"][0]
    parallelism = run.measurements.where(metric="parallelism", null=None, inner_product=shown).table
    ends = {r["concept"]: (r["low"], r["high"]) for r in parallelism.iter_rows(named=True)}
    rows = []
    for row in verdicts.rows(named=True):
        if row["inner_product"] == shown:
            low, high = ends[row["concept"]]
            interval = "" if low is None else f"{low:.3f} … {high:.3f}"
            value = (
                "–"
                if row["parallelism"] is None or row["parallelism"] != row["parallelism"]
                else f"{row['parallelism']:.3f}"
            )
            rows.append([row["concept"], str(row["n_pairs"]), value, interval, row["verdict"]])
    common.print_table(
        f"{shown} inner product; rules and nulls are in the report",
        ["concept", "pairs", "parallelism", "95 % interval", "verdict"],
        rows,
    )
    return verdicts.to_dicts()
