"""A study's result into a run directory, and back if it is already there."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from linrep import __version__
from linrep.runs.files import without_none
from linrep.runs.store import RUN_FILE, Run, RunWriter
from linrep.studies.result import StudyConfig, StudyResult


def save_result(result: StudyResult, path: Path, *, started: datetime, overwrite: bool = False) -> Run:
    """Write a result, whose computation began at ``started``, as one complete run directory and read it back."""
    config = result.config.model_dump(mode="json")
    with RunWriter(
        path, kind=result.kind, title=result.title, config=config, overwrite=overwrite, started=started
    ) as run:
        run.measurements(result.measurements)
        for name, table in result.tables.items():
            if len(table.columns):
                run.table(name, table)
        if result.arrays:
            run.arrays(result.arrays)
        run.details(result.details)
    return Run.load(path)


def finished(path: Path, config: StudyConfig) -> Run | None:
    """Return the complete run at ``path`` if this version made it from this very configuration, else None."""
    if not (path / RUN_FILE).is_file():
        return None
    run = Run.load(path)
    same = without_none(config.model_dump(mode="json")) == run.config
    return run if same and run.info["versions"]["linrep"] == __version__ else None
