"""A concept world: a graph, a context law and a vocabulary, and everything exact that follows from them.

All sums over assignments run through one trick: an array with one axis of K_i values a concept becomes one with an
entry more, ⋄, by appending to each axis its own sum. This file must not know how predictors are trained, and never
builds the full p(token | context) unless it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

from linrep.errors import InvalidInputError
from linrep.geometry.pairs import ConceptPairs
from linrep.worlds import steps
from linrep.worlds.checks import check_memory
from linrep.worlds.contexts import UNKNOWN, ContextLaw
from linrep.worlds.graph import Graph, default_names
from linrep.worlds.hierarchy import Hierarchy
from linrep.worlds.vocabulary import PLAIN, Vocabulary

_BLOCK_ENTRIES = 2**20  # of the table, in one block of rows: 8 MiB


def extend_by_sums(tensor: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Shape (K_1, ..., K_m) → (K_1 + 1, ..., K_m + 1): entry d is the sum over the assignments that agree with d.

    The last index along an axis stands for ⋄. It costs one addition of arrays an axis.

    Examples
    --------
    >>> extend_by_sums(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0, 3.0], [3.0, 4.0, 7.0], [4.0, 6.0, 10.0]]
    """
    extended = np.zeros(tuple(k + 1 for k in tensor.shape))
    extended[tuple(slice(k) for k in tensor.shape)] = tensor
    for axis in range(tensor.ndim):
        # Along the axes done so far ⋄ is filled in; along the later ones it is still 0.
        parts = np.moveaxis(extended, axis, 0)
        parts[-1] = parts[:-1].sum(axis=0)
    return extended


@dataclass(frozen=True, eq=False)
class World:
    """Contexts, tokens and the exact law p(x) p(y|x) that a predictor learns from.

    A token names an assignment c of all concepts; a context fixes some of them. The next token copies what is known
    and draws the rest from the graph,

        p(y|x) = p(c | d) = p(c) 1[c agrees with d where d is known] / Z(d).

    With the plain vocabulary token y is the y-th assignment, the *first* concept varying slowest, so that
    ``graph.joint().ravel()`` is indexed by token; for binary concepts its bits are c. With synonyms the S tokens of an
    assignment follow each other, nuisance tokens come last, and what is missing or cannot be has no token.

    Parameters
    ----------
    graph
        The concepts and their joint p(c).
    law
        Which contexts exist and how often. Contexts that the graph makes impossible (a child known where it does not
        exist) are left out and p(x) is renormalised over the others.
    vocabulary
        Which tokens name an assignment.

    Raises
    ------
    InvalidInputError
        If the law has no contexts over that many concepts, an exact array does not fit in memory, or a context has no
        token that agrees with it.

    Source: Jiang et al., "On the Origins of Linear Representations in Large Language Models", ICML 2024; K values,
    synonyms, missing tokens and hierarchies are extensions of ours.

    Examples
    --------
    >>> from linrep import ConceptGraph
    >>> world = World(ConceptGraph.independent(2, low=0.5, high=0.5), ContextLaw.complete())
    >>> world.context_names[2], world.p_token_given_context()[2].tolist()
    ('0⋄', [0.5, 0.5, 0.0, 0.0])
    """

    graph: Graph
    law: ContextLaw
    vocabulary: Vocabulary = PLAIN

    def __post_init__(self) -> None:
        self.law.n_contexts(self.graph.cardinalities)  # a law that does not fit the graph is refused here

    @property
    def name(self) -> str:
        """Short label: number of concepts, kind of graph, context law."""
        return f"m={self.graph.n_concepts} {self.graph.label} {self.law.name}"

    @property
    def _plain(self) -> bool:
        """Whether every assignment is reachable and has one token."""
        return self.vocabulary == PLAIN and not isinstance(self.graph, Hierarchy)

    @property
    def n_contexts(self) -> int:
        """Number of contexts of the law that can be."""
        return self.law.n_contexts(self.graph.cardinalities) if self._plain else len(self.p_context)

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        if self._plain:
            return prod(self.graph.cardinalities)
        return len(self._named) * self.vocabulary.synonyms + self.vocabulary.nuisance

    @cached_property
    def _contexts(self) -> tuple[Int8[np.ndarray, "context concept"], Float64[np.ndarray, "context"]]:
        rows, p = self.law.contexts(self.graph.cardinalities)
        if not self._plain:
            possible = extend_by_sums(self.graph.joint())[tuple(rows.T)] > 0
            rows, p = rows[possible], p[possible] / p[possible].sum()
            nameless = self._normalisers[tuple(rows.T)] <= 0
            if nameless.any():
                d = "".join("⋄" if v == UNKNOWN else str(v) for v in rows[nameless.argmax()].tolist())
                raise InvalidInputError(
                    f"no token agrees with context {d} (and {int(nameless.sum()) - 1} more): keep more tokens, or "
                    "take a law whose contexts leave more concepts open"
                )
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
        """c(y): the value of each concept in each token; −1 throughout for a nuisance token, which names nothing."""
        values, n = self.graph.cardinalities, self.n_tokens
        check_memory(f"the concepts of {n} tokens", (8 + len(values)) * n, "use fewer concepts")
        c = np.full((n, len(values)), UNKNOWN, dtype=np.int8)
        at, content = self._assignment_of_token, self._n_content
        for i in reversed(range(len(values))):
            at, c[:content, i] = np.divmod(at, values[i])
        return _frozen(c)

    @property
    def _n_content(self) -> int:
        return self.n_tokens - self.vocabulary.nuisance

    @cached_property
    def _named(self) -> Int64[np.ndarray, "assignment"]:
        """Assignments that have tokens, as positions in the raveled joint."""
        return np.flatnonzero(self.vocabulary.named(self.graph.joint() > 0))

    @property
    def _assignment_of_token(self) -> Int64[np.ndarray, "token"]:
        if self._plain:
            return np.arange(self.n_tokens)
        return np.repeat(self._named, self.vocabulary.synonyms)

    @cached_property
    def _weights(self) -> Float64[np.ndarray, "token"]:
        """s(y|c) of the tokens that name something."""
        return self.vocabulary.weights(self._n_content // self.vocabulary.synonyms).ravel()

    @cached_property
    def _joint(self) -> Float64[np.ndarray, "..."]:
        """p(c) over the assignments that have tokens."""
        joint = self.graph.joint()
        if not self._plain:
            kept = np.zeros_like(joint)
            kept.ravel()[self._named] = joint.ravel()[self._named]
            joint = kept / kept.sum()
        return _frozen(joint)

    @cached_property
    def _token_weight(self) -> Float64[np.ndarray, "token"]:
        """p(c) s(y|c) of the tokens that name something: p(y|x) is proportional to it."""
        if self._plain:
            return self._joint.ravel()
        return self._joint.ravel()[self._assignment_of_token] * self._weights

    @cached_property
    def _normalisers(self) -> Float64[np.ndarray, "..."]:
        """Z(d) for all contexts."""
        self._check_extended()
        return _frozen(extend_by_sums(self._joint))

    def _check_extended(self) -> None:
        values = self.graph.cardinalities
        total = prod(k + 1 for k in values)
        count = f"3^{len(values)}" if set(values) == {2} else str(total)
        check_memory(f"an array over all {count} contexts", 8 * total, "use fewer concepts")

    def log_normalisers(self) -> Float64[np.ndarray, "..."]:
        """Normalisers log Z(d) = log p(known values of d) of all contexts, in nats, whatever the context law.

        One axis a concept with its K_i values and then ⋄. As ⋄ is the last entry, a row of `context_concepts` (−1 for
        ⋄) is an index: ``world.log_normalisers()[tuple(d)]``. −∞ for contexts that cannot be.

        Raises
        ------
        InvalidInputError
            If so many numbers (3^m for binary concepts) do not fit in memory.
        """
        with np.errstate(divide="ignore"):
            return np.log(self._normalisers)

    def _at_contexts(self, extended: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "context"]:
        """Entries of an array over all contexts at those of the law."""
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
        z, content = self._at_contexts(self._normalisers), self._n_content
        # A token agrees with a context if its bits under the mask of known concepts are the known values.
        bits = [(k - 1).bit_length() for k in self.graph.cardinalities]
        offset = np.concatenate([np.cumsum(bits[::-1])[::-1][1:], [0]]).astype(np.int64)
        known = self.context_concepts != UNKNOWN
        masks = (known * (((1 << np.array(bits)) - 1) << offset)).sum(axis=1)
        values = (known * (self.context_concepts.astype(np.int64) << offset)).sum(axis=1)
        tokens = (self.token_concepts[:content].astype(np.int64) << offset).sum(axis=1)
        weight = self.vocabulary.content_share * self._token_weight
        nuisance = self.vocabulary.nuisance_probabilities()
        for start in range(0, self.n_contexts, block):
            at = slice(start, start + block)
            agrees = (tokens & masks[at, None]) == values[at, None]
            rows = np.where(agrees, weight / z[at, None], 0.0)
            if len(nuisance):
                rows = np.concatenate([rows, np.broadcast_to(nuisance, (len(rows), len(nuisance)))], axis=1)
            yield rows

    def entropy_floor(self) -> float:
        """Conditional entropy H(Y|X) in nats: the least expected cross-entropy any predictor can reach.

            H(Y|X) = Σ_d p(d) [log Z(d) − Σ_{c agrees with d} p(c) (log p(c) − H(s(·|c))) / Z(d)]

        With a share ε of nuisance tokens the content counts 1 − ε times, plus the entropy of the choice and ε times
        that of the nuisance tokens. Exact and without the table of p(y|x): the sums come from `extend_by_sums`.

        Raises
        ------
        InvalidInputError
            If an array over all contexts does not fit in memory.
        """
        z = self._at_contexts(self._normalisers)
        p = self._joint
        inner = p * np.log(p, out=np.zeros_like(p), where=p > 0)
        if self.vocabulary.synonyms > 1:
            s = self._weights.reshape(-1, self.vocabulary.synonyms)
            inner.ravel()[self._named] += p.ravel()[self._named] * (s * np.log(s)).sum(axis=1)
        content = float(self.p_context @ (np.log(z) - self._at_contexts(extend_by_sums(inner)) / z))
        share, nuisance = self.vocabulary.content_share, self.vocabulary.nuisance_probabilities()
        choice = -share * np.log(share) - float(nuisance @ np.log(nuisance))
        return max(0.0, share * content + choice)

    def p_token(self) -> Float64[np.ndarray, "token"]:
        """Marginal p(y) = Σ_x p(x) p(y|x) under the context law, sums to 1, without the table of p(y|x).

        It differs from p(c): a context law with uniform contexts pulls it towards uniform.

        Raises
        ------
        InvalidInputError
            If an array over all contexts does not fit in memory.
        """
        self._check_extended()
        weights = np.zeros(tuple(k + 1 for k in self.graph.cardinalities))
        weights[tuple(self.context_concepts.T)] = self.p_context / self._at_contexts(self._normalisers)
        # The transpose of extend_by_sums: what ⋄ weighs is added to every value of the concept.
        for axis in range(weights.ndim):
            parts = np.moveaxis(weights, axis, 0)
            weights = np.moveaxis(parts[:-1] + parts[-1], 0, axis)
        content = self.vocabulary.content_share * weights.ravel()[self._assignment_of_token] * self._token_weight
        return np.concatenate([content, self.vocabulary.nuisance_probabilities()])

    def token_pairs(self) -> ConceptPairs:
        """For each concept i the counterfactual steps c_(i→a) → c_(i→b), as rows of γ.

        Binary concepts have one list, 2^(m−1) pairs from 0 to 1. A concept with more values has one a step a < b,
        named ``C1:0→1``. Both tokens must exist; with synonyms the pairs join tokens of the same place among theirs.
        """
        return steps.token_pairs(self.graph, self.token_concepts[: self._n_content], self.vocabulary.synonyms)

    def token_pair_log_odds(self) -> Float64[np.ndarray, "concept pair"]:
        """ℓ = log p(y_b|x) / p(y_a|x) of every pair of `token_pairs`, in nats, whatever the context.

        ℓ_i(c) = log P(C_i = b | C_−i = c_−i) / P(C_i = a | C_−i = c_−i), plus log s(y_b|c_b)/s(y_a|c_a) with synonyms.
        0 beyond the pairs' mask.
        """
        pairs, log_p = self.token_pairs(), np.log(self._token_weight)
        return np.where(pairs.mask, log_p[pairs.positive] - log_p[pairs.negative], 0.0)

    def context_pairs(self) -> ConceptPairs:
        """For each concept i the pairs of contexts of the law that differ in its known value only, as rows of λ.

        Both contexts must exist in the law; a concept without such contexts has no pairs. Named as `token_pairs`.
        """
        return steps.context_pairs(self.graph, self.context_concepts)

    def features_of(self, rows: Int8[np.ndarray, "context concept"]) -> Float32[np.ndarray, "context feature"]:
        """What a predictor reads of a context: the one-hots of its symbols, K_i values and then ⋄ a concept."""
        blocks = []
        for column, k in zip(rows.T, self.graph.cardinalities, strict=True):
            blocks.append(np.eye(k + 1, dtype=np.float32)[column % (k + 1)])  # −1 is the last: ⋄
        return np.concatenate(blocks, axis=1)

    def context_features(self) -> Float32[np.ndarray, "context feature"]:
        """`features_of` all contexts."""
        return self.features_of(self.context_concepts)

    @cached_property
    def token_names(self) -> tuple[str, ...]:
        """Readable label of each token: ``"101"``, or ``"royal+ human− female+"`` if concepts have names."""
        labels, s = self._labels(self.token_concepts[: self._n_content]), self.vocabulary.synonyms
        if s > 1:
            labels = tuple(f"{label}/{k % s + 1}" for k, label in enumerate(labels))
        return (*labels, *(f"nuisance {k + 1}" for k in range(self.vocabulary.nuisance)))

    @cached_property
    def context_names(self) -> tuple[str, ...]:
        """Readable label of each context: ``"1⋄0"``, or ``"royal+ human⋄ female−"`` if concepts have names."""
        return self._labels(self.context_concepts)

    def _labels(self, rows: Int8[np.ndarray, "row concept"]) -> tuple[str, ...]:
        names, values = self.graph.names, self.graph.cardinalities
        if names == default_names(len(names)):
            return tuple("".join("⋄" if v == UNKNOWN else str(v) for v in row) for row in rows.tolist())
        signs = ["−+⋄" if k == 2 else [*map(str, range(k)), "⋄"] for k in values]
        return tuple(
            " ".join(name + of[v] for name, of, v in zip(names, signs, row, strict=True)) for row in rows.tolist()
        )


def _frozen(array: np.ndarray) -> np.ndarray:
    """Mark a cached array read-only: every caller gets the same one."""
    array.setflags(write=False)
    return array
