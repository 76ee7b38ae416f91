"""The predictions of the theory: what is predicted, with which bound, and under which assumptions.

Assumptions are functions of the facts of an experiment, so that a comparison can say which one is not met. Nothing is
trained or measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from linrep.theory.wide_limit import wide_limit_parallelism

Facts = Mapping[str, Any]
Relation = Literal["≥", "≤", "="]

_ORIGINS = "Jiang et al. 2024"
_DERIVED = "docs/theory.md"


@dataclass(frozen=True)
class Assumption:
    """A condition on the facts of an experiment, in words and as a function."""

    text: str
    met: Callable[[Facts], bool]


@dataclass(frozen=True)
class Prediction:
    """One prediction.

    Parameters
    ----------
    name
        ``P3``, or ``P5 m=3 complete``.
    statement
        What it says, in a sentence.
    metric, split
        Which number it is about.
    relation, value, tolerance
        The number is at least, at most or equal to `value`, up to `tolerance`.
    assumptions
        All must be met, or the prediction says nothing.
    max_excess
        Largest excess loss, in nats, of a seed that counts; None if the excess need not be small.
    source
        Where it is derived.
    """

    name: str
    statement: str
    metric: str
    relation: Relation
    value: float
    tolerance: float
    assumptions: tuple[Assumption, ...]
    max_excess: float | None
    source: str
    split: str = "all"

    @property
    def predicted(self) -> str:
        """Relation and value as text: ``≥ 0.999``."""
        return f"{self.relation} {self.value:.4g}"

    def holds(self, value: float) -> bool:
        """Whether a number satisfies the relation up to the tolerance."""
        if self.relation == "≥":
            return value >= self.value - self.tolerance
        if self.relation == "≤":
            return value <= self.value + self.tolerance
        return abs(value - self.value) <= self.tolerance


def _is(key: str, *values: Any) -> Assumption:
    said = " or ".join(map(str, values))
    return Assumption(f"{key.replace('_', ' ')} is {said}", lambda facts: facts.get(key) in values)


_TABLE = _is("predictor", "table")
_DESCENT = _is("optimizer", "gradient_descent")
_SMALL = Assumption("initial scale at most 0.01", lambda f: f.get("initial_scale", 1.0) <= 0.01)
_BOTH_TRAINED = Assumption("neither side is frozen", lambda f: f.get("frozen") is None)
_TWICE = Assumption("d ≥ 2m", lambda f: f["dim"] >= 2 * f["concepts"])
_FULL = Assumption("d ≥ 2^m − 1", lambda f: f["dim"] >= 2 ** f["concepts"] - 1)
_UNIFORM = Assumption("uniform, independent concepts", lambda f: f.get("uniform", False))
_FIVE = Assumption("at least five concepts", lambda f: f["concepts"] >= 5)
_BINARY = _is("values", 2)
_PLAIN = Assumption("every assignment has a token", lambda f: f.get("missing", 0) == 0)


_MANY = Assumption("at least ten contexts a dimension", lambda f: f.get("contexts", 0) >= 10 * f.get("dim", 1))


def _frozen(case: str) -> Assumption:
    return Assumption(f"fixed embeddings: {case}", lambda f: f.get("frozen") == case)


FROZEN_CASES = {
    "centred": "λ(d) = Σ ± a_j",
    "independent offset": "λ(d) = λ0 + Σ ± a_j, {λ0, a_j} independent",
    "offset in the span": "λ(d) = λ0 + Σ ± a_j, λ0 in span(a)",
    "unstructured": "λ(d) independent Gaussian vectors, d much smaller than the number of contexts",
}


def _p2() -> list[Prediction]:
    made = []
    for case in ("centred", "independent offset"):
        text = f"With embeddings fixed at {FROZEN_CASES[case]}, the limit of descent on γ"
        made += [
            Prediction(f"P2 {case}", f"{text} makes every concept one direction", "parallelism", "≥", 0.999, 0.0,
                       (_frozen(case),), None, _DERIVED),
            Prediction(f"P2 {case}, dual", f"{text} is the dual basis of the a_j", "dual_basis_cosine", "≥", 0.999, 0.0,
                       (_frozen(case),), None, _DERIVED),
        ]  # fmt: skip
    made += [
        Prediction("P2 offset in the span", "With λ0 in the span of the a_j the limit of descent on γ is not one "
                   "direction a concept", "parallelism", "≤", 0.99, 0.0, (_frozen("offset in the span"),), None,
                   _DERIVED),
        Prediction("P2 unstructured", "With unstructured fixed embeddings the limit of descent on γ is far from one "
                   "direction a concept", "parallelism", "≤", 0.15, 0.0, (_frozen("unstructured"), _MANY), None,
                   _DERIVED),
    ]  # fmt: skip
    return made


def _p5() -> list[Prediction]:
    made = []
    for m, known in ((2, None), (3, None), (4, None), (5, None), (4, 2)):
        law = "complete" if known is None else f"at-most-{known}"
        made.append(
            Prediction(
                f"P5 m={m} {law}",
                f"Free tables of full width over {m} uniform concepts, {law} contexts: parallelism on the path to "
                "minimum nuclear norm ends at the computed limit and not at 1",
                "path_parallelism", "=", wide_limit_parallelism(m, known), 0.005,
                (_is("concepts", m), _is("law", law), _FULL, _UNIFORM), None, _DERIVED,
            )
        )  # fmt: skip
    return made


_FEW_EXCESS = 0.001
MATCHED = 0.05  # relative residual: within it of one vector, two vectors have a cosine of at least 0.995
_MATCHING = Assumption(
    f"log-odds match: relative residual in the span at most {MATCHED:g}",
    lambda f: f.get("projected_residual", 1.0) <= MATCHED,
)
_TRAINED_TABLE = (_BINARY, _TABLE, _DESCENT, _SMALL, _BOTH_TRAINED)


def _all() -> list[Prediction]:
    orthogonal = "Directions of concepts that are not adjacent become orthogonal"
    return [
        Prediction(
            "P1",
            "Where the log-odds of a concept match over contexts and tokens, the projections of its differences on "
            "those contexts are parallel",
            "projected_parallelism", "≥", 0.99, 0.0, (_BINARY, _PLAIN, _TABLE, _MATCHING), _FEW_EXCESS, _ORIGINS,
        ),
        *_p2(),
        Prediction(
            "P3",
            "Joint descent from small values aligns the direction read from contexts with the one that writes tokens",
            "alignment", "≥", 0.999, 0.0, (*_TRAINED_TABLE, _TWICE, _PLAIN), 0.02, _ORIGINS,
        ),
        Prediction(
            "P4 complete", f"{orthogonal}, complete contexts",
            "orthogonality", "≤", 0.05, 0.0, (*_TRAINED_TABLE, _is("law", "complete"), _TWICE, _FIVE), _FEW_EXCESS,
            _ORIGINS, split="not adjacent",
        ),
        Prediction(
            "P4 few known", f"{orthogonal}, at most two known",
            "orthogonality", "≤", 0.01, 0.0,
            (*_TRAINED_TABLE, _is("law", "at-most-1", "at-most-2"), _TWICE, _FIVE, _PLAIN), _FEW_EXCESS, _ORIGINS,
            split="not adjacent",
        ),
        Prediction(
            "P5", "Free tables of full width, complete contexts: parallelism stays below 1",
            "parallelism", "≤", 0.9, 0.0, (*_TRAINED_TABLE, _is("law", "complete"), _FULL), 0.02, _DERIVED,
        ),
        *_p5(),
    ]  # fmt: skip


PREDICTIONS: dict[str, Prediction] = {p.name: p for p in _all()}
