"""`linrep sweep` as a user runs it."""

from __future__ import annotations

import json

import polars as pl
import pytest

SMALL = ("--concepts", 2, "--d-over-m", 1, "--seeds", 2, "--steps", 40, "--optimizer", "gradient_descent")


def test_sweep_writes_a_table_of_runs_and_reuses_it(linrep, tmp_path):
    ran = linrep("sweep", *SMALL, "--out", "grid", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    runs = pl.read_parquet(tmp_path / "grid/runs.parquet")
    assert len(runs) == 2 * 2 * 2 == said["summary"][0]["runs"]
    assert {s["setting"] for s in said["summary"]} == {"all", "law", "initial_scale"}  # what is varied, nothing else
    assert not list(tmp_path.glob(".grid*"))
    again = linrep("sweep", "--config", "grid/config.toml", "--out", "grid")
    assert again.code == 0 and "reused" in again.err
    page = linrep("report", "grid")
    assert page.code == 2 and "runs.parquet" in page.err and page.err.count("error: ") == 1


def test_help_says_that_there_is_no_page(linrep):
    ran = linrep("sweep", "--help")
    assert ran.code == 0 and "no report page" in " ".join(ran.out.split())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--optimizer", "adem"), "did you mean 'adam'"),
        (("--graph", "randm-0.5"), "random-P"),
        (("--graph", "random-half"), "half"),
        (("--law", "complet"), "complet"),
        (("--concepts", 9), "less than or equal to 7"),
        (("--step-size", -1), "greater than 0"),
        (("--predictor", "transformer"), "'table'"),
    ],
)
def test_bad_input_is_one_clear_line(linrep, tmp_path, options, says):
    ran = linrep("sweep", *options)
    assert ran.code == 2 and says in ran.err and ran.err.count("error: ") == 1, ran.err
    assert not list(tmp_path.iterdir())
