"""A concept world: a graph and a context law, and everything exact that follows from them.

All sums over assignments run through one trick: an array with one axis (0, 1) a concept becomes one with
(0, 1, ⋄) a concept by appending to each axis its own sum. This file must not know how predictors are trained,
and never builds the full p(token | context) unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int8, Int64

from linrep.errors import InvalidInputError
from linrep.geometry.pairs import ConceptPairs, Side
from linrep.worlds.checks import check_memory
from linrep.worlds.contexts import UNKNOWN, ContextLaw, context_codes
from linrep.worlds.graph import ConceptGraph, default_names

_BLOCK_ENTRIES = 2**20  # of the table, in one block of rows: 8 MiB


def extend_by_sums(tensor: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Shape (2, ..., 2) → (3, ..., 3): entry d is the sum over the assignments that agree with d.

    Index 2 along an axis stands for ⋄. It costs one addition of arrays an axis.

    Examples
    --------
    >>> extend_by_sums(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0, 3.0], [3.0, 4.0, 7.0], [4.0, 6.0, 10.0]]
    """
    for axis in range(tensor.ndim):
        tensor = np.concatenate([tensor, tensor.sum(axis=axis, keepdims=True)], axis=axis)
    return tensor


@dataclass(frozen=True, eq=False)
class World:
    """Contexts, tokens and the exact law p(x) p(y|x) that a predictor learns from.

    Tokens are the 2^m assignments: token y is the binary number of its assignment with the *first* concept as
    the most significant bit, so that ``graph.joint().ravel()`` is indexed by token. A context fixes some
    concepts; its next token copies them and draws the others from the graph,

        p(y|x) = p(c | d) = p(c) 1[c agrees with d where d is known] / Z(d).

    Parameters
    ----------
    graph
        The concepts and their joint p(c).
    law
        Which contexts exist and how often.

    Raises
    ------
    InvalidInputError
        If the law has no contexts over that many concepts, or an exact array does not fit in memory.

    Source: Jiang et al., "On the Origins of Linear Representations in Large Language Models", ICML 2024.

    Examples
    --------
    >>> world = World(ConceptGraph.independent(2, low=0.5, high=0.5), ContextLaw.complete())
    >>> world.context_names[2], world.p_token_given_context()[2].tolist()
    ('0⋄', [0.5, 0.5, 0.0, 0.0])
    """

    graph: ConceptGraph
    law: ContextLaw

    def __post_init__(self) -> None:
        self.law.n_contexts(self.graph.n_concepts)  # a law that does not fit the graph is refused here

    @property
    def name(self) -> str:
        """Short label: number of concepts, kind of graph, context law."""
        return f"m={self.graph.n_concepts} {self.graph.label} {self.law.name}"

    @property
    def n_contexts(self) -> int:
        """Number of contexts of the law."""
        return self.law.n_contexts(self.graph.n_concepts)

    @property
    def n_tokens(self) -> int:
        """Number of tokens, 2^m."""
        return 2**self.graph.n_concepts

    @cached_property
    def _contexts(self) -> tuple[Int8[np.ndarray, "context concept"], Float64[np.ndarray, "context"]]:
        rows, p = self.law.contexts(self.graph.n_concepts)
        return _frozen(rows), _frozen(p)

    @property
    def context_concepts(self) -> Int8[np.ndarray, "context concept"]:
        """d(x): the value of each concept in each context, −1 where it is unknown (⋄)."""
        return self._contexts[0]

    @property
    def p_context(self) -> Float64[np.ndarray, "context"]:
        """p(x), sums to 1."""
        return self._contexts[1]

    @cached_property
    def token_concepts(self) -> Int8[np.ndarray, "token concept"]:
        """c(y): the bits of the token's number, first concept most significant."""
        m = self.graph.n_concepts
        check_memory(f"the concepts of 2^{m} tokens", (8 + m) * 2**m, "use fewer concepts")
        tokens, bits = np.arange(2**m), np.empty((2**m, m), dtype=np.int8)
        for i in range(m):
            bits[:, i] = (tokens >> (m - 1 - i)) & 1
        return _frozen(bits)

    @cached_property
    def _joint(self) -> Float64[np.ndarray, "..."]:
        return _frozen(self.graph.joint())

    @cached_property
    def _normalisers(self) -> Float64[np.ndarray, "..."]:
        """Z(d) for all 3^m contexts."""
        self._check_extended()
        return _frozen(extend_by_sums(self._joint))

    def _check_extended(self) -> None:
        m = self.graph.n_concepts
        check_memory(f"an array over all 3^{m} contexts", 8 * 3**m, "use fewer concepts")

    def log_normalisers(self) -> Float64[np.ndarray, "..."]:
        """Normalisers log Z(d) = log p(known values of d) of all 3^m contexts, in nats, whatever the context law.

        Shape (3,) * m with the entries 0, 1, ⋄ along the axis of each concept. As ⋄ is the last entry, a row of
        `context_concepts` (−1 for ⋄) is an index: ``world.log_normalisers()[tuple(d)]``.

        Raises
        ------
        InvalidInputError
            If 3^m numbers do not fit in memory.
        """
        return np.log(self._normalisers)

    def _at_contexts(self, extended: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "context"]:
        """Entries of a (3,) * m array at the contexts of the law."""
        return extended[tuple(self.context_concepts.T)]

    def p_token_given_context(self) -> Float64[np.ndarray, "context token"]:
        """p(y|x), rows sum to 1, exactly 0 where the token contradicts the context.

        With complete contexts it has 6^m entries: 0.45 GiB at m = 10, where it ends.

        Raises
        ------
        InvalidInputError
            If the table exceeds 1 GiB (complete contexts: above m = 10); the message has the estimate.
        """
        shape = (self.n_contexts, self.n_tokens)
        check_memory(
            f"p(token | context) of {shape[0]} contexts and {shape[1]} tokens",
            8 * shape[0] * shape[1],
            "use p_token_given_context_blocks, or fewer concepts or contexts",
        )
        table, start = np.empty(shape), 0
        for rows in self.p_token_given_context_blocks():
            table[start : start + len(rows)] = rows
            start += len(rows)
        return table

    def p_token_given_context_blocks(self, block: int | None = None) -> Iterator[Float64[np.ndarray, "block token"]]:
        """The rows of `p_token_given_context` in order, `block` at a time, the same numbers.

        By default a block has about a million entries (8 MiB).

        Raises
        ------
        InvalidInputError
            On a block of less than one row.
        """
        if block is None:
            block = max(1, _BLOCK_ENTRIES // self.n_tokens)
        if block < 1:
            raise InvalidInputError(f"block is {block}: it must be at least 1 row")
        return self._blocks(block)

    def _blocks(self, block: int) -> Iterator[Float64[np.ndarray, "block token"]]:
        m = self.graph.n_concepts
        joint = self._joint.ravel()
        z = self._at_contexts(self._normalisers)
        # A token agrees with a context if its bits under the mask of known concepts are the known values.
        weights = 1 << np.arange(m)[::-1]
        known = (self.context_concepts != UNKNOWN) @ weights
        values = (self.context_concepts == 1) @ weights
        tokens = np.arange(self.n_tokens)
        for start in range(0, self.n_contexts, block):
            at = slice(start, start + block)
            agrees = (tokens & known[at, None]) == values[at, None]
            yield np.where(agrees, joint / z[at, None], 0.0)

    def entropy_floor(self) -> float:
        """Conditional entropy H(Y|X) in nats: the least expected cross-entropy any predictor can reach.

            H(Y|X) = Σ_d p(d) [log Z(d) − Σ_{c agrees with d} p(c) log p(c) / Z(d)]

        Exact and without the table of p(y|x): both sums come from `extend_by_sums`. At least 0.

        Raises
        ------
        InvalidInputError
            If 3^m numbers do not fit in memory.
        """
        z = self._at_contexts(self._normalisers)
        inner = self._at_contexts(extend_by_sums(self._joint * np.log(self._joint)))
        return max(0.0, float(self.p_context @ (np.log(z) - inner / z)))

    def p_token(self) -> Float64[np.ndarray, "token"]:
        """Marginal p(y) = Σ_x p(x) p(y|x) under the context law, sums to 1, without the table of p(y|x).

        It differs from p(c): a context law with uniform contexts pulls it towards uniform.

        Raises
        ------
        InvalidInputError
            If 3^m numbers do not fit in memory.
        """
        self._check_extended()
        weights = np.zeros((3,) * self.graph.n_concepts)
        weights[tuple(self.context_concepts.T)] = self.p_context / self._at_contexts(self._normalisers)
        # The transpose of extend_by_sums: what ⋄ weighs is added to both values of the concept.
        for axis in range(weights.ndim):
            parts = np.moveaxis(weights, axis, 0)
            weights = np.moveaxis(parts[:2] + parts[2], 0, axis)
        return (self._joint * weights).ravel()

    def token_pairs(self) -> ConceptPairs:
        """For each concept i the 2^(m−1) counterfactual steps c_(i→0) → c_(i→1), as rows of γ."""
        m = self.graph.n_concepts
        tokens = np.arange(self.n_tokens)
        negative = [tokens[self.token_concepts[:, i] == 0] for i in range(m)]
        positive = [rows + (1 << (m - 1 - i)) for i, rows in enumerate(negative)]
        return _disjoint_pairs(self.graph.names, negative, positive, "unembedding")

    def context_pairs(self) -> ConceptPairs:
        """For each concept i the pairs of contexts of the law that differ in the known value of i only.

        Both contexts must exist in the law; a concept without such contexts has no pairs. Rows of λ.
        """
        m = self.graph.n_concepts
        codes = context_codes(self.context_concepts)  # increasing: contexts are in lexicographic order
        negative, positive = [], []
        for i in range(m):
            rows = np.flatnonzero(self.context_concepts[:, i] == 0)
            wanted = codes[rows] + 3 ** (m - 1 - i)
            partner = np.searchsorted(codes, wanted)
            exists = codes[np.minimum(partner, len(codes) - 1)] == wanted
            negative.append(rows[exists])
            positive.append(partner[exists])
        return _disjoint_pairs(self.graph.names, negative, positive, "embedding")

    @cached_property
    def token_names(self) -> tuple[str, ...]:
        """Readable label of each token: ``"101"``, or ``"royal+ human− female+"`` if concepts have names."""
        return self._labels(self.token_concepts)

    @cached_property
    def context_names(self) -> tuple[str, ...]:
        """Readable label of each context: ``"1⋄0"``, or ``"royal+ human⋄ female−"`` if concepts have names."""
        return self._labels(self.context_concepts)

    def _labels(self, rows: Int8[np.ndarray, "row concept"]) -> tuple[str, ...]:
        names = self.graph.names
        if names == default_names(len(names)):
            return tuple("".join("01⋄"[v] for v in row) for row in rows.tolist())
        return tuple(" ".join(name + "−+⋄"[v] for name, v in zip(names, row, strict=True)) for row in rows.tolist())


def _frozen(array: np.ndarray) -> np.ndarray:
    """Mark a cached array read-only: every caller gets the same one."""
    array.setflags(write=False)
    return array


def _disjoint_pairs(
    names: tuple[str, ...],
    negative: list[Int64[np.ndarray, "_"]],
    positive: list[Int64[np.ndarray, "_"]],
    side: Side,
) -> ConceptPairs:
    """Pad pairs that share no row within a concept, so that each pair is its own group.

    The same as `ConceptPairs.from_lists`, which would walk through 200,000 pairs in Python at m = 10.
    """
    width = max(len(rows) for rows in negative)
    mask = np.arange(width) < np.array([len(rows) for rows in negative])[:, None]
    padded = np.zeros((3, len(names), width), dtype=np.int64)
    padded[0][mask] = np.concatenate(negative)
    padded[1][mask] = np.concatenate(positive)
    padded[2] = np.arange(width) * mask
    return ConceptPairs(names=names, negative=padded[0], positive=padded[1], mask=mask, group=padded[2], side=side)
