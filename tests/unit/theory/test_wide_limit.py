"""The wide limit against published values and against the same problem solved without its symmetry."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from linrep.errors import InvalidInputError
from linrep.geometry import metrics
from linrep.theory.wide_limit import wide_limit_parallelism


@pytest.mark.parametrize(
    ("m", "known", "value"), [(2, 2, 0.268), (3, 3, 0.226), (4, 4, 0.175), (5, 5, 0.130), (4, 2, 0.562)]
)
def test_values_of_the_reference(m, known, value):
    """science: closed form for complete contexts, a semidefinite programme for m = 4 with at most two known."""
    assert wide_limit_parallelism(m, known) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("m", [3, 4, 5])
def test_at_most_one_known_concept_gives_perfect_parallelism(m):
    assert wide_limit_parallelism(m, 1) == pytest.approx(1, abs=1e-6)


def full_problem_parallelism(m: int) -> float:
    """Minimum nuclear norm over all logit matrices with unit margins, no symmetry assumed, then its differences."""
    contexts = list(itertools.product((0, 1, -1), repeat=m))
    tokens = list(itertools.product((0, 1), repeat=m))
    shape = (len(contexts), len(tokens))
    equal, margin = [], []
    for x, d in enumerate(contexts):
        agrees = [all(a in (-1, b) for a, b in zip(d, c, strict=True)) for c in tokens]
        first = agrees.index(True)
        for y, yes in enumerate(agrees):
            row = np.zeros(shape)
            row[x, first], row[x, y] = 1, row[x, y] - 1
            if y != first:
                (equal if yes else margin).append(row.ravel())
    equal, margin = np.array(equal), np.array(margin)

    def nuclear(z):
        u, s, v = np.linalg.svd(z.reshape(shape), full_matrices=False)
        smooth = np.sqrt(s**2 + 1e-10)
        return smooth.sum(), ((u * (s / smooth)) @ v).ravel()

    start = np.where(
        np.array([[all(a in (-1, b) for a, b in zip(d, c, strict=True)) for c in tokens] for d in contexts]), 1, -1
    )
    solved = minimize(
        nuclear, start.astype(float).ravel(), jac=True, method="SLSQP",
        constraints=[
            {"type": "eq", "fun": lambda z: equal @ z, "jac": lambda z: equal},
            {"type": "ineq", "fun": lambda z: margin @ z - 1, "jac": lambda z: margin},
        ],
        options={"maxiter": 500, "ftol": 1e-11},
    )  # fmt: skip
    _, s, v = np.linalg.svd(solved.x.reshape(shape), full_matrices=False)
    gamma = (np.sqrt(s)[:, None] * v).T
    values = []
    for i in range(m):
        steps = [(tokens.index(c), tokens.index((*c[:i], 1, *c[i + 1 :]))) for c in tokens if c[i] == 0]
        a, b = np.array(steps).T
        values.append(metrics.parallelism(gamma[b] - gamma[a]))
    return float(np.mean(values))


def test_the_symmetric_solution_is_the_solution():
    assert full_problem_parallelism(2) == pytest.approx(wide_limit_parallelism(2), abs=1e-3)


@pytest.mark.parametrize(("m", "known"), [(1, None), (3, 0), (3, 4)])
def test_bad_input(m, known):
    with pytest.raises(InvalidInputError, match="m ≥ 2"):
        wide_limit_parallelism(m, known)
