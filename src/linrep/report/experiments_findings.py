"""What the page of the experiments says: the short answer, and by name every concept that falls short of it.

Every sentence is computed from the rows of one model; no claim is written in advance.
"""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from linrep.geometry import verdicts
from linrep.report.data import ModelView
from linrep.report.findings import number, p_text, product_phrase, verdict_counts
from linrep.report.listing import interval, listed

LEVEL = verdicts.LEVEL
OFF_TARGET = 0.1  # off over on above which a direction is said to move other concepts too
NEAR_CHANCE = 0.1  # a share of right texts this near to one half is said to be near chance

Tables = dict[str, pl.DataFrame]  # of one model, by name; a table that the run lacks is absent


def main_product(found: Tables) -> str:
    """The inner product of the short answer: causal where it was measured."""
    alignment = found.get("alignment")
    products = ["causal"] if alignment is None else alignment["inner_product"].unique(maintain_order=True).to_list()
    return "causal" if "causal" in products else products[0]


def answers(found: Tables, view: ModelView) -> list[dict[str, str]]:
    """The numbers that a reader looks for first; right continuations before all others."""
    said = [*_winograd(found), *_verdicts(view), *_alignment(found), *_probe(found), *_steering(found)]
    return [{"figure": figure, "text": text} for figure, text in said]


def _median(table: pl.DataFrame, column: str) -> float | None:
    middle = table[column].median() if column in table.columns else None
    return float(middle) if isinstance(middle, int | float) else None


def _winograd(found: Tables) -> list[tuple[str, str]]:
    return [(number(r["right_texts"]), winograd_sentence(r)) for r in found.get("winograd", pl.DataFrame()).to_dicts()]


def winograd_sentence(row: dict[str, Any]) -> str:
    """Right continuations with their interval, and whether that is more than chance."""
    ends = (row["right_texts_low"], row["right_texts_high"])
    apart = (row.get("right_texts_by_template_low"), row.get("right_texts_by_template_high"))
    text = f"of the texts of “{row['concept']}” get the right continuation, 95 % interval {interval(*ends)}"
    if None not in apart:
        text += f", by template {interval(*apart)}"
    text += f"; chance is {number(row['chance_texts'])}. "
    size = re.search(r"\d+(?:\.\d+)?[MB]\b", str(row["model"]), flags=re.IGNORECASE)
    who = f"a model of about {size[0].upper()} parameters" if size else "this model"
    intervals = [e for e in (ends, apart) if None not in e]
    if any(low <= row["chance_texts"] <= high for low, high in intervals):
        return text + f"An interval includes chance: on true schemas {who} is near chance. Nothing is selected by this."
    if row["right_texts"] < row["chance_texts"]:
        return text + "It is below chance. Nothing is selected by this."
    if row["right_texts"] < row["chance_texts"] + NEAR_CHANCE:
        return (
            text + f"It is above chance by little: on true schemas {who} is near chance. Nothing is selected by this."
        )
    return text + "It is above chance. Nothing is selected by this."


def _verdicts(view: ModelView) -> list[tuple[str, str]]:
    counts = {c["product"]: c for c in verdict_counts(view)}
    found = counts.get("causal") or next(iter(counts.values()), None)
    if found is None:
        return []
    others = [f"{c['phrase']} {c['common']}" for p, c in counts.items() if p != found["product"]]
    return [(
        f"{found['common']} of {found['judged']}",
        f"word concepts pass both verdicts, common direction and pair-specific, under the {found['phrase']} inner "
        f"product (median parallelism {found['parallelism']}"
        + (f"; {', '.join(others)}" if others else "") + ").",
    )]  # fmt: skip


def _alignment(found: Tables) -> list[tuple[str, str]]:
    product, said = main_product(found), []
    joint = found.get("alignment_joint", pl.DataFrame()).to_dicts()
    own = {r["weights"]: r for r in joint if r["inner_product"] == product and r.get("matched") is not None}
    if "trained" in own:
        r, plain = own["trained"], own.get("untrained", {}).get("matched")
        p = p_text(r["p_value"], r["p_value"], 1 / r["n_permutations"])
        untrained = "" if plain is None else f" Untrained model, matched: {number(plain)}."
        said.append((
            f"{number(r['matched'])} vs {number(r['mismatched'])}",
            f"alignment of matched families against the mean |cosine| of mismatched ones, {product_phrase(product)} "
            f"inner product; labels permuted: p {p if p.startswith('≤') else f'= {p}'}.{untrained}",
        ))  # fmt: skip
    if (rows := _aligned(found)).height:
        first = int(rows["top1"].sum())
        text = "context concepts whose own word direction is the most aligned of all families (top-1)."
        said.append((f"{first} of {rows.height}", text))
        plain = _median(rows, "untrained_auc_geometry")
        text = "pair by pair, how often a context difference is nearer to its own word direction than to a mismatched "
        text += "one: area under the curve, median concept; chance 0.50"
        text += "." if plain is None else f", untrained {number(plain)}."
        said.append((number(_median(rows, "auc_geometry")), text))
    return said


def _aligned(found: Tables) -> pl.DataFrame:
    table = found.get("alignment", pl.DataFrame())
    return table.filter(pl.col("inner_product") == main_product(found)) if table.height else table


def _probe(found: Tables) -> list[tuple[str, str]]:
    if (probe := found.get("probe")) is None:
        return []
    beyond = probe.filter(pl.col("auc") > pl.col("random_words_high")).height
    plain = _median(probe, "untrained")
    text = f"area under the curve of word directions as probes on contexts, median concept; {beyond} of {probe.height} "
    text += f"are beyond 95 % of random word directions{'' if plain is None else f'; untrained {number(plain)}'}."
    return [(number(_median(probe, "auc")), text)]


def _steering(found: Tables) -> list[tuple[str, str]]:
    final, steered = _median(found.get("steering_final", pl.DataFrame()), "off_over_on"), _at_reference(found)
    if final is None and steered.is_empty():
        return []
    computed = [
        f"{site} {number(_median(rows, 'off_over_on'))}"
        for (site,), rows in steered.filter(pl.col("layer").is_not_null()).group_by(["site"], maintain_order=True)
    ] if steered.height else []  # fmt: skip
    text = "change of other concepts over that of its own (off over on), median concept, final layer: arithmetic on γ."
    if computed:
        text += f" Pushed in the middle, computed by the model: {', '.join(computed)}."
    return [(number(final), text)]


def _at_reference(found: Tables) -> pl.DataFrame:
    """Pushes beside which random directions were pushed."""
    table = found.get("steered", pl.DataFrame())
    return table.drop_nulls("random_p") if "random_p" in table.columns else pl.DataFrame()


def heat_sentence(view: ModelView) -> str | None:
    """How far each control goes on the way from the Euclidean to the causal heat map."""
    whole = view.orthogonality.filter(pl.col("split").fill_null("all") == "all")
    at = dict(whole.filter(pl.col("null").is_null()).select("inner_product", "value").drop_nulls().iter_rows())
    if not {"euclidean", "causal"} <= set(at):
        return None
    nulls = dict(whole.filter(pl.col("inner_product") == "causal").select("null", "null_value").iter_rows())
    text = f"Mean |cosine| of different concepts: {number(at['euclidean'], 3)} Euclidean, {number(at['causal'], 3)} "
    text += f"causal; random directions {number(nulls.get('random directions'), 3)}, shared words alone "
    text += f"{number(nulls.get('shared words'), 3)}."
    gained = at["euclidean"] - at["causal"]
    one, random = at.get("euclidean without top component"), at.get("random")
    if one is not None and gained > 0:
        share = 100 * (at["euclidean"] - one) / gained
        text += f" Projecting out one component gives {number(one, 3)}, {number(share, 0)} % of that difference."
    if random is not None:
        text += f" The random product, with the same eigenvalues, gives {number(random, 3)}."
    return text


# --- where a concept falls short --------------------------------------------------------------------------------


def shortfalls(found: Tables, view: ModelView) -> list[str]:
    """Every criterion that some concept does not meet, with the names of those concepts."""
    said: list[str] = []

    def tell(text: str, rows: pl.DataFrame, fail: pl.Expr, note: str | None = None) -> None:
        some = rows.filter(fail).to_dicts() if rows.height else []
        names = [f"{r['concept']} ({r[note]})" if note else str(r["concept"]) for r in some]
        if names:
            said.append(f"{text}: {listed(names)}.")

    _untold_verdicts(view, said)
    rows = _aligned(found)
    tell("Alignment not beyond random word pairs (p > 0.05)", rows, pl.col("random_words_p") > LEVEL)
    tell("Alignment not beyond flips of templates (p > 0.05)", rows, pl.col("template_flip_p") > LEVEL)
    tell("Own direction not the most aligned (which one is)", rows, ~pl.col("top1"), "most_aligned")
    probe = found.get("probe", pl.DataFrame())
    tell("Interval of the probe's AUC includes .5 or lies below", probe, pl.col("low") <= 0.5)
    tell("Probe not beyond random word directions (p > 0.05)", probe, pl.col("random_words_p") > LEVEL)
    final = found.get("steering_final", pl.DataFrame())
    if final.height:
        final = final.with_columns(shown=pl.col("off_over_on").cast(pl.Float64).round(2).cast(pl.String))
    tell(f"Off over on above {OFF_TARGET:g} at the final layer", final, pl.col("off_over_on") > OFF_TARGET, "shown")
    steered = _at_reference(found)
    tell("Push no further than all random directions (p > 0.05)", steered, pl.col("random_p") > LEVEL, "site")
    if steered.height:
        middle = steered.filter(pl.col("layer").is_not_null()).drop_nulls("off_over_on")
        many = middle.filter(pl.col("off_over_on") > OFF_TARGET)
        if many.height:
            said.append(f"Off over on above {OFF_TARGET:g} in the middle: {many.height} of {middle.height} pushes, of "
                        f"{listed(many['concept'].unique(maintain_order=True).to_list())}.")  # fmt: skip
    return said


def _untold_verdicts(view: ModelView, said: list[str]) -> None:
    product = "causal" if "causal" in view.inner_products else next(iter(view.inner_products), "causal")
    own = view.verdicts.filter(pl.col("inner_product") == product)
    for verdict, text in (
        (verdicts.NONE, "No common direction"),
        (verdicts.COMMON, "Not judged pair-specific (columns differ, pairing not shown)"),
        (verdicts.TOO_FEW, "Too few single-token pairs to judge"),
    ):
        names = own.filter(pl.col("verdict") == verdict)["concept"].to_list()
        if names:
            said.append(f"{text}, {product_phrase(product)} inner product: {listed(names)}.")
