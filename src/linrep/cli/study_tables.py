"""What `linrep study real-model` prints: one short table an experiment; all columns are in the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linrep.cli import common

if TYPE_CHECKING:
    from linrep.runs.store import Run

# Table of the run -> title and the columns printed, under their headings.
_SHOWN: dict[str, tuple[str, dict[str, str]]] = {
    "winograd": (
        "Winograd-style pairs: right continuations (nothing is selected by them)",
        {"concept": "set", "n_pairs": "pairs", "right_texts": "texts right", "right_texts_low": "low",
         "right_texts_high": "high", "right_pairs": "pairs right", "alignment": "alignment", "other_pairs": "others",
         "other_pairs_p": "p"},
    ),
    "alignment_joint": (
        "L3: matched against mismatched, permuting the labels of families",
        {"inner_product": "product", "weights": "weights", "matched": "matched", "mismatched": "|mismatched|",
         "p_value": "p", "n_permutations": "permutations", "n_families": "families"},
    ),
    "alignment": (
        "L3: alignment of context differences with word directions",
        {"concept": "contexts", "word_concept": "words", "inner_product": "product", "alignment": "alignment",
         "low": "low", "high": "high", "mismatched": "|mismatched|", "random_words_p": "p random", "top1": "top-1",
         "template_flip_p": "p templates", "auc_geometry": "pair AUC", "positive_share": "δᵀΔ > 0",
         "untrained": "untrained"},
    ),
    "probe": (
        "L4: word direction as a probe on contexts",
        {"concept": "contexts", "word_concept": "words", "auc": "AUC", "low": "low", "high": "high",
         "random_words_high": "random 95 %", "random_words_p": "p", "untrained": "untrained"},
    ),
    "steering_final": (
        "L5 at the final layer (arithmetic on γ), held-out pairs",
        {"concept": "words", "n_pairs": "pairs", "on_target": "on-target", "low": "low", "high": "high",
         "off_over_on": "off/on", "random_p": "p"},
    ),
    "steering_middle": (
        "L5 in the middle (computed by the model), held-out templates",
        {"concept": "contexts", "layer": "layer", "strength": "strength", "log_odds_change": "log-odds", "low": "low",
         "high": "high", "random_change": "random", "random_p": "p", "probability_positive": "P(positive)",
         "kl": "KL", "off_over_on": "off/on"},
    ),
}  # fmt: skip


def show_experiments(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Print the table of every experiment, and return them."""
    found = {}
    for name, (title, columns) in _SHOWN.items():
        table = run.table(name)
        if table is None or table.is_empty():
            continue
        found[name] = table.to_dicts()
        there = {k: heading for k, heading in columns.items() if k in table.columns}
        # Which model: always, since its label says how far its numbers can be trusted.
        front = ["model", *(["step"] if table["step"].drop_nulls().len() else []), "label"]
        rows = [[_cell(row[k]) for k in (*front, *there)] for row in found[name]]
        common.print_table(title, [*front, *there.values()], rows)
    return found


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
