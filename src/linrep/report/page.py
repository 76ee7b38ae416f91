"""The page itself: figures and findings into one HTML file that fetches nothing, and the figures as files.

This file puts parts together. What they say is in `findings`, what they show in the figure files.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from linrep import __version__
from linrep.errors import InvalidInputError, StorageError
from linrep.report import data, distributions, emergence, findings, heat_maps
from linrep.report.theme import DARK, LIGHT, Figure
from linrep.runs.files import new_partial, put_in_place, write_bytes
from linrep.runs.store import Run

Progress = Callable[[float, str], None]

INDEX = "index.html"
FIGURES = "figures"

# Short headings of the nulls in the table of concepts, in its order.
_NULL_HEADINGS = {
    "sign flip": "Sign flip",
    "matched re-pairing (positive)": "Matched, positive",
    "matched re-pairing (negative)": "Matched, negative",
    "re-pairing": "Re-pairing",
    "partner shuffle": "Partner shuffle",
    "random words": "Random words",
    "untrained": "Untrained",
}


def write_report(runs: Sequence[Run], out: str | Path, *, progress: Progress | None = None) -> Path:
    """Write the report of some runs.

    Parameters
    ----------
    runs
        Simulations, measured models, or both; sections without data are left out.
    out
        Folder of the report. An earlier report there is replaced, any other non-empty folder is not.
    progress
        Called with the fraction done and what is being done.

    Returns
    -------
    Path
        ``out/index.html``; every figure is beside it as ``figures/NAME.svg``, ``.png`` and ``.pdf``.

    Raises
    ------
    InvalidInputError
        Without runs.
    StorageError
        If the folder may not be replaced or cannot be written; nothing half-written is left.
    """
    runs, out = list(runs), Path(out).absolute()
    if not runs:
        raise InvalidInputError("a report needs at least one run; simulate or measure first")
    _check_target(out)
    tell = progress or (lambda _fraction, _text: None)
    tell(0.0, "reading the tables")
    content = _content(runs)
    figures = content["figures"]
    folder = new_partial(out)
    try:
        try:
            (folder / FIGURES).mkdir()
        except OSError as e:
            raise StorageError(f"cannot write {out / FIGURES}: {e.strerror or e}") from e
        for k, figure in enumerate(figures.values()):
            tell(k / (len(figures) + 1), f"figure {figure.name}")
            for suffix, image in figure.files().items():
                name = f"{figure.name}.{suffix}"
                write_bytes(folder / FIGURES / name, image, out / FIGURES / name)
        tell(len(figures) / (len(figures) + 1), "page")
        write_bytes(folder / INDEX, _render(content).encode(), out / INDEX)
        put_in_place(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell(1.0, "report")
    return out / INDEX


def _check_target(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise StorageError(f"{out} exists and is no folder; choose another folder for the report")
    if out.is_dir() and {f.name for f in out.iterdir()} - {INDEX, FIGURES}:
        raise StorageError(f"{out} holds files that are no report, so it is not replaced; choose another folder")


def _render(content: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("linrep.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    source = environment.loader.get_source if environment.loader else None
    assert source is not None  # noqa: S101 - set three lines above

    def part(name: str) -> Markup:
        return Markup(source(environment, name)[0])

    specs = {name: figure.specification() for name, figure in content["figures"].items()}
    return environment.get_template("page.html.j2").render(
        **content,
        css=part("page.css"),
        script=part("page.js"),
        # Nothing in these may end the script element they are put in.
        library=Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", r"<\/script")),
        specs=Markup(_json(specs)),
        palettes=Markup(_json({"light": LIGHT, "dark": DARK})),
        version=__version__,
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _content(runs: Sequence[Run]) -> dict[str, Any]:
    """Everything the template shows."""
    simulated = [r for r in runs if r.kind == "simulate"]
    models = [data.model_view(r) for r in runs if r.kind == "measure"]
    world = _simulation(simulated)
    shown = [_model(view) for view in models]
    figures: list[Figure] = [*world["emergence"], *world["heat"].values()]
    for model in shown:
        figures += [f for by in model["by_product"].values() for f in by["figures"].values()]
    products = data.in_order(
        list({p for view in models for p in view.inner_products} or {"euclidean", *world["heat"]} & set(world["heat"]))
    )
    return {
        "figures": {f.name: f for f in figures},
        "world": world,
        "models": shown,
        "products": [(p, findings.product_name(p)) for p in products],
        "nulls": _NULL_HEADINGS,
        "runs": [_provenance(r) for r in runs],
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


def _model(view: data.ModelView) -> dict[str, Any]:
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
        "facts": {k: v for k, v in (view.run.details.get("model") or {}).items() if not isinstance(v, dict | list)},
        "by_product": by_product,
        "verdicts": findings.verdict_counts(view),
        "orthogonality": findings.orthogonality_rows(view),
        "alignment": [s for s in summaries if s is not None],
        "nulls": [n for n in _NULL_HEADINGS if n in nulls] + sorted(set(nulls) - set(_NULL_HEADINGS)),
        "dropped": _dropped(view),
        "floor": view.p_floor,
    }


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
                "verdict": verdict.get("verdict", r["status"] or "–"),
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


def _provenance(run: Run) -> dict[str, Any]:
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
        "command": f"linrep {run.kind} --config {shlex.quote(str(config))}",
        "config": config.read_text(encoding="utf-8"),
        "details": json.dumps(run.details, indent=1, ensure_ascii=False),
        "files": {name: entry["sha256"] for name, entry in info["files"].items()},
    }
