"""Counterfactual steps: which tokens, and which contexts, differ in one concept only."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from jaxtyping import Int8, Int64

from linrep.geometry.pairs import ConceptPairs, Side
from linrep.worlds.contexts import context_codes
from linrep.worlds.graph import Graph

Rows = Int64[np.ndarray, "_"]


def token_pairs(graph: Graph, token_concepts: Int8[np.ndarray, "token concept"], synonyms: int) -> ConceptPairs:
    """Pairs of tokens that step from c_(i→a) to c_(i→b); the S tokens of an assignment follow each other."""
    values = np.array(graph.cardinalities)
    weight = np.append(np.cumprod(values[::-1])[::-1][1:], 1)
    codes = (token_concepts[::synonyms].astype(np.int64) * weight).sum(axis=1)
    names, negative, positive = _steps(graph, token_concepts[::synonyms], codes, weight)
    place = np.arange(synonyms)
    negative, positive = (
        [(rows[:, None] * synonyms + place).ravel() for rows in ends] for ends in (negative, positive)
    )  # fmt: skip
    return _disjoint_pairs(names, negative, positive, "unembedding")


def context_pairs(graph: Graph, context_concepts: Int8[np.ndarray, "context concept"]) -> ConceptPairs:
    """Pairs of contexts that differ in the known value of one concept."""
    values = np.array(graph.cardinalities)
    weight = np.append(np.cumprod(values[::-1] + 1)[::-1][1:], 1)
    codes = context_codes(context_concepts, graph.cardinalities)  # increasing: contexts are in lexicographic order
    return _disjoint_pairs(*_steps(graph, context_concepts, codes, weight), "embedding")


def _steps(
    graph: Graph, concepts: Int8[np.ndarray, "row concept"], codes: Int64[np.ndarray, "row"], weight: np.ndarray
) -> tuple[tuple[str, ...], list[Rows], list[Rows]]:
    """For each concept and step a < b the rows with value a whose counterpart with value b exists, and these."""
    names, negative, positive = [], [], []
    for i, (name, k) in enumerate(zip(graph.names, graph.cardinalities, strict=True)):
        for a, b in combinations(range(k), 2):
            rows = np.flatnonzero(concepts[:, i] == a)
            wanted = codes[rows] + (b - a) * weight[i]
            partner = np.searchsorted(codes, wanted)
            exists = codes[np.minimum(partner, len(codes) - 1)] == wanted
            names.append(name if k == 2 else f"{name}:{a}→{b}")
            negative.append(rows[exists])
            positive.append(partner[exists])
    return tuple(names), negative, positive


def _disjoint_pairs(names: tuple[str, ...], negative: list[Rows], positive: list[Rows], side: Side) -> ConceptPairs:
    """Pad pairs that share no row within a concept, so that each pair is its own group.

    The same as `ConceptPairs.from_lists`, which would walk through 200,000 pairs in Python at m = 10.
    """
    width = max(len(rows) for rows in negative)
    mask = np.arange(width) < np.array([len(rows) for rows in negative])[:, None]
    padded = np.zeros((3, len(names), width), dtype=np.int64)
    padded[0][mask] = np.concatenate(negative)
    padded[1][mask] = np.concatenate(positive)
    padded[2] = np.arange(width) * mask
    return ConceptPairs(names=names, negative=padded[0], positive=padded[1], mask=mask, group=padded[2], side=side)
