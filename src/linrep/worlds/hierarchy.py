"""Concepts that exist only under one value of another: mammals are animals, and stones are neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from linrep.errors import InvalidInputError
from linrep.worlds.graph import Graph


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A graph some of whose concepts exist only under a value of a parent; elsewhere they have the value 0.

        p(c) = Σ over the values the forced children would have had of p_base(c)

    p(c) is 0 for assignments that cannot be (a child with another value where it does not exist): a `World` has
    neither tokens nor contexts for them.

    Parameters
    ----------
    base
        The graph that draws every concept as if it existed everywhere.
    exists
        For each child its parent and the value of the parent under which it exists, all by name or position order of
        ``base.names``: ``{"mammal": ("animal", 1)}``.

    Raises
    ------
    InvalidInputError
        On a concept or value that does not exist, or a child above itself.

    Examples
    --------
    >>> from linrep import ConceptGraph
    >>> base = ConceptGraph.from_edges([(0, 1)], names=["animal", "mammal"], low=0.5, high=0.5)
    >>> Hierarchy(base, {"mammal": ("animal", 1)}).joint().tolist()
    [[0.5, 0.0], [0.25, 0.25]]
    """

    base: Graph
    exists: Mapping[str, tuple[str, int]]

    def __post_init__(self) -> None:
        names = self.base.names
        for child, (parent, value) in self.exists.items():
            for name in (child, parent):
                if name not in names:
                    raise InvalidInputError(f"the hierarchy names {name!r}, which is none of {', '.join(names)}")
            if not 0 <= value < self.cardinalities[names.index(parent)]:
                raise InvalidInputError(f"{child!r} exists under {parent!r} = {value}, a value that it does not have")
        self._order()

    def _order(self) -> list[str]:
        """Children, those nearer to the top first."""
        left, order = dict(self.exists), []
        while left:
            ready = [child for child, (parent, _) in left.items() if parent not in left]
            if not ready:
                raise InvalidInputError(f"the hierarchy goes round in a circle: {', '.join(left)}")
            order += ready
            left = {child: above for child, above in left.items() if child not in ready}
        return order

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the base graph."""
        return self.base.names

    @property
    def label(self) -> str:
        """How it was made."""
        return f"hierarchy({self.base.label})"

    @property
    def n_concepts(self) -> int:
        """Number m of concepts."""
        return self.base.n_concepts

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number K_i of values of each concept, as if it existed everywhere."""
        return self.base.cardinalities

    def joint(self) -> Float64[np.ndarray, "..."]:
        """p(c), 0 for assignments that cannot be; it sums to 1."""
        joint = self.base.joint().copy()
        for child in self._order():  # a child of a child that does not exist has a parent of value 0
            parent, value = self.exists[child]
            i, p = self.names.index(child), self.names.index(parent)
            moved = np.moveaxis(joint, (p, i), (0, 1))  # a view: what is written here is written there
            absent = [v for v in range(self.cardinalities[p]) if v != value]
            moved[absent, 0] = moved[absent].sum(axis=1)
            moved[absent, 1:] = 0
        return joint

    def moral_adjacency(self) -> Bool[np.ndarray, "concept concept"]:
        """Neighbours in the base graph, and each child with its parent and with that parent's other neighbours.

        Whether the child exists is read off the parent, so the child's own neighbours meet the parent.
        """
        adjacency = self.base.moral_adjacency().copy()
        for child in self._order():
            i, p = self.names.index(child), self.names.index(self.exists[child][0])
            adjacency[i, p] = adjacency[p, i] = True
            adjacency[p] |= adjacency[i]
            adjacency[:, p] |= adjacency[:, i]
        np.fill_diagonal(adjacency, False)
        return adjacency
