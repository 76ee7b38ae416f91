"""How every figure looks, on the page (light and dark) and as a file.

Charts name colours by token (``"@accent"``): files take the light ones, the page the reader's, so that a figure is
drawn from one specification everywhere. This file must not know what a figure shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import polars as pl
import vl_convert

# Blue and orange are told apart by all common kinds of colour blindness; text has a contrast of at least 4.5.
LIGHT = {
    "paper": "#ffffff", "ink": "#1f2328", "muted": "#59636e", "grid": "#e4e7eb",
    "accent": "#1f63ad", "other": "#b4530a", "null": "#6b7480",
    "minus2": "#7a3300", "minus1": "#dd9a5e", "zero": "#f6f6f4", "plus1": "#6fa8da", "plus2": "#0a3566",
    "on_pale": "#1f2328", "on_strong": "#ffffff",
}  # fmt: skip
DARK = {
    "paper": "#15181c", "ink": "#e7eaed", "muted": "#a3adb8", "grid": "#2e343b",
    "accent": "#6fb1f2", "other": "#f0a35a", "null": "#97a1ac",
    "minus2": "#ffc48f", "minus1": "#a55f24", "zero": "#23282e", "plus1": "#2f70b0", "plus2": "#b5dbff",
    "on_pale": "#e7eaed", "on_strong": "#15181c",
}  # fmt: skip

_FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"
_FILE_FONT = "Liberation Sans"  # the one font that the converter brings along

CONFIG: dict[str, Any] = {
    "background": "@paper",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "@muted", "titleColor": "@muted", "titleFontWeight": "normal", "labelFontSize": 12,
        "titleFontSize": 12, "gridColor": "@grid", "domainColor": "@grid", "tickColor": "@grid", "titlePadding": 8,
    },
    "header": {"labelColor": "@ink", "labelFontSize": 13, "labelFontWeight": 600, "labelPadding": 6, "title": None},
    "legend": {
        "labelColor": "@ink", "titleColor": "@muted", "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "labelLimit": 300, "columns": 3,
    },
    "title": {
        "color": "@ink", "subtitleColor": "@muted", "anchor": "start", "fontSize": 15, "subtitleFontSize": 12,
        "offset": 14, "subtitlePadding": 5,
    },
    "facet": {"spacing": 18},
}  # fmt: skip

# Cosines: centred at 0 over the whole range. The colour changes faster near 0, where most cosines of real
# models are; the legend shows the same scale.
COSINE = alt.Scale(
    domain=[-1, -0.4, 0, 0.4, 1],
    range=["@minus2", "@minus1", "@zero", "@plus1", "@plus2"],
    interpolate="lab",
    clamp=True,
)


@dataclass(frozen=True)
class Figure:
    """One figure.

    Parameters
    ----------
    name
        File name without suffix, unique on the page.
    title
        What the figure shows, as a finding.
    caption
        How to read it.
    alt_text
        The same for those who do not see it.
    chart
        Its Altair chart.
    layout
        How it meets the width of the reader's window: ``"fit"`` one view is stretched, ``"panels"`` panels are
        put in as many columns as there is room for, ``"fixed"`` it scrolls inside its box.
    inner_product
        Set if the figure is one of several that the choice of inner product switches between.
    """

    name: str
    title: str
    caption: str
    alt_text: str
    chart: alt.TopLevelMixin
    layout: Literal["fit", "panels", "fixed"] = "fit"
    inner_product: str | None = None

    def specification(self) -> dict[str, Any]:
        """Vega-Lite with colour tokens."""
        spec = self.chart.to_dict(validate=True)  # pyright: ignore[reportAttributeAccessIssue]
        return {**spec, "config": CONFIG}

    def files(self) -> dict[str, bytes]:
        """The figure with its title as SVG, PNG and PDF, on white."""
        title = {"text": _wrapped(self.title, 78)}
        spec = colored({**self.specification(), "title": title}, LIGHT)
        spec["config"]["font"] = _FILE_FONT
        svg = vl_convert.vegalite_to_svg(spec, show_warnings=False, allowed_base_urls=[])
        return {
            "svg": svg.encode(),
            "png": vl_convert.svg_to_png(svg, scale=2),
            "pdf": vl_convert.svg_to_pdf(svg),
        }


def _wrapped(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line]


def colored(spec: dict[str, Any], palette: dict[str, str]) -> dict[str, Any]:
    """Replace every colour token by its colour."""
    text = json.dumps(spec)
    for token, color in palette.items():
        text = text.replace(f'"@{token}"', f'"{color}"')
    return json.loads(text)


def inline(table: pl.DataFrame) -> alt.Data:
    """Rows inside the specification, as CSV: a fifth of the size of JSON rows."""
    rounded = table.with_columns(pl.col(pl.Float64).round_sig_figs(4))
    parse = {
        name: "number" if dtype.is_numeric() else "boolean" if dtype == pl.Boolean else "string"
        for name, dtype in rounded.schema.items()
    }
    return alt.Data(values=rounded.write_csv(), format=alt.CsvDataFormat(type="csv", parse=parse))
