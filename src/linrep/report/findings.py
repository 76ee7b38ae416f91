"""What the page says in words and small tables, computed from the data: no claim is written in advance.

Every function returns text or plain rows for the template; it draws nothing and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from linrep.geometry import verdicts
from linrep.report.data import (
    CONVERGED,
    INNER_PRODUCTS,
    Cell,
    ModelView,
    converged_seeds,
    last,
    shown_orthogonality,
)

# On the way to a solution the excess falls like 1/step, so it halves while the steps double; a seed whose excess
# falls by less than half of that is called stuck. The page prints both falls beside the word.
_STUCK = 0.25


def number(x: float | None, digits: int = 2) -> str:
    """A value to a fixed number of decimals, with a true minus sign and no negative zero.

    Examples
    --------
    >>> number(-0.4567), number(-0.001), number(None)
    ('−0.46', '0.00', '–')
    """
    if x is None:
        return "–"
    text = f"{x:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def p_text(p: float | None, raw: float | None, floor: float | None) -> str:
    """A p-value; one at the floor of its permutation test is an upper bound and printed as such.

    Examples
    --------
    >>> p_text(1 / 1001, 1 / 1001, 1 / 1001), p_text(0.0312, 0.02, 1 / 1001), p_text(0.4, 0.4, None)
    ('≤ 0.001', '0.031', '0.40')
    >>> p_text(1 / 720, 1 / 720, 1 / 720)
    '≤ 0.0014'
    """
    if p is None:
        return "–"
    digits = 2 if p >= 0.1 else 3
    shown = f"{p:.{digits}f}" if p >= 0.001 else f"{p:.1g}"
    at_floor = floor is not None and raw is not None and raw <= floor * (1 + 1e-9)
    if not at_floor:
        return shown
    if float(shown) < p:  # a bound may be rounded up only
        step = 10.0 ** (math.floor(math.log10(p)) - 1)
        shown = f"{math.ceil(p / step - 1e-9) * step:.2g}"
    return f"≤ {shown}"


def product_name(product: str) -> str:
    """Inner product as a label."""
    return INNER_PRODUCTS.get(product, product)


def product_phrase(product: str) -> str:
    """Inner product within a sentence."""
    name = product_name(product)
    return name if name.startswith("Euclid") else name.lower()


# --- simulated -------------------------------------------------------------------------------------------------


def cell_rows(table: pl.DataFrame, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """One row a cell: seeds, convergence, and each metric at the last step beside its null."""
    seeds = converged_seeds(table)
    end = last(table)
    rows = []
    for cell in cells:
        own, mine = end.filter(pl.col("source") == cell.source), seeds.filter(pl.col("source") == cell.source)
        row: dict[str, Any] = {
            "label": cell.label,
            "seeds": mine.height,
            "converged": mine.filter(pl.col("status") == CONVERGED).height,
            "excess": _spread(mine["excess"], 4, at_least=1e-4),
            "limit": number(cell.limit) if cell.limit is not None else "–",
        }
        for name, metric, split in (
            ("parallelism", "parallelism", "all"),
            ("alignment", "alignment", "all"),
            ("orthogonality", "orthogonality", "all"),
            ("orthogonality_apart", "orthogonality", "not adjacent"),
        ):
            chosen = own.filter(pl.col("metric") == metric, pl.col("split").fill_null("all") == split)
            row[name] = _spread(chosen.filter(pl.col("null").is_null())["value"], 3)
            nulls = chosen.filter(pl.col("null") == "untrained")["null_value"]
            row[f"{name}_untrained"] = number(_median(nulls))
        chance = own.filter(pl.col("null") == "random directions")["null_value"]
        row["random"] = number(_median(chance))
        rows.append(row)
    return rows


def _median(values: pl.Series) -> float | None:
    middle = values.drop_nulls().median()
    return float(middle) if isinstance(middle, int | float) else None


def _spread(values: pl.Series, digits: int, at_least: float = 0.0) -> dict[str, str] | None:
    """Median with 10th and 90th percentile, as text; below ``at_least`` only that it is below."""
    values = values.drop_nulls()
    if values.is_empty():
        return None

    def text(x: float | None) -> str:
        return f"< {at_least:.{digits}f}" if x is not None and x < at_least else number(x, digits)

    low, high = values.quantile(0.1), values.quantile(0.9)
    return {"median": text(_median(values)), "low": text(low), "high": text(high)}


def emergence_titles(table: pl.DataFrame, cells: Sequence[Cell]) -> dict[str, str]:
    """The finding of each emergence figure, in the order in which they are shown."""
    shown = last(shown_orthogonality(table))
    ends = {c: _ends(shown, c) for c in cells}
    titles = {}
    for metric, name in (("parallelism", "Parallelism"), ("alignment", "Alignment")):
        found = {c: e[metric] for c, e in ends.items() if metric in e}
        if found:
            start = _median(
                shown.filter(pl.col("metric") == metric, pl.col("null") == "untrained")["null_value"].cast(pl.Float64)
            )
            before = "" if start is None else f"; before training it is {number(start)}"
            titles[metric] = f"{name} ends {_range(found)}{before}"
    found = {c: e["orthogonality"] for c, e in ends.items() if "orthogonality" in e}
    if found:
        apart = shown.filter(pl.col("metric") == "orthogonality")["split"].eq("not adjacent").any()
        what = "concepts that are not adjacent" if apart else "different concepts"
        titles["orthogonality"] = f"The mean |cosine| between directions of {what} ends {_range(found)}"
    seeds = converged_seeds(table)
    if not seeds.is_empty():
        ok = seeds.filter(pl.col("status") == CONVERGED).height
        titles["excess_loss"] = f"{ok} of {seeds.height} predictors come within 0.02 nats of the entropy floor"
    return titles


def _ends(shown: pl.DataFrame, cell: Cell) -> dict[str, float]:
    own = shown.filter(pl.col("source") == cell.source, pl.col("null").is_null())
    medians = {m: _median(own.filter(pl.col("metric") == m)["value"]) for m in own["metric"].unique()}
    return {m: v for m, v in medians.items() if v is not None}


def _range(found: dict[Cell, float]) -> str:
    low, high = min(found, key=lambda c: found[c]), max(found, key=lambda c: found[c])
    if low == high or number(found[low]) == number(found[high]):
        return f"at {number(found[low])}"
    return f"between {number(found[low])} ({low.label}) and {number(found[high])} ({high.label})"


def plateaus(table: pl.DataFrame, cells: Sequence[Cell]) -> list[str]:
    """For every cell with seeds that did not converge, why: stuck, still descending, or not finite."""
    seeds = converged_seeds(table)
    said = []
    for cell in cells:
        own = seeds.filter(pl.col("source") == cell.source)
        rest = own.filter(pl.col("status") != CONVERGED)
        if rest.is_empty():
            continue
        lost = rest.filter(pl.col("excess").is_null() | pl.col("status").is_in(["nonfinite", "diverged"]))
        rest = rest.join(lost, on="seed", how="anti", nulls_equal=True)
        fall = (1 - pl.col("excess") / pl.col("halfway")).alias("fall")
        stuck, moving = rest.filter(fall < _STUCK), rest.filter(fall >= _STUCK)
        parts = []
        if stuck.height:
            done = own.filter(pl.col("status") == CONVERGED).select(fall)["fall"]
            others = f", while that of the converged seeds fell by {_percent(done)}" if len(done) else ""
            parts.append(
                f"{_count(stuck.height, 'sits in a poor local minimum', 'sit in poor local minima')}: over the last "
                f"half of training the excess fell by {_percent(stuck.select(fall)['fall'])} only, to "
                f"{number(_median(stuck['excess']), 3)} nats{others}"
            )
        if moving.height:
            parts.append(f"{_count(moving.height, 'was', 'were')} still descending when training stopped")
        if lost.height:
            parts.append(f"{lost.height} diverged: the loss is not finite, or above the untrained one")
        said.append(
            f"{cell.label}: {rest.height + lost.height} of {own.height} seeds did not converge. "
            f"{_capital('; '.join(parts))}."
        )
    return said


def _percent(values: pl.Series) -> str:
    """Median as a percentage."""
    middle = _median(values)
    return "–" if middle is None else f"{number(100 * middle, 0)} %"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- real ------------------------------------------------------------------------------------------------------


def verdict_counts(view: ModelView) -> list[dict[str, Any]]:
    """Per inner product: concepts judged, with a common direction, with columns that only differ, too few pairs."""
    rows = []
    for product in view.inner_products:
        said = view.verdicts.filter(pl.col("inner_product") == product)["verdict"]
        if said.is_empty():
            continue
        rows.append(
            {
                "product": product,
                "name": product_name(product),
                "phrase": product_phrase(product),
                "judged": int((said != verdicts.TOO_FEW).sum()),
                "common": int((said == verdicts.SPECIFIC).sum()),
                "differ": int((said == verdicts.COMMON).sum()),
                "too_few": int((said == verdicts.TOO_FEW).sum()),
                "parallelism": number(_median(_judged(view, product))),
            }
        )
    return rows


def _judged(view: ModelView, product: str) -> pl.Series:
    return view.parallelism.filter(pl.col("inner_product") == product, pl.col("status") != verdicts.TOO_FEW)["value"]


def orthogonality_rows(view: ModelView) -> list[dict[str, Any]]:
    """Mean absolute cosine between concepts per inner product and split, beside what shared words and chance give."""
    table, rows = view.orthogonality, []
    for product in view.inner_products:
        for split in table["split"].unique(maintain_order=True):
            own = table.filter(pl.col("inner_product") == product, pl.col("split").eq_missing(pl.lit(split)))
            value = _median(own.filter(pl.col("null").is_null())["value"])
            if value is None:
                continue
            nulls = {
                n: _median(own.filter(pl.col("null") == n)["null_value"]) for n in own["null"].drop_nulls().unique()
            }
            rows.append(
                {
                    "product": product,
                    "name": product_name(product),
                    "split": {"all": "all pairs of concepts", None: "all pairs of concepts"}.get(split, split),
                    "value": number(value, 3),
                    "shared": number(nulls.get("shared words"), 3),
                    "random": number(nulls.get("random directions"), 3),
                }
            )
    return rows


def heat_title(view: ModelView, product: str) -> str:
    """Finding of the measured heat map."""
    found = [r for r in orthogonality_rows(view) if r["product"] == product]
    count = view.heat.filter(pl.col("inner_product") == product)["concept"].n_unique()
    if not found:
        return f"{count} word concepts of {view.name}, {product_phrase(product)} inner product"
    return f"{view.name}: mean |cosine| of {count} word concepts is {found[0]['value']}; chance is {found[0]['random']}"


def shared_title(view: ModelView, product: str) -> str:
    """Finding of the shared-word heat map."""
    found = [r for r in orthogonality_rows(view) if r["product"] == product]
    value = f": mean |cosine| {found[0]['shared']}" if found else ""
    return f"What shared words alone would give{value}"


def simulated_heat_title(heat: pl.DataFrame, adjacent: dict[str, list[list[str]]]) -> str:
    """Finding of the simulated heat maps: adjacent against non-adjacent concepts."""
    off = heat.filter(pl.col("concept") != pl.col("concept_other"))
    edges = {(s, *pair) for s, pairs in adjacent.items() for pair in [*pairs, *(p[::-1] for p in pairs)]}
    is_edge = pl.Series([row in edges for row in off.select("source", "concept", "concept_other").iter_rows()])
    near, far = off.filter(is_edge)["value"].abs().mean(), off.filter(~is_edge)["value"].abs().mean()
    parts = [
        f"{number(x, 3)} between {name} concepts"
        for x, name in ((near, "adjacent"), (far, "other"))
        if isinstance(x, float)
    ]
    return f"Simulated: mean |cosine| {' and '.join(parts)}"


def leave_one_out_title(view: ModelView, product: str) -> str:
    """Finding of the strip plot: how many concepts leave the random words behind."""
    rows = view.pairs.filter(pl.col("inner_product") == product)
    real = rows.filter(pl.col("null").is_null()).group_by("concept").agg(pl.col("cosine").mean().alias("mean"))
    random = (
        rows.filter(pl.col("null") == "random words")
        .group_by("concept")
        .agg(pl.col("cosine").quantile(0.95).alias("high"))
    )
    both = real.join(random, on="concept")
    if both.is_empty():
        return f"Pairs of {real.height} concepts of {view.name}, {product_phrase(product)} inner product"
    above = both.filter(pl.col("mean") > pl.col("high")).height
    return f"{above} of {both.height} concepts: the average pair is beyond 95 % of random-word pairs"


def alignment_summary(view: ModelView, product: str) -> dict[str, str] | None:
    """Mean matched cosine, mean absolute mismatched one, random word pairs, untrained model."""
    rows = view.alignment.filter(pl.col("inner_product") == product, pl.col("split") == "matched")
    if rows["value"].drop_nulls().is_empty():
        return None
    nulls = view.alignment_nulls.filter(pl.col("inner_product") == product)
    found = {n: nulls.filter(pl.col("null") == n)["null_value"].mean() for n in nulls["null"].unique()}
    text = {n: number(x) for n, x in found.items() if isinstance(x, float)}
    matched = rows["value"].mean()
    return {
        "product": product,
        "name": product_name(product),
        "matched": number(matched if isinstance(matched, float) else None),
        "count": str(rows.height),
        "mismatched": text.get("mismatched", "–"),
        "random": text.get("random word pairs", "–"),
        "untrained": text.get("untrained", "–"),
    }


def alignment_title(view: ModelView, product: str) -> str:
    """Finding of the alignment figures."""
    found = alignment_summary(view, product)
    if found is None:
        return f"Alignment of context and word concepts of {view.name}"
    return f"Matching concepts align at {found['matched']} on average, mismatched ones at {found['mismatched']}" + (
        f", an untrained model at {found['untrained']}" if found["untrained"] != "–" else ""
    )
