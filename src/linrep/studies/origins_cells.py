"""The cells of the origins study: what each family varies, and everything one cell needs to be run.

A cell is one kind of world and one way of training; its seeds are its sample. Families share cells: the law of family
C at its default width belongs to family B too, and is trained once. This file trains and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from math import ceil
from typing import Any, Literal

HEADLINE_SEEDS, SEEDS, QUICK_SEEDS = 30, 10, 3
_BOTH_LAWS = ("complete", "at-most-2")
_PHASE_LAWS = ("at-most-1", "at-most-2", "at-most-3", "masked-0.5", "kept-0.5", "complete")

Family = Literal["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"]

# Letter -> the question the family answers.
FAMILIES: dict[Family, str] = {
    "A": "How many concepts: m from 3 to 8, d = m and 2m",
    "B": "How wide: d/m from ½ to 4, and 2^m − 1",
    "C": "Which contexts: at most k known, masked, a fraction kept, all",
    "D": "Which tokens: a share of the assignments has no token",
    "E": "Which graph: independent, chain, tree, random, Ising; how far from even the probabilities are",
    "F": "Which embedding: table, factored, MLP, transformer",
    "G": "Which optimiser, from which initial scale",
    "H": "How many values a concept has, and of which kind",
    "I": "Fixed embeddings: the four cases of implicit bias",
    "J": "When in training: every metric against the step",
}


@dataclass(frozen=True)
class Cell:
    """One kind of world and one way of training; the fields that a family varies are its factors.

    Parameters
    ----------
    concepts, values, kind
        m concepts with K values each, of the kind ``binary``, ``nominal``, ``ordinal`` or ``cyclic``.
    graph
        ``independent``, ``chain``, ``tree``, ``random-P`` or ``ising-P`` (edge probability P).
    low, high
        Range of the Bernoulli parameters of a directed graph.
    law
        Spelling of the context law.
    missing
        Share of the assignments that no token names.
    sentences
        Whether contexts are read as rendered token sequences.
    dim, predictor, optimizer, initial_scale, steps
        As in `linrep.learning.training.fit_many`.
    """

    concepts: int = 5
    dim: int = 10
    law: str = "complete"
    graph: str = "random-0.5"
    low: float = 0.3
    high: float = 0.7
    values: int = 2
    kind: str = "binary"
    missing: float = 0.0
    sentences: bool = False
    predictor: str = "table"
    optimizer: str = "gradient_descent"
    initial_scale: float = 0.01
    steps: int = 15_000

    @property
    def name(self) -> str:
        """Unique label: size, law, and every field that is not the default."""
        parts = [f"m={self.concepts} d={self.dim} {self.law}"]
        default = {f.name: f.default for f in fields(self)}
        for key, value in asdict(self).items():
            if key not in ("concepts", "dim", "law") and value != default[key]:
                parts.append(f"{key.replace('_', ' ')}={value:g}" if isinstance(value, float) else f"{key}={value}")
        return " ".join(parts)


@dataclass(frozen=True)
class Planned:
    """A cell, the families that ask for it, and the number of its seeds: the most that any of them wants."""

    cell: Cell
    families: tuple[str, ...]
    seeds: int


@dataclass
class _Plan:
    """Cells in the order in which they were first asked for."""

    chosen: tuple[str, ...]
    cells: dict[Cell, tuple[list[str], int]] = field(default_factory=dict)

    def add(self, family: str, cells: Iterable[Cell], seeds: int = SEEDS) -> None:
        """Ask for cells on behalf of a family, if that was chosen."""
        if family not in self.chosen:
            return
        for cell in cells:
            families, most = self.cells.get(cell, ([], 0))
            if family not in families:
                families.append(family)
            self.cells[cell] = (families, max(most, seeds))


def plan(families: Iterable[str], *, quick: bool = False) -> list[Planned]:
    """Cells of the families; `quick` has three seeds, at most three concepts and 3,000 steps a cell.

    Family I is not made of cells, see `linrep.studies.frozen`.
    """
    made = _Plan(tuple(families))
    base = Cell()
    made.add("A", [Cell(concepts=m, dim=d) for m in range(3, 9) for d in (m, 2 * m)])
    phase = [replace(base, dim=d, law=law, predictor=p) for p in ("table", "factored") for law in _PHASE_LAWS
             for d in phase_dims(base.concepts)]  # fmt: skip
    for family in ("B", "C", "F"):
        made.add(family, phase, HEADLINE_SEEDS)
    laws = ("masked-0.2", "masked-0.8", "kept-0.25", "kept-0.75")
    made.add("C", [replace(base, law=law) for law in laws], HEADLINE_SEEDS)
    made.add("D", [replace(base, law="at-most-2", missing=share) for share in (0.0, 0.125, 0.25, 0.5)])
    graphs = ("independent", "chain", "tree", "random-0.1", "random-0.3", "random-0.5", "random-0.9", "ising-0.5")
    made.add("E", [replace(base, law=law, graph=graph) for law in _BOTH_LAWS for graph in graphs])
    ranges = ((0.5, 0.5), (0.3, 0.7), (0.1, 0.9), (0.02, 0.98))
    made.add("E", [replace(base, law=law, low=a, high=b) for law in _BOTH_LAWS for a, b in ranges])
    made.add("F", _networks(base))
    optimizers = ("gradient_descent", "momentum", "adam", "adamw")
    scales = (0.001, 0.01, 0.1, 1.0)
    made.add("G", [replace(base, law=law, optimizer=o, initial_scale=scale)
                   for law in _BOTH_LAWS for o in optimizers for scale in scales])  # fmt: skip
    made.add("H", _categorical())
    made.add("J", [replace(base, law=law, dim=d) for law in _BOTH_LAWS for d in (5, 10, 31)], HEADLINE_SEEDS)
    cells = [Planned(cell, tuple(families), seeds) for cell, (families, seeds) in made.cells.items()]
    return _quick(cells) if quick else cells


def phase_dims(concepts: int) -> tuple[int, ...]:
    """Widths with d/m of ½, ¾, 1, 2, 4 (rounded up), and 2^m − 1."""
    return tuple(sorted({*(ceil(share * concepts) for share in (0.5, 0.75, 1, 2, 4)), 2**concepts - 1}))


def _networks(base: Cell) -> list[Cell]:
    """Networks, trained as the Adam tables of family G are; the MLP on sentences lies between the other two."""
    adam = replace(base, optimizer="adam")
    return [
        *(replace(adam, law=law, predictor="mlp", steps=4000) for law in _BOTH_LAWS),
        *(replace(adam, law=law, predictor="mlp", sentences=True, steps=2000) for law in _BOTH_LAWS),
        *(replace(adam, law=law, predictor="transformer", sentences=True, steps=1000) for law in _BOTH_LAWS),
    ]


def _categorical() -> list[Cell]:
    cells = []
    for k, kind in ((2, "binary"), (3, "nominal"), (4, "nominal"), (4, "ordinal"), (4, "cyclic")):
        for law in _BOTH_LAWS:
            for dim in (3 * (k - 1), 6 * (k - 1)):
                cells.append(Cell(concepts=3, dim=dim, law=law, values=k, kind=kind))
    return cells


def _quick(cells: list[Planned]) -> list[Planned]:
    """The same study at a size for a test: fewer concepts, widths that keep d/m, and the duplicates this makes once."""
    small: dict[Cell, Planned] = {}
    for planned in cells:
        old = planned.cell
        m = min(old.concepts, 3)
        full, d = old.dim >= 2**old.concepts - 1, max(1, round(old.dim * m / old.concepts))
        cell = replace(old, concepts=m, dim=2**m - 1 if full and old.values == 2 else d, steps=min(old.steps, 3000))
        if cell.law == "at-most-3":
            continue  # of three concepts these are all
        known = small.get(cell)
        families = dict.fromkeys((*(known.families if known else ()), *planned.families))
        small[cell] = Planned(cell, tuple(families), QUICK_SEEDS)
    return list(small.values())


def step_size(cell: Cell) -> float | None:
    """5 √(3^(m−5)) for gradient descent on tables, the default otherwise.

    A context's share of the loss is p(x): descent at one step size would take 27 times as many steps for m = 8 as for
    m = 5. Sharing the factor between contexts (∝ 1/p) and tokens keeps both sides stable (m = 3 to 8).
    """
    if cell.optimizer == "gradient_descent" and cell.predictor == "table" and cell.values == 2:
        return 5.0 * 3.0 ** ((cell.concepts - 5) / 2)
    return None


def factors(cell: Cell) -> dict[str, Any]:
    """The cell's settings as columns of the table of cells."""
    return {**asdict(cell), "step_size": step_size(cell), "d_over_m": cell.dim / cell.concepts}
