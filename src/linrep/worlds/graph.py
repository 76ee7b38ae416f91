"""Concept graphs: binary concepts, who depends on whom, and the exact joint p(c) they imply.

Concepts with more values are in `categorical`, undirected graphs in `markov_field`, children that exist only under a
value of their parent in `hierarchy`; a `World` takes any of them. This file knows nothing about contexts or tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import check_memory, check_n_concepts, generator


@runtime_checkable
class Graph(Protocol):
    """What a world needs of its concepts, whatever joins them."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name a concept."""
        ...

    @property
    def label(self) -> str:
        """How the graph was made, in a word."""
        ...

    @property
    def n_concepts(self) -> int:
        """Number m of concepts."""
        ...

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number K_i of values of each concept."""
        ...

    def joint(self) -> Float64[np.ndarray, "..."]:
        """p(c), one axis of length K_i a concept; 0 only where an assignment cannot be."""
        ...

    def moral_adjacency(self) -> Bool[np.ndarray, "concept concept"]:
        """Which concepts are neighbours: others are independent given all the rest."""
        ...


def default_names(n_concepts: int) -> tuple[str, ...]:
    """``("C1", ..., "Cm")``, the names of concepts that were given none."""
    return tuple(f"C{i + 1}" for i in range(n_concepts))


# Arrays have no single truth value, so two graphs are compared by identity (eq=False) and not field by field.
@dataclass(frozen=True, eq=False)
class ConceptGraph:
    r"""Binary concepts C_1..C_m on a directed acyclic graph with conditional probability tables.

    .. math:: p(c) = \prod_i P(C_i = c_i \mid c_{\mathrm{parents}(i)}) > 0

    Parameters
    ----------
    names
        One name a concept, unique.
    parents
        Positions of the parents of each concept, increasing.
    tables
        ``tables[i]`` has shape ``(2,) * len(parents[i])`` and holds P(C_i = 1 | parents), one axis a parent in
        the order of ``parents[i]``, every entry strictly between 0 and 1.
    label
        How the graph was made, in a word: ``"chain"``, ``"random(0.5)"``.

    Raises
    ------
    InvalidInputError
        On duplicate names, a cycle (which is named), a table of another shape or a probability outside (0, 1).

    Source: Jiang, Rajendran, Ravikumar, Aragam, Veitch, "On the Origins of Linear Representations in Large
    Language Models", ICML 2024 (its latent concept model).

    Examples
    --------
    >>> import numpy as np
    >>> rain = ConceptGraph(("rain", "wet"), ((), (0,)), (np.array(0.25), np.array([0.5, 0.75])))
    >>> rain.joint().tolist()
    [[0.375, 0.375], [0.0625, 0.1875]]
    """

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[Float64[np.ndarray, "..."], ...]
    label: str = "given"

    def __post_init__(self) -> None:
        check_structure(self.names, self.parents, len(self.tables))
        tables = tuple(np.array(table, dtype=np.float64) for table in self.tables)
        for name, parents, table in zip(self.names, self.parents, tables, strict=True):
            if table.shape != (2,) * len(parents):
                raise InvalidInputError(
                    f"the table of concept {name!r} has shape {table.shape}, not {(2,) * len(parents)}: "
                    "one axis of length 2 a parent"
                )
            if not ((table > 0) & (table < 1)).all():  # NaN fails both comparisons
                bad = table[~((table > 0) & (table < 1))].flat[0]
                raise InvalidInputError(
                    f"P({name} = 1 | parents) has the value {bad}: every probability must lie strictly between 0 and 1"
                )
            table.setflags(write=False)
        object.__setattr__(self, "tables", tables)

    @classmethod
    def random(
        cls,
        n_concepts: int,
        edge_probability: float = 0.5,
        *,
        low: float = 0.3,
        high: float = 0.7,
        seed: int = 0,
    ) -> ConceptGraph:
        """Erdős–Rényi graph: the concepts in a random order, each earlier one a parent of each later one with
        probability `edge_probability`; P(C_i = 1 | parents) uniform on [low, high].

        Raises
        ------
        InvalidInputError
            On fewer than one concept, a probability outside [0, 1] or a range outside (0, 1).
        """
        check_n_concepts(n_concepts)
        rng = generator(seed)
        edges = random_edges(n_concepts, edge_probability, rng)
        label = f"random({edge_probability:g})"
        return cls._drawn(edges, default_names(n_concepts), low, high, rng, label)

    @classmethod
    def from_edges(
        cls,
        edges: Iterable[tuple[int, int]],
        n_concepts: int | None = None,
        *,
        names: Sequence[str] | None = None,
        low: float = 0.3,
        high: float = 0.7,
        seed: int = 0,
    ) -> ConceptGraph:
        """Graph with the given edges (parent, child); P(C_i = 1 | parents) uniform on [low, high].

        Without `n_concepts` there are as many concepts as `names`, or as the largest position named by an edge.

        Raises
        ------
        InvalidInputError
            On a cycle, a position that does not exist, names of another number or a range outside (0, 1).

        Examples
        --------
        >>> ConceptGraph.from_edges([(0, 1), (0, 2)], names=["royal", "human", "female"]).parents
        ((), (0,), (0,))
        """
        edges = sorted(set(edges))
        if n_concepts is None:
            n_concepts = len(names) if names is not None else 1 + max((max(e) for e in edges), default=-1)
        check_n_concepts(n_concepts)
        if names is not None and len(names) != n_concepts:
            raise InvalidInputError(f"{len(names)} names for {n_concepts} concepts")
        for edge in edges:
            if not all(0 <= end < n_concepts for end in edge):
                raise InvalidInputError(f"edge {edge} names a concept outside 0..{n_concepts - 1}")
        names = default_names(n_concepts) if names is None else tuple(names)
        return cls._drawn(edges, names, low, high, generator(seed), "given")

    @classmethod
    def independent(cls, n_concepts: int, *, low: float = 0.3, high: float = 0.7, seed: int = 0) -> ConceptGraph:
        """No edges: p(c) is the product of its marginals."""
        check_n_concepts(n_concepts)
        rng = generator(seed)
        return cls._drawn([], default_names(n_concepts), low, high, rng, "independent")

    @classmethod
    def chain(cls, n_concepts: int, *, low: float = 0.3, high: float = 0.7, seed: int = 0) -> ConceptGraph:
        """C1 → C2 → ... → Cm."""
        check_n_concepts(n_concepts)
        edges = [(i - 1, i) for i in range(1, n_concepts)]
        rng = generator(seed)
        return cls._drawn(edges, default_names(n_concepts), low, high, rng, "chain")

    @classmethod
    def tree(
        cls, n_concepts: int, *, branching: int = 2, low: float = 0.3, high: float = 0.7, seed: int = 0
    ) -> ConceptGraph:
        """Complete tree from C1 down, filled level by level with `branching` children a concept.

        Raises
        ------
        InvalidInputError
            On `branching` below 1, besides the errors of `from_edges`.
        """
        check_n_concepts(n_concepts)
        if branching < 1:
            raise InvalidInputError(f"branching is {branching}: a tree needs at least 1 child a concept")
        edges = [((i - 1) // branching, i) for i in range(1, n_concepts)]
        rng = generator(seed)
        return cls._drawn(edges, default_names(n_concepts), low, high, rng, f"tree({branching})")

    @classmethod
    def _drawn(
        cls,
        edges: Sequence[tuple[int, int]],
        names: tuple[str, ...],
        low: float,
        high: float,
        rng: np.random.Generator,
        label: str,
    ) -> ConceptGraph:
        """Graph with these edges and tables drawn concept by concept."""
        if not 0 < low <= high < 1:
            raise InvalidInputError(f"the Bernoulli range is [{low}, {high}]: it must satisfy 0 < low ≤ high < 1")
        parents = tuple(tuple(sorted(a for a, b in edges if b == i)) for i in range(len(names)))
        for name, above in zip(names, parents, strict=True):
            check_memory(
                f"the table of concept {name!r} with {len(above)} parents",
                8 * 2 ** len(above),
                "use fewer concepts or edges",
            )
        tables = tuple(np.asarray(rng.uniform(low, high, size=(2,) * len(above))) for above in parents)
        return cls(names=names, parents=parents, tables=tables, label=label)

    @property
    def n_concepts(self) -> int:
        """Number m of concepts."""
        return len(self.names)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of values of each concept: 2."""
        return (2,) * self.n_concepts

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """(parent, child) positions, by child."""
        return tuple((p, i) for i, parents in enumerate(self.parents) for p in parents)

    def joint(self) -> Float64[np.ndarray, "..."]:
        """p(c) for every assignment, an array of shape (2,) * m with one axis a concept; it sums to 1.

        Raises
        ------
        InvalidInputError
            If 2^m numbers do not fit in memory, or a probability is so small that it is 0 in float64.
        """
        m = self.n_concepts
        check_memory(f"the joint of {m} concepts", 8 * 2**m, "use fewer concepts")
        joint = np.ones((2,) * m)
        for i, (parents, table) in enumerate(zip(self.parents, self.tables, strict=True)):
            axes = (*parents, i)
            conditional = np.stack([1 - table, table], axis=-1).transpose(np.argsort(axes))
            joint *= conditional.reshape([2 if axis in axes else 1 for axis in range(m)])
        if joint.min() <= 0:
            raise InvalidInputError(
                "an assignment has probability 0 in float64: move the tables away from 0 and 1, "
                "every assignment must be possible"
            )
        return joint

    def moral_adjacency(self) -> Bool[np.ndarray, "concept concept"]:
        """Which concepts are neighbours: joined by an edge, or parents of one child (the moral graph).

        Concepts that are not neighbours are independent given all the others. Symmetric, diagonal False.
        """
        return moral_adjacency(self.parents)


def check_structure(names: Sequence[str], parents: Sequence[Sequence[int]], n_tables: int) -> None:
    """Raise `InvalidInputError` on duplicate names, parents that do not exist, a cycle, or tables of another number."""
    m = len(names)
    check_n_concepts(m)
    if twice := sorted({n for n in names if list(names).count(n) > 1}):
        raise InvalidInputError(f"concept names must be unique, seen twice: {', '.join(twice)}")
    if len(parents) != m or n_tables != m:
        raise InvalidInputError(
            f"{m} names, {len(parents)} lists of parents and {n_tables} tables: each concept needs one of each"
        )
    for name, above in zip(names, parents, strict=True):
        if list(above) != sorted({p for p in above if 0 <= p < m}):
            raise InvalidInputError(
                f"parents of concept {name!r} are {above}: they must be increasing positions in 0..{m - 1}"
            )
    if cycle := _find_cycle(parents):
        raise InvalidInputError(
            f"the edges form the cycle {' → '.join(names[i] for i in cycle)}: remove one of them, "
            "a concept graph is acyclic"
        )


def moral_adjacency(parents: Sequence[Sequence[int]]) -> Bool[np.ndarray, "concept concept"]:
    """Joined by an edge, or parents of one child. Symmetric, diagonal False."""
    adjacency = np.zeros((len(parents), len(parents)), dtype=bool)
    for i, above in enumerate(parents):
        family = [*above, i]
        adjacency[np.ix_(family, family)] = True
    np.fill_diagonal(adjacency, False)
    return adjacency


def random_edges(n_concepts: int, edge_probability: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Erdős–Rényi: concepts in a random order, each earlier one a parent of each later one with that probability."""
    if not 0 <= edge_probability <= 1:
        raise InvalidInputError(f"edge_probability is {edge_probability}: it must lie in [0, 1]")
    order = rng.permutation(n_concepts).tolist()
    drawn = rng.random((n_concepts, n_concepts)) < edge_probability
    return [(order[a], order[b]) for b in range(n_concepts) for a in range(b) if drawn[a, b]]


def _find_cycle(parents: Sequence[Sequence[int]]) -> list[int]:
    """Concepts along one cycle, in the direction of the edges and first one repeated; empty if there is none."""
    left = set(range(len(parents)))
    while left:
        roots = {i for i in left if not left & set(parents[i])}
        if not roots:
            break
        left -= roots
    if not left:
        return []
    # Every concept left has a parent that is left too: walking up must come back to a concept seen before.
    path = [min(left)]
    while (above := next(p for p in parents[path[-1]] if p in left)) not in path:
        path.append(above)
    return [above, *reversed(path[path.index(above) :])]
