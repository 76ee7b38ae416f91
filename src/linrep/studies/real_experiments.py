"""The experiments L1 to L7 on real causal language models, one model or several side by side, or its checkpoints.

L1 and L2 need the output matrix alone; L3 to L6 run the model once over all contexts and look at the same states. This
file composes; every experiment is a file in `linrep.studies.experiments`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field

from linrep.concepts.load import (
    ConceptSet,
    ContextSet,
    context_pairs,
    list_concepts,
    load_concepts,
    load_contexts,
    token_pairs,
)
from linrep.errors import InvalidInputError
from linrep.geometry.measure import measure
from linrep.geometry.measurements import Measurements
from linrep.geometry.nulls import WordPool
from linrep.geometry.pairs import DroppedPair
from linrep.geometry.representations import Representations
from linrep.models.source import AbstractModelSource, open_model
from linrep.models.states import LAMBDA, Site, read_states
from linrep.studies.experiments import aligned, layered, probing, steering_final, steering_model, winograd, words
from linrep.studies.experiments.setting import Row, Setting, Weights, stamp
from linrep.studies.result import Progress, StudyConfig, StudyResult, part

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

_ALIGNED = ("euclidean", "causal")  # the products under which L3 is told pair by pair
_MIDDLE = (0.25, 0.5, 0.75)  # depths at which L5 intervenes


class RealModelConfig(StudyConfig):
    """What `study_real_model` does; every field is a key of the TOML file."""

    models: tuple[str, ...] = Field(
        default=("smollm2-135m",), description="folders, GGUF files, hub ids, or names known to `linrep get`"
    )
    revisions: tuple[str, ...] = Field(
        default=(),
        description="checkpoints of one model, in order: revisions of a hub id, or folders inside a model's folder. "
        "L1 to L4 on each",
    )
    pairs: tuple[str, ...] | None = Field(
        default=None, description="concepts or files of word pairs; all built-in ones"
    )
    contexts: tuple[str, ...] | None = Field(
        default=None, description="context sets or files; the built-in ones. An empty list leaves L1 and L2"
    )
    inner_products: tuple[str, ...] = ("euclidean", "causal", "euclidean without top component", "random")
    draws: int = Field(default=1000, ge=19, description="redraws per null")
    seed: int = Field(default=0, ge=0)
    untrained: bool = Field(default=True, description="measure the architecture with random weights beside each model")
    most_layers: int = Field(default=33, ge=1, description="layers looked at in L6, evenly spaced")
    steered_contexts: int = Field(default=16, ge=1, description="held-out contexts steered per concept in L5")
    device: str = Field(default="auto", description="where the model runs: auto, cpu, cuda, ...")
    dtype: str = Field(default="float32", description="float32, bfloat16 or float16")


@dataclass
class _Found:
    """Tables and rows as they come, model by model."""

    tables: dict[str, list[Row]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    measurements: list[Measurements] = field(default_factory=list)
    frames: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Subject:
    """One model, or one checkpoint of it."""

    source: AbstractModelSource
    name: str
    step: int | None

    @property
    def facts(self) -> Row:
        """What stands in front of every row of every table."""
        told = self.source.describe()
        tied = {True: "tied", False: "untied"}.get(told["tied"], f"tied: {told['tied']}")  # type: ignore[call-overload]
        label = ", ".join(str(x) for x in (tied, told.get("quantisation"), _partial(told)) if x)
        return {"model": self.name, "step": self.step, "label": label}


def _partial(told: Mapping[str, Any]) -> str | None:
    return f"partial: {told['partial']}" if told.get("partial") else None


def study_real_model(config: RealModelConfig, *, progress: Progress | None = None) -> StudyResult:
    """Run the experiments on every model, or on every checkpoint of one.

    Raises
    ------
    InvalidInputError
        Without a model, with one named twice, or with revisions of several models.
    ModelNotFoundError, ModelFileError
        Of any of the models, before the first is measured.
    """
    subjects = _subjects(config)
    contexts = load_contexts(config.contexts) if config.contexts != () else ()
    concepts = _concepts(config, contexts)
    found = _Found()
    for i, subject in enumerate(subjects):
        tell = part(progress, i / len(subjects), (i + 1) / len(subjects))
        _one(subject, concepts, contexts, config, found, tell)
    named = Measurements.concat(found.measurements)
    names = ", ".join(dict.fromkeys(s.name for s in subjects))
    return StudyResult(
        kind="real-model",
        title=f"Experiments L1 to {'L4 over checkpoints' if config.revisions else 'L6'} in {names}",
        config=config,
        measurements=Measurements.concat([named, Measurements.from_rows(found.rows)]),
        tables={name: _frame(rows) for name, rows in found.tables.items()}
        | {name: pl.concat(frames, how="diagonal_relaxed") for name, frames in found.frames.items()},
        arrays=found.arrays,
        details=found.details,
    )


def _frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame()


def _subjects(config: RealModelConfig) -> list[_Subject]:
    """Every model opened, so that a wrong name is said before hours of work."""
    if not config.models or len(set(config.models)) != len(config.models):
        raise InvalidInputError(f"give at least one model, and none twice, not {list(config.models)}")
    if not config.revisions:
        sources = [open_model(m) for m in config.models]
        return [_Subject(s, s.name, None) for s in sources]
    if len(config.models) != 1:
        raise InvalidInputError(f"revisions are checkpoints of one model, not of {len(config.models)}: name one")
    name = config.models[0]
    return [_Subject(_checkpoint(name, r), f"{name}@{r}", training_step(r)) for r in config.revisions]


def _checkpoint(model: str, revision: str) -> AbstractModelSource:
    """A checkpoint: a folder inside a model's folder, or a revision of a hub id."""
    folder = Path(model).expanduser() / revision
    if Path(model).expanduser().is_dir():
        return open_model(folder)
    return open_model(model, revision=revision)


def training_step(revision: str) -> int | None:
    """Training step in the name of a checkpoint: its last whole number after "step" or "checkpoint", else alone.

    Examples
    --------
    >>> training_step("step1000"), training_step("stage1-step143000-tokens301B"), training_step("checkpoint-500")
    (1000, 143000, 500)
    >>> training_step("main"), training_step("2000")
    (None, 2000)
    """
    named = re.findall(r"(?:step|checkpoint|iter)[-_]?(\d+)", revision, flags=re.IGNORECASE)
    return int(named[-1]) if named else int(revision) if revision.isdigit() else None


def _concepts(config: RealModelConfig, contexts: tuple[ContextSet, ...]) -> tuple[ConceptSet, ...]:
    """The word concepts asked for; by default the built-in ones and every partner of a context set."""
    if config.pairs is not None:
        return load_concepts(config.pairs)
    partners = [c.unembedding_concept for c in contexts if c.unembedding_concept]
    return load_concepts(list(dict.fromkeys([*list_concepts(), *partners])))


def _one(
    subject: _Subject,
    concepts: tuple[ConceptSet, ...],
    contexts: tuple[ContextSet, ...],
    config: RealModelConfig,
    found: _Found,
    progress: Progress,
) -> None:
    """All experiments on one model."""
    source, facts = subject.source, subject.facts
    tokens = token_pairs(concepts, source.vocabulary().find)
    not_run = source.why_not_run()
    if not_run is not None:
        contexts = ()  # L1 and L2 are all that the output matrix can tell
    texts, pairs = context_pairs(contexts)
    extra = words.carrier_texts(words.too_few(concepts, tokens)) if contexts else ()
    texts = tuple(dict.fromkeys([*texts, *extra]))
    setting = Setting(tokens, texts, pairs, contexts, config.draws, config.seed)
    trained = source.representations()
    plain = _random(trained, config.seed) if config.untrained else None
    pool = WordPool.of(trained, seed=config.seed)
    ran: dict[str, Any] = {"forward": {"forward_model": f"not run: {not_run}"}} if not_run else {}
    if contexts:
        trained, plain, ran = _run_model(
            source, setting, trained, plain, pool, config, found, facts, part(progress, 0.0, 0.8)
        )
    weights = Weights(trained, pool)
    twin = None if plain is None else Weights(plain, pool)
    partner = {n: p for n, p in setting.partner.items() if n in pairs.names}
    measured = measure(
        trained, tokens, pairs if contexts else None, matched=partner, inner_products=config.inner_products,
        untrained=plain, draws=config.draws, seed=config.seed, progress=part(progress, 0.8, 0.95),
    )  # fmt: skip
    stamped = measured.measurements.with_columns(source=subject.name, step=subject.step)
    found.measurements.append(stamped)
    _keep_frames(found, facts, verdicts=measured.verdicts, pairs=measured.pairs)
    progress(0.95, "alignment and probes")
    lost = [*tokens.dropped, *pairs.dropped, *ran.pop("dropped", ())]
    table, rows = words.listed(setting, concepts, weights if contexts else None, twin if contexts else None)
    _keep(found, facts, "concepts", table, rows)
    if contexts:
        products = tuple(p for p in _ALIGNED if p in config.inner_products)
        _keep(found, facts, "alignment", aligned.per_concept(setting, weights, twin, products, stamped))
        _keep(found, facts, "alignment_joint", aligned.joint(setting, weights, twin, products))
        _keep(found, facts, "probe", *probing.probe(setting, weights, twin))
    if not config.revisions:
        _keep(found, facts, "steering_final", *steering_final.steer_final(setting, weights))
    whole = [
        {"concept": n, "negative": "all", "positive": "all", "reason": why} for n, why in setting.unmatched.items()
    ]
    _keep(found, facts, "dropped_pairs", [*whole, *map(_dropped, lost)])
    found.details |= _details(subject, setting, ran, measured.directions, found)


def _run_model(
    source: AbstractModelSource,
    setting: Setting,
    trained: Representations,
    plain: Representations | None,
    pool: WordPool,
    config: RealModelConfig,
    found: _Found,
    facts: Row,
    progress: Progress,
) -> tuple[Representations, Representations | None, dict[str, Any]]:
    """One pass of the model and of its untrained twin; the experiments that need the running model."""
    progress(0.0, "loading the model")
    model = source.forward(device=config.device, dtype=config.dtype)
    everything = not config.revisions  # L5 and L6 are for one state of training
    looked_at = _spread_layers(model.n_layers, config.most_layers) if everything else ()
    middle = tuple(sorted({max(1, round(share * model.n_layers)) for share in _MIDDLE})) if everything else ()
    kept = tuple(sorted({*looked_at, *middle}))
    states = _states(model, setting.texts, (LAMBDA, *kept), part(progress, 0.02, 0.4))
    lam = states.pop(LAMBDA)
    trained = replace(trained, embeddings=lam, contexts=setting.texts)
    weights = Weights(trained, pool)
    ran: dict[str, Any] = {"forward": model.describe(), "layers": list(kept), "steered_layers": list(middle)}
    untrained, twin = None, None
    if plain is not None:
        untrained = model.untrained(config.seed)
        # γ of the twin, not of its own draw: with random weights λ and γ must come from one model (tied or not).
        gamma = untrained.unembeddings()[: len(plain.unembeddings)]
        lam = _states(untrained, setting.texts, (LAMBDA,), part(progress, 0.4, 0.7))[LAMBDA]
        plain = replace(plain, unembeddings=gamma, embeddings=lam, contexts=setting.texts)
        twin, untrained = Weights(plain, pool), None  # the weights of the twin are not needed any more
    table, rows, ran["dropped"] = winograd.preferences(setting, weights, twin, model, source.vocabulary().find)
    _keep(found, facts, "winograd", table, rows)
    if everything:
        steering = part(progress, 0.7, 0.85)
        tables, rows = steering_model.steer_model(
            setting, weights, model, states, middle, config.steered_contexts, steering
        )
        for name, table in tables.items():
            _keep(found, facts, name, table, rows if name == "steered" else [])
        among = {k: states[k] for k in looked_at}
        _keep(
            found, facts, "layers", *layered.through_layers(setting, weights, model, among, part(progress, 0.85, 1.0))
        )
    return trained, plain, ran


def _states(model: TransformersModel, texts: tuple[str, ...], sites: tuple[Site, ...], progress: Progress) -> Any:
    """λ and hidden states of every text: from the cache, or by one pass that ends after the last site."""
    return read_states(model, texts, sites, progress=lambda _, done, of: progress(done / of, f"contexts, {model.name}"))


def _spread_layers(n_layers: int, most: int) -> tuple[int, ...]:
    """At most `most` layers from 1 to the last, evenly spaced, the last among them.

    Examples
    --------
    >>> _spread_layers(30, 4), _spread_layers(3, 33)
    ((8, 15, 22, 30), (1, 2, 3))
    """
    count = min(n_layers, most)
    return tuple(sorted({round(n_layers * (i + 1) / count) for i in range(count)}))


def _random(trained: Representations, seed: int) -> Representations:
    """γ before training where no model runs: independent Gaussian entries (their scale drops out)."""
    gamma = np.random.default_rng(seed).standard_normal(trained.unembeddings.shape, dtype=np.float32)
    return replace(trained, unembeddings=gamma, embeddings=None, provenance={"weights": "random"})


def _keep(found: _Found, facts: Row, name: str, table: list[Row], rows: list[Row] | tuple[()] = ()) -> None:
    found.tables.setdefault(name, []).extend(stamp(table, facts))
    found.rows += [{"source": facts["model"], "step": facts["step"]} | row for row in rows]


def _keep_frames(found: _Found, facts: Row, **frames: pl.DataFrame) -> None:
    for name, frame in frames.items():
        if len(frame.columns):
            columns = [pl.lit(facts["model"]).alias("model"), pl.lit(facts["step"], dtype=pl.Int64).alias("step")]
            columns.append(pl.lit(facts["label"]).alias("label"))
            found.frames.setdefault(name, []).append(frame.select(*columns, *frame.columns))


def _dropped(pair: DroppedPair) -> Row:
    return {"concept": pair.concept, "negative": pair.negative, "positive": pair.positive, "reason": pair.reason}


def _details(
    subject: _Subject, setting: Setting, ran: Mapping[str, Any], directions: Mapping[str, Any], found: _Found
) -> dict[str, Any]:
    """Provenance of one model, and its directions as arrays."""
    for product, some in directions.items():
        for kind in ("vectors", "dual"):
            found.arrays[f"{subject.name}/{product}/{kind}"] = np.ascontiguousarray(getattr(some, kind))
    told = {
        "model": subject.source.describe() | dict(ran.get("forward", {})),
        "label": subject.facts["label"],
        "step": subject.step,
        "concepts": dict(zip(setting.tokens.names, map(int, setting.tokens.n_pairs), strict=True)),
        "directions": list(next(iter(directions.values())).names),
        "contexts": {c.name: len(c.pairs) for c in setting.contexts},
        "matched": setting.partner,
        "texts": len(setting.texts),
        **{k: v for k, v in ran.items() if k != "forward"},
    }
    return {"models": {**found.details.get("models", {}), subject.name: told}}
