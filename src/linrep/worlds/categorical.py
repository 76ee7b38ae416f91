"""Concepts with any number of values on a directed acyclic graph.

A kind says how the values of a concept relate: nominal values have no order, ordinal ones lie on a line, cyclic ones
on a ring. It shapes the tables that are drawn here and is kept for whoever reads the geometry of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.worlds.checks import check_memory, generator
from linrep.worlds.graph import check_structure, default_names, moral_adjacency, random_edges

KINDS = ("binary", "nominal", "ordinal", "cyclic")
_CONCENTRATION = 1.0  # of ordinal and cyclic values around their mean: neighbours about e^(1/2) times as likely


@dataclass(frozen=True, eq=False)
class CategoricalGraph:
    r"""Concepts with K_i values on a directed acyclic graph with conditional probability tables.

    .. math:: p(c) = \prod_i P(C_i = c_i \mid c_{\mathrm{parents}(i)}) > 0

    Parameters
    ----------
    names
        One name a concept, unique.
    parents
        Positions of the parents of each concept, increasing.
    tables
        ``tables[i]`` has one axis of length K_p a parent, in the order of ``parents[i]``, and a last one of length
        K_i; every entry is positive and each row sums to 1.
    kinds
        One of ``binary``, ``nominal``, ``ordinal``, ``cyclic`` a concept.
    label
        How the graph was made, in a word.

    Raises
    ------
    InvalidInputError
        On duplicate names, a cycle, a table of another shape, a probability outside (0, 1) or a row that does not sum
        to 1.
    UnknownNameError
        On an unknown kind.

    Examples
    --------
    >>> import numpy as np
    >>> CategoricalGraph(("colour",), ((),), (np.array([0.5, 0.25, 0.25]),), ("nominal",)).joint().tolist()
    [0.5, 0.25, 0.25]
    """

    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[Float64[np.ndarray, "..."], ...]
    kinds: tuple[str, ...]
    label: str = "given"

    def __post_init__(self) -> None:
        check_structure(self.names, self.parents, len(self.tables))
        if len(self.kinds) != len(self.names):
            raise InvalidInputError(f"{len(self.kinds)} kinds for {len(self.names)} concepts: give one a concept")
        for kind in self.kinds:
            if kind not in KINDS:
                raise UnknownNameError("kind of concept", kind, KINDS)
        tables = tuple(np.array(table, dtype=np.float64) for table in self.tables)
        for name, above, table in zip(self.names, self.parents, tables, strict=True):
            shape = (
                *(tables[p].shape[-1] if tables[p].ndim else 0 for p in above),
                table.shape[-1] if table.ndim else 0,
            )
            if table.shape != shape or shape[-1] < 2:
                raise InvalidInputError(
                    f"the table of concept {name!r} has shape {table.shape}: one axis a parent with its number of "
                    f"values, {shape[:-1]}, and a last one for the at least 2 values of the concept"
                )
            if not ((table > 0) & (table < 1)).all():
                bad = table[~((table > 0) & (table < 1))].flat[0]
                raise InvalidInputError(
                    f"P({name} | parents) has the value {bad}: every probability must lie strictly between 0 and 1"
                )
            if not np.allclose(table.sum(axis=-1), 1, rtol=0, atol=1e-9):
                worst = table.sum(axis=-1).ravel()[np.abs(table.sum(axis=-1) - 1).argmax()]
                raise InvalidInputError(f"P({name} | parents) sums to {worst:.6g} in a row: it must sum to 1")
            table.setflags(write=False)
        object.__setattr__(self, "tables", tables)

    @classmethod
    def random(
        cls,
        values: Sequence[int],
        edge_probability: float = 0.5,
        *,
        kind: str = "nominal",
        low: float = 0.3,
        high: float = 0.7,
        seed: int = 0,
    ) -> CategoricalGraph:
        """Erdős–Rényi graph over concepts with these numbers of values, all of one kind.

        Nominal (and binary): each row of a table is proportional to weights uniform on [low, high]. Ordinal and
        cyclic: a bump around a place drawn for each row, on a line or on a ring, times such weights.

        Raises
        ------
        InvalidInputError
            On fewer than 2 values, a probability outside [0, 1], a range outside (0, 1), or too large a table.
        """
        if bad := [k for k in values if k < 2]:
            raise InvalidInputError(f"a concept has {bad[0]} values: it needs at least 2")
        if not 0 < low <= high < 1:
            raise InvalidInputError(f"the range of weights is [{low}, {high}]: it must satisfy 0 < low ≤ high < 1")
        rng = generator(seed)
        edges = random_edges(len(values), edge_probability, rng)
        parents = tuple(tuple(sorted(a for a, b in edges if b == i)) for i in range(len(values)))
        tables = []
        for k, above in zip(values, parents, strict=True):
            shape = tuple(values[p] for p in above)
            check_memory("a table of a concept", 8 * k * int(np.prod(shape)), "use fewer concepts, values or edges")
            weights = rng.uniform(low, high, size=(*shape, k)) * _bump(kind, rng.uniform(0, k, size=(*shape, 1)), k)
            tables.append(weights / weights.sum(axis=-1, keepdims=True))
        sizes = "·".join(map(str, values)) if len(set(values)) > 1 else f"K={values[0]}"
        return cls(
            names=default_names(len(values)),
            parents=parents,
            tables=tuple(tables),
            kinds=(kind,) * len(values),
            label=f"{kind}({sizes}, {edge_probability:g})",
        )

    @property
    def n_concepts(self) -> int:
        """Number m of concepts."""
        return len(self.names)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number K_i of values of each concept."""
        return tuple(table.shape[-1] for table in self.tables)

    def joint(self) -> Float64[np.ndarray, "..."]:
        """p(c) for every assignment, one axis of length K_i a concept; it sums to 1.

        Raises
        ------
        InvalidInputError
            If the assignments do not fit in memory, or a probability is 0 in float64.
        """
        values = self.cardinalities
        check_memory(f"the joint of {self.n_concepts} concepts", 8 * int(np.prod(values)), "use fewer concepts")
        joint = np.ones(values)
        for i, (above, table) in enumerate(zip(self.parents, self.tables, strict=True)):
            axes = (*above, i)
            ordered = table.transpose(np.argsort(axes))
            joint *= ordered.reshape([values[a] if a in axes else 1 for a in range(len(values))])
        if joint.min() <= 0:
            raise InvalidInputError("an assignment has probability 0 in float64: move the tables away from 0 and 1")
        return joint

    def moral_adjacency(self) -> Bool[np.ndarray, "concept concept"]:
        """Which concepts are neighbours: joined by an edge, or parents of one child."""
        return moral_adjacency(self.parents)


def _bump(kind: str, place: Float64[np.ndarray, "..."], k: int) -> Float64[np.ndarray, "..."]:
    """Weights of the values around a place: flat for nominal values."""
    if kind == "ordinal":
        return np.exp(-_CONCENTRATION * np.square(np.arange(k) + 0.5 - place) / 2)
    if kind == "cyclic":
        return np.exp(_CONCENTRATION * np.cos(2 * np.pi * (np.arange(k) - place) / k))
    return np.ones(k)
