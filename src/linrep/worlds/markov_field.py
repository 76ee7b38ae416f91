"""Undirected graphs: pairwise Markov random fields, exact by enumeration (see `gibbs` for those that are too large)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import check_memory, check_n_concepts, generator
from linrep.worlds.graph import default_names, random_edges


@dataclass(frozen=True, eq=False)
class MarkovField:
    r"""Concepts that interact in pairs.

    .. math:: p(c) \propto \exp\Bigl(\sum_i h_i(c_i) + \sum_{i<j} J_{ij}(c_i, c_j)\Bigr)

    Parameters
    ----------
    names
        One name a concept, unique.
    field
        h_i, one array of shape (K_i,) a concept, in nats.
    couplings
        J_ij, an array of shape (K_i, K_j) for each edge (i, j) with i < j, in nats.
    label
        How it was made, in a word.

    Raises
    ------
    InvalidInputError
        On duplicate names, an edge that does not exist or is turned round, a coupling of another shape, or a value
        that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> pair = MarkovField.ising(2, edges=[(0, 1)], coupling=(1.0, 1.0), field=(0.0, 0.0))
    >>> [round(p, 3) for p in pair.joint().ravel().tolist()]
    [0.44, 0.06, 0.06, 0.44]
    """

    names: tuple[str, ...]
    field: tuple[Float64[np.ndarray, "_"], ...]
    couplings: Mapping[tuple[int, int], Float64[np.ndarray, "_ _"]]
    label: str = "given"

    def __post_init__(self) -> None:
        m = len(self.names)
        check_n_concepts(m)
        if len(set(self.names)) != m:
            raise InvalidInputError(f"concept names must be unique, not {', '.join(self.names)}")
        if len(self.field) != m:
            raise InvalidInputError(f"{len(self.field)} fields for {m} concepts: give one a concept")
        values = self.cardinalities
        for name, h in zip(self.names, self.field, strict=True):
            if len(h) < 2 or not np.isfinite(h).all():
                raise InvalidInputError(f"the field of concept {name!r} is {h.tolist()}: at least 2 finite numbers")
        for (i, j), coupling in self.couplings.items():
            if not 0 <= i < j < m:
                raise InvalidInputError(f"edge {(i, j)} must be two positions i < j in 0..{m - 1}")
            if coupling.shape != (values[i], values[j]) or not np.isfinite(coupling).all():
                raise InvalidInputError(
                    f"the coupling of {self.names[i]!r} and {self.names[j]!r} has shape {coupling.shape} or an entry "
                    f"that is not finite: it must hold {values[i]} × {values[j]} finite numbers"
                )

    @classmethod
    def ising(
        cls,
        n_concepts: int,
        edge_probability: float = 0.5,
        *,
        edges: Sequence[tuple[int, int]] | None = None,
        coupling: tuple[float, float] = (-0.5, 0.5),
        field: tuple[float, float] = (-0.3, 0.3),
        seed: int = 0,
    ) -> MarkovField:
        """Binary concepts as spins s = ±1: J s_i s_j an edge and h s_i a concept, J and h uniform on their ranges.

        The edges are those given, or each one with `edge_probability`.
        """
        spins = np.array([-1.0, 1.0])
        drawn = cls._edges(n_concepts, edge_probability, edges, seed)
        rng = generator(seed + 1)
        _check_range("coupling", coupling)
        _check_range("field", field)
        h = tuple(rng.uniform(*field) * spins for _ in range(n_concepts))
        couplings = {edge: rng.uniform(*coupling) * np.outer(spins, spins) for edge in drawn}
        return cls(default_names(n_concepts), h, couplings, f"ising({edge_probability:g})")

    @classmethod
    def potts(
        cls,
        values: Sequence[int],
        edge_probability: float = 0.5,
        *,
        edges: Sequence[tuple[int, int]] | None = None,
        coupling: tuple[float, float] = (-1.0, 1.0),
        field: tuple[float, float] = (-0.3, 0.3),
        seed: int = 0,
    ) -> MarkovField:
        """Concepts with K_i values: J on each edge where both have the same value, h_i uniform for each value."""
        drawn = cls._edges(len(values), edge_probability, edges, seed)
        rng = generator(seed + 1)
        _check_range("coupling", coupling)
        _check_range("field", field)
        h = tuple(rng.uniform(*field, size=k) for k in values)
        couplings = {(i, j): rng.uniform(*coupling) * np.eye(values[i], values[j]) for i, j in drawn}
        return cls(default_names(len(values)), h, couplings, f"potts({edge_probability:g})")

    @staticmethod
    def _edges(
        n_concepts: int, edge_probability: float, edges: Sequence[tuple[int, int]] | None, seed: int
    ) -> list[tuple[int, int]]:
        check_n_concepts(n_concepts)
        chosen = random_edges(n_concepts, edge_probability, generator(seed)) if edges is None else edges
        return sorted({(min(a, b), max(a, b)) for a, b in chosen})

    @property
    def n_concepts(self) -> int:
        """Number m of concepts."""
        return len(self.names)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number K_i of values of each concept."""
        return tuple(len(h) for h in self.field)

    def joint(self) -> Float64[np.ndarray, "..."]:
        """p(c) for every assignment, one axis of length K_i a concept; it sums to 1.

        Raises
        ------
        InvalidInputError
            If the assignments do not fit in memory, or a probability is 0 in float64.
        """
        values, m = self.cardinalities, self.n_concepts
        check_memory(f"the joint of {m} concepts", 8 * int(np.prod(values)), "use fewer concepts, or sample them")
        energy = np.zeros(values)
        for i, h in enumerate(self.field):
            energy += h.reshape([-1 if a == i else 1 for a in range(m)])
        for (i, j), coupling in self.couplings.items():
            energy += coupling.reshape([values[a] if a in (i, j) else 1 for a in range(m)])
        joint = np.exp(energy - energy.max())
        joint /= joint.sum()
        if joint.min() <= 0:
            raise InvalidInputError("an assignment has probability 0 in float64: take smaller couplings and fields")
        return joint

    def moral_adjacency(self) -> Bool[np.ndarray, "concept concept"]:
        """Which concepts are neighbours: those joined by an edge."""
        adjacency = np.zeros((self.n_concepts, self.n_concepts), dtype=bool)
        for i, j in self.couplings:
            adjacency[i, j] = adjacency[j, i] = True
        return adjacency


def _check_range(what: str, ends: tuple[float, float]) -> None:
    if not (np.isfinite(ends).all() and ends[0] <= ends[1]):
        raise InvalidInputError(f"the range of the {what} is {ends}: two finite numbers, the smaller first")
