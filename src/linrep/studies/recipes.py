"""From the settings of a cell to its world: one seed, one random world of that kind."""

from __future__ import annotations

from linrep.errors import InvalidInputError
from linrep.studies.origins_cells import Cell
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph
from linrep.worlds.world import World


def make_world(cell: Cell, seed: int) -> World:
    """Random world of a cell; the seed draws the graph, its tables and whatever else is random in it."""
    return World(_graph(cell, seed), ContextLaw.parse(cell.law))


def _graph(cell: Cell, seed: int) -> ConceptGraph:
    name, _, amount = cell.graph.partition("-")
    m, low, high = cell.concepts, cell.low, cell.high
    if name == "random":
        return ConceptGraph.random(m, float(amount), low=low, high=high, seed=seed)
    if name == "independent":
        return ConceptGraph.independent(m, low=low, high=high, seed=seed)
    if name == "chain":
        return ConceptGraph.chain(m, low=low, high=high, seed=seed)
    if name == "tree":
        return ConceptGraph.tree(m, low=low, high=high, seed=seed)
    raise InvalidInputError(f"unknown graph {cell.graph!r}: write independent, chain, tree, random-P or ising-P")
