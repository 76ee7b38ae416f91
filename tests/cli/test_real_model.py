"""`linrep study real-model` as a user runs it, on tiny random models with lists of made-up words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linrep.runs.store import Run

pytestmark = pytest.mark.hf

FAMILIES = ("llama", "gpt2")
TABLES = (
    "verdicts", "concepts", "alignment", "alignment_joint", "probe", "steering_final", "steered",
    "steered_reads", "top_tokens", "generated", "layers", "winograd", "pairs", "dropped_pairs",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import torch

    from tests.fixtures.experiment_files import tiny_model_with_words, write_experiment_files

    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("experiments")
    words, contexts = write_experiment_files(place)
    (place / "lists.json").write_text(json.dumps([words, contexts]))
    for family in FAMILIES:
        tiny_model_with_words(family, place / family)
    for step, seed in ((100, 1), (2000, 2)):
        tiny_model_with_words("llama", place / "trained" / f"step{step}", seed=seed)
    return place


def table_of(run: Run, name: str) -> pl.DataFrame:
    table = run.table(name)
    assert table is not None, name
    return table


def options(folder: Path) -> list[str]:
    words, contexts = json.loads((folder / "lists.json").read_text())
    given = ["--draws", "39"]
    for flag, paths in (("--pairs", words), ("--contexts", contexts)):
        for path in paths:
            given += [flag, path]
    return given


@pytest.fixture(scope="module")
def both(folder, tmp_path_factory) -> Run:
    """One run of two architectures side by side."""
    from datetime import UTC, datetime

    from linrep.runs.save import save_result
    from linrep.studies.real_experiments import RealModelConfig, study_real_model

    words, contexts = json.loads((folder / "lists.json").read_text())
    config = RealModelConfig(
        models=tuple(str(folder / f) for f in FAMILIES), pairs=tuple(words), contexts=tuple(contexts), draws=39,
        steered_contexts=4,
    )  # fmt: skip
    started = datetime.now(UTC)
    return save_result(study_real_model(config), tmp_path_factory.mktemp("run") / "both", started=started)


def test_every_experiment_of_every_model_is_there_and_labelled(both):
    for name in TABLES:
        table = table_of(both, name)
        assert table is not None and len(table), name
        assert set(table["model"]) == set(FAMILIES), name
        assert all(label.startswith("tied") for label in table["label"]), name


def test_every_value_has_its_null(both):
    rows = both.measurements.table
    held = {
        "alignment": {"mismatched", "random word pairs"},
        "probe_auc": {"random word pairs"},
        "parallelism_between": {"template flip"},
        "alignment_own_pair": {"words of other templates"},
        "right_continuations": {"chance"},
    }
    for metric, wanted in held.items():
        some = rows.filter(pl.col("metric") == metric)
        if metric == "alignment":
            some = some.filter((pl.col("split") == "matched") | pl.col("layer").is_not_null())
        keys = ("source", "concept", "concept_other", "layer", "inner_product", "split")
        for key, group in some.group_by(keys):
            own = {"sign flip"} if key[-1] == "words at the end of contexts" else wanted
            assert own <= set(group["null"].drop_nulls()), (metric, group)
    assert rows["source"].null_count() == 0


def test_too_few_single_tokens_are_said_and_measured_from_contexts(both):
    few = table_of(both, "concepts").filter(pl.col("concept") == "few").to_dicts()
    assert [r["status"] for r in few] == ["too few pairs"] * 2
    assert all(
        r["single_token_pairs"] == 0 and r["parallelism"] is not None and "embeddings" in r["measured_as"] for r in few
    )
    lost = table_of(both, "dropped_pairs")
    assert lost.filter(pl.col("concept") == "few").height == 2 * 9


def test_random_models_show_nothing_that_its_nulls_do_not(both):
    """A calibration of the whole chain: without training, no concept of a model can be found by words alone."""
    probe = table_of(both, "probe")
    assert (probe["random_words_p"] < 0.05).sum() <= 2  # of eight
    assert (table_of(both, "alignment_joint")["p_value"] > 0.01).all()


def test_final_layer_rows_say_arithmetic_and_equal_it(both, folder):
    assert set(table_of(both, "steering_final")["kind"]) == {"arithmetic on γ"}
    random = both.measurements.where(metric="steering_specificity", null="random directions of equal norm").table
    assert (random["null_value"].abs() < random["null_high"]).all()


def test_winograd_shares_have_a_binomial_interval_and_select_nothing(both):
    for row in table_of(both, "winograd").to_dicts():
        assert row["n_pairs"] == 8 and row["right_texts_low"] <= row["right_texts"] <= row["right_texts_high"]


def test_generated_text_and_ranks_are_by_strength(both):
    top, said = table_of(both, "top_tokens"), table_of(both, "generated")
    assert set(top["strength"]) == {0.0, 1.0, 2.0, 4.0} and set(top["rank"]) == {1, 2, 3, 4, 5}
    assert set(said["direction"]) == {"none", "concept", "random"}
    assert set(top["site"]) == set(said["site"]) == {"layer 2", "λ"}
    table = table_of(both, "steered")
    assert np.allclose(table.filter(pl.col("strength") == 0)["kl"], 0)
    assert (table.filter(pl.col("strength") > 0)["kl"] > 0).all()


def test_at_lambda_log_odds_are_proportional_to_strength_and_said_to_be_arithmetic(both):
    """Whatever the context: α ḡᵀC⁻¹Δ. In the middle the model computes, and nothing is proportional."""
    table = table_of(both, "steered").filter(pl.col("strength") > 0)
    at = pl.col("site") == "λ"
    assert set(table.filter(at)["kind"]) == {"arithmetic on γ"}
    assert set(table.filter(~at)["kind"]) == {"computed by the model"}
    for (model, concept, site), rows in table.group_by("model", "concept", "site"):
        change = dict(zip(rows["strength"], rows["log_odds_change"], strict=True))
        proportional = np.allclose([change[2.0], change[4.0]], [2 * change[1.0], 4 * change[1.0]], rtol=1e-3)
        assert proportional == (site == "λ"), (model, concept, site)
    # Every site has its random directions, at the strength at which they are tried.
    assert table.filter(pl.col("strength") == 2)["random_p"].null_count() == 0


def test_layers_end_at_lambda(both):
    """The logit lens of the last block is λ: its alignment and AUC are those of L3 and L4."""
    last = table_of(both, "layers").filter((pl.col("layer") == 3) & (pl.col("space") == "logit lens, causal"))
    aligned = table_of(both, "alignment").filter(pl.col("inner_product") == "causal")
    for table, name in ((aligned, "alignment"), (table_of(both, "probe"), "auc")):
        joined = last.join(table.select("model", "concept", name), on=["model", "concept"], suffix="_other")
        assert len(joined) == 8
        np.testing.assert_allclose(joined[name], joined[f"{name}_other"], atol=1e-5)


def test_the_verb_prints_tables_and_json(linrep, folder):
    ran = linrep("study", "real-model", folder / "gpt2", *options(folder), "--out", "run", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    page = Path(said["report"])
    assert page.is_file() and "L5 in the middle" in page.read_text()
    assert {"alignment", "probe", "steering_final", "steered", "winograd"} <= set(said["experiments"])
    assert "tied" in ran.err and "L4" in ran.err
    again = linrep("study", "real-model", "--config", Path(said["run"]) / "config.toml", "--out", "run")
    assert again.code == 0 and "reused" in again.err


def test_checkpoints_have_their_step(linrep, folder):
    ran = linrep(
        "study", "real-model", folder / "trained", "--revisions", "step100,step2000", *options(folder), "--out", "run"
    )
    assert ran.code == 0, ran.err
    run = Run.load(Path(ran.out.split()[0]))
    assert (run.path / "report/figures/over-training.svg").is_file()
    assert set(table_of(run, "probe")["step"]) == {100, 2000}
    assert set(run.measurements.where(metric="parallelism").table["step"].unique()) == {100, 2000}
    assert run.table("layers") is None


def test_what_can_be_read_but_not_run_gets_l1_and_l2(linrep, folder, tmp_path):
    """An output matrix fetched alone: labelled, and said why the rest is missing; beside a whole model."""
    part = tmp_path / "part"
    shutil.copytree(folder / "llama", part)
    (part / "linrep.json").write_text(json.dumps({"partial": "output matrix only", "tied": True, "revision": "abc"}))
    ran = linrep("study", "real-model", part, folder / "gpt2", *options(folder), "--out", "run")
    assert ran.code == 0, ran.err
    run = Run.load(Path(ran.out.split()[0]))
    verdicts = table_of(run, "verdicts")
    assert set(verdicts["model"]) == {"part", "gpt2"}
    assert set(verdicts.filter(pl.col("model") == "part")["label"]) == {"tied, F32, partial: output matrix only"}
    assert set(table_of(run, "alignment")["model"]) == {"gpt2"}
    assert "not run: only a part of the model was fetched" in run.details["models"]["part"]["model"]["forward_model"]


def test_a_context_set_without_its_words_is_said_to_be_left_out(linrep, folder):
    words, contexts = json.loads((folder / "lists.json").read_text())
    ran = linrep("study", "real-model", folder / "llama", "--pairs", words[0], "--contexts", contexts[0], "--contexts",
                 contexts[1], "--draws", 39, "--out", "run", "--no-report")  # fmt: skip
    assert ran.code == 0, ran.err
    run = Run.load(Path(ran.out.split()[0]))
    assert set(table_of(run, "probe")["concept"]) == {"rin contexts"}
    assert "mol contexts: not in L3 to L5: its word concept mol is not measured" in ran.err
    assert "mol contexts" in table_of(run, "dropped_pairs").filter(pl.col("negative") == "all")["concept"]


def test_word_pairs_alone(linrep, folder):
    ran = linrep("study", "real-model", folder / "llama", *options(folder)[:12], "--no-contexts", "--out", "run")
    assert ran.code == 0, ran.err
    run = Run.load(Path(ran.out.split()[0]))
    assert run.table("alignment") is None and len(table_of(run, "verdicts")) and len(table_of(run, "steering_final"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "no model"),
        (["{llama}", "{llama}"], "none twice"),
        (["{llama}", "{gpt2}", "--revisions", "a,b"], "one model"),
        (["{trained}", "--revisions", "step7"], "step7"),
        (["{llama}", "--draws", "3"], "draws"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(linrep, folder, arguments, said):
    given = [a.format(**{n: folder / n for n in (*FAMILIES, "trained")}) for a in arguments]
    ran = linrep("study", "real-model", *given, "--out", "bad")
    assert ran.code == 2 and said in ran.err and not Path("bad").exists(), ran.err
    shutil.rmtree("bad", ignore_errors=True)
