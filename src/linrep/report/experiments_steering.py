"""Interventions on the page: every concept on every other, effects against strength, what the model then says."""

from __future__ import annotations

from typing import Any

import altair as alt
import polars as pl

from linrep.report.data import slug
from linrep.report.findings import number
from linrep.report.heat_maps import square
from linrep.report.theme import Figure, inline

# λ is drawn broken: the word direction is pushed there, not a difference of states.
_LAYERS, _FINAL = ["@other", "@accent", "@plus1", "@minus1"], "@ink"

# Column -> title, axis, caption, column of the random directions.
_EFFECTS = {
    "log_odds_change": (
        "log-odds of its held-out word pairs", "Nats",
        "Mean change of the log-odds of held-out word pairs after held-out contexts, with 95 % interval by template. "
        "λ is left out: there it is arithmetic on γ, a straight line whatever the model, as steep as the table says.",
        "random_change",
    ),
    "probability_positive": (
        "probability of its positive words", "Probability",
        "Probability of all positive words of the held-out pairs together, on a logarithmic scale; log-odds can move "
        "far while this stays small.", "random_probability_positive",
    ),
    "kl": (
        "whole distribution", "KL divergence, nats",
        "KL divergence of the next-token distribution from the unsteered one: how much else a push changes.",
        "random_kl",
    ),
}  # fmt: skip
_CROSSES = " Crosses: the mean of random directions of equal causal norm at the same sites."


def matrix(measured: pl.DataFrame, model: str, title: str) -> Figure | None:
    """Steered × read at the final layer: change of every concept over the change of the steered one."""
    rows = measured.filter(
        pl.col("metric") == "steering_specificity", pl.col("source") == model, pl.col("null").is_null()
    ).select("concept", "concept_other", "value")
    own = rows.filter(pl.col("concept") == pl.col("concept_other")).select("concept", own="value")
    rows = rows.join(own, on="concept", maintain_order="left").filter(pl.col("own") > 0)
    if rows.drop_nulls("value").is_empty():
        return None
    names = rows["concept"].unique().implode()
    rows = rows.filter(pl.col("concept_other").is_in(names)).with_columns(value=pl.col("value") / pl.col("own"))
    return Figure(
        name=f"steered-read-{slug(model)}",
        title=title,
        caption="Row: the concept whose direction is added to λ. Column: the concept whose held-out word pairs are "
        "read. Each row is divided by its own change, so the diagonal is 1. Relatives move together; the numbers of "
        "the table leave them out.",
        alt_text=f"Heat map of {rows['concept'].n_unique()} steered by as many read concepts. {title}",
        chart=square(rows.select("concept", "concept_other", "value").drop_nulls(), "change over its own"),
        layout="fixed",
    )


def strengths(table: pl.DataFrame, model: str) -> list[Figure]:
    """Log-odds, probability and KL against strength: a panel a concept, a line a site, random directions crossed."""
    zero, pushed = table.filter(pl.col("strength") == 0), table.filter(pl.col("strength") > 0)
    sites = pushed.sort(pl.col("layer"), nulls_last=True, maintain_order=True)["site"].unique(maintain_order=True)
    # The unsteered point belongs to the line of every site.
    starts = zero.drop("site").join(pl.DataFrame({"site": sites}), how="cross").select(table.columns)
    data = pl.concat([starts, pushed], how="vertical_relaxed")
    middle = [s for s in sites if s.startswith("layer")]
    # Pushes at λ move log-odds so far that nobody would see the others.
    shown = {"log_odds_change": middle or sites.to_list()}
    return [_effect(column, data, shown.get(column, sites.to_list()), model)
            for column in _EFFECTS if column in table.columns]  # fmt: skip


def _effect(column: str, data: pl.DataFrame, sites: list[str], model: str) -> Figure:
    title, axis, caption, null = _EFFECTS[column]
    data = data.filter(pl.col("site").is_in(sites))
    names = data["concept"].unique(maintain_order=True).to_list()
    middle = [s for s in sites if s.startswith("layer")]
    colors = [_LAYERS[middle.index(s) % len(_LAYERS)] if s in middle else _FINAL for s in sites]
    dashes = [[1, 0] if s in middle else [4, 3] for s in sites]
    legend = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=300, symbolStrokeWidth=2)
    logarithmic = column == "probability_positive"
    scale = alt.Scale(type="log", nice=False) if logarithmic else alt.Scale(zero=True)
    ticks = alt.Axis(format="~g" if logarithmic else "~f", tickCount=3 if logarithmic else 4, minExtent=36,
                     labelOverlap="greedy")  # fmt: skip
    base = alt.Chart().encode(
        x=alt.X("strength:Q", title="Strength", axis=alt.Axis(values=sorted(data["strength"].unique()), grid=False)),
        color=alt.Color("site:N", scale=alt.Scale(domain=sites, range=colors), legend=legend),
    )  # fmt: skip
    y = alt.Y(f"{column}:Q", title=axis, scale=scale, axis=ticks)
    tip = ["concept:N", "site:N", "strength:Q", alt.Tooltip(f"{column}:Q", format=".3~g")]
    dash = alt.StrokeDash("site:N", scale=alt.Scale(domain=sites, range=dashes), legend=legend)
    layers = [base.mark_line(strokeWidth=1.8).encode(y=y, strokeDash=dash, detail="site:N"),
              base.mark_circle(size=30, opacity=1).encode(y=y, tooltip=tip)]  # fmt: skip
    columns = ["concept", "site", "strength", column]
    if column == "log_odds_change":
        layers.insert(0, base.mark_rule(strokeWidth=1, opacity=0.6).encode(y="low:Q", y2="high:Q"))
        columns += ["low", "high"]
    if null in data.columns:
        crossed = base.transform_filter(f"isValid(datum.{null})")
        layers.append(crossed.mark_point(shape="cross", size=55, filled=True, opacity=1).encode(y=f"{null}:Q"))
        columns.append(null)
        caption += _CROSSES
    return Figure(
        name=f"strength-{column.replace('_', '-')}-{slug(model)}",
        title=f"{model}: what a push along a concept does to the {title}",
        caption=caption,
        alt_text=f"Effect of pushes on the {title}, {len(names)} context concepts at {', '.join(sites)}.",
        chart=alt.layer(*layers, data=inline(data.select(columns)))
        .properties(width=220, height=140)
        .facet(alt.Facet("concept:N", sort=names, header=alt.Header(title=None)), columns=3),
        layout="panels",
    )


def told(top: pl.DataFrame | None, said: pl.DataFrame | None) -> list[dict[str, Any]]:
    """For every model and concept, and in it every context and site: the ranks and the texts against strength."""
    tables = [t for t in (top, said) if t is not None and not t.is_empty()]
    if not tables:
        return []
    keys = ["model", "label", "concept", "context", "site"]
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for values in pl.concat([t.select(keys) for t in tables]).unique(maintain_order=True).rows():
        at = dict(zip(keys, values, strict=True))
        chosen = [pl.col(k) == v for k, v in at.items()]
        part = {"context": at["context"], "site": at["site"]}
        part |= {"ranks": _ranks(top.filter(chosen)) if top is not None else None}
        part |= {"texts": _texts(said.filter(chosen)) if said is not None else []}
        found.setdefault(values[:3], []).append(part)
    return [{"model": m, "label": label, "concept": c, "parts": parts} for (m, label, c), parts in found.items()]


def _ranks(rows: pl.DataFrame) -> dict[str, Any] | None:
    """Tokens laid out: a column a strength (random directions last), a row a rank."""
    if rows.is_empty():
        return None
    cells = {(r["direction"] == "random", r["strength"], r["rank"]): r for r in rows.to_dicts()}
    columns = sorted({k[:2] for k in cells})
    heads = [f"{s:g}, random" if random else f"{s:g}" for random, s in columns]
    ranks = [[_token(cells.get((*c, rank))) for c in columns] for rank in sorted({k[2] for k in cells})]
    return {"heads": heads, "rows": ranks}


def _token(row: dict[str, Any] | None) -> dict[str, str]:
    return {"token": "–", "p": ""} if row is None else {"token": _seen(row["token"]), "p": number(row["probability"])}


def _seen(token: str) -> str:
    """A token as it can be seen: without the space words begin with, and with marks for what prints nothing."""
    word = token.removeprefix(" ").replace("\n", "⏎").replace("\t", "⇥")
    return word if word.strip() else word.replace(" ", "␣") or "␣"


def _texts(rows: pl.DataFrame) -> list[dict[str, str]]:
    """Texts by strength, what a random direction of equal norm makes the model say beside them."""
    by = {(r["strength"], r["direction"]): str(r["text"]).strip().replace("\n", " ⏎ ") for r in rows.to_dicts()}
    own = {s: text for (s, direction), text in by.items() if direction != "random"}
    return [{"strength": f"{s:g}", "text": own[s] or "–", "random": by.get((s, "random"), "")} for s in sorted(own)]
