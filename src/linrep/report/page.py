"""The page itself: figures and findings into one HTML file that fetches nothing, and the figures as files.

This file writes. What stands on the page is in `content`, what it says in `findings`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from linrep import __version__
from linrep.errors import InvalidInputError, StorageError
from linrep.report.calibration import calibration_content
from linrep.report.content import page_content, provenance
from linrep.report.experiments import experiments_content
from linrep.report.origins import origins_content
from linrep.report.theme import DARK, LIGHT
from linrep.runs.files import new_partial, put_in_place, write_bytes
from linrep.runs.store import Run

Progress = Callable[[float, str], None]

INDEX = "index.html"
FIGURES = "figures"

# Kinds of runs that stand on a page of their own.
_OWN_PAGE = {"origins": origins_content, "calibration": calibration_content, "real-model": experiments_content}


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
        Without runs, or with some that have no page together.
    StorageError
        If the folder may not be replaced or cannot be written; nothing half-written is left.
    """
    runs, out = list(runs), Path(out).absolute()
    if not runs:
        raise InvalidInputError("a report needs at least one run; simulate or measure first")
    _check_target(out)
    studied = [run for run in runs if run.kind in _OWN_PAGE]
    if studied and len(runs) > 1:
        raise InvalidInputError(f"the {studied[0].kind} study has a page of its own: report {studied[0].path} alone")
    if swept := [run.path for run in runs if run.kind == "sweep"]:
        raise InvalidInputError(f"a sweep has no page: read {swept[0] / 'runs.parquet'}, a row a run, or report others")
    content = page_content(runs) if not studied else _OWN_PAGE[studied[0].kind](studied[0])
    return write_page(content, runs, out, progress=progress)


def write_page(
    content: Mapping[str, Any], runs: Sequence[Run], out: str | Path, *, progress: Progress | None = None
) -> Path:
    """Write one page from its content (template, figures and what the template takes), with where its runs come from.

    Raises
    ------
    StorageError
        As `write_report`.
    """
    out = Path(out).absolute()
    _check_target(out)
    tell = progress or (lambda _fraction, _text: None)
    tell(0.0, "reading the tables")
    content = {**content, "runs": [provenance(run) for run in runs]}
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
    return environment.get_template(content["template"]).render(
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
