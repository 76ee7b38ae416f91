"""One measurement of one set of representations: every metric with its interval, its nulls and its verdict.

The same function serves a simulated predictor and a real model; it sees arrays and pairs only. Reading models,
looping over seeds and writing files happen elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry import alignment, metrics, nulls, verdicts
from linrep.geometry.directions import ConceptDirections, directions_of_ends
from linrep.geometry.inner_products import CONTROL_PRODUCTS, INNER_PRODUCTS, InnerProduct, Spectrum
from linrep.geometry.measurements import Measurements
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations

Progress = Callable[[float, str], None]

_SHOWN_DRAWS = 60  # null concepts whose single pairs are kept for the picture beside the real ones
_PRODUCTS = INNER_PRODUCTS | CONTROL_PRODUCTS
PAIR_COLUMNS = ("concept", "negative", "positive", "inner_product", "cosine", "null")


@dataclass(frozen=True)
class Measured:
    """What `measure` returns.

    Parameters
    ----------
    measurements
        The tidy table.
    verdicts
        One row a concept and inner product: verdict, the rule in words, pairs, parallelism, effect floor. Empty if
        the nulls that verdicts need were not asked for.
    pairs
        Leave-one-out cosine of every pair, and of pairs drawn from nulls (column ``null``).
    directions
        γ-side directions by inner product.
    """

    measurements: Measurements
    verdicts: pl.DataFrame
    pairs: pl.DataFrame
    directions: dict[str, ConceptDirections]


def measure(
    representations: Representations,
    token_pairs: ConceptPairs,
    context_pairs: ConceptPairs | None = None,
    *,
    matched: Mapping[str, str] | None = None,
    inner_products: Sequence[str] = ("euclidean", "causal", "euclidean without top component"),
    null_names: Sequence[str] = tuple(nulls.NULLS),
    untrained: Representations | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
) -> Measured:
    """Parallelism, heat map, orthogonality and alignment of concepts, each beside its nulls.

    Parameters
    ----------
    representations
        γ, and λ if context pairs are given.
    token_pairs
        Pairs of rows of γ.
    context_pairs
        Pairs of rows of λ, for alignment.
    matched
        Which token concept each context concept should align with; by default the one of the same name.
    inner_products
        Names in `INNER_PRODUCTS`, or in `CONTROL_PRODUCTS`, which get no verdicts.
    null_names
        Names in `NULLS`; verdicts need the three of a common direction and the partner shuffle.
    untrained
        The same arrays from a model with random weights: its values become null rows.
    draws
        Redraws per null; the smallest possible p-value is 1/(draws + 1).
    seed
        Seed of all draws: same seed, same numbers, whatever else is measured.

    Raises
    ------
    UnknownNameError
        For an inner product or null that does not exist.
    InvalidInputError
        If pairs name rows that do not exist, sides are mixed up, or no concept has two pairs.
    """
    _check(representations, token_pairs, context_pairs, inner_products, null_names, untrained)
    if draws < 1 or seed < 0:
        raise InvalidInputError(f"draws must be at least 1 and seed at least 0, not {draws} and {seed}")
    pool = nulls.WordPool.of(representations, seed=seed)
    rows: list[dict[str, Any]] = []
    verdict_rows: list[dict[str, Any]] = []
    pair_rows: list[dict[str, Any]] = []
    directions = {}
    # One covariance and one decomposition a model, whatever the number of inner products.
    spectrum = Spectrum(representations.unembeddings)
    plain_spectrum = None if untrained is None else Spectrum(untrained.unembeddings)

    # A function, so that the matrices of one inner product are gone before those of the next are made.
    def under(k: int, name: str) -> None:
        def step(fraction: float, text: str) -> None:
            if progress is not None:
                progress((k + fraction) / len(inner_products), f"{name}: {text}")

        step(0.0, "covariance")
        product = _PRODUCTS[name](spectrum)
        model = nulls.NullModel.of(representations, product, pool)
        plain = None
        if untrained is not None and plain_spectrum is not None:
            plain = nulls.NullModel.of(untrained, _PRODUCTS[name](plain_spectrum), pool)

        # Once: carrying the pairs by a root is the dearest step after the decomposition.
        ends = {n: model.carry(token_pairs.of(n)) for n in token_pairs.names}
        some, said, singles = _parallelism(
            model, plain, token_pairs, ends, null_names, draws, seed, representations, step
        )
        rows.extend(some)
        verdict_rows.extend(said)
        pair_rows.extend(singles)
        enough = {n: of for n, of in ends.items() if len(of) >= 2}
        directions[name] = directions_of_ends(enough, product, provenance=representations.provenance)
        rows.extend(_heat_map(directions[name], token_pairs, product))
        if context_pairs is not None and representations.embeddings is not None:
            step(0.9, "alignment")
            sources = alignment.Sources(representations, model, untrained, plain)
            rows.extend(alignment.rows(sources, token_pairs, context_pairs, matched or {}, draws, seed))

    for k, name in enumerate(inner_products):
        under(k, name)
    schema = dict.fromkeys(PAIR_COLUMNS, pl.String) | {"cosine": pl.Float64}
    return Measured(
        measurements=Measurements.from_rows(rows),
        verdicts=pl.DataFrame(verdict_rows, infer_schema_length=None),
        pairs=pl.DataFrame(pair_rows, schema=schema, orient="row"),
        directions=directions,
    )


def _check(
    representations: Representations,
    token_pairs: ConceptPairs,
    context_pairs: ConceptPairs | None,
    inner_products: Sequence[str],
    null_names: Sequence[str],
    untrained: Representations | None,
) -> None:
    for name in inner_products:
        if name not in _PRODUCTS:
            raise UnknownNameError("inner product", name, _PRODUCTS)
    for name in null_names:
        if name not in nulls.NULLS:
            raise UnknownNameError("null", name, nulls.NULLS)
    if token_pairs.side != "unembedding":
        raise InvalidInputError("token_pairs must be pairs of rows of γ (side 'unembedding')")
    token_pairs.check_rows(representations.n_tokens)
    if not (token_pairs.n_pairs >= 2).any():
        raise InvalidInputError("no concept has two pairs: nothing to measure")
    if context_pairs is not None:
        if context_pairs.side != "embedding":
            raise InvalidInputError("context_pairs must be pairs of rows of λ (side 'embedding')")
        if representations.embeddings is None:
            raise InvalidInputError("context pairs need embeddings λ, but the representations have none")
        context_pairs.check_rows(len(representations.embeddings))
    if untrained is not None:
        token_pairs.check_rows(untrained.n_tokens)
        if context_pairs is not None and untrained.embeddings is not None:
            context_pairs.check_rows(len(untrained.embeddings))


def _parallelism(
    model: nulls.NullModel,
    plain: nulls.NullModel | None,
    pairs: ConceptPairs,
    ends: Mapping[str, np.ndarray],
    null_names: Sequence[str],
    draws: int,
    seed: int,
    representations: Representations,
    step: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of both parallelism metrics and the spread, verdicts, and single pairs, of every concept."""
    product = model.inner_product
    n_pairs, count = pairs.n_pairs, len(pairs.names)
    value = np.full(count, np.nan)
    p_values = {name: np.full(count, np.nan) for name in null_names}
    rows, verdict_rows, singles = [], [], []
    null_at: list[dict[str, tuple[float, float]]] = [{} for _ in pairs.names]
    for i, name in enumerate(pairs.names):
        step(0.1 + 0.8 * i / count, name)
        if n_pairs[i] < 2:
            continue
        of = pairs.of(name)
        value[i] = float(metrics.parallelism(ends[name][:, 1] - ends[name][:, 0]))
        if n_pairs[i] < verdicts.MIN_PAIRS:
            continue
        for null in null_names:
            # Each null of each concept has its own stream: adding a concept or a null changes no other number.
            drawn = nulls.NULLS[null](model, of, draws, _stream(seed, name, null))
            p_values[null][i] = nulls.p_value(value[i], drawn)
            null_at[i][null] = (float(drawn.mean()), float(np.quantile(drawn, 0.95)))
        singles += _single_pairs(model, name, of, ends[name], representations, null_names, seed)
    judged = verdicts.decide(n_pairs, value, p_values, product.name)
    for i, name in enumerate(pairs.names):
        common = {
            "inner_product": product.name,
            "inner_product_rank": product.rank,
            "side": "unembedding",
            "concept": name,
            "n_pairs": int(n_pairs[i]),
            "split": "all",
            "status": "ok" if n_pairs[i] >= verdicts.MIN_PAIRS else verdicts.TOO_FEW,
        }
        rows += _concept_rows(ends[name], plain, pairs, i, common)
        for null in null_names:
            if null in null_at[i]:
                mean, high = null_at[i][null]
                rows.append(
                    common
                    | {"metric": "parallelism", "unit": "cosine", "value": value[i], "null": null, "null_value": mean}
                    | {"null_high": high, "p_value": p_values[null][i], "p_adjusted": judged.p_adjusted[null][i]}
                )
        if judged.verdict:
            verdict_rows.append(
                {
                    "concept": name,
                    "inner_product": product.name,
                    "n_pairs": int(n_pairs[i]),
                    "verdict": judged.verdict[i],
                    "rule": verdicts.rule(judged.verdict[i], product.name),
                    "parallelism": _finite(value[i]),
                    "floor": verdicts.EFFECT_FLOOR[product.name],
                }
            )
    return rows, verdict_rows, singles


def _concept_rows(
    ends: np.ndarray, plain: nulls.NullModel | None, pairs: ConceptPairs, i: int, common: dict[str, Any]
) -> list[dict[str, Any]]:
    """The values of one concept, with interval, and the untrained model's."""
    name = pairs.names[i]
    if pairs.n_pairs[i] < 2:
        return [common | {"metric": "parallelism", "unit": "cosine"}]
    own = ends[:, 1] - ends[:, 0]
    low, high = metrics.parallelism_interval(own, pairs.groups_of(name))
    plain_ends = None if plain is None else plain.carry(pairs.of(name))
    other = None if plain_ends is None else plain_ends[:, 1] - plain_ends[:, 0]
    rows = []
    for metric, function, unit in (
        ("parallelism", metrics.parallelism, "cosine"),
        ("parallelism_leave_one_out", lambda d: metrics.parallelism_leave_one_out(d).mean(), "cosine"),
        ("resultant_length", metrics.resultant_length, "length"),
        ("spread", metrics.spread, "κ"),
    ):
        row = common | {"metric": metric, "unit": unit, "value": float(function(own))}
        if metric == "parallelism":
            row |= {"low": _finite(low), "high": _finite(high)}
        rows.append(row)
        if other is not None:
            rows.append(row | {"null": "untrained", "null_value": float(function(other))})
    return rows


def _finite(x: float) -> float | None:
    return float(x) if np.isfinite(x) else None


def _stream(seed: int, concept: str, null: str) -> np.random.Generator:
    return np.random.default_rng([seed, *concept.encode(), 0, *null.encode()])


def _single_pairs(
    model: nulls.NullModel,
    name: str,
    of: np.ndarray,
    ends: np.ndarray,
    representations: Representations,
    null_names: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """Leave-one-out cosines of the pairs of a concept, and of a few redrawn concepts, for the picture."""
    n = len(of)

    def rows(
        differences: np.ndarray, words: list[tuple[str | None, str | None]], null: str | None
    ) -> list[dict[str, Any]]:
        cosines = metrics.parallelism_leave_one_out(differences).tolist()
        values = [(name, a, b, model.inner_product.name, c, null) for (a, b), c in zip(words, cosines, strict=True)]
        return [dict(zip(PAIR_COLUMNS, v, strict=True)) for v in values]

    text = representations.tokens or tuple(map(str, range(representations.n_tokens)))
    found = rows(ends[:, 1] - ends[:, 0], [(text[a].strip(), text[b].strip()) for a, b in of.tolist()], None)
    nameless: list[tuple[str | None, str | None]] = [(None, None)] * n
    for _ in range(max(1, _SHOWN_DRAWS // n)):
        if "partner shuffle" in null_names:
            rng = _stream(seed, name, f"partner shuffle, pairs {len(found)}")
            found += rows(ends[rng.permutation(n), 1] - ends[:, 0], nameless, "partner shuffle")
        if "random words" in null_names:
            rng = _stream(seed, name, f"random words, pairs {len(found)}")
            vectors = model.vectors[rng.choice(len(model.vectors), 2 * n, replace=False)].astype(np.float64)
            found += rows(vectors[:n] - vectors[n:], nameless, "random words")
    return found


def _heat_map(directions: ConceptDirections, pairs: ConceptPairs, product: InnerProduct) -> list[dict[str, Any]]:
    """Concept × concept cosines with the exact shared-word null, and their mean absolute value."""
    keep = [n for n in directions.names if pairs.n_pairs[pairs.index(n)] >= verdicts.MIN_PAIRS] or list(
        directions.names
    )
    index = [directions.names.index(n) for n in keep]
    cosines = directions.cosines()[np.ix_(index, index)]
    expected = nulls.shared_word_cosines(nulls.difference_operators([pairs.of(n) for n in keep]))
    common = {
        "inner_product": product.name,
        "inner_product_rank": product.rank,
        "side": "unembedding",
        "estimator": directions.estimator,
        "split": "all",
        "status": "ok",
    }
    rows = []
    for i, a in enumerate(keep):
        for j, b in enumerate(keep):
            cell = common | {"metric": "direction_cosine", "unit": "cosine", "concept": a, "concept_other": b}
            cell |= {"value": float(cosines[i, j])}
            rows += [cell, cell | {"null": "shared words", "null_value": float(expected[i, j])}]
    family = np.array([pairs.families[pairs.index(n)] for n in keep])
    for split, among in (("all", None), ("between families", family[:, None] != family[None])):
        row = common | {"metric": "orthogonality", "unit": "mean |cosine|", "split": split}
        row |= {"value": _finite(float(metrics.orthogonality(cosines, among)))}
        chance = metrics.random_absolute_cosine(product.rank)
        shared = _finite(float(metrics.orthogonality(expected, among)))
        rows += [
            row,
            row | {"null": "random directions", "null_value": chance},
            row | {"null": "shared words", "null_value": shared},
        ]
    return rows
