"""`linrep study calibration` and `linrep compare` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from linrep.runs.store import Run

SMALL = ("--no-contexts", "--inner-product", "euclidean", "--no-report")


@pytest.mark.parametrize("verb", [("study", "calibration"), ("compare",)])
def test_help_teaches(linrep, verb):
    ran = linrep(*verb, "--help")
    assert ran.code == 0 and "--json" in ran.out and "Example" in ran.out


def test_calibration_writes_a_run_that_names_what_it_could_not_test(linrep, tiny_model, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(
        'pairs = ["verb-Ved"]\nrandom = 27\nstructured = 27\nplanted = 27\nstrengths = [0.5]\ndraws = 19\n', "utf-8"
    )
    ran = linrep("study", "calibration", tiny_model, *SMALL, "--config", config, "--out", "cal", "--json")
    assert ran.code == 0, ran.err
    assert Path(json.loads(ran.out)["run"]).resolve() == (tmp_path / "cal").resolve()
    run = Run.load(tmp_path / "cal")
    tests = run.table("tests")
    assert tests is not None and run.kind == "calibration"
    assert set(run.details["skipped"]) == {"case gap", "frequency gap", "related, case gap", "related, frequency gap"}
    assert tests.filter(kind="random words").height == 27
    assert "random words" in ran.err
    again = linrep("study", "calibration", tiny_model, *SMALL, "--config", config, "--out", "cal")
    assert again.code == 0 and "reused" in again.err


def test_an_unknown_inner_product_is_one_line(linrep, tiny_model):
    ran = linrep("study", "calibration", tiny_model, "--no-contexts", "--inner-product", "casual")
    assert ran.code == 2 and ran.err.startswith("error:") and "causal" in ran.err


def test_compare_two_runs_and_what_it_refuses(linrep, tiny_model, tmp_path):
    def measure(out: str, *concepts: str) -> None:
        pairs = [part for c in concepts for part in ("--pairs", c)]
        done = linrep("measure", tiny_model, "--no-contexts", *pairs, "--draws", 19, "--no-report", "--out", out)
        assert done.code == 0, done.err

    lists = []
    for k, (start, stop) in enumerate([(0, 9), (9, 18), (3, 12)]):
        from linrep.concepts.load import load_concepts

        path = tmp_path / f"list{k}.tsv"
        path.write_text("".join(f"{a}\t{b}\n" for a, b in load_concepts(["verb-Ved"])[0].pairs[start:stop]), "utf-8")
        lists.append(str(path))
    measure("one", *lists)
    measure("two", *lists)
    measure("few", *lists[:2])
    ran = linrep("compare", "one", "two", "--out", "page", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert said["correlations"] and all(abs(c["spearman"] - 1) < 1e-12 for c in said["correlations"])
    assert {d["difference"] for d in said["differences"]} == {0.0}
    assert (tmp_path / "page/index.html").is_file()
    refused = linrep("compare", "one", "few")
    assert refused.code == 2 and refused.err.count("\n") == 1 and "2 concepts in common" in refused.err
    assert linrep("compare", "one").code == 2
    assert linrep("compare", "one", "nothing").code == 2
