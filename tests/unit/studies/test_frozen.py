"""Family I at a small size: every case and seed has its row, and the predictions their verdicts."""

from functools import lru_cache

import numpy as np
import polars as pl

from linrep.studies.frozen import frozen_cases
from linrep.theory.compare import Comparison
from linrep.theory.predictions import FROZEN_CASES, PREDICTIONS


@lru_cache(maxsize=1)
def small() -> tuple[pl.DataFrame, list[Comparison], list[tuple[float, str]]]:
    told: list[tuple[float, str]] = []
    table, comparisons = frozen_cases(
        concepts=3, seeds=range(4, 5), steps=200, progress=lambda fraction, text: told.append((fraction, text))
    )
    return table, comparisons, told


def test_a_row_for_every_case_and_seed():
    table, _, _ = small()
    assert table.select("case", "seed").rows() == [(case, 4) for case in FROZEN_CASES]
    for column in ("ridge parallelism", "descent parallelism", "ridge excess", "descent excess"):
        values = table[column].to_numpy()
        assert np.isfinite(values).all(), column
    assert (table["ridge parallelism"].abs() <= 1 + 1e-12).all()
    # The path ends at or below the loss of any descent over the same γ.
    assert (table["ridge excess"] <= table["descent excess"] + 1e-6).all()
    assert (table["ridge seconds"] > 0).all() and (table["descent seconds"] > 0).all()
    assert table["ridge cosine with dual basis"].null_count() == 1  # unstructured embeddings have no dual basis


def test_the_cases_differ_as_predicted():
    table, _, _ = small()
    at = dict(table.select("case", "ridge parallelism").iter_rows())
    assert min(at["centred"], at["independent offset"]) > 0.999
    assert at["offset in the span"] < 0.99 and at["unstructured"] < 0.5


def test_every_case_is_held_against_every_prediction_about_fixed_embeddings():
    _, comparisons, _ = small()
    names = [name for name in PREDICTIONS if name.startswith("P2")]
    assert [(c.source, c.prediction) for c in comparisons] == [
        (f"fixed embeddings, {case}", name) for case in FROZEN_CASES for name in names
    ]
    for c in comparisons:
        about = c.source.removeprefix("fixed embeddings, ")
        applies = c.prediction in (f"P2 {about}", f"P2 {about}, dual") and about != "unstructured"  # too few contexts
        assert (c.verdict != "assumptions not met") == applies
        assert c.reason and not c.decided  # one seed decides nothing
    agreed = {c.prediction for c in comparisons if c.verdict == "agree"}
    assert agreed >= {name for name in names if name != "P2 unstructured"}


def test_progress_names_the_case_and_rises():
    _, _, told = small()
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] < 1
    assert [case in text for case, (_, text) in zip(FROZEN_CASES, told, strict=True)] == [True] * 4
