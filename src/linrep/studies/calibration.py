"""What a p-value and a verdict of linrep are worth on one model: rates on nonsense, power on planted directions.

Every test and every verdict is the one that a measurement uses; this file only feeds them concepts whose truth is
known and keeps what they said. How often they were wrong is counted in `calibration_rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from linrep.concepts.load import context_pairs, load_concepts, load_contexts, token_pairs
from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry import alignment, metrics, nulls, verdicts
from linrep.geometry.inner_products import INNER_PRODUCTS, Spectrum
from linrep.geometry.measurements import Measurements
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
from linrep.models.source import AbstractModelSource, open_model
from linrep.models.states import LAMBDA, read_states
from linrep.studies import calibration_contexts as contexts_study
from linrep.studies.calibration_nonsense import NONSENSE, RANDOM, Vocabulary, planted
from linrep.studies.calibration_rates import BATCH, PLANTED, RANDOM_WEIGHTS, REAL, measurement_rows
from linrep.studies.result import Progress, StudyConfig, StudyResult, part

_QUICK = {"random": 108, "structured": 27, "planted": 27, "draws": 39, "context_repeats": 2}
_REAL_DRAWS = 999
_RANDOM_MODELS = 4
_CONTEXT_PAIRS = 60  # of one set at most, spread over its templates
_COLUMNS = {
    "inner_product": pl.String, "kind": pl.String, "run": pl.Int64, "concept": pl.String, "strength": pl.Float64,
    "n_pairs": pl.Int64, "parallelism": pl.Float64, **dict.fromkeys(nulls.NULLS, pl.Float64),
}  # fmt: skip
_CONTEXT_COLUMNS = {
    "inner_product": pl.String, "kind": pl.String, "test": pl.String, "repeat": pl.Int64, "concept": pl.String,
    "concept_other": pl.String, "value": pl.Float64, "p_value": pl.Float64,
}  # fmt: skip


class CalibrationConfig(StudyConfig):
    """How much nonsense is tested; every field is a key of the TOML file."""

    model: str = Field(default="smollm2-135m", description="folder, GGUF file, hub id, or a name known to `linrep get`")
    revision: str | None = Field(default=None, description="revision of a hub model")
    pairs: tuple[str, ...] | None = Field(default=None, description="real lists, for false discoveries beside them")
    contexts: tuple[str, ...] | None = Field(default=None, description="context sets; an empty list tests none")
    inner_products: tuple[str, ...] = Field(default=tuple(INNER_PRODUCTS), min_length=1)
    random: int = Field(default=5000, ge=BATCH, description="concepts of unrelated words")
    structured: int = Field(default=297, ge=BATCH, description="concepts of every other kind of nonsense")
    planted: int = Field(default=108, ge=BATCH, description="concepts with a planted direction, of each strength")
    strengths: tuple[float, ...] = Field(default=(0.03, 0.05, 0.1, 0.15, 0.2, 0.3), description="planted cosines")
    draws: int = Field(default=199, ge=19, description="redraws per null")
    context_repeats: int = Field(default=20, ge=1, description="times each nonsense of contexts is drawn")
    seed: int = Field(default=0, ge=0)
    quick: bool = Field(default=False, description="a small version, in a minute: shows that it runs, no rate")

    @model_validator(mode="before")
    @classmethod
    def _small(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**_QUICK, **values} if values.get("quick") else values

    @field_validator("inner_products")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in INNER_PRODUCTS:
                raise UnknownNameError("inner product", name, INNER_PRODUCTS)
        return names

    @field_validator("strengths")
    @classmethod
    def _cosines(cls, strengths: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < s < 1 for s in strengths):
            raise ValueError("a planted cosine is above 0 and below 1")
        return strengths


@dataclass(frozen=True)
class Contexts:
    """Embeddings of context pairs with the word concept that each set belongs to."""

    representations: Representations
    pairs: ConceptPairs
    partner: dict[str, str]


def study_calibration(config: CalibrationConfig, *, progress: Progress | None = None) -> StudyResult:
    """Test every null and verdict on nonsense of every kind, and on planted directions, in one model's vocabulary."""
    tell = part(progress, 0.0, 1.0)
    tell(0.0, f"reading {config.model}")
    source = open_model(config.model, revision=config.revision)
    words = source.representations()
    tokens = token_pairs(load_concepts(config.pairs), source.vocabulary().find)
    contexts = None if config.contexts == () else _embedded(source, words, tokens, config, part(progress, 0.0, 0.1))
    tests, aligned, skipped = calibrate(words, tokens, contexts, config, progress=part(progress, 0.1, 1.0))
    facts = source.describe()
    return StudyResult(
        kind="calibration",
        title=f"Calibration on {source.name}" + (" (quick)" if config.quick else ""),
        config=config,
        measurements=Measurements.from_rows(measurement_rows(tests, aligned)).with_columns(source=source.name),
        tables={"tests": tests, "alignment_tests": aligned},
        details={"model": facts, "skipped": skipped, "context_pairs": 0 if contexts is None else _count(contexts)},
    )


def _count(contexts: Contexts) -> int:
    return int(contexts.pairs.n_pairs.sum())


def calibrate(
    representations: Representations,
    tokens: ConceptPairs,
    contexts: Contexts | None,
    config: CalibrationConfig,
    *,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """Parallelism and p-values of every concept tested, those of alignment, and the kinds that cannot be made.

    Returns
    -------
    tests
        One row a concept and inner product: kind, run (concepts judged together), strength of a planted one, pairs,
        parallelism, and one column of raw p-values a null.
    alignment_tests
        One row a test of a context set: inner product, kind, test, repeat, concepts, cosine, p-value.
    skipped
        Kind of nonsense → why this vocabulary has none.
    """
    if not representations.tokens:
        raise InvalidInputError("a calibration draws words by their case: the representations have no tokens")
    pool = nulls.WordPool.of(representations, seed=config.seed)
    real = {n: tokens.of(n) for n, k in zip(tokens.names, tokens.n_pairs, strict=True) if k >= verdicts.MIN_PAIRS}
    spectrum = Spectrum(representations.unembeddings)
    rows: list[dict[str, Any]] = []
    aligned: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    for k, name in enumerate(config.inner_products):
        tell = part(progress, k / len(config.inner_products), (k + 1) / len(config.inner_products))
        v = Vocabulary.of(representations, INNER_PRODUCTS[name](spectrum), pool, list(real.values()))
        found, lost = _words(v, real, config, part(tell, 0.0, 0.75))
        rows += found
        skipped |= lost
        rows += _random_weights(representations, name, pool, real, config, part(tell, 0.75, 0.85))
        if contexts is not None:
            sources = alignment.Sources(contexts.representations, v.model)
            aligned += _contexts(sources, tokens, contexts, config, part(tell, 0.85, 1.0))
    return (
        pl.DataFrame(rows, schema=_COLUMNS, orient="row"),
        pl.DataFrame(aligned, schema=_CONTEXT_COLUMNS, orient="row"),
        skipped,
    )


def _words(
    v: Vocabulary, real: dict[str, np.ndarray], config: CalibrationConfig, tell: Progress
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of the real lists, of every kind of nonsense and of planted directions, under one inner product."""
    name = v.model.inner_product.name
    rows = _tested(v.model, REAL, list(real.values()), _REAL_DRAWS, _stream(config, name, REAL), names=list(real))
    skipped = {}
    total = config.random + config.structured * (len(NONSENSE) - 1) + config.planted * (len(config.strengths) + 1)
    done = 0
    for kind, make in NONSENSE.items():
        count = config.random if kind == RANDOM else config.structured
        rng = _stream(config, name, kind)
        try:
            for start in range(0, count, BATCH):
                tell((done + start) / total, f"{name}: {kind}")
                pairs = [make(v, rng) for _ in range(min(BATCH, count - start))]
                rows += _tested(v.model, kind, pairs, config.draws, rng, run=start // BATCH)
        except InvalidInputError as e:
            skipped[kind] = str(e)
        done += count
    if "nearest word" in skipped:
        return rows, skipped | {PLANTED: skipped["nearest word"]}
    # One more strength: that of the median real concept.
    middle = [float(np.median([r["parallelism"] for r in rows if r["kind"] == REAL]))] if real else []
    strengths = [*config.strengths, *(round(m, 3) for m in middle if 0.005 < m < 1)]
    rng = _stream(config, name, PLANTED)
    tell(done / total, f"{name}: planting")
    model, concepts = planted(v, list(dict.fromkeys(strengths)), config.planted, rng)
    for strength, pairs in concepts.items():
        for start in range(0, config.planted, BATCH):
            tell((done + start) / total, f"{name}: planted {strength:g}")
            some = pairs[start : start + BATCH]
            found = _tested(model, PLANTED, some, config.draws, rng, run=start // BATCH)
            rows += [row | {"strength": strength} for row in found]
        done += config.planted
    return rows, skipped


def _stream(config: CalibrationConfig, product: str, kind: str) -> np.random.Generator:
    """Each kind under each inner product has its own stream: leaving one out changes no other number."""
    return np.random.default_rng([config.seed, *product.encode(), 0, *kind.encode()])


def _tested(
    model: nulls.NullModel,
    kind: str,
    concepts: Sequence[np.ndarray],
    draws: int,
    rng: np.random.Generator,
    *,
    run: int = 0,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Every null on concepts that are judged together."""
    rows = []
    for i, pairs in enumerate(concepts):
        ends = model.carry(pairs)
        value = float(metrics.parallelism(ends[:, 1] - ends[:, 0]))
        p = {null: nulls.p_value(value, draw(model, pairs, draws, rng)) for null, draw in nulls.NULLS.items()}
        rows.append(
            {"inner_product": model.inner_product.name, "kind": kind, "run": run, "strength": None,
             "concept": names[i] if names else None, "n_pairs": len(pairs), "parallelism": value, **p}
        )  # fmt: skip
    return rows


def _random_weights(
    r: Representations,
    product: str,
    pool: nulls.WordPool,
    real: dict[str, np.ndarray],
    config: CalibrationConfig,
    tell: Progress,
) -> list[dict[str, Any]]:
    """The real lists in models whose γ is independent Gaussian numbers."""
    rows: list[dict[str, Any]] = []
    n = 1 if config.quick else _RANDOM_MODELS
    for k in range(n if real else 0):
        tell(k / n, f"{product}: random weights")
        rng = np.random.default_rng([config.seed, k])
        plain = replace(r, unembeddings=rng.standard_normal((r.n_tokens, r.dim), dtype=np.float32), embeddings=None)
        model = nulls.NullModel.of(plain, INNER_PRODUCTS[product](plain.unembeddings), pool)
        rows += _tested(model, RANDOM_WEIGHTS, list(real.values()), config.draws, rng, run=k, names=list(real))
    return rows


def _embedded(
    source: AbstractModelSource, words: Representations, tokens: ConceptPairs, config: CalibrationConfig, tell: Progress
) -> Contexts | None:
    """λ of some context pairs of every set whose word concept is measured; None if there is no such set."""
    named = {n for n, k in zip(tokens.names, tokens.n_pairs, strict=True) if k >= verdicts.MIN_PAIRS}
    sets = [s for s in load_contexts(config.contexts) if s.unembedding_concept in named]
    if not sets:
        return None
    # Every k-th pair: sets are written template by template.
    some = [replace(s, pairs=s.pairs[:: max(1, len(s.pairs) // _CONTEXT_PAIRS)][:_CONTEXT_PAIRS]) for s in sets]
    texts, pairs = context_pairs(some)
    tell(0.0, "loading the model")
    lam = read_states(source.forward(), texts, progress=lambda _, done, of: tell(done / of, "contexts"))[LAMBDA]
    partner = {s.name: s.unembedding_concept or "" for s in sets}
    return Contexts(replace(words, embeddings=lam, contexts=texts), pairs, partner)


def _contexts(
    sources: alignment.Sources, tokens: ConceptPairs, contexts: Contexts, config: CalibrationConfig, tell: Progress
) -> list[dict[str, Any]]:
    """Every test of alignment on real contexts, and on every kind of nonsense as often as asked."""
    name = sources.model.inner_product.name
    keep = [n for n, k in zip(tokens.names, tokens.n_pairs, strict=True) if k >= verdicts.MIN_PAIRS]
    families = {n: tokens.families[tokens.index(n)] for n in keep}
    measured = ConceptPairs.from_lists(
        {n: [(int(a), int(b)) for a, b in tokens.of(n)] for n in keep}, families=families
    )
    kinds = [contexts_study.REAL, *contexts_study.CONTEXT_NONSENSE, contexts_study.OTHER_CONCEPT]
    rows: list[dict[str, Any]] = []
    for k, kind in enumerate(kinds):
        repeats = 1 if kind == contexts_study.REAL else config.context_repeats
        for repeat in range(repeats):
            tell((k + repeat / repeats) / len(kinds), f"{name}: {kind}")
            rng = np.random.default_rng([config.seed, repeat, *kind.encode()])
            pairs, partner = contexts.pairs, contexts.partner
            if kind in contexts_study.CONTEXT_NONSENSE:
                pairs = contexts_study.CONTEXT_NONSENSE[kind](pairs, rng)
            elif kind == contexts_study.OTHER_CONCEPT:
                partner = contexts_study.other_partners(measured, partner, rng)
            found = contexts_study.alignment_tests(
                sources, measured, pairs, partner, config.draws, int(rng.integers(2**31))
            )
            rows += [row | {"inner_product": name, "kind": kind, "repeat": repeat} for row in found]
    return rows
