"""Measure the geometry of concepts in a real causal language model, by the code that measures simulated ones.

Word pairs need only the model's file; context pairs need forward passes (the `hf` extra).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import Field

from linrep.concepts.load import ContextSet, context_pairs, load_concepts, load_contexts, token_pairs
from linrep.geometry.measure import measure
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
from linrep.models.source import AbstractModelSource, open_model
from linrep.models.states import LAMBDA, read_states
from linrep.studies.result import Progress, StudyConfig, StudyResult, part

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel


class MeasureConfig(StudyConfig):
    """What `measure_model` measures; every field is a key of the TOML file."""

    model: str = Field(description="folder, GGUF file, hub id, or a name known to `linrep get`")
    revision: str | None = Field(default=None, description="revision of a hub model")
    pairs: tuple[str, ...] | None = Field(
        default=None, description="concepts or files of word pairs; all built-in ones"
    )
    contexts: tuple[str, ...] | None = Field(
        default=None, description="context sets or files; the built-in ones. An empty list measures the word pairs only"
    )
    inner_products: tuple[str, ...] = ("euclidean", "causal", "euclidean without top component")
    draws: int = Field(default=1000, ge=19, description="redraws per null")
    seed: int = Field(default=0, ge=0)
    untrained: bool = Field(default=True, description="measure a model with random weights beside it")
    device: str = Field(default="auto", description="where the model runs: auto, cpu, cuda, ...")
    dtype: str = Field(default="float32", description="float32, bfloat16 or float16")


def measure_model(config: MeasureConfig, *, progress: Progress | None = None) -> StudyResult:
    """Parallelism, heat map and alignment of a model's concepts, each with its nulls and verdicts."""
    tell = part(progress, 0.0, 1.0)
    tell(0.0, f"reading {config.model}")
    source = open_model(config.model, revision=config.revision)
    tokens = token_pairs(load_concepts(config.pairs), source.vocabulary().find)
    contexts = load_contexts(config.contexts) if config.contexts != () else ()
    trained, plain, forward_facts = source.representations(), None, {}
    if config.untrained:
        plain = _random_unembeddings(trained, config.seed)
    pairs: ConceptPairs | None = None
    if contexts:
        texts, pairs = context_pairs(contexts)
        trained, plain, forward_facts = _with_embeddings(
            source, trained, plain, texts, config, part(progress, 0.02, 0.6)
        )
    measured = measure(
        trained,
        tokens,
        pairs,
        matched=_matched(contexts, tokens),
        inner_products=config.inner_products,
        untrained=plain,
        draws=config.draws,
        seed=config.seed,
        progress=part(progress, 0.6 if contexts else 0.02, 1.0),
    )
    dropped = [*tokens.dropped, *(pairs.dropped if pairs else ())]
    return StudyResult(
        kind="measure",
        title=f"Concepts in {source.name}",
        config=config,
        measurements=measured.measurements.with_columns(source=source.name),
        tables={
            "verdicts": measured.verdicts,
            "pairs": measured.pairs,
            "dropped_pairs": pl.DataFrame(
                [(d.concept, d.negative, d.positive, d.reason) for d in dropped],
                schema=dict.fromkeys(("concept", "negative", "positive", "reason"), pl.String),
                orient="row",
            ),
        },
        arrays={
            f"{product}/{kind}": np.ascontiguousarray(getattr(directions, kind))
            for product, directions in measured.directions.items()
            for kind in ("vectors", "dual")
        },
        details={
            "model": {**source.describe(), **forward_facts},
            "concepts": {n: int(k) for n, k in zip(tokens.names, tokens.n_pairs, strict=True)},
            "contexts": {c.name: len(c.pairs) for c in contexts},
            "directions": list(next(iter(measured.directions.values())).names),
        },
    )


def _matched(contexts: tuple[ContextSet, ...], tokens: ConceptPairs) -> dict[str, str]:
    """Token concept of each context set, where it is among the measured ones."""
    wanted = {c.name: c.unembedding_concept for c in contexts}
    return {name: concept for name, concept in wanted.items() if concept in tokens.names}


def _random_unembeddings(trained: Representations, seed: int) -> Representations:
    """γ of a model before training: independent Gaussian entries of the trained scale (the scale drops out)."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal(trained.unembeddings.shape, dtype=np.float32)
    return replace(trained, unembeddings=gamma, embeddings=None, provenance={"weights": "random"})


def _with_embeddings(
    source: AbstractModelSource,
    trained: Representations,
    plain: Representations | None,
    texts: tuple[str, ...],
    config: MeasureConfig,
    progress: Progress,
) -> tuple[Representations, Representations | None, dict[str, Any]]:
    """Add λ of every text, of the model and of the same architecture with random weights."""
    progress(0.0, "loading the model")
    model = source.forward(device=config.device, dtype=config.dtype)
    share = 1.0 if plain is None else 0.5

    def embedded(of_model: TransformersModel, start: float, stop: float, what: str) -> np.ndarray:
        tell = part(progress, start, stop)
        return read_states(of_model, texts, progress=lambda _, done, of: tell(done / of, what))[LAMBDA]

    lam = embedded(model, 0.05, share, "contexts")
    trained = replace(trained, embeddings=lam, contexts=texts)
    if plain is not None:
        untrained = model.untrained(config.seed)
        lam = embedded(untrained, 0.5, 1.0, "contexts, untrained model")
        # With random weights λ and γ must come from one model (they share a matrix if tied).
        gamma = untrained.unembeddings()[: len(plain.unembeddings)]
        plain = replace(plain, unembeddings=gamma, embeddings=lam, contexts=texts)
    return trained, plain, model.describe()
