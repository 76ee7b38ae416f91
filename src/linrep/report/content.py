"""What the page shows: every figure, finding, table and fact of some runs, as the template takes them.

This file decides what stands on the page; how it looks is the template's, how it is written is `page`'s.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import polars as pl

from linrep.report import data, distributions, emergence, findings, heat_maps
from linrep.report.theme import Figure
from linrep.runs.store import Run

# Kind of a run -> the verb that makes it, where they differ.
_VERBS = {"origins": "study origins", "calibration": "study calibration", "real-model": "study real-model"}

# Short headings of the nulls in the table of concepts, in its order.
NULL_HEADINGS = {
    "sign flip": "Sign flip",
    "matched re-pairing (positive)": "Matched, positive",
    "matched re-pairing (negative)": "Matched, negative",
    "re-pairing": "Re-pairing",
    "partner shuffle": "Partner shuffle",
    "random words": "Random words",
    "untrained": "Untrained",
}


def page_content(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything the template shows."""
    simulated = [r for r in runs if r.kind == "simulate"]
    models = [data.model_view(r) for r in runs if r.kind == "measure"]
    world = _simulation(simulated)
    shown = [model_content(view) for view in models]
    figures: list[Figure] = [*world["emergence"], *world["heat"].values()]
    for model in shown:
        figures += [f for by in model["by_product"].values() for f in by["figures"].values()]
    products = data.in_order(
        list({p for view in models for p in view.inner_products} or {"euclidean", *world["heat"]} & set(world["heat"]))
    )
    return {
        "template": "page.html.j2",
        "figures": {f.name: f for f in figures},
        "world": world,
        "models": shown,
        "products": [(p, findings.product_name(p)) for p in products],
        "nulls": NULL_HEADINGS,
    }


def _simulation(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page shows of the simulated worlds."""
    cells = data.cells(runs)
    table = data.emergence(runs)
    if not cells or table.is_empty():
        return {"cells": [], "emergence": [], "heat": {}, "plateaus": [], "limits": [], "concepts": None, "range": None}
    titles = findings.emergence_titles(table, cells)
    adjacent = {k: v for r in runs for k, v in (r.details.get("adjacent") or {}).items()}
    frames = [data.simulated_heat(r) for r in runs]
    heat = pl.concat([f for f in frames if not f.is_empty()], how="vertical") if any(map(len, frames)) else None
    by_product = {}
    if heat is not None:
        for product in data.in_order(heat["inner_product"].unique().to_list()):
            rows = heat.filter(pl.col("inner_product") == product)
            title = findings.simulated_heat_title(rows, adjacent)
            by_product[product] = heat_maps.simulated(rows, cells, adjacent, product, title)
    limits = {c.law: c.limit for c in cells if c.limit is not None}
    return {
        "cells": findings.cell_rows(table, cells),
        "emergence": emergence.figures(table, cells, titles),
        "heat": by_product,
        "plateaus": findings.plateaus(table, cells),
        "limits": [(data.law_words(law), findings.number(limit, 3)) for law, limit in limits.items()],
        "concepts": next((r.config["concepts"] for r in runs if "concepts" in r.config), None),
        "range": titles.get("parallelism"),
    }


def model_content(view: data.ModelView) -> dict[str, Any]:
    """What the page shows of one model."""
    by_product = {}
    for product in view.inner_products:
        aligned = findings.alignment_title(view, product)
        figures = {
            "heat": heat_maps.real(view, product, findings.heat_title(view, product)),
            "shared": heat_maps.shared_words(view, product, findings.shared_title(view, product)),
            "pairs": distributions.leave_one_out(view, product, findings.leave_one_out_title(view, product)),
            "aligned": distributions.alignment(view, product, aligned),
            "matrix": heat_maps.alignment(view, product, "Alignment of every word concept with every context concept"),
        }
        by_product[product] = {
            "figures": {k: f for k, f in figures.items() if f is not None},
            "concepts": _concept_rows(view, product),
            "floor": _floor(view, product),
        }
    summaries = [findings.alignment_summary(view, p) for p in view.inner_products]
    nulls = view.nulls["null"].unique().to_list()
    return {
        "name": view.name,
        "slug": view.slug,
        "facts": {k: v for k, v in _told(view).items() if not isinstance(v, dict | list)},
        "by_product": by_product,
        "verdicts": findings.verdict_counts(view),
        "orthogonality": findings.orthogonality_rows(view),
        "alignment": [s for s in summaries if s is not None],
        "nulls": [n for n in NULL_HEADINGS if n in nulls] + sorted(set(nulls) - set(NULL_HEADINGS)),
        "dropped": _dropped(view),
        "floor": view.p_floor,
    }


def _told(view: data.ModelView) -> dict[str, Any]:
    """What the run records of the model."""
    several = view.run.details.get("models") or {}
    return several.get(view.name, {}).get("model") or view.run.details.get("model") or {}


def _floor(view: data.ModelView, product: str) -> str | None:
    """Effect floor of the verdicts under one inner product."""
    floors = view.verdicts.filter(pl.col("inner_product") == product)["floor"].drop_nulls()
    return None if floors.is_empty() else f"{floors[0]:g}"


def _concept_rows(view: data.ModelView, product: str) -> list[dict[str, Any]]:
    """Rows of the table of concepts under one inner product."""
    said = {r["concept"]: r for r in view.verdicts.filter(pl.col("inner_product") == product).iter_rows(named=True)}
    nulls: dict[str, dict[str, Any]] = {}
    for r in view.nulls.filter(pl.col("inner_product") == product).iter_rows(named=True):
        judged = r["p_value"] if r["p_adjusted"] is None else r["p_adjusted"]
        cell = {"p": judged, "p_text": findings.p_text(judged, r["p_value"], view.p_floor), "value": r["null_value"]}
        nulls.setdefault(r["concept"], {})[r["null"]] = cell | {"text": findings.number(r["null_value"])}
    rows = []
    for r in view.parallelism.filter(pl.col("inner_product") == product).iter_rows(named=True):
        interval = None if r["low"] is None or r["high"] is None else (
            f"[{findings.number(r['low'])}, {findings.number(r['high'])}]"
        )  # fmt: skip
        verdict = said.get(r["concept"], {})
        rows.append(
            r
            | {
                "text": findings.number(r["value"]),
                "interval": interval,
                "one_out": findings.number(r["leave_one_out"]),
                "verdict": verdict.get("verdict", "not judged" if r["status"] == "ok" else r["status"] or "–"),
                "rule": verdict.get("rule", ""),
                "nulls": nulls.get(r["concept"], {}),
            }
        )
    return sorted(rows, key=lambda r: -2.0 if r["value"] is None else r["value"], reverse=True)


def _dropped(view: data.ModelView) -> list[dict[str, Any]]:
    """Dropped pairs by concept."""
    return [
        {"concept": str(concept), "rows": group.rows(named=True)}
        for (concept,), group in view.dropped.group_by(["concept"], maintain_order=True)
    ]


def provenance(run: Run) -> dict[str, Any]:
    """Where the numbers of a run come from, and how to make them again."""
    info = run.info
    seeds = info.get("seeds") or []
    config = run.path / "config.toml"
    return {
        "title": info["title"],
        "kind": run.kind,
        "facts": {
            "Run": info["run_id"],
            "Folder": str(run.path),
            "Started": info["started"].replace("T", " ").replace("+00:00", " UTC"),
            "Wall time": f"{info['wall_seconds']:.0f} s",
            "Seeds": f"{seeds[0]} to {seeds[-1]} ({len(seeds)})" if seeds else str(run.config.get("seed", "–")),
            "Status": ", ".join(f"{n} {s}" for s, n in info.get("status_counts", {}).items()) or "–",
            "Versions": ", ".join(f"{k} {v}" for k, v in info["versions"].items()),
            "Platform": ", ".join(f"{v} {'CPUs' if k == 'cpus' else ''}".strip() for k, v in info["platform"].items()),
        },
        "command": f"linrep {_VERBS.get(run.kind, run.kind)} --config {shlex.quote(str(config))}",
        "config": config.read_text(encoding="utf-8"),
        "details": json.dumps(run.details, indent=1, ensure_ascii=False),
        "files": {name: entry["sha256"] for name, entry in info["files"].items()},
    }
