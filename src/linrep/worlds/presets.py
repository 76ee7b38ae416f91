"""Named worlds, in one table that `linrep list` prints.

This file only composes graphs and context laws; it must not hold settings of predictors or training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from linrep.errors import UnknownNameError
from linrep.worlds.categorical import CategoricalGraph
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph, Graph
from linrep.worlds.hierarchy import Hierarchy
from linrep.worlds.markov_field import MarkovField
from linrep.worlds.vocabulary import PLAIN, Vocabulary
from linrep.worlds.world import World


@dataclass(frozen=True)
class Preset:
    """A named world: what it is, how its graph is made from a seed, the spelling of its context law, its tokens."""

    summary: str
    graph: Callable[[int], Graph]
    law: str
    vocabulary: Vocabulary = PLAIN


def _royalty() -> ConceptGraph:
    """Three concepts of who a text may be about; the numbers are ours and only meant to be plausible."""
    return ConceptGraph(
        names=("royal", "human", "female"),
        parents=((1,), (), (0, 1)),
        tables=(
            np.array([0.05, 0.2]),  # P(royal | not human, human): lions and bees are royal now and then
            np.array(0.8),  # P(human)
            np.array([[0.5, 0.5], [0.3, 0.4]]),  # P(female | royal, human): tales have more kings than queens
        ),
        label="royalty",
    )


PRESETS: dict[str, Preset] = {
    "demo": Preset(
        "5 concepts, random graph with edge probability 0.5, complete contexts",
        lambda seed: ConceptGraph.random(5, 0.5, seed=seed),
        "complete",
    ),
    "demo-few-known": Preset(
        "5 concepts, random graph with edge probability 0.5, contexts with at most 2 known concepts",
        lambda seed: ConceptGraph.random(5, 0.5, seed=seed),
        "at-most-2",
    ),
    "independent": Preset(
        "5 independent concepts, complete contexts",
        lambda seed: ConceptGraph.independent(5, seed=seed),
        "complete",
    ),
    "chain": Preset(
        "5 concepts in a chain, complete contexts",
        lambda seed: ConceptGraph.chain(5, seed=seed),
        "complete",
    ),
    "tree": Preset(
        "7 concepts in a binary tree, complete contexts",
        lambda seed: ConceptGraph.tree(7, seed=seed),
        "complete",
    ),
    "royalty": Preset(
        "royal, human and female with fixed tables (the seed changes nothing), complete contexts",
        lambda _seed: _royalty(),
        "complete",
    ),
    "ising": Preset(
        "5 concepts in an Ising model with edge probability 0.5, complete contexts",
        lambda seed: MarkovField.ising(5, 0.5, seed=seed),
        "complete",
    ),
    "colours": Preset(
        "3 concepts with 3, 4 and 5 unordered values, complete contexts",
        lambda seed: CategoricalGraph.random((3, 4, 5), 0.5, kind="nominal", seed=seed),
        "complete",
    ),
    "calendar": Preset(
        "weekday (7) and month (12) on rings, complete contexts",
        lambda seed: replace(CategoricalGraph.random((7, 12), 1.0, kind="cyclic", seed=seed), names=("day", "month")),
        "complete",
    ),
    "animals": Preset(
        "animal, and under it mammal and bird, which exist for animals only; contexts with at most 2 known concepts",
        lambda seed: Hierarchy(
            ConceptGraph.from_edges([(0, 1), (0, 2)], names=("animal", "mammal", "bird"), seed=seed),
            {"mammal": ("animal", 1), "bird": ("animal", 1)},
        ),
        "at-most-2",
    ),
    "natural-tokens": Preset(
        "4 concepts; an eighth of the assignments without a token, 2 synonyms each, 8 Zipf tokens that name nothing",
        lambda seed: ConceptGraph.random(4, 0.5, seed=seed),
        "at-most-2",
        Vocabulary(missing=0.125, synonyms=2, nuisance=8),
    ),
}


def preset(name: str, seed: int = 0) -> World:
    """World of a name in `PRESETS`; `seed` draws the graph and its tables.

    Raises
    ------
    UnknownNameError
        On a name that is not in the table; the message lists near misses.

    Examples
    --------
    >>> preset("demo").name
    'm=5 random(0.5) complete'
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    chosen = PRESETS[name]
    return World(chosen.graph(seed), ContextLaw.parse(chosen.law), chosen.vocabulary)
