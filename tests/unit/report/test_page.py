"""The page is whole, says what the tables say, and is never half there."""

import errno
import html
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from linrep.errors import InvalidInputError, StorageError
from linrep.geometry.measurements import Measurements
from linrep.geometry.verdicts import EFFECT_FLOOR
from linrep.report.findings import p_text
from linrep.report.page import write_report
from linrep.runs import files
from linrep.runs.store import Run, RunWriter, find_runs
from tests.fixtures.report_runs import measured_run, simulated_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One seed of one cell with one metric: a report of one figure."""
    folder = tmp_path_factory.mktemp("tiny")
    run = simulated_run(folder / "whole", seeds=1, cells={"just a label": 0.5})
    only = run.measurements.table.filter(pl.col("metric") == "parallelism", pl.col("null").is_null())
    with RunWriter(folder / "tiny", kind="simulate", title="t", config={}) as writer:
        writer.measurements(Measurements(only))
    return Run.load(folder / "tiny")


class Outline(HTMLParser):
    """Sections, addresses that would be fetched, and links of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {k: v or "" for k, v in attrs}
        if tag == "section":
            self.sections.append(named["id"])
        if tag == "a":
            self.links.append(named["href"])
        self.fetched += [v for k, v in named.items() if k in {"src", "srcset", "data", "action"}]
        if tag == "link":
            self.fetched.append(named.get("href", ""))


@pytest.fixture(scope="module")
def page(simulated: Run, measured: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    told: list[float] = []
    path = write_report(
        [simulated, measured], tmp_path_factory.mktemp("out") / "report", progress=lambda f, _: told.append(f)
    )
    assert told == sorted(told) and told[-1] == 1.0
    return path


def test_whole_and_self_contained(page: Path) -> None:
    outline = Outline(page)
    assert outline.sections == [
        "answer", "emergence", "heat-maps", "pairs", "alignment", "concepts", "dropped", "provenance", "glossary",
    ]  # fmt: skip
    assert outline.fetched == []
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"@import|url\((?!['\"]?#)", text[: text.index("</style>")])
    assert "default-src 'none'" in text
    assert page.stat().st_size < 6_000_000


def test_every_link_leads_somewhere(page: Path) -> None:
    outline = Outline(page)
    for link in outline.links:
        assert link[1:] in outline.sections if link.startswith("#") else (page.parent / link).stat().st_size > 500
    figures = sorted(f.name for f in (page.parent / "figures").iterdir())
    names = {f.rsplit(".", 1)[0] for f in figures}
    assert figures == sorted(f"{n}.{s}" for n in names for s in ("svg", "png", "pdf"))
    assert len(names) == 4 + 2 + 3 * 5


def test_names_are_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "noun &amp; &lt;thing&gt;" in text and "<thing>" not in text


def test_table_prints_p_values_at_their_floor(page: Path, measured: Run) -> None:
    text = page.read_text(encoding="utf-8")
    assert "p-value before\n      adjustment can be below 0.01" in text
    row = measured.measurements.where(
        metric="parallelism", concept="male–female", inner_product="causal", null="sign flip"
    ).table
    assert row["p_value"].item() == pytest.approx(1 / 100)
    for product in ("euclidean", "causal"):
        assert f"parallelism must also exceed {EFFECT_FLOOR[product]:g}" in text
    assert p_text(row["p_adjusted"].item(), row["p_value"].item(), 1 / 100) in text


def test_dropped_pairs_and_provenance_are_shown(page: Path, measured: Run) -> None:
    text = " ".join(html.unescape(page.read_text(encoding="utf-8")).split())
    assert "'actress' is 2 tokens" in text and "je, suis" in text
    assert f"linrep measure --config {measured.path / 'config.toml'}" in text
    assert measured.info["files"]["measurements.parquet"]["sha256"] in text
    assert "one matrix serves as both. Stored weights: Q4_1 body, Q8_0 output." in text


def test_simulation_only(simulated: Run, tmp_path: Path) -> None:
    page = write_report([simulated], tmp_path / "report")
    assert Outline(page).sections == ["answer", "emergence", "heat-maps", "provenance", "glossary"]
    assert "simulated and real" not in page.read_text(encoding="utf-8")


def test_model_without_contexts_verdicts_or_dropped_pairs(measured: Run, tmp_path: Path) -> None:
    keep = measured.measurements.table.filter(pl.col("metric") != "alignment", pl.col("inner_product") == "causal")
    with RunWriter(tmp_path / "run", kind="measure", title="t", config={}) as run:
        run.measurements(Measurements(keep))
    page = write_report(find_runs(tmp_path / "run"), tmp_path / "report")
    sections = Outline(page).sections
    assert "alignment" not in sections and "emergence" not in sections and "concepts" in sections
    assert "have a common direction in" not in page.read_text(encoding="utf-8")


def test_two_models_do_not_mix(measured: Run, tmp_path: Path) -> None:
    one = measured.measurements.where(inner_product="causal")
    for name in ("planted", "other / model"):
        with RunWriter(tmp_path / name[:5], kind="measure", title="t", config={}) as run:
            run.measurements(one.with_columns(source=name))
    page = write_report(find_runs(tmp_path), tmp_path / "report")
    names = {f.stem for f in (page.parent / "figures").iterdir()}
    assert {"heat-map-planted-causal", "heat-map-other-model-causal"} <= names


def test_metrics_missing(tiny: Run, tmp_path: Path) -> None:
    page = write_report([tiny], tmp_path / "report")
    assert {f.stem for f in (page.parent / "figures").iterdir()} == {"emergence-parallelism"}


def test_replaces_a_report_and_nothing_else(tiny: Run, tmp_path: Path) -> None:
    out = tmp_path / "report"
    write_report([tiny], out)
    (out / "figures" / "stale.svg").write_text("old")
    write_report([tiny], out)
    assert not (out / "figures" / "stale.svg").exists()
    (out / "notes.md").write_text("mine")
    with pytest.raises(StorageError, match="no report, so it is not replaced"):
        write_report([tiny], out)
    assert (out / "notes.md").read_text() == "mine"
    with pytest.raises(StorageError, match="is no folder"):
        write_report([tiny], out / "notes.md")
    with pytest.raises(InvalidInputError, match="at least one run"):
        write_report([], tmp_path / "empty")
    assert [f.name for f in tmp_path.iterdir()] == ["report"]


def test_full_disk_leaves_the_earlier_report(tiny: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = write_report([tiny], tmp_path / "report")
    before = page.read_bytes()
    mkdtemp = files.tempfile.mkdtemp

    def with_full_device(**options: str) -> str:
        folder = mkdtemp(**options)
        Path(folder, "index.html").symlink_to("/dev/full")
        return folder

    monkeypatch.setattr(files.tempfile, "mkdtemp", with_full_device)
    with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)):
        write_report([tiny], tmp_path / "report")
    assert page.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["report"]


def test_measured_run_without_contexts(tmp_path: Path) -> None:
    page = write_report([measured_run(tmp_path / "run", contexts=False)], tmp_path / "report")
    assert "alignment" not in Outline(page).sections
