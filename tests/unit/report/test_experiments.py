"""The page of the experiments on real models says what its tables say: other rows, other sentences."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from linrep.geometry.measurements import Measurements
from linrep.report import data, experiments_findings, experiments_steering
from linrep.report.experiments import experiments_content
from linrep.report.page import write_report
from linrep.report.theme import Figure
from linrep.runs.store import Run, RunWriter
from tests.fixtures.experiments_run import CONTEXTS, SITES, STRENGTHS, experiments_run


@pytest.fixture(scope="module")
def content(experiments: Run) -> dict[str, Any]:
    return experiments_content(experiments)


@pytest.fixture
def page_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The HTML of a run's page; the files of its figures are the business of another test."""
    monkeypatch.setattr(Figure, "files", lambda _: {})

    def made(run: Run) -> str:
        return write_report([run], tmp_path / "page").read_text(encoding="utf-8")

    return made


def sections(text: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', text)


def body(text: str) -> str:
    """What is read: without scripts, styles and what a run records of itself."""
    seen = text[text.index("<main>") : text.index('<section id="provenance"')]
    return html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<code>.*?</code>", "", seen)))


def of_model(run: Run) -> tuple[experiments_findings.Tables, data.ModelView]:
    names = ("winograd", "alignment", "alignment_joint", "probe", "steering_final", "steered")
    found = {n: table for n in names if (table := run.table(n)) is not None}
    return found, data.model_view(run, "tiny-135M")


def rows_of(figure: Figure) -> list[dict[str, Any]]:
    return pl.read_csv(io.StringIO(figure.chart.to_dict()["data"]["values"])).to_dicts()  # type: ignore[attr-defined]


# --- the short answer


@pytest.mark.parametrize(
    ("share", "half", "said"),
    [
        (0.52, 0.05, "An interval includes chance: on true schemas a model of about 135M parameters is near chance."),
        (0.56, 0.02, "It is above chance by little: on true schemas a model of about 135M parameters is near chance."),
        (0.80, 0.05, "It is above chance."),
        (0.40, 0.05, "It is below chance."),
    ],
)
def test_winograd_is_first_and_says_what_its_interval_says(experiments, share, half, said):
    found, view = of_model(experiments)
    ends = {"right_texts": share, "right_texts_low": share - half, "right_texts_high": share + half}
    ends |= {f"right_texts_by_template_{k}": ends[f"right_texts_{k}"] for k in ("low", "high")}
    found["winograd"] = found["winograd"].with_columns(**{k: pl.lit(v) for k, v in ends.items()})
    first = experiments_findings.answers(found, view)[0]
    assert first["figure"] == f"{share:.2f}" and said in first["text"]
    assert f"[{share - half:.2f}, {share + half:.2f}]" in first["text"]


def test_a_model_whose_name_has_no_size_is_given_none():
    row = {"model": "gpt2", "concept": "w", "right_texts": 0.5, "right_texts_low": 0.4, "right_texts_high": 0.6}
    assert "this model is near chance" in experiments_findings.winograd_sentence(row | {"chance_texts": 0.5})


def test_the_short_answer_has_the_numbers_of_the_tables(experiments, content):
    found, view = of_model(experiments)
    figures = [a["figure"] for a in content["models"][0]["answers"]]
    said = view.verdicts.filter(pl.col("inner_product") == "causal")["verdict"]
    judged = [v for v in said if v != "too few pairs"]
    assert figures[1] == f"{judged.count('common direction, pair-specific')} of {len(judged)}"
    assert figures[2] == "0.41 vs 0.06" and figures[3] == "2 of 3" and figures[4] == "0.88"
    probe, final = found["probe"]["auc"].median(), found["steering_final"]["off_over_on"].median()
    assert figures[5:] == [f"{probe:.2f}", f"{final:.2f}"]
    text = " ".join(a["text"] for a in content["models"][0]["answers"])
    assert "Untrained model, matched: −0.01" in text and "layer 2 0.20, layer 4 0.20" in text


def test_concepts_that_fall_short_are_named_and_others_are_not(experiments):
    found, view = of_model(experiments)
    said = experiments_findings.shortfalls(found, view)
    assert "Own direction not the most aligned (which one is): past (comparative)." in said
    assert "Interval of the probe's AUC includes .5 or lies below: past." in said
    assert "No common direction, causal inner product: French." in said
    assert "Too few single-token pairs to judge, causal inner product: rare." in said
    assert any(text.startswith("Off over on above 0.1 at the final layer: verb–Ving (0.11)") for text in said)
    better = {
        "alignment": {"top1": True, "template_flip_p": 0.01}, "probe": {"low": 0.6, "random_words_p": 0.01},
        "steering_final": {"off_over_on": 0.02}, "steered": {"off_over_on": 0.02},
    }  # fmt: skip
    for name, columns in better.items():
        found[name] = found[name].with_columns(**{k: pl.lit(v) for k, v in columns.items()})
    said = experiments_findings.shortfalls(found, view)
    assert [text.split(",")[0] for text in said] == ["No common direction", "Too few single-token pairs to judge"]


def test_the_heat_maps_say_how_far_each_control_goes(experiments):
    _, view = of_model(experiments)

    def with_values(values: dict[str, float]) -> data.ModelView:
        table = view.orthogonality.with_columns(value=pl.col("inner_product").replace_strict(values, default=None))
        return replace(view, orthogonality=table)

    at = {"euclidean": 0.4, "causal": 0.1, "euclidean without top component": 0.16, "random": 0.41}
    said = experiments_findings.heat_sentence(with_values(at))
    assert said is not None and "0.400 Euclidean, 0.100 causal" in said
    assert "gives 0.160, 80 % of that difference" in said and "gives 0.410." in said
    said = experiments_findings.heat_sentence(with_values(at | {"causal": 0.5}))
    assert said is not None and "that difference" not in said


# --- the page


def test_every_section_stands_on_the_page_in_order(experiments, page_of):
    text = page_of(experiments)
    assert sections(text) == [
        "answer", "winograd", "parallelism", "heat-maps", "alignment", "probe", "steering", "layers", "dropped",
        "provenance", "glossary",
    ]  # fmt: skip
    for name in ("L1", "L2", "L3", "L4", "L5", "L6"):
        assert f"<h2>{name}: " in text
    assert "L5 in the middle" in text


def test_no_raw_column_and_no_missing_value_is_printed(experiments, page_of):
    text = body(page_of(experiments))
    assert not re.findall(r"\b[a-z]+_[a-z_]+\b", text)
    assert not re.findall(r"\b(?:None|nan|NaN|null_value|inf)\b", text)
    # Every table says which model, and how it is stored.
    assert text.count("tiny-135M, tied, Q4_1 body, Q8_0 output") >= 8
    assert "≤ 0.010" in text and "≤ 0.050" in text  # 99 draws, 19 random directions


@pytest.mark.parametrize(
    ("table", "section"),
    [("winograd", "winograd"), ("probe", "probe"), ("layers", "layers")],
)
def test_a_section_without_its_table_is_absent(tmp_path, page_of, table, section):
    text = page_of(experiments_run(tmp_path / "run", without=(table,)))
    assert section not in sections(text) and f'href="#{section}"' not in text


def test_steering_is_absent_without_its_tables_and_half_there_with_one(tmp_path, page_of):
    told = ("top_tokens", "generated")
    text = page_of(experiments_run(tmp_path / "final", without=("steered", *told)))
    assert "steering" in sections(text) and "L5 in the middle" not in text
    text = page_of(experiments_run(tmp_path / "none", without=("steered", "steering_final", *told)))
    assert "steering" not in sections(text)


def test_word_pairs_alone_have_a_short_page(tmp_path, page_of):
    """What a model of which only the output matrix was fetched can tell."""
    without = ("winograd", "alignment", "alignment_joint", "probe", "steered", "top_tokens", "generated", "layers")
    run = experiments_run(tmp_path / "run", without=without)
    own = run.measurements.table.filter(~pl.col("metric").is_in(["alignment", "parallelism_between"]))
    with RunWriter(tmp_path / "words", kind="real-model", title="words", config=run.config) as words:
        words.measurements(Measurements(own))
        for name in ("verdicts", "pairs", "concepts", "steering_final", "dropped_pairs"):
            table = run.table(name)
            assert table is not None
            # Without contexts, concepts of too few single tokens are listed only.
            words.table(
                name, table.drop("parallelism", "low", "high", "flip_p", "untrained") if name == "concepts" else table
            )
    text = page_of(Run.load(tmp_path / "words"))
    assert sections(text)[:-2] == ["answer", "parallelism", "heat-maps", "steering", "dropped"]


def test_random_is_shown_beside_the_other_products_and_not_judged(content):
    model = content["models"][0]
    assert [f.inner_product for f in model["maps"]] == [
        "euclidean", "euclidean without top component", "causal", "random", "euclidean",
    ]  # fmt: skip
    assert model["maps"][-1].name.startswith("heat-map-shared-words")
    judged = {p: {r["verdict"] for r in by["concepts"]} for p, by in model["by_product"].items()}
    assert judged["random"] == {"not judged", "too few pairs"} and "not judged" not in judged["causal"]


# --- several models, checkpoints


def test_several_models_have_their_own_numbers_and_labels(tmp_path, page_of):
    run = experiments_run(tmp_path / "two", models=("tiny-135M", "other / model"))
    content = experiments_content(run)
    assert [m["name"] for m in content["models"]] == ["tiny-135M", "other / model"]
    for name, table in content["tables"].items():
        models = [r[0] for r in table["rows"]]
        assert {c["text"] for c in models} == {"tiny-135M", "other / model"}, name
        assert all(c["small"].startswith("tied") for c in models), name
    shares = {m["answers"][0]["figure"] for m in content["models"]}
    winograd = run.table("winograd")
    assert winograd is not None and shares == {f"{x:.2f}" for x in winograd["right_texts"]}
    assert {r["model"] for r in rows_of(content["layers"]["figures"][0])} == {"tiny-135M", "other / model"}
    assert "Where it falls short: other / model" in page_of(run)


def test_of_checkpoints_the_last_is_told_and_all_are_drawn(tmp_path, page_of):
    run = experiments_run(tmp_path / "steps", steps=(0, 512, 143000))
    text = page_of(run)
    assert "training" in sections(text) and not {"layers"} & set(sections(text))
    assert "L5 in the middle" not in text and "the last of 3 checkpoints" in " ".join(text.split())
    content = experiments_content(run)
    assert [m["name"] for m in content["models"]] == ["tiny-135M@step143000"]
    assert "tiny-135M@step0" not in str(content["tables"])
    rows = rows_of(content["training"]["figure"])
    assert {r["step"] for r in rows} == {0, 512, 143000}
    assert {r["metric"] for r in rows} == {"Parallelism of γ", "Alignment", "AUC of probes"}
    nulls = {r["metric"]: r["value"] for r in rows if r["kind"] == "null"}
    assert nulls["Alignment"] == 0.06 and nulls["AUC of probes"] == 0.7
    assert 0 < nulls["Parallelism of γ"] < 0.3
    assert len(content["training"]["table"]["rows"]) == 3


def test_checkpoints_whose_names_tell_no_step_are_in_their_order(tmp_path):
    run = experiments_run(tmp_path / "unknown", steps=(7, None))
    encoding = experiments_content(run)["training"]["figure"].chart.to_dict()["spec"]["layer"][0]["encoding"]
    assert encoding["x"]["field"] == "checkpoint" and encoding["x"]["sort"] == ["tiny-135M@step7", "tiny-135M@stepNone"]


# --- figures and lists


def test_the_unsteered_point_is_in_the_line_of_every_site(content):
    for figure in content["models"][0]["strengths"]:
        rows = rows_of(figure)
        sites = SITES[:2] if "log-odds" in figure.name else SITES  # at λ log-odds are arithmetic: in the table
        assert {(r["concept"], r["site"], r["strength"]) for r in rows} == {
            (c, s, x) for c in CONTEXTS for s in sites for x in (0, *STRENGTHS)
        }
    names = [f.name for f in content["models"][0]["strengths"]]
    assert names == [f"strength-{k}-tiny-135m" for k in ("log-odds-change", "probability-positive", "kl")]


def test_the_matrix_is_read_over_its_own_change(content):
    rows = rows_of(content["models"][0]["matrix"])
    assert {r["value"] for r in rows if r["concept"] == r["concept_other"]} == {1.0}
    assert len(rows) == 64


def test_curves_through_the_layers_have_their_null_on_every_layer(content):
    figures = content["layers"]["figures"]
    assert [f.name for f in figures] == ["layers-alignment", "layers-residual", "layers-auc", "layers-parallelism"]
    for figure in figures:
        rows = rows_of(figure)
        measured = {(r["concept"], r["layer"]) for r in rows if r["kind"] == "measured"}
        assert measured == {(r["concept"], r["layer"]) for r in rows if r["kind"] != "measured"}
    cells = [[c["text"] for c in r] for r in content["layers"]["table"]["rows"]]
    assert all(r[3] == "layer 4" and r[5] == "layer 3" for r in cells)


def test_ranks_are_a_grid_and_texts_have_the_random_ones_beside(content):
    assert [t["concept"] for t in content["told"]] == list(CONTEXTS)
    parts = content["told"][0]["parts"]
    assert [p["site"] for p in parts] == ["layer 4", "λ"]
    ranks = parts[0]["ranks"]
    assert ranks["heads"] == ["0", "1", "2", "4", "2, random"]
    assert [[c["token"] for c in r] for r in ranks["rows"]] == [[t] * 5 for t in ("queen", "⏎", "<b>", "x", "␣")]
    assert [t["strength"] for t in parts[0]["texts"]] == ["0", "1", "2", "4"]
    assert [bool(t["random"]) for t in parts[0]["texts"]] == [False, False, True, False]


def test_nothing_is_told_without_ranks_and_texts():
    assert experiments_steering.told(None, None) == []
