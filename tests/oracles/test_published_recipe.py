"""The published recipe, written out naively on the real SmolLM2, and what `measure` and the directions say.

Whiten γ with the covariance of the vocabulary, take the normalised mean difference of the word pairs, project each pair
on the direction of the others, and compare directions with each other and with those of contexts.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from linrep.concepts.load import context_pairs, load_concepts, load_contexts, token_pairs
from linrep.geometry.measure import measure
from linrep.models.source import open_model

pytestmark = pytest.mark.smollm2

CONCEPTS = ["male-female", "noun-plural", "verb-Ved", "lower-upper", "frequent-infrequent"]


@pytest.fixture(scope="module")
def whitened(smollm2_folder):
    """Source, γ in float64, C^−½ and C^½ by eigendecomposition of the plain covariance."""
    source = open_model(smollm2_folder)
    gamma = source.unembeddings().astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(gamma.T, bias=True))
    return source, gamma, vectors @ np.diag(values**-0.5) @ vectors.T, vectors @ np.diag(values**0.5) @ vectors.T


def cos(a, b):
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_leave_one_out_projections_and_directions(whitened):
    source, gamma, whiten, _ = whitened
    pairs = token_pairs(load_concepts(CONCEPTS), source.vocabulary().find)
    measured = measure(source.representations(), pairs, inner_products=["causal"], null_names=())
    directions = {}
    for name in pairs.names:
        differences = [whiten @ (gamma[b] - gamma[a]) for a, b in pairs.of(name).tolist()]
        n = len(differences)
        left_out = [
            cos(d, np.mean([e for k, e in enumerate(differences) if k != j], axis=0)) for j, d in enumerate(differences)
        ]
        found = measured.pairs.filter(pl.col("concept") == name, pl.col("null").is_null())["cosine"].to_numpy()
        np.testing.assert_allclose(found, left_out, atol=1e-5)
        every = [cos(differences[j], differences[k]) for j in range(n) for k in range(n) if j != k]
        value = measured.measurements.values("parallelism", inner_product="causal")[name]
        assert value == pytest.approx(np.mean(every), abs=1e-5)
        directions[name] = np.mean(differences, axis=0) / np.linalg.norm(np.mean(differences, axis=0))
        # In γ's own coordinates: unit norm under C⁻¹, as published.
        ours = whiten @ measured.directions["causal"][name]
        np.testing.assert_allclose(ours, directions[name], atol=1e-5)
    table = measured.measurements.where(metric="direction_cosine", null=None).table
    for row in table.iter_rows(named=True):
        expected = cos(directions[row["concept"]], directions[row["concept_other"]])
        assert row["value"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.hf
def test_alignment_of_embedding_and_unembedding_directions(whitened):
    from dataclasses import replace

    source, gamma, whiten, unwhiten = whitened
    (contexts,) = load_contexts(["male-female"])
    contexts = replace(contexts, pairs=contexts.pairs[::12])
    texts, of = context_pairs([contexts])
    lam, _ = source.forward(device="cpu").embeddings(texts)
    tokens = token_pairs(load_concepts(CONCEPTS), source.vocabulary().find)
    representations = replace(source.representations(), embeddings=lam, contexts=texts)
    measured = measure(representations, tokens, of, inner_products=["causal"], null_names=(), draws=19)
    delta = np.mean([unwhiten @ (lam[b] - lam[a]).astype(np.float64) for a, b in of.of(contexts.name)], axis=0)
    rows = measured.measurements.where(metric="alignment", null=None).table
    assert len(rows) == len(tokens.names)
    for row in rows.iter_rows(named=True):
        words = [whiten @ (gamma[b] - gamma[a]) for a, b in tokens.of(row["concept_other"]).tolist()]
        assert row["value"] == pytest.approx(cos(delta, np.mean(words, axis=0)), abs=1e-5)
