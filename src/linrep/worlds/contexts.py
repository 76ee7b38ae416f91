"""Context laws: which contexts exist, and how often each occurs.

A context fixes some concepts and leaves the others undetermined (⋄). A law depends on the number of concepts
only, never on the concept graph, so that two studies can differ in one of them alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations, product
from math import comb

import numpy as np
from jaxtyping import Float64, Int8, Int64

from linrep.errors import InvalidInputError
from linrep.worlds.checks import check_memory, check_n_concepts, generator

UNKNOWN = -1  # ⋄. As an index −1 is the last entry: that of ⋄ in arrays with one axis of (0, 1, ⋄) a concept.

_SPELLINGS = "complete, at-most-K, masked-Q, kept-FRACTION or kept-FRACTION-seedN"


@dataclass(frozen=True)
class ContextLaw:
    """Which contexts d in {0, 1, ⋄}^m exist and with which probability p(d).

    ========== ============================================== ================================================
    kind       contexts                                       p(d)
    ========== ============================================== ================================================
    complete   all 3^m                                        uniform
    at-most    those with at most `amount` known concepts     uniform
    masked     all 3^m                                        q^unknown · ((1 − q)/2)^known with q = `amount`
    kept       a random `amount` of the 3^m, by `seed`        uniform
    ========== ============================================== ================================================

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

    def n_contexts(self, n_concepts: int) -> int:
        """Number of contexts over `n_concepts` concepts, without building them.

        Raises
        ------
        InvalidInputError
            On fewer than one concept, more known concepts than there are, or a fraction that keeps none.
        """
        check_n_concepts(n_concepts)
        if self.kind == "at-most":
            k = int(self.amount or 0)
            if k > n_concepts:
                raise InvalidInputError(
                    f"at most {k} known concepts of {n_concepts}: the number must lie in 0..{n_concepts}"
                )
            return sum(comb(n_concepts, j) * 2**j for j in range(k + 1))
        if self.kind == "kept":
            n = round((self.amount or 0) * 3**n_concepts)
            if n < 1:
                raise InvalidInputError(
                    f"a fraction {self.amount} of the 3^{n_concepts} = {3**n_concepts} contexts keeps none: "
                    f"it must be at least {1 / 3**n_concepts:.3g}"
                )
            return n
        return 3**n_concepts

    def contexts(self, n_concepts: int) -> tuple[Int8[np.ndarray, "context concept"], Float64[np.ndarray, "context"]]:
        """The contexts, −1 for ⋄, and their probabilities, which sum to 1.

        Every context occurs once. Rows are in lexicographic order with 0 < 1 < ⋄, that of ``.ravel()`` of
        `World.log_normalisers` when the law is complete.

        Raises
        ------
        InvalidInputError
            As `n_contexts`, and if the contexts do not fit in memory.
        """
        n = self.n_contexts(n_concepts)
        # Choosing a subset shuffles the numbers of all the contexts.
        n_bytes = 8 * 3**n_concepts if self.kind == "kept" else n * (8 + n_concepts)
        check_memory(f"{n} contexts over {n_concepts} concepts", n_bytes, "use fewer concepts or at-most-K contexts")
        if self.kind == "at-most":
            rows = _at_most_known(n_concepts, int(self.amount or 0))
        elif self.kind == "kept":
            chosen = generator(self.seed).choice(3**n_concepts, size=n, replace=False)
            rows = _decode(np.sort(chosen), n_concepts)
        else:
            rows = _decode(np.arange(n), n_concepts)
        if self.kind == "masked":
            q = float(self.amount or 0)
            n_unknown = (rows == UNKNOWN).sum(axis=1)
            return rows, q**n_unknown * ((1 - q) / 2) ** (n_concepts - n_unknown)
        return rows, np.full(n, 1 / n)


def context_codes(rows: Int8[np.ndarray, "context concept"]) -> Int64[np.ndarray, "context"]:
    """Each context as a number in base 3, the first concept most significant and ⋄ written as 2."""
    codes = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        codes = 3 * codes + column % 3  # −1 % 3 = 2
    return codes


def _decode(codes: Int64[np.ndarray, "context"], n_concepts: int) -> Int8[np.ndarray, "context concept"]:
    """Inverse of `context_codes`."""
    rows = np.empty((len(codes), n_concepts), dtype=np.int8)
    for i in reversed(range(n_concepts)):
        codes, digit = np.divmod(codes, 3)
        rows[:, i] = np.where(digit == 2, UNKNOWN, digit)
    return rows


def _at_most_known(n_concepts: int, k: int) -> Int8[np.ndarray, "context concept"]:
    """All contexts with at most k known concepts, in lexicographic order."""
    blocks = []
    for j in range(k + 1):
        values = np.array(list(product((0, 1), repeat=j)), dtype=np.int8).reshape(2**j, j)
        for known in combinations(range(n_concepts), j):
            block = np.full((2**j, n_concepts), UNKNOWN, dtype=np.int8)
            block[:, known] = values
            blocks.append(block)
    rows = np.concatenate(blocks)
    return rows[np.argsort(context_codes(rows))]
