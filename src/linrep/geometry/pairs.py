"""Counterfactual pairs as indices: which rows differ in one concept and in nothing else.

The same type serves word pairs (rows of γ) and context pairs (rows of λ), simulated and real. Text never
enters this file: `linrep.concepts` turns words into rows and fills in what was dropped and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from linrep.errors import InvalidInputError, UnknownNameError

Side = Literal["unembedding", "embedding"]


@dataclass(frozen=True)
class DroppedPair:
    """A pair that was listed but cannot be measured, with the reason in words."""

    concept: str
    negative: str
    positive: str
    reason: str


@dataclass(frozen=True)
class ConceptPairs:
    """Pairs of rows (negative, positive) for each concept, padded to one rectangle with a mask.

    Parameters
    ----------
    names
        One name a concept, unique.
    negative, positive
        Row of the concept's value 0 and of its value 1; the difference is positive − negative.
    mask
        Which entries are pairs; the rest is padding (rows 0).
    group
        Sampling unit of each pair, unique numbers within a concept: pairs of one template (contexts) or
        pairs that share a word are one unit. Intervals resample groups, never single pairs.
    side
        ``"unembedding"`` for rows of γ, ``"embedding"`` for rows of λ.
    families
        Related concepts carry one family name (verb forms are differences of each other); a comparison of
        matched with mismatched concepts leaves out pairs of one family.
    dropped
        What was listed but is not among the pairs, with reasons.

    Examples
    --------
    >>> p = ConceptPairs.from_lists({"gender": [(0, 1), (2, 3)], "tense": [(0, 2)]})
    >>> p.n_pairs.tolist(), p.of("gender").tolist()
    ([2, 1], [[0, 1], [2, 3]])
    """

    names: tuple[str, ...]
    negative: Int[np.ndarray, "concept pair"]
    positive: Int[np.ndarray, "concept pair"]
    mask: Bool[np.ndarray, "concept pair"]
    group: Int[np.ndarray, "concept pair"]
    side: Side = "unembedding"
    families: tuple[str, ...] = ()
    dropped: tuple[DroppedPair, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise InvalidInputError(f"concept names must be unique, seen twice: {', '.join(twice)}")
        shape = (len(self.names), self.negative.shape[1] if self.negative.ndim == 2 else -1)
        for name in ("negative", "positive", "mask", "group"):
            if getattr(self, name).shape != shape:
                raise InvalidInputError(f"{name} has shape {getattr(self, name).shape}, not (concept, pair) = {shape}")
        if not self.families:
            object.__setattr__(self, "families", self.names)
        if len(self.families) != len(self.names):
            raise InvalidInputError(f"{len(self.families)} families for {len(self.names)} concepts")

    @classmethod
    def from_lists(
        cls,
        pairs: Mapping[str, Iterable[tuple[int, int]]],
        *,
        groups: Mapping[str, Sequence[int]] | None = None,
        side: Side = "unembedding",
        families: Mapping[str, str] | None = None,
        dropped: Iterable[DroppedPair] = (),
    ) -> ConceptPairs:
        """Pad lists of (negative row, positive row) into one rectangle.

        Parameters
        ----------
        pairs
            For each concept its pairs of rows.
        groups
            For each concept the sampling unit of each pair; by default pairs that share a row are one unit.
        side, families, dropped
            As the fields of the class.

        Raises
        ------
        InvalidInputError
            On a pair whose two rows are equal, a negative row, a pair listed twice (copies of one pair are no
            further evidence), or groups that are missing or of another length.
        """
        lists = {name: [(int(a), int(b)) for a, b in rows] for name, rows in pairs.items()}
        width = max((len(rows) for rows in lists.values()), default=0)
        shape = (len(lists), width)
        negative, positive, group = (np.zeros(shape, dtype=np.int64) for _ in range(3))
        mask = np.zeros(shape, dtype=bool)
        for i, (name, rows) in enumerate(lists.items()):
            for a, b in rows:
                if a == b or min(a, b) < 0:
                    raise InvalidInputError(f"concept {name!r} has the pair ({a}, {b}): rows must differ and be ≥ 0")
            n = len(rows)
            if len(set(rows)) != n:
                twice = next(pair for pair in rows if rows.count(pair) > 1)
                raise InvalidInputError(
                    f"concept {name!r} lists the pair {twice} twice: keep one, copies are no evidence"
                )
            units = shared_row_groups(rows) if groups is None else list(groups.get(name, ()))
            if len(units) != n:
                raise InvalidInputError(f"concept {name!r} has {n} pairs but {len(units)} groups")
            if n:
                negative[i, :n], positive[i, :n] = np.array(rows).T
                group[i, :n], mask[i, :n] = np.unique(units, return_inverse=True)[1], True
        names = tuple(lists)
        return cls(
            names=names,
            negative=negative,
            positive=positive,
            mask=mask,
            group=group,
            side=side,
            families=tuple((families or {}).get(n, n) for n in names),
            dropped=tuple(dropped),
        )

    @property
    def n_pairs(self) -> Int[np.ndarray, "concept"]:
        """Number of pairs of each concept."""
        return self.mask.sum(axis=1)

    def index(self, name: str) -> int:
        """Position of a concept; near misses are listed when there is none."""
        if name not in self.names:
            raise UnknownNameError("concept", name, self.names)
        return self.names.index(name)

    def of(self, name: str) -> Int[np.ndarray, "pair 2"]:
        """(negative, positive) rows of one concept, without padding."""
        i = self.index(name)
        return np.stack([self.negative[i], self.positive[i]], axis=1)[self.mask[i]]

    def groups_of(self, name: str) -> Int[np.ndarray, "pair"]:
        """Sampling unit of each pair of one concept, without padding."""
        i = self.index(name)
        return self.group[i][self.mask[i]]

    def check_rows(self, n_rows: int) -> None:
        """Raise `InvalidInputError` if a pair names a row that does not exist."""
        largest = max(int(self.negative.max(initial=0)), int(self.positive.max(initial=0)))
        if largest >= n_rows:
            raise InvalidInputError(f"a pair names row {largest} but there are {n_rows} rows: pairs of another model?")


def shared_row_groups(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """Connected components of the pairs when two pairs that share a row are linked.

    A hub word (one country, many capitals) ties its pairs together: they are one observation of the hub.
    """
    component: dict[int, int] = {}  # row -> representative row

    def find(row: int) -> int:
        component.setdefault(row, row)
        while component[row] != row:
            component[row] = component[component[row]]
            row = component[row]
        return row

    for a, b in pairs:
        component[find(a)] = find(b)
    return [find(a) for a, _ in pairs]
