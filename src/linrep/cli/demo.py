"""`linrep demo`: one path, two worlds, one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from linrep.cli import common

MODEL = "smollm2-135m"
# Forward passes are most of the demo's time, and all built in sets would take three times as long.
CONTEXTS = ("male–female", "present–past", "singular–plural", "negation")


def demo(
    out: common.Out = None,
    model: Annotated[str, typer.Option(help="Model to measure.")] = MODEL,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of all nulls.")] = 0,
    overwrite: common.Overwrite = False,
    as_json: common.Json = False,
) -> None:
    """Simulate concept worlds, measure a real model with the same code, and write one page.

    About two minutes on two cores. The model must be there: `linrep get smollm2-135m` fetches the default one. A
    half that is already finished is reused.
    """
    from linrep.models.source import open_model
    from linrep.runs.config import validate
    from linrep.studies.real_model import MeasureConfig, measure_model
    from linrep.studies.simulation import SimulationConfig, simulate

    open_model(model)  # a missing model is said before any work
    folder = out or Path("runs/demo")
    simulation = validate(SimulationConfig, {"first_seed": seed}, "options")
    measurement = validate(MeasureConfig, {"model": model, "contexts": CONTEXTS, "seed": seed}, "options")
    common.keep_compiled()
    runs = [
        common.run_study(simulate, simulation, folder / "simulation", overwrite=overwrite, workspace="training"),
        common.run_study(measure_model, measurement, folder / "model", overwrite=overwrite),
    ]
    from linrep.cli.measure import show as show_model
    from linrep.cli.simulate import show as show_simulation

    cells, verdicts = show_simulation(runs[0]), show_model(runs[1])
    page = common.write_page(runs, folder / "report")
    common.finish({"runs": [r.path for r in runs], "report": page, "cells": cells, "verdicts": verdicts}, as_json, page)
