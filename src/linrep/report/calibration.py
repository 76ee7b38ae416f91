"""What stands on the calibration page: figures, findings and tables, as the template takes them.

Every sentence is computed from the rates; no claim is written in advance.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from linrep.geometry import nulls, verdicts
from linrep.report import calibration_figures, data
from linrep.report.findings import number, product_name
from linrep.runs.store import Run
from linrep.studies import calibration_contexts as contexts
from linrep.studies.calibration_nonsense import N_PAIRS, NONSENSE, RANDOM
from linrep.studies.calibration_rates import (
    CLAIMS,
    PLANTED,
    RANDOM_WEIGHTS,
    REAL,
    binomial_band,
    breaking,
)

_RATE, _DISCOVERIES = CLAIMS[verdicts.SPECIFIC]
_DIFFER, _ = CLAIMS[verdicts.COMMON]


def calibration_content(run: Run) -> dict[str, Any]:
    """Everything the template of this page shows."""
    rows = data.clean(run).drop("run_id")
    products = data.in_order(rows["inner_product"].unique().to_list())
    tests = run.table("tests")
    assert tests is not None  # noqa: S101 - every run of this kind has it
    n = int(run.config["random"])
    plain = rows.filter(pl.col("strength").is_null())
    power = _power(rows, products)
    kinds = [k for k in (*NONSENSE, RANDOM_WEIGHTS, REAL) if k in plain["concept"].to_list()]
    heat = calibration_figures.rejections(_tiles(plain, kinds, products), kinds, products, _heat_title(plain))
    curves = calibration_figures.power(power["curve"], products, _power_title(power["rows"])) if power["rows"] else None
    figures = [f for f in (heat, curves) if f is not None]
    return {
        "template": "calibration.html.j2",
        "figures": {f.name: f for f in figures},
        "model": run.details["model"].get("model") or run.config.get("model"),
        "quick": bool(run.config.get("quick")),
        "config_": {k: run.config.get(k) for k in ("random", "structured", "planted", "draws")},
        "n_pairs": N_PAIRS,
        "level": verdicts.LEVEL,
        "real_name": REAL,
        "products": [(p, product_name(p)) for p in products],
        "answers": answers(plain, products, n),
        "sentences": sentences(plain),
        "honest": _honest(plain, products, n),
        "band": "–".join(number(x, 4) for x in binomial_band(n)),
        "heat": heat,
        "kinds": {p: _kind_rows(plain, tests, kinds, p) for p in products},
        "floors": _floors(plain, products),
        "power": curves,
        "power_rows": power["rows"],
        "alignment": _alignment(plain, products),
        "context_pairs": run.details.get("context_pairs"),
        "skipped": run.details.get("skipped") or {},
        "rules": {p: verdicts.rule(verdicts.SPECIFIC, p) for p in products},
        "differ_rule": verdicts.KNOWN_LIMIT,
        "descriptions": {kind: (make.__doc__ or "").strip() for kind, make in NONSENSE.items()},
    }


def _one(rows: pl.DataFrame, **equal: str) -> dict[str, Any] | None:
    """The one row in which some columns have some values, None if there is none."""
    found = rows.filter(*(pl.col(k) == v for k, v in equal.items())).to_dicts()
    return found[0] if found else None


def _interval(row: dict[str, Any], digits: int = 3) -> str:
    return "" if row["low"] is None else f"{number(row['low'], digits)} to {number(row['high'], digits)}"


def _cell(row: dict[str, Any] | None, *, bad: bool = False) -> dict[str, Any]:
    """A rate for a table; ``bad`` marks one that is above 5 % beyond doubt."""
    if row is None:
        return {"text": "–", "interval": "", "bad": False}
    over = row["low"] is not None and row["low"] > verdicts.LEVEL
    return {"text": number(row["value"], 3), "interval": _interval(row), "bad": bad and over}


def _honest(plain: pl.DataFrame, products: list[str], n: int) -> list[dict[str, Any]]:
    """Rejection rate of every null on unrelated words, and whether it lies in the band."""
    low, high = binomial_band(n)
    rows = []
    for null in nulls.NULLS:
        cells = []
        for product in products:
            row = _one(plain, metric="rejection_rate", concept=RANDOM, null=null, inner_product=product)
            cells.append(
                {"text": "–", "outside": False}
                if row is None
                else {"text": number(row["value"], 4), "outside": not low <= row["value"] <= high}
            )
        rows.append({"null": null, "cells": cells})
    return rows


def _kind_rows(plain: pl.DataFrame, tests: pl.DataFrame, kinds: list[str], product: str) -> list[dict[str, Any]]:
    """Every kind of concept under one inner product: nulls, verdicts, false discoveries, parallelism."""
    own = plain.filter(pl.col("inner_product") == product)
    rows = []
    for kind in kinds:
        values = tests.filter(pl.col("kind") == kind, pl.col("inner_product") == product)["parallelism"]
        fake = kind != REAL
        rows.append(
            {
                "kind": kind,
                "n": len(values),
                "nulls": [
                    _cell(_one(own, metric="rejection_rate", concept=kind, null=null), bad=fake) for null in nulls.NULLS
                ],
                "common": _cell(_one(own, metric=_RATE, concept=kind), bad=fake),
                "differ": _cell(_one(own, metric=_DIFFER, concept=kind)),
                "discoveries": _cell(_one(own, metric=_DISCOVERIES, concept=kind), bad=fake),
                "median": number(values.quantile(0.5, "linear"), 3),
                "high": number(values.quantile(0.95, "linear"), 3),
            }
        )
    return rows


def _floors(plain: pl.DataFrame, products: list[str]) -> list[dict[str, Any]]:
    """The effect floor of each inner product beside the one that this model needs."""
    rows = []
    for product in products:
        needed = _one(plain, metric="floor_needed", inner_product=product)
        floor = verdicts.EFFECT_FLOOR[product]
        value = None if needed is None else needed["value"]
        rows.append(
            {"product": product_name(product), "floor": f"{floor:g}", "needed": number(value, 3),
             "holds": value is None or floor > value}
        )  # fmt: skip
    return rows


def _power(rows: pl.DataFrame, products: list[str]) -> dict[str, Any]:
    """Share of planted concepts that are called a common direction, by planted strength."""
    own = rows.filter(pl.col("concept") == PLANTED)
    found = own.filter(pl.col("metric") == _RATE)
    curve = found.select("inner_product", "strength", "value", "low", "high").sort("inner_product", "strength")
    table = []
    for product in products:
        middle = _one(rows, metric="parallelism", concept=REAL, inner_product=product)
        for row in curve.filter(pl.col("inner_product") == product).to_dicts():
            measured = own.filter(
                pl.col("metric") == "parallelism",
                pl.col("inner_product") == product,
                pl.col("strength") == row["strength"],
            )["value"][0]
            table.append(
                {"product": product_name(product), "strength": f"{row['strength']:g}", "measured": number(measured, 3),
                 "value": row["value"], "text": number(row["value"], 3), "interval": _interval(row),
                 "real": middle is not None and abs(row["strength"] - middle["value"]) < 6e-4}
            )  # fmt: skip
    return {"curve": curve, "rows": table}


def _alignment(plain: pl.DataFrame, products: list[str]) -> list[dict[str, Any]]:
    """Rejection rates of the tests of alignment, a row a kind of contexts and test."""
    own = plain.filter(pl.col("metric") == "alignment_rejection_rate")
    pairs = own.select("concept", "null").unique(maintain_order=True)
    return [
        {
            "kind": kind,
            "test": test,
            "cells": [
                _cell(_one(own, concept=kind, null=test, inner_product=p), bad=kind != contexts.REAL) for p in products
            ],
        }
        for kind, test in pairs.iter_rows()
    ]


def _tiles(plain: pl.DataFrame, kinds: list[str], products: list[str]) -> pl.DataFrame:
    own = plain.filter(pl.col("concept").is_in(kinds), pl.col("inner_product").is_in(products))
    rates = own.filter(pl.col("metric") == "rejection_rate").select("inner_product", "concept", "null", "value")
    said = own.filter(pl.col("metric") == _RATE).select(
        "inner_product", "concept", pl.lit(calibration_figures.VERDICT).alias("null"), "value"
    )
    return pl.concat([rates, said])


def _heat_title(plain: pl.DataFrame) -> str:
    fooled = plain.filter(
        pl.col("metric") == "rejection_rate", ~pl.col("concept").is_in([REAL, PLANTED, RANDOM]), pl.col("low") > 0.05
    )
    named = [null for null in nulls.NULLS if null in fooled["null"].to_list()]
    return (
        f"{len(named)} of {len(nulls.NULLS)} nulls call some kind of nonsense significant too often; "
        f"{len(breaking(plain, verdicts.SPECIFIC))} kinds and inner products break the verdict"
    )


def _power_title(rows: list[dict[str, Any]]) -> str:
    real = [r for r in rows if r["real"]]
    if not real:
        return "How strong a planted direction must be to be called common"
    return "A direction as strong as the median real concept is called common in " + ", ".join(
        f"{r['text']} of cases ({r['product'][0].lower() + r['product'][1:]}, cosine {r['strength']})" for r in real
    )


def answers(plain: pl.DataFrame, products: list[str], n: int) -> list[dict[str, str]]:
    """The short answer: nulls inside the band, kinds of nonsense that break the verdict, the worst rate."""
    honest = [c for row in _honest(plain, products, n) for c in row["cells"] if c["text"] != "–"]
    inside = sum(not c["outside"] for c in honest)
    fake = plain.filter(pl.col("metric") == _RATE, ~pl.col("concept").is_in([REAL, PLANTED]))
    cases, wrong = fake.height, breaking(plain, verdicts.SPECIFIC)
    said = [
        {
            "figure": f"{inside} of {len(honest)}",
            "text": "nulls (each under every inner product) reject unrelated words as often as they say, inside the "
            "99.9 % band. That is the easy case, and proves nothing by itself.",
        },
        {
            "figure": f"{cases - len(wrong)} of {cases}",
            "text": "kinds of nonsense (each under every inner product) keep the false positives and the false "
            f"discoveries of “{verdicts.SPECIFIC}” at 5 % or less.",
        },
    ]
    worst = fake.sort("value", descending=True, nulls_last=True).to_dicts()[:1]
    if worst and worst[0]["value"] > 0:
        row = worst[0]
        said.append(
            {
                "figure": f"{100 * row['value']:.1f} %",
                "text": f"is the largest share of nonsense called that: {row['concept']}, "
                f"{product_name(row['inner_product']).lower()} inner product.",
            }
        )
    return said


def sentences(plain: pl.DataFrame) -> list[str]:
    """What a p-value and a verdict are worth, in words and from the rates."""
    said = []
    for null in nulls.NULLS:
        own = plain.filter(pl.col("metric") == "rejection_rate", pl.col("null") == null)
        fooled = own.filter(~pl.col("concept").is_in([REAL, PLANTED, RANDOM]), pl.col("low") > verdicts.LEVEL)
        worst = (
            fooled.group_by("concept", maintain_order=True).agg(pl.col("value").max()).sort("value", descending=True)
        )
        if worst.is_empty():
            said.append(f"p ≤ 0.05 against “{null}” is worth what it says on every kind of nonsense here.")
            continue
        named = ", ".join(f"{kind} ({100 * value:.0f} %)" for kind, value in worst.iter_rows())
        said.append(f"p ≤ 0.05 against “{null}” is reached too often by: {named}.")
    wrong = breaking(plain, verdicts.SPECIFIC)
    if not wrong:
        said.append(
            f"“{verdicts.SPECIFIC}” is said of no kind of nonsense more often than 5 %, and at most 5 % of what it is "
            "said of is nonsense when as many concepts mean nothing as the run has."
        )
    for row in wrong:
        share = row["false_discoveries"]
        beside = "" if share is None else f", {100 * share:.0f} % of the discoveries beside real lists"
        said.append(
            f"“{verdicts.SPECIFIC}” is broken by: {row['concept']}, {product_name(row['inner_product']).lower()} inner "
            f"product ({100 * row['rate']:.1f} % of them are called so{beside})."
        )
    differing = plain.filter(
        pl.col("metric") == _DIFFER, ~pl.col("concept").is_in([REAL, PLANTED]), pl.col("value") > verdicts.LEVEL
    ).sort("value", descending=True)
    for row in differing.unique("concept", keep="first", maintain_order=True).iter_rows(named=True):
        said.append(
            f"“{verdicts.COMMON}” is said of {100 * row['value']:.0f} % of “{row['concept']}” "
            f"({product_name(row['inner_product']).lower()} inner product): the columns do differ."
        )
    return said
