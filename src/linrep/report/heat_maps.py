"""Heat maps of cosines: concept × concept, simulated and real, and context × word concepts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import altair as alt
import polars as pl

from linrep.report.data import Cell, ModelView
from linrep.report.theme import COSINE, Figure, inline


def _colored(what: str) -> alt.Color:
    legend = alt.Legend(
        title=what, orient="top", direction="horizontal", gradientLength=170, gradientThickness=9,
        values=[-1, -0.4, 0, 0.4, 1], format="~g",
    )  # fmt: skip
    return alt.Color("value:Q", scale=COSINE, legend=legend)


_COLOR = _colored("cosine")
_WHITENED = (
    " Under this inner product that is weak evidence: every combination of concepts is one token, so where the "
    "differences of each concept are parallel the covariance of γ is made of the concepts' own directions, and "
    "dividing by it makes them orthogonal by arithmetic. Look at the Euclidean map."
)
_MOST_ACROSS = 4  # context concepts whose names have room beside each other on a phone
_STRONG = abs(alt.datum.value) > 0.55


def simulated(
    heat: pl.DataFrame, cells: Sequence[Cell], adjacent: dict[str, Collection[Sequence[str]]], product: str, title: str
) -> Figure:
    """Cells of the first seed, pairs adjacent in the moral graph marked."""
    labels = pl.DataFrame({"source": [c.source for c in cells], "cell": [c.label for c in cells]})
    edges = [(s, *pair) for s, pairs in adjacent.items() for pair in pairs]
    edges += [(s, b, a) for s, a, b in edges]
    marked = pl.DataFrame(
        edges, schema={"source": pl.String, "concept": pl.String, "concept_other": pl.String}, orient="row"
    ).with_columns(adjacent=pl.lit(True))
    rows = heat.join(labels, on="source").join(
        marked, on=["source", "concept", "concept_other"], how="left", maintain_order="left"
    ).with_columns(pl.col("adjacent").fill_null(False))  # fmt: skip
    names = rows["concept"].unique(maintain_order=True).to_list()
    cell = max(9, min(38, 190 // max(1, len(names))))
    base = alt.Chart().encode(x=_across("concept_other", names), y=_down("concept", names))
    tiles = base.mark_rect(stroke="@paper", strokeWidth=1).encode(color=_COLOR, tooltip=_tooltip())
    ring = base.transform_filter(alt.datum.adjacent).mark_point(
        shape="circle", size=cell * cell * 0.42, stroke="@muted", strokeWidth=1.3, filled=False
    )
    layers = [tiles, ring]
    if cell >= 24:
        layers.append(_numbers(base, 10))
    shown = [c.label for c in cells if c.label in rows["cell"].unique().to_list()]
    size = cell * len(names)
    return Figure(
        name=f"heat-map-simulated-{_slug(product)}",
        title=title,
        caption="One seed of each cell (the first). A ring marks concepts that are adjacent in this seed's concept "
        "graph: their directions have a reason to be related; those of the others should be orthogonal."
        + (_WHITENED if product == "causal" else ""),
        alt_text=f"Heat maps of cosines between {len(names)} concept directions in {len(shown)} simulated cells, "
        f"{product} inner product. {title}",
        chart=alt.layer(*layers, data=inline(rows.drop("source", "inner_product")))
        .properties(width=size, height=size)
        .facet(
            alt.Facet("cell:N", sort=shown, header=alt.Header(title=None, labelExpr="split(datum.label, ', ')")),
            columns=2,
        ),
        layout="fixed",
        inner_product=product,
    )


def real(view: ModelView, product: str, title: str) -> Figure:
    """Measured cosines of one model."""
    rows = _heat(view, product)
    return Figure(
        name=f"heat-map-{view.slug}-{_slug(product)}",
        title=title,
        caption="Cosine between the mean differences of two word concepts. Related concepts form blocks (verb forms "
        "are differences of each other); how much of that shared words alone would give is the map beside it.",
        alt_text=f"Heat map of cosines between {rows['concept'].n_unique()} word concepts of {view.name}, "
        f"{product} inner product. {title}",
        chart=square(rows.select("concept", "concept_other", "value")),
        layout="fixed",
        inner_product=product,
    )


def shared_words(view: ModelView, product: str, title: str) -> Figure | None:
    """Cosines that follow from shared words alone."""
    rows = _heat(view, product).select("concept", "concept_other", value="shared").drop_nulls()
    if rows.is_empty():
        return None
    return Figure(
        name=f"heat-map-shared-words-{view.slug}-{_slug(product)}",
        title=title,
        caption="The exact cosine that two concepts would have if all words were independent random vectors of equal "
        "length: it is 0 for concepts without a common word. Shown beside the measurement, never subtracted from it.",
        alt_text=f"Heat map of the cosines expected from shared words alone. {title}",
        chart=square(rows),
        layout="fixed",
        inner_product=product,
    )


def alignment(view: ModelView, product: str, title: str) -> Figure | None:
    """Word concepts × context concepts, the matched cells framed."""
    rows = view.alignment.filter(pl.col("inner_product") == product).drop_nulls("value")
    if rows.is_empty():
        return None
    matched = pl.col("split") == "matched"
    contexts = rows["concept"].unique(maintain_order=True).to_list()
    # Matched word concepts first, in the order of their contexts, so that they form a diagonal.
    first = rows.filter(matched)["concept_other"].unique(maintain_order=True).to_list()
    words = first + [w for w in rows["concept_other"].unique(maintain_order=True) if w not in first]
    data = rows.select("concept", "concept_other", "value", matched.alias("matched"))
    many = len(contexts) > _MOST_ACROSS
    base = alt.Chart(inline(data)).encode(
        x=alt.X("concept:N", sort=contexts, title="Context concept", axis=_upright() if many else _two_lines(contexts)),
        y=_down("concept_other", words, "Word concept"),
    )
    tiles = base.mark_rect(stroke="@paper", strokeWidth=1).encode(color=_COLOR, tooltip=_tooltip())
    frame = base.transform_filter(alt.datum.matched).mark_rect(
        filled=False, fill=None, stroke="@ink", strokeWidth=2, clip=False
    )
    return Figure(
        name=f"alignment-matrix-{view.slug}-{_slug(product)}",
        title=title,
        caption="Cosine between the direction read from pairs of contexts (columns) and the direction that writes "
        "words (rows). Framed: the word concept that belongs to the context concept.",
        alt_text=f"Matrix of {len(words)} word concepts by {len(contexts)} context concepts of {view.name}, "
        f"{product} inner product. {title}",
        chart=alt.LayerChart(
            layer=[tiles, frame, _numbers(base, 10 if many else 11)],
            height=21 * len(words),
            width=34 * len(contexts) if many else max(70 * len(contexts), 200),
        ),
        layout="fixed" if many else "fit",
        inner_product=product,
    )


def _two_lines(names: list[str]) -> alt.Axis:
    return alt.Axis(
        orient="top", labelAngle=0, domain=False, ticks=False, labelLimit=90, labelLineHeight=13,
        # Two lines hang down from where one would stand.
        labelPadding=20 if any("–" in n for n in names) else 6,
        labelExpr="split(replace(datum.label, '–', '|–'), '|')",
    )  # fmt: skip


def _upright() -> alt.Axis:
    return alt.Axis(
        orient="top", labelAngle=-90, domain=False, ticks=False, labelLimit=150, labelPadding=6, labelOverlap=False
    )


def _heat(view: ModelView, product: str) -> pl.DataFrame:
    return view.heat.filter(pl.col("inner_product") == product)


def square(rows: pl.DataFrame, what: str = "cosine") -> alt.LayerChart:
    """Map of ``value`` over ``concept`` (down) and ``concept_other`` (across), on the scale of cosines."""
    names = rows["concept"].unique(maintain_order=True).to_list()
    cell = 34 if len(names) <= 12 else 17
    base = alt.Chart(inline(rows)).encode(x=_across("concept_other", names), y=_down("concept", names))
    tiles = base.mark_rect(stroke="@paper", strokeWidth=0.5).encode(color=_colored(what), tooltip=_tooltip(what))
    size = cell * len(names)
    layers = [tiles, _numbers(base, 10)] if cell >= 30 else [tiles]
    return alt.LayerChart(layer=layers, width=size, height=size)


def _across(field: str, names: list[str]) -> alt.X:
    return alt.X(f"{field}:N", sort=names, title=None, axis=alt.Axis(
        domain=False, ticks=False, labelLimit=150, labelFontSize=11, labelOverlap=False, labelPadding=5, labelAngle=-90
    ))  # fmt: skip


def _down(field: str, names: list[str], title: str | None = None) -> alt.Y:
    return alt.Y(f"{field}:N", sort=names, title=title, axis=alt.Axis(
        domain=False, ticks=False, labelLimit=150, labelFontSize=11, labelOverlap=False, labelPadding=5
    ))  # fmt: skip


def _numbers(base: alt.Chart, size: int) -> alt.Chart:
    return base.mark_text(fontSize=size).encode(
        text=alt.Text("value:Q", format=".2f"),
        color=alt.condition(_STRONG, alt.value("@on_strong"), alt.value("@on_pale")),
    )


def _tooltip(what: str = "cosine") -> list[alt.Tooltip]:
    return [
        alt.Tooltip("concept:N"),
        alt.Tooltip("concept_other:N", title="with"),
        alt.Tooltip("value:Q", title=what, format=".3f"),
    ]


def _slug(product: str) -> str:
    return product.replace(" ", "-")
