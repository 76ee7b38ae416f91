"""What stands on the page of the experiments on real models: figures and tables, as the template takes them."""

from __future__ import annotations

from typing import Any

import polars as pl

from linrep.report import experiments_figures as figures
from linrep.report.theme import Figure
from linrep.runs.store import Run

# Table of the run -> heading on the page, what it says, in reading order.
SECTIONS = {
    "winograd": (
        "Winograd-style pairs: does the model prefer the right continuation?",
        "Reported first, and used to select nothing: every direction is of all pairs. A model that does not see the "
        "word that differs gets half of the texts right and no pair; coin flips, a quarter of the pairs. Intervals "
        "are exact binomial ones, which take pairs for independent; the one by template does not.",
    ),
    "alignment_joint": (
        "L3: matched against mismatched concepts, jointly",
        "Mean cosine of matched families, and its p-value when the labels of families are permuted over the whole "
        "matrix (absolute values off the diagonal: a mismatched concept has no sign of its own).",
    ),
    "alignment": (
        "L3: alignment of each context concept",
        "Geometry (alignment, pair-level AUC, top-1) apart from behaviour (δᵀΔ > 0: the model's own log-odds move "
        "the right way). Nulls: mismatched concepts of other families, random word pairs, flips of whole templates, "
        "the untrained model. Intervals leave out one template or one group of words at a time.",
    ),
    "probe": (
        "L4: the word direction as a probe on contexts",
        "Area under the curve of λ·ḡ for contexts of value 0 against value 1; ḡ comes from word pairs alone, so "
        "every context is held out. auc_without_shared leaves out word pairs of which a word stands in a context.",
    ),
    "steering_final": (
        "L5 at the final layer: arithmetic on γ",
        "λ + αC⁻¹ḡ with ḡᵀC⁻¹ḡ = 1 changes the log-odds of a pair by α ḡᵀC⁻¹Δ whatever the context: no model runs. "
        "Directions come from one half of the pairs and are read on the other.",
    ),
    "steering_middle": (
        "L5 in the middle: computed by the model",
        "The mean difference of hidden states over training templates, times a strength, is added at the last "
        "position of held-out templates' contexts of value 0; random directions have the same causal norm under the "
        "covariance of that layer.",
    ),
    "top_tokens": ("L5: likeliest tokens against strength", "The five likeliest next tokens of two contexts."),
    "generated": (
        "L5: generated text against strength",
        "Twenty tokens, always the likeliest; the direction is added at the last position and at every token said.",
    ),
    "layers": ("L6: every metric through the layers", "All numbers of the figures above, with their nulls."),
    "concepts": ("Word concepts", "Concepts with too few single tokens are measured as the last columns say."),
    "verdicts": ("L1: verdicts on parallelism", "Rules and nulls as in `linrep measure`."),
}  # fmt: skip


def experiments_content(run: Run) -> dict[str, Any]:
    """Everything the template of this page shows."""
    tables = {name: table for name in SECTIONS if (table := run.table(name)) is not None and not table.is_empty()}
    shown: dict[str, list[Figure]] = {}
    if "alignment" in tables:
        shown["alignment"] = [figures.alignment(tables["alignment"], _alignment_title(tables["alignment"]))]
    if "steering_middle" in tables:
        shown["steering_middle"] = [
            figures.strength(tables["steering_middle"], _strength_title(tables["steering_middle"]))
        ]
    if "layers" in tables:
        shown["layers"] = figures.through_layers(tables["layers"])
    if "probe" in tables and tables["probe"]["step"].drop_nulls().len():
        shown["probe"] = [figures.over_training(tables["probe"], tables.get("alignment"))]
    return {
        "template": "experiments.html.j2",
        "figures": {f.name: f for some in shown.values() for f in some},
        "shown": shown,
        "sections": [(name, *SECTIONS[name], table.to_dicts()) for name, table in tables.items()],
        "models": _models(run),
        "answers": _answers(tables),
        "products": [],
    }


def _models(run: Run) -> list[dict[str, Any]]:
    """Facts of every model, plain values only."""
    found = run.details.get("models") or {}
    return [
        {"name": name, "label": told["label"],
         "facts": {k: v for k, v in told["model"].items() if not isinstance(v, dict | list)}}
        for name, told in found.items()
    ]  # fmt: skip


def _causal(alignment: pl.DataFrame) -> pl.DataFrame:
    some = alignment.filter(pl.col("inner_product") == "causal")
    return alignment if some.is_empty() else some


def _alignment_title(alignment: pl.DataFrame) -> str:
    some = _causal(alignment)
    first = int(some["top1"].sum())
    return f"The own word direction is the most aligned of all for {first} of {len(some)} context concepts"


def _strength_title(table: pl.DataFrame) -> str:
    judged = table.drop_nulls("random_p") if "random_p" in table.columns else table.clear()
    beyond = int((judged["random_p"] <= 0.05).sum()) if len(judged) else 0
    return f"{beyond} of {len(judged)} pushes move their concept further than all random directions of equal norm"


def _answers(tables: dict[str, pl.DataFrame]) -> list[dict[str, str]]:
    """The numbers that a reader looks for first, one a line; medians over concepts and models."""
    found: list[dict[str, str]] = []

    def say(table: str, column: str, text: str, product: str | None = None) -> None:
        rows = tables.get(table)
        if rows is None or column not in rows.columns:
            return
        rows = rows if product is None else _causal(rows)
        value = rows[column].median()
        if isinstance(value, float):
            found.append({"figure": f"{value:.2f}", "text": text})

    say("alignment", "alignment", "median alignment of a context concept with its own word direction", "causal")
    say("alignment", "mismatched", "median of the mean |cosine| with word directions of other families", "causal")
    say("probe", "auc", "median area under the curve of the word direction as a probe on contexts")
    say("steering_final", "off_over_on", "median off-target over on-target, final layer (arithmetic on γ)")
    return found
