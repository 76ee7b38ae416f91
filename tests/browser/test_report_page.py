"""The page in Chromium, from disk, with the network off: at a desk and on a phone, light and dark."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from linrep.report.page import write_report
from tests.fixtures.experiments_run import experiments_run
from tests.fixtures.origins_run import origins_run
from tests.fixtures.report_runs import measured_run, simulated_run

pytestmark = pytest.mark.browser

WIDTHS = {"phone": 390, "desk": 1440}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    runs = [simulated_run(folder / "simulation"), measured_run(folder / "model")]
    return write_report(runs, folder / "report")


@pytest.fixture(scope="module")
def origins_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("origins")
    return write_report([origins_run(folder / "origins")], folder / "report")


@pytest.fixture(scope="module")
def experiment_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of the experiments, of two models side by side and of checkpoints."""
    folder = tmp_path_factory.mktemp("experiments")
    runs = {
        "models": experiments_run(folder / "models", models=("tiny-135M", "other / model")),
        "checkpoints": experiments_run(folder / "checkpoints", steps=(0, 512, 143000)),
    }
    return {name: write_report([run], folder / f"report-{name}") for name, run in runs.items()}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
    )
    yield driver
    driver.quit()


def show(driver: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {
            "features": [
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},  # a click must not meet a page that is moving
            ]
        },
    )
    driver.get(page.as_uri())
    drawn(driver, scheme)


def drawn(driver: webdriver.Chrome, scheme: str) -> list[WebElement]:
    """Every visible chart, once all are drawn."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        charts = [c for c in driver.find_elements(By.CSS_SELECTOR, ".chart") if c.is_displayed()]
        if charts and all(c.get_attribute("data-ready") == scheme for c in charts):
            return charts
        time.sleep(0.1)
    raise AssertionError("the charts were not drawn")


def run(driver: webdriver.Chrome, script: str, *arguments: object) -> Any:
    return driver.execute_script(script, *arguments)


# Labels that stick out of their picture.
CUT_OFF = """const svg = arguments[0].querySelector('svg'), box = svg.getBoundingClientRect();
return [...svg.querySelectorAll('text')].filter((t) => {
  const r = t.getBoundingClientRect();
  return t.textContent && r.width && Number(getComputedStyle(t).opacity) > 0
    && (r.right > box.right + 1 || r.left < box.left - 1 || r.bottom > box.bottom + 1 || r.top < box.top - 1);
}).map((t) => t.textContent)"""


# Labels of axes that run into each other, or into numbers in the cells.
OVERLAPPING = """const texts = [...arguments[0].querySelectorAll('svg .role-axis-label text, svg .role-mark text')];
const shown = texts.filter((t) => t.textContent && Number(getComputedStyle(t).opacity) > 0);
const boxes = shown.map((t) => [t.textContent, t.getBoundingClientRect()]);
const hits = [];
boxes.forEach(([text, a], k) => {
  for (const [other, b] of boxes.slice(k + 1)) {
    const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (across > 1 && down > 3) hits.push(`${text} / ${other}`);
  }
});
return hits"""


def choose(driver: webdriver.Chrome, product: str) -> None:
    run(driver, "document.querySelector(`.switch button[value='${arguments[0]}']`).click()", product)
    drawn(driver, run(driver, "return document.documentElement.dataset.theme"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_every_figure_is_drawn_and_fits(chromium: webdriver.Chrome, page: Path, width: int, scheme: str) -> None:
    show(chromium, page, width, scheme)
    seen = set()
    for product in ("causal", "euclidean", "euclidean without top component"):
        choose(chromium, product)
        for chart in drawn(chromium, scheme):
            seen.add(chart.get_attribute("data-figure"))
            marks = run(chromium, "return arguments[0].querySelectorAll('svg path, svg text').length", chart)
            assert marks > 20
            if chart.get_attribute("data-layout") != "fixed":  # the others scroll inside their box
                inside, room = run(chromium, "return [arguments[0].scrollWidth, arguments[0].clientWidth]", chart)
                assert inside <= room + 1, chart.get_attribute("data-figure")
            assert run(chromium, CUT_OFF, chart) == []
            assert run(chromium, OVERLAPPING, chart) == []
        assert run(chromium, "return document.documentElement.scrollWidth") == width
    assert seen == {f.stem for f in (page.parent / "figures").iterdir()}
    assert chromium.get_log("browser") == []
    # Nothing but the document itself was asked for.
    assert run(chromium, "return performance.getEntriesByType('resource').map((e) => e.name)") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_origins_page_is_drawn_and_fits(
    chromium: webdriver.Chrome, origins_page: Path, width: int, scheme: str
) -> None:
    show(chromium, origins_page, width, scheme)
    charts = drawn(chromium, scheme)
    assert {c.get_attribute("data-figure") for c in charts} == {
        f.stem for f in (origins_page.parent / "figures").iterdir()
    }
    for chart in charts:
        name = chart.get_attribute("data-figure")
        assert run(chromium, CUT_OFF, chart) == [], name
        assert run(chromium, OVERLAPPING, chart) == [], name
    assert run(chromium, "return document.documentElement.scrollWidth") == width
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("which", ["models", "checkpoints"])
def test_the_experiments_page_is_drawn_and_fits(
    chromium: webdriver.Chrome, experiment_pages: dict[str, Path], which: str, width: int, scheme: str
) -> None:
    page = experiment_pages[which]
    show(chromium, page, width, scheme)
    seen = set()
    for product in ("causal", "random"):
        choose(chromium, product)
        for chart in drawn(chromium, scheme):
            name = chart.get_attribute("data-figure")
            seen.add(name)
            assert run(chromium, CUT_OFF, chart) == [], name
            assert run(chromium, OVERLAPPING, chart) == [], name
            if chart.get_attribute("data-layout") != "fixed":
                inside, room = run(chromium, "return [arguments[0].scrollWidth, arguments[0].clientWidth]", chart)
                assert inside <= room + 1, name
        assert run(chromium, "return document.documentElement.scrollWidth") == width
    files = {f.stem for f in (page.parent / "figures").iterdir()}
    assert seen == {f for f in files if "euclidean" not in f} | {f for f in files if f.startswith("heat-map")}
    assert chromium.get_log("browser") == []


def test_ranks_and_texts_open_concept_by_concept(chromium: webdriver.Chrome, experiment_pages: dict[str, Path]) -> None:
    show(chromium, experiment_pages["models"], 1440, "light")
    boxes = chromium.find_elements(By.CSS_SELECTOR, "#steering details.box")
    heads = [b.find_element(By.TAG_NAME, "summary").text for b in boxes[:2]]
    assert heads == [f"{name} tiny-135M, tied, Q4_1 body, Q8_0 output" for name in ("male–female", "singular–plural")]
    grids = [b.find_element(By.CSS_SELECTOR, "table.ranks") for b in boxes[:2]]
    assert [grid.is_displayed() for grid in grids] == [True, False]
    boxes[1].find_element(By.TAG_NAME, "summary").click()
    assert grids[1].find_element(By.TAG_NAME, "thead").text == "Rank 0 1 2 4 2, random"
    said = boxes[1].find_element(By.CSS_SELECTOR, "table.said").text
    assert "of the land ⏎ and concept at 2 of the land ⏎ and random at 2" in said


def luminance(color: str) -> float:
    numbers = [float(x) for x in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in numbers]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrasts(driver: webdriver.Chrome) -> list[float]:
    """WCAG contrast of body text and of the axis labels of the first chart with the page."""
    colors = run(
        driver,
        """const style = (e, k) => getComputedStyle(e)[k];
        const label = document.querySelector('.chart svg .role-axis-label text');
        return [style(document.body, 'backgroundColor'), style(document.body, 'color'), style(label, 'fill')]""",
    )
    paper, *texts = map(luminance, colors)
    return [(max(t, paper) + 0.05) / (min(t, paper) + 0.05) for t in texts]


def test_dark_and_light(chromium: webdriver.Chrome, page: Path) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    show(chromium, page, 1440, "light")
    light = run(chromium, background)
    assert min(contrasts(chromium)) >= 4.5
    show(chromium, page, 1440, "dark")
    dark = run(chromium, background)
    assert min(contrasts(chromium)) >= 4.5
    assert luminance(light) > 0.8 and luminance(dark) < 0.05
    chromium.find_element(By.ID, "theme").click()  # the reader's own choice
    drawn(chromium, "light")
    assert run(chromium, background) == light
    assert min(contrasts(chromium)) >= 4.5


def shown_concepts(driver: webdriver.Chrome) -> list[str]:
    return [e.text for e in driver.find_elements(By.CSS_SELECTOR, "table.concepts tbody th") if e.is_displayed()]


def test_table_sorts_and_filters(chromium: webdriver.Chrome, page: Path) -> None:
    show(chromium, page, 1440, "light")
    table = next(t for t in chromium.find_elements(By.CSS_SELECTOR, "table.concepts") if t.is_displayed())
    heads = table.find_elements(By.CSS_SELECTOR, "thead button")

    def column(k: int) -> list[float | None]:
        rows = run(
            chromium,
            """return [...arguments[0].tBodies[0].rows].map((r) => r.cells[arguments[1]])
            .map((c) => c.dataset.sort ?? c.textContent)""",
            table, k,
        )  # fmt: skip
        return [float(x) if x.strip() else None for x in rows]

    assert len(shown_concepts(chromium)) == 9
    heads[1].click()
    pairs = column(1)
    assert pairs == sorted(p for p in pairs if p is not None)
    heads[1].click()
    assert column(1) == pairs[::-1]
    heads[0].click()
    names = shown_concepts(chromium)
    assert names == sorted(names, key=str.lower)
    heads[4].click()  # p-values: the concept without one stays last, up and down
    up = column(4)
    heads[4].click()
    down = column(4)
    assert up[-1] is None and down[-1] is None
    assert [p for p in up if p is not None] == sorted(p for p in down if p is not None)

    box = chromium.find_element(By.CSS_SELECTOR, ".filters")
    box.find_element(By.TAG_NAME, "input").send_keys("noun &")
    assert shown_concepts(chromium) == ["noun & <thing>"]
    assert box.find_element(By.TAG_NAME, "output").text == "1 of 9 concepts"
    box.find_element(By.TAG_NAME, "input").clear()
    box.find_element(By.TAG_NAME, "input").send_keys(" ")
    Select(box.find_element(By.TAG_NAME, "select")).select_by_visible_text("too few pairs")
    assert shown_concepts(chromium) == ["rare"]
    summary = next(s for s in table.find_elements(By.TAG_NAME, "summary") if s.is_displayed())
    summary.click()
    assert "fewer than 8 distinct pairs" in table.text


def test_inner_product_switches_the_whole_page(chromium: webdriver.Chrome, page: Path) -> None:
    show(chromium, page, 1440, "light")
    for product in ("euclidean", "causal"):
        choose(chromium, product)
        shown = {
            e.get_attribute("data-product")
            for e in chromium.find_elements(By.CSS_SELECTOR, "[data-product]")
            if e.is_displayed()
        }
        assert shown == {product}
        pressed = chromium.find_elements(By.CSS_SELECTOR, ".switch button[aria-pressed='true']")
        assert {b.get_attribute("value") for b in pressed} == {product}


def test_prints_light(chromium: webdriver.Chrome, page: Path) -> None:
    show(chromium, page, 1440, "dark")
    chromium.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    drawn(chromium, "light")
    assert luminance(run(chromium, "return getComputedStyle(document.body).backgroundColor")) > 0.8
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
