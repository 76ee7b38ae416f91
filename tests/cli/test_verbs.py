"""Every verb as a user runs it: what it prints, what it writes, and one clear line when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linrep.runs.store import Run

SMALL = ("--concepts", 2, "--dim", 2, "--seeds", 2, "--steps", 40, "--law", "complete", "--law", "at-most-1")
VERBS = ("demo", "simulate", "measure", "report", "lint", "list", "get")


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(linrep, verb):
    ran = linrep(verb, "--help")
    assert ran.code == 0 and "--json" in ran.out and "Usage" in ran.out


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, linrep; light = set(sys.modules)\n"
        "from linrep.cli.app import main; sys.argv = ['linrep', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'torch', 'numpy', 'polars', 'altair', 'sklearn', 'transformers', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert 'typer' not in light"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_simulate_writes_a_complete_run_and_prints_its_path(linrep, tmp_path):
    ran = linrep("simulate", *SMALL, "--out", "world", "--no-report")
    assert ran.code == 0, ran.err
    assert ran.out.split() == ["world"] or Path(ran.out.strip()) == tmp_path / "world"
    run = Run.load(tmp_path / "world")
    assert set(run.measurements.table["source"].unique()) == {"m=2 d=2 complete", "m=2 d=2 at-most-1"}
    untrained = run.measurements.where(metric="parallelism", null="untrained", step=0).table
    assert np.allclose(untrained["value"], untrained["null_value"])


def test_same_seed_same_numbers_and_finished_runs_are_reused(linrep, tmp_path):
    def table() -> pl.DataFrame:
        return Run.load(tmp_path / "world").measurements.table

    assert linrep("simulate", *SMALL, "--out", "world", "--no-report").code == 0
    first = table()
    reused = linrep("simulate", *SMALL, "--out", "world", "--no-report")
    assert reused.code == 0 and "reused" in reused.err
    again = linrep("simulate", *SMALL, "--out", "world", "--no-report", "--overwrite")
    assert again.code == 0 and table().equals(first)
    other = linrep("simulate", *SMALL, "--seed", 5, "--out", "world", "--no-report")
    assert other.code == 2 and "--overwrite" in other.err and table().equals(first)


def test_the_resolved_configuration_runs_to_the_same_numbers(linrep, tmp_path):
    assert linrep("simulate", *SMALL, "--seed", 3, "--out", "a", "--no-report").code == 0
    assert linrep("simulate", "--config", tmp_path / "a/config.toml", "--out", "b", "--no-report").code == 0
    a, b = (Run.load(tmp_path / x).measurements.table for x in "ab")
    assert a.equals(b)


def test_measure_finds_the_planted_direction_without_torch(linrep, tiny_model, tmp_path):
    ran = linrep("measure", tiny_model, "--no-contexts", "--pairs", "verb-Ved", "--draws", 99, "--json", "--no-report")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    causal = [v for v in said["verdicts"] if v["inner_product"] == "causal"]
    assert [v["verdict"].startswith("common direction") for v in causal] == [True]
    run = Run.load(Path(said["run"]))
    dropped, (concept,) = (
        run.table("dropped_pairs"),
        run.measurements.values("parallelism", inner_product="causal").keys(),
    )
    assert dropped is not None and (dropped["reason"].str.len_chars() > 0).all()
    listed = said["verdicts"][0]["n_pairs"] + dropped.filter(pl.col("concept") == concept).height
    from linrep import load_concepts

    assert listed == len(load_concepts(["verb-Ved"])[0].pairs)


def test_simulation_and_measurement_run_where_torch_cannot_be_imported(tiny_model, tmp_path):
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'transformers'}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from linrep.cli.app import main; main()"
    )
    measuring = ["measure", str(tiny_model), "--pairs", "verb-Ved", "--draws", "19", "--no-contexts"]
    simulating = ["simulate", "--concepts", "2", "--dim", "2", "--seeds", "1", "--steps", "20"]
    for arguments in (measuring, simulating):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/simulate/report/index.html").is_file()


def test_without_torch_word_pairs_are_measured_and_it_is_said(linrep, tiny_model, monkeypatch):
    from linrep.cli import common

    monkeypatch.setattr(common, "find_spec", lambda name: None)
    for verb in (["measure"], ["study", "real-model"]):
        ran = linrep(*verb, tiny_model, "--pairs", "verb-Ved", "--draws", 19, "--no-report")
        assert ran.code == 0 and "linrep[hf]" in ran.err, ran.err


def test_report_of_two_runs(linrep, tiny_model, tmp_path):
    assert linrep("simulate", *SMALL, "--out", "both/world", "--no-report").code == 0
    measured = linrep(
        "measure",
        tiny_model,
        "--no-contexts",
        "--pairs",
        "verb-Ved",
        "--draws",
        19,
        "--out",
        "both/model",
        "--no-report",
    )
    assert measured.code == 0, measured.err
    ran = linrep("report", "both", "--out", "page")
    assert ran.code == 0, ran.err
    page = tmp_path / "page/index.html"
    assert page.is_file() and Path(ran.out.strip()).name == "index.html"
    kinds = {p.suffix for p in (tmp_path / "page/figures").iterdir()}
    assert kinds == {".svg", ".png", ".pdf"}


@pytest.mark.parametrize(
    "kind", ["concepts", "contexts", "models", "metrics", "nulls", "inner-products", "estimators", "presets"]
)
def test_list(linrep, kind):
    as_table, as_json = linrep("list", kind), linrep("list", kind, "--json")
    assert as_table.code == as_json.code == 0
    rows = json.loads(as_json.out)[kind]
    assert rows and all(row.values() for row in rows)


def test_lint_names_what_would_be_dropped(linrep, tiny_model, tmp_path):
    from linrep.concepts.load import load_concepts

    known = load_concepts(["verb-Ved"])[0].pairs[:10]
    listed = [*known, known[0], ("zebra", "zebras")]
    (tmp_path / "mine.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in listed), encoding="utf-8")
    ran = linrep("lint", "mine.tsv", "--model", tiny_model, "--json")
    said = json.loads(ran.out)
    assert ran.code == 0, ran.err
    assert said["coverage"] == [{"concept": "mine", "kind": "words", "listed": 12, "measured": 10}]
    text = json.dumps(said["findings"])
    assert "zebra" in text and "duplicate" in text
    (tmp_path / "few.tsv").write_text("zebra\tzebras\nlion\tlions\n", encoding="utf-8")
    ran = linrep("lint", "few.tsv", "--model", tiny_model)
    assert ran.code == 1 and "0/2" in ran.out


BAD = {
    "unknown concept": (("measure", "MODEL", "--no-contexts", "--pairs", "male-femal"), "male–female"),
    "unknown inner product": (
        ("measure", "MODEL", "--no-contexts", "--inner-product", "causl"),
        "did you mean 'causal'",
    ),
    "one-column line": (("measure", "MODEL", "--no-contexts", "--pairs", "one.tsv"), "one.tsv"),
    "empty file": (("measure", "MODEL", "--no-contexts", "--pairs", "empty.tsv"), "empty.tsv"),
    "not UTF-8": (("measure", "MODEL", "--no-contexts", "--pairs", "latin.tsv"), "UTF-8"),
    "missing model": (("measure", "nowhere/at-all", "--no-contexts"), "linrep get"),
    "unknown key": (("simulate", "--config", "bad.toml"), "did you mean 'concepts'"),
    "unknown law": (("simulate", "--law", "complet"), "complet"),
    "unknown optimizer": (("simulate", "--optimizer", "adem", "--seeds", 1, "--steps", 5), "adam"),
    "unknown kind": (("list", "metrix"), "did you mean 'metrics'"),
    "unknown model to get": (("get", "smollm2-136m"), "smollm2-135m"),
    "no run there": (("report", "."), "run"),
    "unwritable folder": (("simulate", *SMALL, "--out", "/proc/linrep/run"), "/proc/linrep"),
    "a file in the way": (("simulate", *SMALL, "--out", "one.tsv"), "one.tsv"),
    "no pair is left": (("measure", "MODEL", "--no-contexts", "--pairs", "foreign.tsv"), "no concept has two pairs"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(linrep, tiny_model, tmp_path, what):
    arguments, says = BAD[what]
    (tmp_path / "one.tsv").write_text("king\tqueen\nlonely\n")
    (tmp_path / "empty.tsv").write_text("")
    (tmp_path / "latin.tsv").write_bytes("garçon\tfille\n".encode("latin-1"))
    (tmp_path / "foreign.tsv").write_text("zebra\tzebras\nxylophone\txylophones\n")
    (tmp_path / "bad.toml").write_text("concepst = 3\n")
    before = sorted(p.name for p in tmp_path.rglob("*"))
    ran = linrep(*(tiny_model if a == "MODEL" else a for a in arguments))
    assert ran.code == 2, (ran.code, ran.err)
    errors = [line for line in ran.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and says in errors[0], ran.err
    assert ran.out == ""
    assert sorted(p.name for p in tmp_path.rglob("*") if p.name != "runs") == before


def test_damaged_weights(linrep, tiny_model, tmp_path):
    import shutil

    from safetensors.numpy import load_file, save_file

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model, damaged)
    tensors = load_file(damaged / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"].copy()
    tensors["lm_head.weight"][7, 3] = np.nan
    save_file(tensors, damaged / "model.safetensors")
    ran = linrep("measure", damaged, "--no-contexts")
    assert ran.code == 2 and "NaN" in ran.err and "Traceback" not in ran.err
    (damaged / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes()[:2000])
    ran = linrep("measure", damaged, "--no-contexts")
    assert ran.code == 2 and "model.safetensors" in ran.err


def test_a_bug_is_said_to_be_one(linrep, monkeypatch):
    from linrep.worlds import presets

    monkeypatch.setattr(presets, "PRESETS", None)
    ran = linrep("list", "presets")
    assert ran.code == 1 and "bug in linrep" in ran.err and "--debug" in ran.err
