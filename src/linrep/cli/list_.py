"""`linrep list`: everything that has a name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated

import typer

from linrep.cli import common
from linrep.errors import UnknownNameError

Rows = tuple[list[str], list[list[str]]]


def list_(
    what: Annotated[
        str, typer.Argument(help="concepts, contexts, models, metrics, nulls, inner-products, estimators, presets")
    ] = "",
    as_json: common.Json = False,
) -> None:
    """List concepts, contexts, models, metrics, nulls, inner products, estimators or presets.

    Example: linrep list metrics
    """
    if not what:
        common.finish({"kinds": list(_KINDS)}, as_json)
        if not as_json:
            typer.echo("\n".join(_KINDS))
        return
    if what not in _KINDS:
        raise UnknownNameError("kind", what, _KINDS)
    columns, rows = _KINDS[what]()
    if as_json:
        common.finish({what: [dict(zip(columns, row, strict=True)) for row in rows]}, True)
    else:
        common.print_table(what, columns, rows, err=False)


def _first_sentence(of: object) -> str:
    text = (inspect.getdoc(of) or "").split("\n\n")[0].replace("\n", " ")
    return text.split(". ")[0].rstrip(".")


def _concepts() -> Rows:
    from linrep.concepts.load import load_concepts

    rows = [[c.name, c.family, str(len(c.pairs)), " – ".join(c.pairs[0]), c.licence] for c in load_concepts()]
    return ["concept", "family", "pairs", "first pair", "licence"], rows


def _contexts() -> Rows:
    from linrep.concepts.load import load_contexts

    rows = [
        [
            c.name,
            c.unembedding_concept or "–",
            str(len(c.pairs)),
            str(len({p.template for p in c.pairs})),
            c.pairs[0].positive,
        ]
        for c in load_contexts()
    ]
    return ["context set", "aligns with", "pairs", "templates", "example"], rows


def _metrics() -> Rows:
    from linrep.geometry.metric_table import METRICS

    columns = ["metric", "axes", "unit", "range", "perfect", "needs", "null", "invariance", "source"]
    return columns, [
        [m.name, m.axes, m.unit, m.range, m.perfect, m.needs, m.null, m.invariance, m.source] for m in METRICS.values()
    ]


def _functions(kind: str, table: Mapping[str, Callable[..., object]]) -> Rows:
    return [kind, "what it is"], [[name, _first_sentence(f)] for name, f in table.items()]


def _nulls() -> Rows:
    from linrep.geometry.nulls import NULLS

    return _functions("null", NULLS)


def _inner_products() -> Rows:
    from linrep.geometry.inner_products import CONTROL_PRODUCTS, INNER_PRODUCTS

    return _functions("inner product", INNER_PRODUCTS | CONTROL_PRODUCTS)


def _estimators() -> Rows:
    from linrep.geometry.directions import ESTIMATORS

    return _functions("estimator", ESTIMATORS)


def _presets() -> Rows:
    from linrep.worlds.presets import PRESETS

    return ["preset", "what it is"], [[name, p.summary] for name, p in PRESETS.items()]


def _models() -> Rows:
    from linrep.models.registry import KNOWN, model_folder

    return ["model", "licence", "fetched", "what it is"], [
        [name, m.licence, "yes" if model_folder(name).is_dir() else "no", m.what] for name, m in KNOWN.items()
    ]


_KINDS: dict[str, Callable[[], Rows]] = {
    "concepts": _concepts,
    "contexts": _contexts,
    "models": _models,
    "metrics": _metrics,
    "nulls": _nulls,
    "inner-products": _inner_products,
    "estimators": _estimators,
    "presets": _presets,
}
