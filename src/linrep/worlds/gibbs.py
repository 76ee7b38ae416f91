"""Gibbs sampling of Markov fields that are too large to enumerate, with the evidence that it has converged.

Samples of a Markov chain are no exact samples: they come with split-R̂ and an effective sample size, a status, and a
warning where these say no. This file must not enumerate assignments.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int8

from linrep.errors import InvalidInputError, NotConvergedWarning
from linrep.worlds.checks import check_memory, generator
from linrep.worlds.contexts import UNKNOWN
from linrep.worlds.markov_field import MarkovField

LARGEST_R_HAT = 1.01
LEAST_EFFECTIVE = 50.0  # samples a half chain, or R̂ itself is too noisy to be believed


@dataclass(frozen=True, eq=False)
class GibbsSamples:
    """Assignments drawn by `sample_gibbs`, and whether they can be trusted.

    Parameters
    ----------
    samples
        The value of each concept; clamped concepts have their value throughout.
    free
        Which concepts were not clamped.
    r_hat
        Split-R̂ of each concept's marginal, the largest over its values; 1 is perfect. ∞ for a free concept that never
        changed in any chain: nothing shows that it can. NaN for clamped concepts.
    effective_size
        Effective sample size of each concept's marginal over all chains, the smallest over its values. 0 for a free
        concept that never changed, NaN for clamped ones.
    """

    samples: Int8[np.ndarray, "chain sample concept"]
    free: Bool[np.ndarray, "concept"]
    r_hat: Float64[np.ndarray, "concept"]
    effective_size: Float64[np.ndarray, "concept"]

    @property
    def status(self) -> Literal["converged", "not converged"]:
        """``converged`` if no free concept has R̂ above 1.01 or fewer than 50 effective samples a half chain.

        Necessary and not sufficient: chains that all miss the same mode look converged.
        """
        least = LEAST_EFFECTIVE * 2 * len(self.samples)
        fine = (self.r_hat <= LARGEST_R_HAT) & (self.effective_size >= least)
        return "converged" if fine[self.free].all() else "not converged"

    def marginal(self, concept: int, n_values: int = 2) -> Float64[np.ndarray, "value"]:
        """Share of each value of a concept; its standard error is √(p (1 − p) / effective_size)."""
        return np.bincount(self.samples[:, :, concept].ravel(), minlength=n_values) / self.samples[:, :, concept].size


def sample_gibbs(
    field: MarkovField,
    *,
    n_samples: int = 1000,
    chains: int = 8,
    burn_in: int = 500,
    thin: int = 1,
    clamped: Int8[np.ndarray, "concept"] | None = None,
    seed: int = 0,
) -> GibbsSamples:
    r"""Assignments of a Markov field by systematic-scan Gibbs sampling, all chains side by side.

    A sweep draws every free concept in turn from its conditional given all the others,

    .. math:: P(C_i = v \mid C_{-i} = c_{-i}) \propto \exp\Bigl(h_i(v) + \sum_{j \sim i} J_{ij}(v, c_j)\Bigr).

    Chains start from independent uniform assignments, which are wider spread than the field, as R̂ needs.

    Parameters
    ----------
    field
        The field; its joint is never built.
    n_samples
        Assignments kept from each chain.
    chains
        Number of chains, at least 2.
    burn_in
        Sweeps before the first one kept.
    thin
        Sweeps for each one kept.
    clamped
        A context: the value of each concept that is held fixed, −1 for the free ones. Then the samples are of
        p(c | d).
    seed
        Of the starts and of all draws.

    Warns
    -----
    NotConvergedWarning
        If the status is "not converged"; the message names the worst concept.

    Raises
    ------
    InvalidInputError
        On a number out of range, a clamped value that does not exist, or samples that do not fit in memory.

    Examples
    --------
    >>> field = MarkovField.ising(30, 0.1, seed=1)
    >>> drawn = sample_gibbs(field)
    >>> drawn.status, drawn.samples.shape
    ('converged', (8, 1000, 30))
    """
    for name, value, least in (("n_samples", n_samples, 4), ("chains", chains, 2), ("thin", thin, 1)):
        if value < least:
            raise InvalidInputError(f"{name} is {value}: it must be at least {least}")
    if burn_in < 0:
        raise InvalidInputError(f"burn_in is {burn_in}: it must be at least 0")
    m = field.n_concepts
    check_memory(f"{chains} chains of {n_samples} samples", chains * n_samples * m, "take fewer samples or chains")
    fixed = _checked_clamps(field, clamped)
    samples = _sweep(field, fixed, (chains, n_samples), burn_in, thin, generator(seed))
    r_hat, effective = np.full(m, np.nan), np.full(m, np.nan)
    for i in np.flatnonzero(fixed == UNKNOWN).tolist():
        r_hat[i], effective[i] = _diagnose(samples[:, :, i], field.cardinalities[i])
    result = GibbsSamples(samples, fixed == UNKNOWN, r_hat, effective)
    if result.status == "not converged":
        worst, fewest = int(np.nanargmax(r_hat)), int(np.nanargmin(effective))
        warnings.warn(
            f"Gibbs sampling has not converged: split-R̂ is {r_hat[worst]:.3f} for {field.names[worst]!r} (at most "
            f"{LARGEST_R_HAT}) and the effective sample size {effective[fewest]:.0f} for {field.names[fewest]!r} (at "
            f"least {LEAST_EFFECTIVE * 2 * chains:.0f}); do not use these samples: take more of them, a longer "
            "burn-in, or weaker couplings",
            NotConvergedWarning,
            stacklevel=2,
        )
    return result


def _checked_clamps(field: MarkovField, clamped: Int8[np.ndarray, "concept"] | None) -> Int8[np.ndarray, "concept"]:
    m = field.n_concepts
    if clamped is None:
        return np.full(m, UNKNOWN, dtype=np.int8)
    if len(clamped) != m:
        raise InvalidInputError(f"clamped has {len(clamped)} entries for {m} concepts: give −1 for those left free")
    for name, value, k in zip(field.names, clamped.tolist(), field.cardinalities, strict=True):
        if not UNKNOWN <= value < k:
            raise InvalidInputError(f"concept {name!r} is clamped to {value}: it must be 0..{k - 1}, or −1 if free")
    if (clamped != UNKNOWN).all():
        raise InvalidInputError("every concept is clamped: nothing is left to sample")
    return clamped


def _sweep(
    field: MarkovField,
    fixed: Int8[np.ndarray, "concept"],
    shape: tuple[int, int],
    burn_in: int,
    thin: int,
    rng: np.random.Generator,
) -> Int8[np.ndarray, "chain sample concept"]:
    """The chains. One-hot states, so that the energies of a concept's values are one small matrix product."""
    values, (chains, n_samples) = np.array(field.cardinalities), shape
    place = np.concatenate([[0], np.cumsum(values)])
    at = [slice(*ends) for ends in zip(place[:-1].tolist(), place[1:].tolist(), strict=True)]
    coupling = np.zeros((place[-1], place[-1]))
    for (i, j), energy in field.couplings.items():
        coupling[at[i], at[j]], coupling[at[j], at[i]] = energy, energy.T
    state = np.where(fixed == UNKNOWN, rng.integers(values, size=(chains, len(values))), fixed)
    one_hot = np.zeros((chains, place[-1]))
    for i, k in enumerate(values.tolist()):
        one_hot[:, at[i]] = state[:, i, None] == np.arange(k)
    free = np.flatnonzero(fixed == UNKNOWN).tolist()
    columns = {i: np.ascontiguousarray(coupling[:, at[i]]) for i in free}
    samples = np.empty((chains, n_samples, len(values)), dtype=np.int8)
    for sweep in range(1, burn_in + n_samples * thin + 1):
        uniform = rng.random((len(free), chains))
        for u, i in zip(uniform, free, strict=True):
            energy = field.field[i] + one_hot @ columns[i]
            total = np.cumsum(np.exp(energy - energy.max(axis=1, keepdims=True)), axis=1)
            value = (total[:, :-1] <= (u * total[:, -1])[:, None]).sum(axis=1)
            state[:, i] = value
            one_hot[:, at[i]] = value[:, None] == np.arange(values[i])
        if sweep > burn_in and (sweep - burn_in) % thin == 0:
            samples[:, (sweep - burn_in) // thin - 1] = state
    return samples


def _diagnose(draws: Int8[np.ndarray, "chain sample"], n_values: int) -> tuple[float, float]:
    """Largest split-R̂ and smallest effective size over the indicators 1[C_i = v] of the values that occurred.

    A value that never occurred has nothing to diagnose, unless it leaves the concept without any change.
    """
    indicators = [(draws == v).astype(np.float64) for v in range(n_values)]
    changing = [x for x in indicators if 0 < x.sum() < x.size]
    if not changing:
        return np.inf, 0.0
    return max(split_r_hat(x) for x in changing), min(effective_sample_size(x) for x in changing)


def split_r_hat(draws: Float64[np.ndarray, "chain sample"]) -> float:
    r"""Split-R̂ of a scalar: how much wider all chains together are than each half chain alone; 1 is perfect.

    .. math:: \hat R = \sqrt{\widehat{\mathrm{var}}^+ / W},\quad
              \widehat{\mathrm{var}}^+ = \tfrac{N-1}{N} W + \tfrac1N B,\quad
              B = \tfrac{N}{M-1} \sum_m (\bar\theta_m - \bar\theta)^2,\quad W = \tfrac1M \sum_m s_m^2

    over M half chains of N draws each (the middle draw of an odd number is left out). ∞ where no half chain varies
    but they differ; NaN where nothing varies. Ranks and folding, which the source adds for heavy tails, change nothing
    for an indicator: either gives an increasing or decreasing affine function of it, or a constant.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner, "Rank-normalization, folding, and localization: An improved R̂
    for assessing convergence of MCMC", Bayesian Analysis 16 (2), 2021, §2 and §3.
    """
    within, total = _variances(_halves(draws))
    if within == 0:
        return float("inf") if total > 0 else float("nan")
    return float(np.sqrt(total / within))


def effective_sample_size(draws: Float64[np.ndarray, "chain sample"]) -> float:
    r"""Number of independent draws whose mean would be as precise as that of these, over all half chains.

    .. math:: S = MN / \hat\tau,\quad \hat\tau = -1 + 2 \sum_{k \le K} \hat P_k,\quad
              \hat P_k = \hat\rho_{2k} + \hat\rho_{2k+1},\quad
              \hat\rho_t = 1 - \frac{W - \frac1M \sum_m s_m^2 \hat\rho_{t,m}}{\widehat{\mathrm{var}}^+}

    with W and var⁺ of `split_r_hat`; the sum ends before the first pair that is not positive and pairs are made
    non-increasing (Geyer). At most MN log₁₀(MN), for chains that alternate. NaN where nothing varies.

    Source: as `split_r_hat`, §3.2; Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7 (4), 1992.
    """
    halves = _halves(draws)
    within, total = _variances(halves)
    if total == 0:
        return float("nan")
    n_chains, n = halves.shape
    centred = halves - halves.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * n, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * n, axis=1)[:, :n] / n
    # s² ρ_t of a chain: its autocovariance, scaled so that at t = 0 it is s² with n − 1.
    rho = 1 - (within - covariance.mean(axis=0) * n / (n - 1)) / total
    rho[0] = 1.0
    pairs = rho[0 : n - n % 2 : 2] + rho[1:n:2]
    stop = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)
    tau = -1 + 2 * np.minimum.accumulate(pairs[:stop]).sum()
    size = n_chains * n
    return float(size / max(tau, 1 / np.log10(size)))


def _halves(draws: Float64[np.ndarray, "chain sample"]) -> Float64[np.ndarray, "half draw"]:
    half = draws.shape[1] // 2
    if half < 2:
        raise InvalidInputError(f"{draws.shape[1]} draws a chain: split-R̂ needs at least 4")
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _variances(halves: Float64[np.ndarray, "half draw"]) -> tuple[float, float]:
    """W and var⁺."""
    n = halves.shape[1]
    within = float(halves.var(axis=1, ddof=1).mean())
    return within, (n - 1) / n * within + float(halves.mean(axis=1).var(ddof=1))
