"""Named worlds, in one table that `linrep list` prints.

This file only composes graphs and context laws; it must not hold settings of predictors or training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from linrep.errors import UnknownNameError
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World


@dataclass(frozen=True)
class Preset:
    """A named world: what it is, how its graph is made from a seed, and the spelling of its context law."""

    summary: str
    graph: Callable[[int], ConceptGraph]
    law: str


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
    return World(chosen.graph(seed), ContextLaw.parse(chosen.law))
