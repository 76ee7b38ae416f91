"""From the settings of a cell to its world: one seed, one random world of that kind."""

from __future__ import annotations

from linrep.errors import InvalidInputError
from linrep.studies.origins_cells import Cell
from linrep.worlds.categorical import CategoricalGraph
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.graph import ConceptGraph, Graph
from linrep.worlds.markov_field import MarkovField
from linrep.worlds.sentences import AnyWorld, SentenceWorld
from linrep.worlds.vocabulary import Vocabulary
from linrep.worlds.world import World

_MOST_TRIES = 100


def make_world(cell: Cell, seed: int) -> AnyWorld:
    """Random world of a cell; the seed draws the graph, its tables, the missing tokens and the sentences.

    Tokens that are missing are drawn again (from the seed) until every context has one that agrees with it.
    """
    world = _world(cell, seed)
    return SentenceWorld(world, seed=seed) if cell.sentences else world


def _world(cell: Cell, seed: int) -> World:
    graph, law = _graph(cell, seed), ContextLaw.parse(cell.law)
    if not cell.missing:
        return World(graph, law)
    for attempt in range(_MOST_TRIES):
        world = World(graph, law, Vocabulary(missing=cell.missing, seed=seed + 1000 * attempt))
        try:
            world.p_context  # noqa: B018 - refuses a context without tokens
        except InvalidInputError:
            continue
        return world
    raise InvalidInputError(f"{cell.name}: {_MOST_TRIES} draws of missing tokens left a context without any")


def _graph(cell: Cell, seed: int) -> Graph:
    name, _, amount = cell.graph.partition("-")
    m, low, high = cell.concepts, cell.low, cell.high
    if cell.values > 2:
        sizes = (cell.values,) * m
        return CategoricalGraph.random(sizes, float(amount), kind=cell.kind, low=low, high=high, seed=seed)
    if name == "random":
        return ConceptGraph.random(m, float(amount), low=low, high=high, seed=seed)
    if name == "ising":
        return MarkovField.ising(m, float(amount), seed=seed)
    if name == "independent":
        return ConceptGraph.independent(m, low=low, high=high, seed=seed)
    if name == "chain":
        return ConceptGraph.chain(m, low=low, high=high, seed=seed)
    if name == "tree":
        return ConceptGraph.tree(m, low=low, high=high, seed=seed)
    raise InvalidInputError(f"unknown graph {cell.graph!r}: write independent, chain, tree, random-P or ising-P")
