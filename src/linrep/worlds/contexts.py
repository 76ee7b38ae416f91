"""Context laws: which contexts exist, and how often each occurs.

A context fixes some concepts and leaves the others undetermined (⋄). A law depends on the numbers of values of the
concepts only, never on their graph, so that two studies can differ in one of them alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod

import numpy as np
from jaxtyping import Float64, Int8, Int64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import check_memory, check_n_concepts, generator

UNKNOWN = -1  # ⋄. As an index −1 is the last entry: that of ⋄ in arrays with one axis of (0, 1, ⋄) a concept.

_SPELLINGS = "complete, at-most-K, masked-Q, kept-FRACTION or kept-FRACTION-seedN"


@dataclass(frozen=True)
class ContextLaw:
    """Which contexts d exist and with which probability p(d); d_i is one of the K_i values of concept i, or ⋄.

    ========== ============================================== ================================================
    kind       contexts                                       p(d)
    ========== ============================================== ================================================
    complete   all Π (K_i + 1), 3^m for binary concepts       uniform
    at-most    those with at most `amount` known concepts     uniform
    masked     all                                            Π q (unknown) or (1 − q)/K_i (known), q = `amount`
    kept       a random `amount` of all, by `seed`            uniform
    ========== ============================================== ================================================

    Wherever a number of binary concepts is asked for, the numbers of values (K_1, ..., K_m) may stand instead.

    *Masked* takes both values of a known concept as equally likely. The alternative, weighting by the joint
    p(c_K) of the known values (draw c from the graph, then mask), would make the law depend on the graph; here
    laws differ in *what is known* only, and ``masked(1/3)`` is exactly ``complete()``, so that q moves along one
    line through it: 0 is everything known, 1 nothing.

    Use the constructors `complete`, `at_most`, `masked`, `kept`, or `parse` for the spelling in `name`.

    Raises
    ------
    InvalidInputError
        On an amount outside its range.

    Examples
    --------
    >>> rows, p = ContextLaw.at_most(1).contexts(2)
    >>> rows.tolist(), p.tolist()
    ([[0, -1], [1, -1], [-1, 0], [-1, 1], [-1, -1]], [0.2, 0.2, 0.2, 0.2, 0.2])
    """

    kind: str
    amount: float | int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        amount = float("nan") if self.amount is None else self.amount  # NaN is inside no range
        if self.kind == "at-most":
            if not (amount >= 0 and float(amount).is_integer()):
                raise InvalidInputError(
                    f"at most {self.amount} known concepts: it must be a whole number of at least 0"
                )
            amount = int(amount)
        elif self.kind == "masked":
            if not 0 < amount < 1:
                raise InvalidInputError(
                    f"the masking probability is {self.amount}: it must lie strictly between 0 and 1"
                )
            amount = float(amount)
        elif self.kind == "kept":
            if not 0 < amount <= 1:
                raise InvalidInputError(f"the fraction of contexts kept is {self.amount}: it must lie in (0, 1]")
            amount = float(amount)
        elif self.kind == "complete":
            amount = None
        else:
            raise InvalidInputError(f"unknown kind of context law {self.kind!r}: write {_SPELLINGS}")
        object.__setattr__(self, "amount", amount)  # plain Python numbers, also from NumPy ones: see `name`

    @classmethod
    def complete(cls) -> ContextLaw:
        """All 3^m contexts, equally likely."""
        return cls("complete")

    @classmethod
    def at_most(cls, k: int) -> ContextLaw:
        """The contexts with at most `k` known concepts, equally likely."""
        return cls("at-most", k)

    @classmethod
    def masked(cls, q: float) -> ContextLaw:
        """Each concept unknown with probability `q` in (0, 1), otherwise 0 or 1 with equal probability."""
        return cls("masked", q)

    @classmethod
    def kept(cls, fraction: float, seed: int = 0) -> ContextLaw:
        """A random subset of round(fraction · 3^m) of the contexts, equally likely."""
        return cls("kept", fraction, seed)

    @classmethod
    def parse(cls, text: str) -> ContextLaw:
        """Law of a spelling: ``complete``, ``at-most-2``, ``masked-0.5``, ``kept-0.25``, ``kept-0.25-seed3``.

        Raises
        ------
        InvalidInputError
            On any other spelling.
        """
        if text == "complete":
            return cls.complete()
        try:
            if match := re.fullmatch(r"at-most-(.+)", text):
                return cls.at_most(int(match[1]))
            if match := re.fullmatch(r"masked-(.+)", text):
                return cls.masked(float(match[1]))
            if match := re.fullmatch(r"kept-(.+?)(?:-seed(\d+))?", text):
                return cls.kept(float(match[1]), int(match[2] or 0))
        except InvalidInputError:
            raise
        except ValueError:
            pass  # the number did not parse: the line below says what is allowed
        raise InvalidInputError(f"unknown context law {text!r}: write {_SPELLINGS}")

    @property
    def name(self) -> str:
        """The spelling that `parse` reads."""
        if self.kind == "complete":
            return "complete"
        amount = repr(self.amount).removesuffix(".0")
        return f"{self.kind}-{amount}" + (f"-seed{self.seed}" if self.kind == "kept" and self.seed else "")

    def n_contexts(self, concepts: int | Sequence[int]) -> int:
        """Number of contexts over so many binary concepts, or over concepts with these numbers of values.

        Nothing is built for it.

        Raises
        ------
        InvalidInputError
            On fewer than one concept, more known concepts than there are, or a fraction that keeps none.
        """
        values = cardinalities(concepts)
        total = prod(k + 1 for k in values)
        if self.kind == "at-most":
            k = int(self.amount or 0)
            if k > len(values):
                raise InvalidInputError(
                    f"at most {k} known concepts of {len(values)}: the number must lie in 0..{len(values)}"
                )
            return sum(_elementary_symmetric(values)[: k + 1])
        if self.kind == "kept":
            n = round((self.amount or 0) * total)
            if n < 1:
                raise InvalidInputError(
                    f"a fraction {self.amount} of the {_count(values)} contexts keeps none: "
                    f"it must be at least {1 / total:.3g}"
                )
            return n
        return total

    def contexts(
        self, concepts: int | Sequence[int]
    ) -> tuple[Int8[np.ndarray, "context concept"], Float64[np.ndarray, "context"]]:
        """The contexts, −1 for ⋄, and their probabilities, which sum to 1.

        Every context occurs once. Rows are in lexicographic order with 0 < 1 < ... < ⋄, that of ``.ravel()`` of
        `World.log_normalisers` when the law is complete.

        Raises
        ------
        InvalidInputError
            As `n_contexts`, and if the contexts do not fit in memory.
        """
        values, n = cardinalities(concepts), self.n_contexts(concepts)
        # Choosing a subset shuffles the numbers of all the contexts.
        n_bytes = 8 * prod(k + 1 for k in values) if self.kind == "kept" else n * (8 + len(values))
        check_memory(f"{n} contexts over {len(values)} concepts", n_bytes, "use fewer concepts or at-most-K contexts")
        if self.kind == "at-most":
            rows = _at_most_known(values, int(self.amount or 0))
        elif self.kind == "kept":
            chosen = generator(self.seed).choice(prod(k + 1 for k in values), size=n, replace=False)
            rows = _decode(np.sort(chosen), values)
        else:
            rows = _decode(np.arange(n), values)
        if self.kind == "masked":
            q = float(self.amount or 0)
            known = (1 - q) / np.array(values)
            return rows, np.where(rows == UNKNOWN, q, known).prod(axis=1)
        return rows, np.full(n, 1 / n)


def cardinalities(concepts: int | Sequence[int]) -> tuple[int, ...]:
    """Numbers of values of the concepts; a single number is one of binary concepts."""
    values = (2,) * concepts if isinstance(concepts, int) else tuple(int(k) for k in concepts)
    check_n_concepts(len(values))
    return values


def context_codes(
    rows: Int8[np.ndarray, "context concept"], values: Sequence[int] | None = None
) -> Int64[np.ndarray, "context"]:
    """Each context as a number in the mixed base K_i + 1, the first concept most significant and ⋄ written as K_i.

    Binary concepts, base 3, where `values` are not given.
    """
    codes = np.zeros(len(rows), dtype=np.int64)
    for column, k in zip(rows.T, values or (2,) * rows.shape[1], strict=True):
        codes = (k + 1) * codes + column % (k + 1)  # −1 % (K + 1) = K
    return codes


def _decode(codes: Int64[np.ndarray, "context"], values: Sequence[int]) -> Int8[np.ndarray, "context concept"]:
    """Inverse of `context_codes`."""
    rows = np.empty((len(codes), len(values)), dtype=np.int8)
    for i in reversed(range(len(values))):
        codes, digit = np.divmod(codes, values[i] + 1)
        rows[:, i] = np.where(digit == values[i], UNKNOWN, digit)
    return rows


def _elementary_symmetric(values: Sequence[int]) -> list[int]:
    """Number of contexts with 0, 1, ..., m known concepts: the coefficients of Π (1 + K_i t)."""
    counts = [1]
    for k in values:
        counts = [a + k * b for a, b in zip([*counts, 0], [0, *counts], strict=True)]
    return counts


def _count(values: Sequence[int]) -> str:
    total = prod(k + 1 for k in values)
    return f"3^{len(values)} = {total}" if set(values) == {2} else str(total)


def _at_most_known(values: Sequence[int], most: int) -> Int8[np.ndarray, "context concept"]:
    """All contexts with at most so many known concepts, in lexicographic order."""
    blocks = []
    for j in range(most + 1):
        for known in combinations(range(len(values)), j):
            choices = list(product(*(range(values[i]) for i in known)))
            block = np.full((len(choices), len(values)), UNKNOWN, dtype=np.int8)
            block[:, known] = np.array(choices, dtype=np.int8).reshape(len(choices), j)
            blocks.append(block)
    rows = np.concatenate(blocks)
    return rows[np.argsort(context_codes(rows, values))]
