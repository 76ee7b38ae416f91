"""Figures show every value of the tables, in files that other programs read."""

import io
import json

import polars as pl
import pytest

from linrep.report import data, distributions, emergence, findings, heat_maps
from linrep.report.theme import COSINE, DARK, LIGHT, Figure, colored
from linrep.runs.store import Run


def values(figure: Figure) -> pl.DataFrame:
    """The rows of the first inline table."""

    def find(node: object) -> str | None:
        if isinstance(node, dict):
            if isinstance(node.get("data"), dict) and isinstance(node["data"].get("values"), str):
                return node["data"]["values"]
            node = list(node.values())
        if isinstance(node, list):
            return next((f for f in map(find, node) if f is not None), None)
        return None

    text = find(figure.specification())
    assert text is not None
    return pl.read_csv(io.StringIO(text), infer_schema_length=None)


@pytest.fixture(scope="module")
def curves(simulated: Run) -> dict[str, Figure]:
    cells, table = data.cells([simulated]), data.emergence([simulated])
    made = emergence.figures(table, cells, findings.emergence_titles(table, cells))
    return {f.name: f for f in made}


def test_every_seed_and_step_zero_are_drawn(curves: dict[str, Figure]) -> None:
    assert list(curves) == [f"emergence-{m}" for m in ("parallelism", "alignment", "orthogonality", "excess-loss")]
    for figure in curves.values():
        rows = values(figure).drop_nulls("seed")
        assert rows["cell"].n_unique() == 3
        assert rows.group_by("cell").agg(pl.col("seed").n_unique())["seed"].to_list() == [8, 8, 8]
        assert rows["step"].min() == 0
        assert set(rows["kind"]) == {"seed, converged", "seed, not converged"}


def test_nulls_and_limits_where_they_belong(curves: dict[str, Figure]) -> None:
    kinds = {name: set(values(f)["kind"]) for name, f in curves.items()}
    assert all("untrained (median)" in k for k in kinds.values())
    assert [n for n, k in kinds.items() if "limit for wide tables" in k] == ["emergence-parallelism"]
    assert [n for n, k in kinds.items() if "random directions" in k] == ["emergence-orthogonality"]
    limits = values(curves["emergence-parallelism"]).filter(pl.col("kind") == "limit for wide tables")
    assert set(limits["value"]) == {0.226, 0.4}


def test_orthogonality_is_of_non_adjacent_concepts(simulated: Run, curves: dict[str, Figure]) -> None:
    table = data.emergence([simulated]).filter(pl.col("metric") == "orthogonality", pl.col("null").is_null())
    wanted = table.filter(pl.col("split") == "not adjacent").drop_nulls("value").height
    assert values(curves["emergence-orthogonality"]).drop_nulls(["seed", "value"]).height == wanted
    everything = data.emergence([simulated]).filter(pl.col("split") != "not adjacent")
    assert set(data.shown_orthogonality(everything)["split"]) == {"all"}


def test_cosines_have_one_centred_scale() -> None:
    scale = COSINE.to_dict()
    assert scale["domain"] == [-1, -0.4, 0, 0.4, 1]
    assert scale["range"][2] == "@zero" and len(scale["range"]) == 5


def test_heat_maps_hold_every_pair(measured: Run, simulated: Run) -> None:
    view = data.model_view(measured)
    rows = values(heat_maps.real(view, "causal", "t"))
    assert rows.height == 8 * 8  # nine concepts, one with too few pairs
    shared = heat_maps.shared_words(view, "causal", "t")
    assert shared is not None
    table = values(shared)
    assert (
        table.filter((pl.col("concept") == "past") & (pl.col("concept_other") == "singular–plural"))["value"].item()
        > 0.05
    )
    cells = data.cells([simulated])
    heat = data.simulated_heat(simulated).filter(pl.col("inner_product") == "euclidean")
    marked = values(heat_maps.simulated(heat, cells, dict(simulated.details["adjacent"]), "euclidean", "t"))
    ringed = marked.filter(pl.col("adjacent").cast(pl.String) == "true")
    assert set(zip(ringed["concept"], ringed["concept_other"], strict=True)) == {("c0", "c1"), ("c1", "c0")}


def test_strip_is_sorted_by_parallelism_and_holds_every_pair(measured: Run) -> None:
    view = data.model_view(measured)
    figure = distributions.leave_one_out(view, "euclidean", "t")
    assert figure is not None
    pairs = measured.table("pairs")
    assert pairs is not None
    own = pairs.filter(pl.col("null").is_null(), pl.col("inner_product") == "euclidean")
    assert values(figure).filter(pl.col("kind") == "pair").height == own.height
    order = json.dumps(figure.specification(), ensure_ascii=False)
    by_value = view.parallelism.filter(pl.col("inner_product") == "euclidean", pl.col("concept") != "rare")
    names = by_value.sort("value", descending=True)["concept"].to_list()
    assert json.dumps(names, ensure_ascii=False) in order


def test_matched_cells_are_framed(measured: Run) -> None:
    view = data.model_view(measured)
    matrix = heat_maps.alignment(view, "causal", "t")
    assert matrix is not None
    rows = values(matrix).filter(pl.col("matched").cast(pl.String) == "true")
    assert rows["concept"].to_list() == rows["concept_other"].to_list() == ["male–female", "singular–plural", "past"]
    assert values(matrix).height == 3 * 9


def test_files(measured: Run) -> None:
    figure = heat_maps.real(data.model_view(measured), "causal", "A finding & its <number>")
    files = figure.files()
    svg = files["svg"].decode()
    assert svg.startswith("<svg") and "A finding &amp; its &lt;number" in svg
    assert '"@' not in svg and "country–capital" in svg
    assert files["png"].startswith(b"\x89PNG") and files["pdf"].startswith(b"%PDF")


def test_palettes_cover_the_same_tokens(curves: dict[str, Figure]) -> None:
    assert set(LIGHT) == set(DARK)
    for palette in (LIGHT, DARK):
        assert '"@' not in json.dumps(colored(curves["emergence-parallelism"].specification(), palette))


def luminance(color: str) -> float:
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_text_and_lines_stand_out(palette: dict[str, str]) -> None:
    """WCAG contrast: 4.5 for text, 3 for what is drawn."""

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(palette[a]), luminance(palette[b])))
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "muted", "accent", "other"):
        assert contrast(text, "paper") >= 4.5
    for pale, strong in (("zero", "plus2"), ("zero", "minus2")):
        assert contrast("on_pale", pale) >= 4.5 and contrast("on_strong", strong) >= 4.5
    assert contrast("null", "paper") >= 3
