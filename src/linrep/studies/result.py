"""What every study returns, ready to become a run directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from linrep.geometry.measurements import Measurements

# Fraction done and what is being done: the command line draws a bar with the time left.
Progress = Callable[[float, str], None]


class StudyConfig(BaseModel):
    """Base of all configurations: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class StudyResult:
    """Tables and arrays of one study.

    Parameters
    ----------
    kind
        ``"simulate"`` or ``"measure"``.
    title
        One line for people.
    config
        The resolved configuration: running it again gives the same numbers.
    measurements
        The tidy table.
    tables
        Further tables by name: verdicts, pairs, dropped_pairs.
    arrays
        Directions, by name.
    details
        Provenance and everything the report says about how the numbers were made.
    """

    kind: Literal["simulate", "measure", "origins", "sweep", "calibration", "real-model"]
    title: str
    config: StudyConfig
    measurements: Measurements
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def part(progress: Progress | None, start: float, stop: float) -> Progress:
    """Progress of a part of the work, from ``start`` to ``stop`` of the whole."""

    def tell(fraction: float, text: str) -> None:
        if progress is not None:
            progress(start + (stop - start) * min(max(fraction, 0.0), 1.0), text)

    return tell
