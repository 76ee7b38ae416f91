"""The tables of the page of the experiments: which columns of a run's tables are shown, under which headings.

Every number has its null in the same row. The label of the model (tied, quantised, partial) is in every table: in the
caption of one about one model, beneath the name where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from linrep.report.findings import number, p_text, product_name
from linrep.report.listing import Cell, Column, Row, beside, count, interval, listing, p_value, value, words
from linrep.studies.calibration_contexts import KNOWN_LIMIT

# Floors of the p-values that do not come from the draws of the run: 19 random directions, 199 redraws a layer.
STEERED_FLOOR, LAYERS_FLOOR = 1 / 20, 1 / 200

_CONTEXTS = words("Contexts", "concept", "word_concept")


def tables(found: dict[str, pl.DataFrame], draws: int | None) -> dict[str, Any]:
    """Every table that a run has, by the name under which the template asks for it; missing ones are absent."""
    floor = None if draws is None else 1 / (draws + 1)
    shown = {
        "winograd": _listing(found, "winograd", _winograd(floor), _WINOGRAD),
        "few": _listing(found, "concepts", *_few(found.get("concepts"), floor), pl.col("status") != "ok"),
        "joint": _listing(found, "alignment_joint", _JOINT_COLUMNS, _JOINT),
        "probe": _listing(found, "probe", _probe(floor), _PROBE),
        "final": _listing(found, "steering_final", _final(floor), _FINAL),
        "steered": _listing(
            _with_unsteered(found), "steered", _STEERED_COLUMNS, _STEERED, pl.col("random_p").is_not_null()
        ),
    }
    for product in _products(found.get("alignment")):
        shown[f"alignment {product}"] = _listing(
            found, "alignment", _alignment(floor), f"{product_name(product)} inner product. {_ALIGNMENT}",
            pl.col("inner_product") == product,
        )  # fmt: skip
    return {name: table for name, table in shown.items() if table is not None}


def _products(alignment: pl.DataFrame | None) -> list[str]:
    return [] if alignment is None else alignment["inner_product"].unique(maintain_order=True).to_list()


def _with_unsteered(found: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Beside every push the probability of the positive words before it."""
    if (table := found.get("steered")) is None:
        return found
    keys = ["model", "concept"]
    before = table.filter(pl.col("strength") == 0).select(*keys, before="probability_positive").unique(keys)
    return found | {"steered": table.join(before, on=keys, how="left", maintain_order="left")}


def _listing(
    found: dict[str, pl.DataFrame], name: str, columns: Sequence[Column], caption: str, among: pl.Expr | None = None
) -> dict[str, Any] | None:
    table = found.get(name)
    if table is None or (among is not None and not set(among.meta.root_names()) <= set(table.columns)):
        return None
    rows = (table if among is None else table.filter(among)).to_dicts()
    return of_models(rows, columns, caption, name)


def of_models(rows: Sequence[Row], columns: Sequence[Column], caption: str, name: str) -> dict[str, Any] | None:
    """A table with what is said of its models: in the caption of one model, in a first column of several."""
    models = {(r["model"], r["label"]) for r in rows}
    if len(models) > 1:
        return listing(rows, [words("Model", "model", "label"), *columns], caption, name)
    return listing(rows, columns, f"{', '.join(next(iter(models)))}. {caption}" if models else caption, name)


# --- in the order of the page -----------------------------------------------------------------------------------

_WINOGRAD = (
    "Interval beneath: exact binomial, which takes pairs for independent; the next one leaves out a template at a "
    "time. A model that does not see the word that differs gets half of the texts right and no pair; coin flips get a "
    "quarter of the pairs."
)


def _winograd(floor: float | None) -> list[Column]:
    def by_template(r: Row) -> Cell:
        return interval(r.get("right_texts_by_template_low"), r.get("right_texts_by_template_high")) or "–"

    return [
        words("Set", "concept"),
        Column("Pairs", lambda r: (str(r["n_pairs"]), f"{r['n_templates']} templates")),
        value("Texts right (chance .50)", "right_texts", "right_texts_low", "right_texts_high"),
        Column("By template", by_template),
        value("Pairs right (chance .25)", "right_pairs", "right_pairs_low", "right_pairs_high"),
        value("Log-odds move right (chance .50)", "right_shifts", "right_shifts_low", "right_shifts_high"),
        value("Cosine of δ with its own Δ", "alignment", "alignment_low", "alignment_high"),
        value("With Δ of other templates", "other_pairs"),
        p_value("p", "other_pairs_p", floor),
        value("Untrained", "untrained_alignment"),
    ]


def _few(concepts: pl.DataFrame | None, floor: float | None) -> tuple[list[Column], str]:
    """Columns and caption: what contexts tell of concepts that γ says too little about, if there were any."""
    listed = [
        words("Concept", "concept"),
        Column("Single-token pairs", lambda r: f"{r['single_token_pairs']} of {r['listed_pairs']}"),
    ]
    if concepts is None or "parallelism" not in concepts.columns:
        return listed, "Words of several tokens have no row of γ, and no context was read."
    measured = [
        count("Pairs in contexts", "context_pairs"),
        value("Parallelism of λ", "parallelism", "low", "high"),
        p_value("p, sign flip", "flip_p", floor),
        value("Untrained", "untrained"),
    ]
    return [*listed, *measured], (
        "Words of several tokens have no row of γ. Here each listed word stands at the end of three carrier texts, and "
        "the difference is one of λ: what the model expects after the word, not how it writes it. Null: pairs turned "
        "round."
    )


_JOINT = (
    "Concepts are collapsed into families, because verb forms are differences of each other; those with too few "
    "single-token pairs take no part. p: labels of families permuted over the whole matrix, absolute values off the "
    "diagonal; the 95 % point of the permuted means is beside it."
)


def _permuted(r: Row) -> Cell:
    """The p-value of a test that counts the labels as they are among its permutations."""
    n = r.get("n_permutations")
    if n is None:
        return "–", str(r.get("status") or "")
    return p_text(r["p_value"], r["p_value"], 1 / n), f"{n} permutations"


_JOINT_COLUMNS = [
    Column("Inner product", lambda r: (product_name(r["inner_product"]), str(r["weights"])), number=False),
    count("Families", "n_families"),
    value("Matched", "matched"),
    value("Mismatched, absolute", "mismatched"),
    value("Labels permuted, 95 %", "null_high"),
    Column("p", _permuted),
]


_ALIGNMENT = (
    "Geometry first: the cosine with its 95 % interval by template, the mean over concepts of other families, p "
    "against as many random word pairs and against flips of whole templates, the untrained model. Then behaviour: the "
    "share of context pairs after which the model's own log-odds move the right way (δᵀΔ > 0), and how often more than "
    "for a mismatched concept, and than after contexts of other families (area under the curve, chance .50). "
    f"Known limit: {KNOWN_LIMIT}."
)


def _alignment(floor: float | None) -> list[Column]:
    def first(r: Row) -> Cell:
        return "yes" if r["top1"] else ("no", str(r["most_aligned"]))

    return [
        _CONTEXTS,
        Column("Pairs", lambda r: (str(r["n_pairs"]), f"{r['n_templates']} templates")),
        value("Alignment", "alignment", "low", "high"),
        value("Mismatched, absolute", "mismatched"),
        p_value("p, random word pairs", "random_words_p", floor),
        p_value("p, template flips", "template_flip_p", floor),
        value("Untrained", "untrained"),
        Column("Most aligned of all families", first),
        beside("Pair by pair, geometry", "auc_geometry", "untrained_auc_geometry", "untrained"),
        value("δᵀΔ > 0", "positive_share", "positive_share_low", "positive_share_high"),
        beside("Pair by pair, behaviour", "auc_behaviour", "untrained_auc_behaviour", "untrained"),
        value("Against contexts of other families", "auc_across_contexts"),
    ]


_PROBE = (
    "Area under the curve of λ·ḡ for contexts of value 0 against value 1, with 95 % interval by template. Null: "
    "directions of as many random word pairs (their 95 % point). Last: word pairs left out of which a word stands in "
    "one of the contexts."
)


def _probe(floor: float | None) -> list[Column]:
    def without(r: Row) -> Cell:
        shared = r.get("n_shared_words")
        if not shared:
            return "none shared"
        return number(r.get("auc_without_shared")), f"{shared} pair{'s' if shared > 1 else ''} left out"

    return [
        _CONTEXTS,
        Column("Contexts", lambda r: (f"{r['n_negative']} + {r['n_positive']}", f"{r['n_templates']} templates")),
        value("AUC", "auc", "low", "high"),
        value("Random words, 95 %", "random_words_high"),
        p_value("p", "random_words_p", floor),
        value("Untrained", "untrained"),
        Column("Without shared words", without),
    ]


_FINAL = (
    "Arithmetic on γ: no model runs. Change of the log-odds of held-out pairs, in nats per unit of causal norm, with "
    "95 % interval; null: random directions of the same norm (mean |change|). Off over on: mean |change| of concepts "
    "of other families over that of its own."
)


def _final(floor: float | None) -> list[Column]:
    def on_target(r: Row) -> Cell:
        if r.get("on_target") is None:
            return "–", str(r.get("status") or "")
        return number(r["on_target"]), interval(r.get("low"), r.get("high"))

    return [
        words("Word concept", "concept"),
        count("Pairs", "n_pairs"),
        Column("Change of its own pairs", on_target),
        value("Random directions, mean |change|", "random_mean_abs"),
        p_value("p", "random_p", floor),
        value("Held-out pairs moved right", "held_out_pairs_moved_right"),
        value("Off over on", "off_over_on"),
    ]


_STEERED = (
    "At the strength at which random directions of equal causal norm were pushed too. Change of the log-odds of "
    "held-out word pairs after held-out contexts, in nats, with 95 % interval by template; the mean over random "
    "directions beneath P and KL. At λ the log-odds are arithmetic on γ; probabilities, KL and the likeliest token are "
    "not."
)


def _probability(r: Row) -> Cell:
    own, before, random = (_seen(r.get(k)) for k in ("probability_positive", "before", "random_probability_positive"))
    return own, f"unsteered {before}, random {random}"


def _seen(p: float | None) -> str:
    return "< 0.001" if p is not None and p < 0.001 else number(p, 3)


_STEERED_COLUMNS = [
    _CONTEXTS,
    Column("Pushed at", lambda r: (str(r["site"]), str(r["kind"])), number=False),
    Column("Strength", lambda r: f"{r['strength']:g}"),
    value("Log-odds, nats", "log_odds_change", "low", "high"),
    value("Random directions", "random_change"),
    p_value("p", "random_p", STEERED_FLOOR),
    Column("P of positive words", _probability),
    beside("KL, nats", "kl", "random_kl", "random"),
    value("Likeliest token changed", "top1_changed"),
    value("Off over on", "off_over_on"),
]
