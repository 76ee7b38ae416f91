"""Template statistics, probes, matched against mismatched, and steering: against naive re-implementations."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, entropy, kstest
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score

from linrep.errors import InvalidInputError
from linrep.geometry import clusters, matched, metrics, nulls, probes, steering

SEEDS = st.integers(0, 10_000)


def pairs_of(seed: int, n: int = 14, dim: int = 6, groups: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), rng.integers(groups, size=n - groups)])
    return rng.standard_normal((n, dim)), group


@given(SEEDS)
def test_parallelism_between_is_the_mean_over_pairs_of_different_groups(seed):
    d, group = pairs_of(seed)
    u = d / np.linalg.norm(d, axis=1, keepdims=True)
    naive = [u[j] @ u[k] for j in range(len(d)) for k in range(len(d)) if group[j] != group[k]]
    assert clusters.parallelism_between(d, group) == pytest.approx(np.mean(naive))
    assert clusters.parallelism_between(d, np.arange(len(d))) == pytest.approx(float(metrics.parallelism(d)))
    assert np.isnan(clusters.parallelism_between(d, np.zeros(len(d), dtype=int)))


@given(SEEDS)
def test_its_interval_is_the_jackknife_over_groups(seed):
    d, group = pairs_of(seed)
    left = np.array([clusters.parallelism_between(d[group != g], group[group != g]) for g in range(4)])
    value = clusters.parallelism_between(d, group)
    low, high = clusters.parallelism_between_interval(d, group)
    reach = student_t.ppf(0.975, 3) * np.sqrt(3 / 4 * np.square(left - np.mean(left)).sum())
    assert (low, high) == pytest.approx((max(value - reach, -1), min(value + reach, 1)), rel=1e-5)


@given(SEEDS)
def test_flips_turn_whole_groups(seed):
    d, group = pairs_of(seed)
    flips = clusters.parallelism_between_flips(d, group, 100, np.random.default_rng(0))
    patterns = list(product((1, -1), repeat=4))[1:]
    naive = [clusters.parallelism_between(d * np.array(s)[group][:, None], group) for s in patterns]
    assert flips == pytest.approx(np.array(naive))
    g = np.random.default_rng(seed).standard_normal(6)
    aligned = clusters.alignment_flips(d, group, g, 100, np.random.default_rng(0))
    means = [(d * np.array(s)[group][:, None]).mean(axis=0) for s in patterns]
    length = np.linalg.norm(d.mean(axis=0)) * np.linalg.norm(g)
    assert aligned == pytest.approx([m @ g / length for m in means])


@pytest.mark.parametrize("noise", [0.0, 0.01, 1.0])
def test_flips_see_an_alignment_in_which_all_templates_are_parallel(noise):
    """The p-value is at its floor, 1 of 256 sign patterns, also where every flipped mean has a cosine near ±1."""
    rng = np.random.default_rng(0)
    group, u = np.repeat(np.arange(8), 10), rng.standard_normal(20)
    d = u + noise * rng.standard_normal((80, 20))
    null = clusters.alignment_flips(d, group, u, 256, rng)
    value = metrics.cosine(d.mean(axis=0), u)
    assert value > 0.9 and np.sum(null >= value - 1e-12) == 0 and len(null) == 255


def test_flips_of_alignment_are_calibrated():
    p = []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        group, u = np.repeat(np.arange(8), 5), rng.standard_normal(20)
        d = (u * rng.choice([-1, 1], size=(8, 1)) + rng.standard_normal((8, 20)))[group]
        d += 0.3 * rng.standard_normal((40, 20))
        value = metrics.cosine(d.mean(axis=0), u)
        p.append(nulls.p_value(float(value), clusters.alignment_flips(d, group, u, 256, rng)))
    low, high = binom.interval(0.999, 600, 12 / 256)  # 12 of 256 patterns are at most .05
    assert low <= np.sum(np.array(p) <= 0.05) <= high


def test_bounds_hold_an_interval():
    share = np.array([1.0] * 19 + [0.0])
    low, high = clusters.mean_interval(share, np.arange(20), bounds=(0.0, 1.0))
    assert clusters.mean_interval(share, np.arange(20))[1] > high == 1.0 and 0 < low < 0.95


def test_the_flip_null_is_calibrated_where_templates_are_copies_and_a_pair_level_one_is_not():
    by_group, by_pair = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(8), 10)
        d = rng.standard_normal((8, 20))[group] + 0.3 * rng.standard_normal((80, 20))
        for out, units in ((by_group, group), (by_pair, np.arange(80))):
            value = clusters.parallelism_between(d, units)
            null = clusters.parallelism_between_flips(d, units, 256, rng)
            out.append((1 + np.sum(null >= value - 1e-12)) / (1 + len(null)))
    assert np.mean(np.array(by_group) <= 0.05) < 0.09
    assert np.mean(np.array(by_pair) <= 0.05) > 0.5


@given(SEEDS)
def test_mean_interval_contains_the_mean_and_knows_the_groups(seed):
    d, group = pairs_of(seed)
    low, high = clusters.mean_interval(d[:, 0], group)
    assert low <= d[:, 0].mean() <= high
    assert np.isnan(clusters.mean_interval(d[:3, 0], np.array([0, 0, 1]))).all()


@given(SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_auc_is_sklearns_ties_and_all(seed, n, m):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(4, size=(n, 3)).astype(float), rng.integers(4, size=(m, 3)).astype(float)
    label = np.repeat([0, 1], [n, m])
    naive = [roc_auc_score(label, np.concatenate([a[:, k], b[:, k]])) for k in range(3)]
    assert probes.auc(a, b) == pytest.approx(np.array(naive))


@given(SEEDS)
def test_auc_interval_is_the_jackknife_over_groups(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal(12), rng.standard_normal(15) + 0.3
    ga, gb = np.arange(12) % 4, np.arange(15) % 4
    left = np.array([float(probes.auc(a[ga != g], b[gb != g])) for g in range(4)])
    value = float(probes.auc(a, b))
    reach = student_t.ppf(0.975, 3) * np.sqrt(3 / 4 * np.square(left - np.mean(left)).sum())
    assert probes.auc_interval(a, b, ga, gb) == pytest.approx((max(value - reach, 0), min(value + reach, 1)), rel=1e-5)


def test_auc_interval_covers_where_templates_shift_both_values():
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.arange(12), 10)
        shift = rng.standard_normal(12)[group]
        a, b = shift + rng.standard_normal(120), shift + 1 + rng.standard_normal(120)
        low, high = probes.auc_interval(a, b, group, group)
        inside.append(low <= 0.6915 <= high)  # Φ(1 / √(2 · 2)): scores have variance 1 + 1 on each side
    assert np.mean(inside) > 0.88


@given(SEEDS)
def test_family_matrix_and_label_permutation_against_loops(seed):
    rng = np.random.default_rng(seed)
    cosines = rng.uniform(-1, 1, (5, 6))
    partner, family = np.array([0, 1, 2, 3, 4]), np.array([0, 0, 1, 2, 3, 3])
    m = matched.family_matrix(cosines, partner, family)
    assert m.shape == (4, 4)
    assert m[0, 0] == pytest.approx((cosines[0, 0] + cosines[1, 1]) / 2)
    assert m[0, 1] == pytest.approx((abs(cosines[0, 2]) + abs(cosines[1, 2])) / 2)
    assert m[1, 0] == pytest.approx((abs(cosines[2, 0]) + abs(cosines[2, 1])) / 2)
    assert m[1, 3] == pytest.approx(abs(cosines[2, 4]))  # column 5 is nobody's partner
    found = matched.label_permutation(m, 10, rng)
    assert found is not None and found.exact and found.n_permutations == 24
    values = [np.mean([m[f, p[f]] for f in range(4)]) for p in permutations(range(4))]
    assert found.p_value == pytest.approx(np.mean(np.array(values) >= np.trace(m) / 4 - 1e-12))
    assert matched.label_permutation(m[:2, :2], 10, rng) is None


def test_label_permutation_is_calibrated_or_conservative_and_finds_a_diagonal():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(400):
        found = matched.label_permutation(matched.family_matrix(
            rng.standard_normal((6, 6)), np.arange(6), np.arange(6)), 10, rng)  # fmt: skip
        assert found is not None
        p.append(found.p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.08
    many = matched.label_permutation(np.eye(10) + 0.1, 999, rng)
    assert many is not None and not many.exact and many.p_value == pytest.approx(1 / 1000)


@given(SEEDS)
def test_pair_scores_against_loops(seed):
    rng = np.random.default_rng(seed)
    s = rng.standard_normal((9, 4))
    found = matched.pair_scores(s, 2, np.array([0, 3]))
    assert found.positive_share == np.mean([row[2] > 0 for row in s])
    assert found.top1 == np.mean([row[2] > max(row[0], row[3]) for row in s])
    assert found.auc == pytest.approx(np.mean([[a[2] > b[k] for b in s for k in (0, 3)] for a in s]))


@given(SEEDS)
def test_halves_keep_groups_whole(seed):
    _, group = pairs_of(seed)
    first = steering.halves(group, np.random.default_rng(seed))
    assert 0 < first.sum() < len(first)
    assert not set(group[first]) & set(group[~first])


def test_off_over_on():
    matrix = np.array([[2.0, 0.2, -0.4, 9.0], [0.1, -1.0, 0.3, 0.2]])
    other = np.array([[False, True, True, False], [True, False, True, True]])
    ratio = steering.off_over_on(matrix, np.array([0, 1]), other)
    assert ratio[0] == pytest.approx(0.15) and np.isnan(ratio[1])


@given(SEEDS)
def test_random_directions_have_the_causal_norm_of_the_concept(seed):
    rng = np.random.default_rng(seed)
    states = rng.standard_normal((60, 5)) * [5, 1, 1, 1, 0.2]
    v = rng.standard_normal(5)
    drawn = steering.random_directions_like(states, v, 7, rng)
    root, inverse = steering.covariance_roots(states)
    np.testing.assert_allclose(root @ inverse, np.eye(5), atol=1e-8)
    np.testing.assert_allclose(np.linalg.norm(drawn @ inverse, axis=1), np.linalg.norm(inverse @ v))


def test_random_directions_go_where_states_vary():
    rng = np.random.default_rng(0)
    states = rng.standard_normal((2000, 4)) * [10, 1, 1, 1]
    drawn = steering.random_directions_like(states, np.ones(4), 2000, rng)
    assert 8 < drawn[:, 0].std() / drawn[:, 1].std() < 12
    assert kstest(np.sign(drawn[:, 0]), np.sign(-drawn[:, 0])).pvalue > 1e-3
    with pytest.raises(InvalidInputError):
        steering.random_directions_like(np.ones((3, 4)), np.ones(4), 1, rng)
    with pytest.raises(InvalidInputError):
        steering.random_directions_like(states[:1], np.ones(4), 1, rng)


@given(SEEDS)
def test_kl_is_scipys_and_log_softmax_sums_to_one(seed):
    logits = np.random.default_rng(seed).standard_normal((2, 9)) * 30
    log_p, log_q = steering.log_softmax(logits)
    assert np.exp(log_p).sum() == pytest.approx(1)
    assert float(steering.kl_divergence(log_p, log_q)) == pytest.approx(entropy(np.exp(log_p), np.exp(log_q)), abs=1e-9)
    assert float(steering.kl_divergence(log_p, log_p)) == 0
