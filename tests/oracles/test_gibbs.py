"""Gibbs sampling against enumeration; its diagnostics against plain loops, known values and cases that must fail."""

import warnings

import numpy as np
import pytest

from linrep.errors import InvalidInputError, NotConvergedWarning
from linrep.worlds.gibbs import effective_sample_size, sample_gibbs, split_r_hat
from linrep.worlds.markov_field import MarkovField

FIELDS = [
    MarkovField.ising(6, 0.5, seed=1),
    MarkovField.ising(4, 1.0, coupling=(-0.4, 0.4), field=(-1.0, 1.0), seed=2),
    MarkovField.potts([2, 3, 4, 2], 0.7, seed=3),
]
DEVIATIONS = 5.0  # allowed; a dozen marginals each


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f"{f.label}-{f.n_concepts}")
def test_marginals_against_enumeration(field):
    drawn = sample_gibbs(field, n_samples=2000, seed=7)
    assert drawn.status == "converged"
    joint = field.joint()
    for i, k in enumerate(field.cardinalities):
        exact = joint.sum(axis=tuple(a for a in range(joint.ndim) if a != i))
        error = np.sqrt(exact * (1 - exact) / drawn.effective_size[i])
        assert (abs(drawn.marginal(i, k) - exact) < DEVIATIONS * error).all()


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f"{f.label}-{f.n_concepts}")
def test_joint_of_two_neighbours_against_enumeration(field):
    drawn = sample_gibbs(field, n_samples=2000, seed=8)
    joint = field.joint()
    i, j = next(iter(field.couplings))
    exact = joint.sum(axis=tuple(a for a in range(joint.ndim) if a not in (i, j)))
    seen = np.zeros_like(exact)
    flat = drawn.samples.reshape(-1, field.n_concepts)
    np.add.at(seen, (flat[:, i], flat[:, j]), 1 / len(flat))
    error = np.sqrt(exact * (1 - exact) / drawn.effective_size[[i, j]].min())
    assert (abs(seen - exact) < DEVIATIONS * error).all()


def test_clamped_concepts_against_enumeration():
    field = FIELDS[2]
    drawn = sample_gibbs(field, clamped=np.array([-1, 2, -1, 0], dtype=np.int8), n_samples=2000, seed=9)
    assert drawn.free.tolist() == [True, False, True, False]
    assert (drawn.samples[:, :, 1] == 2).all() and (drawn.samples[:, :, 3] == 0).all()
    assert np.isnan(drawn.r_hat[[1, 3]]).all() and np.isnan(drawn.effective_size[[1, 3]]).all()
    sub = field.joint()[:, 2, :, 0]
    for i, exact in ((0, sub.sum(axis=1)), (2, sub.sum(axis=0))):
        exact = exact / exact.sum()
        error = np.sqrt(exact * (1 - exact) / drawn.effective_size[i])
        assert (abs(drawn.marginal(i, len(exact)) - exact) < DEVIATIONS * error).all()


def test_same_seed_same_samples_and_thinning():
    field = FIELDS[0]
    every = sample_gibbs(field, n_samples=600, chains=4, burn_in=10, seed=3)
    again = sample_gibbs(field, n_samples=600, chains=4, burn_in=10, seed=3)
    third = sample_gibbs(field, n_samples=200, chains=4, burn_in=10, thin=3, seed=3)
    np.testing.assert_array_equal(every.samples, again.samples)
    np.testing.assert_array_equal(every.samples[:, 2::3], third.samples)


def test_thirty_concepts_of_three_values():
    drawn = sample_gibbs(MarkovField.potts([3] * 30, 0.05, seed=4), n_samples=500, burn_in=200)
    assert drawn.status == "converged" and drawn.samples.shape == (8, 500, 30)


# --- cases that must be found out --------------------------------------------------------------------------------


def two_modes(coupling: float, field: float = 0.0) -> MarkovField:
    return MarkovField.ising(10, 1.0, coupling=(coupling, coupling), field=(field, field))


def test_two_modes_that_no_chain_leaves():
    with pytest.warns(NotConvergedWarning, match="has not converged: split-R̂ is .* do not use"):
        drawn = sample_gibbs(two_modes(0.6), n_samples=200, burn_in=50)
    assert drawn.status == "not converged"
    assert drawn.r_hat.min() > 1.5


def test_two_modes_with_few_sweeps_between_them():
    with pytest.warns(NotConvergedWarning):
        drawn = sample_gibbs(two_modes(0.17), n_samples=50, burn_in=0)
    assert drawn.r_hat.max() > 1.01


def test_a_concept_that_never_changes_is_not_converged():
    still = MarkovField(("a", "b"), (np.array([0.0, 60.0]), np.zeros(2)), {})
    with pytest.warns(NotConvergedWarning, match="'a'"):
        drawn = sample_gibbs(still, n_samples=500)
    assert drawn.r_hat[0] == np.inf and drawn.effective_size[0] == 0
    assert drawn.r_hat[1] < 1.01


def test_too_few_samples_are_not_converged_even_if_r_hat_is_fine():
    field = MarkovField.ising(2, 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = sample_gibbs(field, n_samples=40)  # half chains of 20, whose effective size is below 50
    assert drawn.status == "not converged" and len(caught) == 1


# --- diagnostics --------------------------------------------------------------------------------------------------


def naive(draws: list[list[float]]) -> tuple[float, float]:
    """Split-R̂ and effective sample size in plain loops."""
    half = len(draws[0]) // 2
    chains = [c[:half] for c in draws] + [c[-half:] for c in draws]
    m, n = len(chains), half
    mean = [sum(c) / n for c in chains]
    s2 = [sum((v - a) ** 2 for v in c) / (n - 1) for c, a in zip(chains, mean, strict=True)]
    grand = sum(mean) / m
    between = n / (m - 1) * sum((a - grand) ** 2 for a in mean)
    within = sum(s2) / m
    total = (n - 1) / n * within + between / n

    def rho(t: int) -> float:
        if t == 0:
            return 1.0
        covariances = []
        for c, a in zip(chains, mean, strict=True):
            covariances.append(sum((c[k] - a) * (c[k + t] - a) for k in range(n - t)) / (n - 1))
        return 1 - (within - sum(covariances) / m) / total

    tau, least = -1.0, np.inf
    for k in range(n // 2):
        pair = rho(2 * k) + rho(2 * k + 1)
        if pair <= 0:
            break
        least = min(least, pair)
        tau += 2 * least
    return (total / within) ** 0.5, m * n / max(tau, 1 / np.log10(m * n))


@pytest.mark.parametrize(("n", "phi"), [(40, 0.0), (41, 0.7), (60, -0.6), (30, 0.95)])
def test_diagnostics_against_plain_loops(n, phi):
    draws = autoregressive(np.random.default_rng(n), 3, n, phi)
    r_hat, effective = naive(draws.tolist())
    assert split_r_hat(draws) == pytest.approx(r_hat, rel=1e-12)
    assert effective_sample_size(draws) == pytest.approx(effective, rel=1e-10)


def autoregressive(rng: np.random.Generator, chains: int, n: int, phi: float) -> np.ndarray:
    """Stationary x_t = φ x_{t−1} + noise."""
    x = np.empty((chains, n))
    x[:, 0] = rng.normal(size=chains) / np.sqrt(1 - phi**2)
    for t in range(1, n):
        x[:, t] = phi * x[:, t - 1] + rng.normal(size=chains)
    return x


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_effective_size_of_an_autoregression(phi):
    draws = autoregressive(np.random.default_rng(5), 8, 10_000, phi)
    assert effective_sample_size(draws) == pytest.approx(draws.size * (1 - phi) / (1 + phi), rel=0.1)
    assert split_r_hat(draws) == pytest.approx(1.0, abs=0.01)


def test_diagnostics_where_nothing_or_only_the_chain_varies():
    assert np.isnan(split_r_hat(np.ones((2, 10)))) and np.isnan(effective_sample_size(np.ones((2, 10))))
    apart = np.repeat([[0.0], [1.0]], 10, axis=1)
    assert split_r_hat(apart) == np.inf
    drift = np.tile(np.arange(100.0), (4, 1))  # chains agree, their halves do not
    assert split_r_hat(drift) > 1.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 1}, "chains is 1"),
        ({"n_samples": 3}, "n_samples is 3"),
        ({"thin": 0}, "thin is 0"),
        ({"burn_in": -1}, "burn_in is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"n_samples": 2**30}, "GiB"),
        ({"clamped": np.array([0, 1], dtype=np.int8)}, "2 entries for 6"),
        ({"clamped": np.array([-1, 2, -1, -1, -1, -1], dtype=np.int8)}, "'C2' is clamped to 2"),
        ({"clamped": np.zeros(6, dtype=np.int8)}, "every concept is clamped"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InvalidInputError, match=message):
        sample_gibbs(FIELDS[0], **options)
