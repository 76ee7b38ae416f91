"""What `linrep study real-model` prints: one short table an experiment; all columns are in the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linrep.cli import common

if TYPE_CHECKING:
    import polars as pl

    from linrep.runs.store import Run

# Table of the run -> title and the columns printed, under their headings; the answers first, then concept by concept.
_SHOWN: dict[str, tuple[str, dict[str, str]]] = {
    "winograd": (
        "Winograd-style pairs: right continuations (chance .5; nothing is selected by them)",
        {"concept": "set", "n_pairs": "pairs", "right_texts": "texts right", "right_texts_low": "low",
         "right_texts_high": "high", "right_pairs": "pairs right", "alignment": "alignment", "other_pairs": "others",
         "other_pairs_p": "p"},
    ),
    "verdicts": (
        "L1: word concepts by verdict",
        {"inner_product": "product", "verdict": "verdict", "concepts": "concepts", "parallelism": "median parallelism"},
    ),
    "alignment_joint": (
        "L3: matched against mismatched, permuting the labels of families",
        {"inner_product": "product", "weights": "weights", "matched": "matched", "mismatched": "|mismatched|",
         "p_value": "p", "n_families": "families"},
    ),
    "alignment": (
        "L3: alignment of context differences with word directions",
        {"concept": "contexts", "inner_product": "product", "alignment": "alignment", "low": "low", "high": "high",
         "mismatched": "|mismatched|", "random_words_p": "p random", "template_flip_p": "p templates", "top1": "top-1",
         "auc_geometry": "pair AUC", "positive_share": "δᵀΔ > 0", "untrained": "untrained"},
    ),
    "probe": (
        "L4: word direction as a probe on contexts",
        {"concept": "contexts", "word_concept": "words", "auc": "AUC", "low": "low", "high": "high",
         "random_words_high": "random 95 %", "random_words_p": "p", "untrained": "untrained"},
    ),
    "steering_final": (
        "L5 at the final layer (arithmetic on γ), held-out pairs",
        {"concept": "words", "on_target": "on-target", "low": "low", "high": "high", "random_mean_abs": "|random|",
         "random_p": "p", "off_over_on": "off/on"},
    ),
    "steered": (
        "L5 by the running model, where random directions were pushed too; held-out templates and pairs",
        {"concept": "contexts", "site": "site", "strength": "strength", "log_odds_change": "log-odds", "low": "low",
         "high": "high", "random_change": "random", "random_p": "p", "probability_positive": "P(positive)",
         "kl": "KL", "random_kl": "KL random", "off_over_on": "off/on"},
    ),
}  # fmt: skip


def show_experiments(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Print the table of every experiment, and return their rows (verdicts counted)."""
    found = {}
    for name, (title, columns) in _SHOWN.items():
        table = run.table(name)
        if table is None or table.is_empty():
            continue
        printed = _printed(name, table)
        found[name] = (printed if name == "verdicts" else table).to_dicts()
        there = {k: heading for k, heading in columns.items() if k in printed.columns}
        # Which model: always, since its label says how far its numbers can be trusted.
        front = ["model", *(["step"] if table["step"].drop_nulls().len() else []), "label"]
        rows = [[_cell(name, k, row, run.config["draws"]) for k in (*front, *there)] for row in printed.to_dicts()]
        common.print_table(title, [*front, *there.values()], rows)
    dropped = run.table("dropped_pairs")
    for row in [] if dropped is None else dropped.to_dicts():
        if row["negative"] == row["positive"] == "all":  # a whole context set
            common.note(f"{row['model']}, {row['concept']}: {row['reason']}")
    return found


def _printed(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """The rows worth a line: verdicts counted, the causal alignment, pushes that have random ones beside them."""
    import polars as pl

    if name == "verdicts":
        by = ["model", "step", "label", "inner_product", "verdict"]
        counted = table.group_by(by, maintain_order=True).agg(
            pl.len().alias("concepts"), pl.col("parallelism").median()
        )
        return counted.sort("step", "model", "inner_product", "verdict", maintain_order=True)
    if name == "alignment" and "causal" in table["inner_product"]:
        return table.filter(pl.col("inner_product") == "causal")
    return table.drop_nulls("random_p") if name == "steered" and "random_p" in table.columns else table


def _cell(table: str, key: str, row: dict[str, Any], draws: int) -> str:
    from linrep.report.experiments_tables import STEERED_FLOOR
    from linrep.report.findings import p_text

    value = row[key]
    if value is None:
        return "–"
    if key == "p_value" or key.endswith("_p"):
        floors = {"steered": STEERED_FLOOR, "alignment_joint": 1 / (row.get("n_permutations") or 1)}
        return p_text(value, value, floors.get(table, 1 / (draws + 1)))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
