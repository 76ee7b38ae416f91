"""Geometry against naive code, Monte Carlo and other libraries."""

from itertools import combinations

import numpy as np
import pytest
from scipy import linalg
from scipy.stats import binom, vonmises_fisher
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from linrep.geometry import alignment, directions, metrics, nulls
from linrep.geometry import inner_products as ip
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations


def vocabulary(seed: int = 0, tokens: int = 300, dim: int = 12) -> np.ndarray:
    """Correlated, off-centre unembeddings."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((tokens, dim)) @ rng.standard_normal((dim, dim)) + 3 * rng.standard_normal(dim)


def cos(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def naive_parallelism(differences: np.ndarray) -> float:
    return float(np.mean([cos(a, b) for a, b in combinations(differences, 2)]))


# Inner products


@pytest.mark.parametrize("tokens", [5, 300, 20_000])  # one block and several
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_covariance_is_that_of_numpy(tokens, dtype):
    gamma = vocabulary(tokens=tokens).astype(dtype)
    np.testing.assert_allclose(ip.covariance(gamma), np.cov(gamma.astype(np.float64).T, bias=True), rtol=1e-10)


def test_causal_roots_are_the_powers_of_the_covariance():
    gamma = vocabulary()
    c = np.cov(gamma.T, bias=True)
    product = ip.causal(gamma)
    np.testing.assert_allclose(product.embeddings(np.eye(12)), np.asarray(linalg.sqrtm(c)), rtol=1e-8, atol=1e-8)
    inverse_half = np.asarray(linalg.fractional_matrix_power(c, -0.5))
    np.testing.assert_allclose(product.unembeddings(np.eye(12)), inverse_half, rtol=1e-8, atol=1e-8)
    assert product.rank == 12
    assert product.condition == pytest.approx(np.linalg.cond(c), rel=1e-8)


def test_causal_products_and_alignment_are_the_stated_formulas():
    gamma = vocabulary()
    c = np.cov(gamma.T, bias=True)
    product = ip.causal(gamma)
    a, b = np.random.default_rng(1).standard_normal((2, 12))
    assert product.unembeddings(a) @ product.unembeddings(b) == pytest.approx(a @ np.linalg.solve(c, b))
    assert product.embeddings(a) @ product.embeddings(b) == pytest.approx(a @ c @ b)
    expected = a @ b / np.sqrt((a @ c @ a) * (b @ np.linalg.solve(c, b)))
    assert metrics.alignment(product.embeddings(a[None]), product.unembeddings(b[None])) == pytest.approx(expected)


@pytest.mark.parametrize("tokens", [8, 40, 300])
def test_shrunk_is_that_of_scikit_learn(tokens):
    gamma = vocabulary(tokens=tokens)
    theirs = LedoitWolf().fit(gamma)
    ours = ip.shrunk(gamma)
    assert ours.shrinkage == pytest.approx(theirs.shrinkage_)
    root = ours.embeddings(np.eye(12))
    np.testing.assert_allclose(root @ root, theirs.covariance_, rtol=1e-8, atol=1e-8)
    inverse = ours.unembeddings(np.eye(12))
    np.testing.assert_allclose(inverse @ inverse, np.linalg.inv(theirs.covariance_), rtol=1e-6, atol=1e-8)
    assert ours.rank == 12


def test_the_component_taken_out_is_the_first_singular_vector():
    gamma = vocabulary()
    top = np.linalg.svd(gamma - gamma.mean(axis=0))[2][0]
    product = ip.without_top_component(gamma)
    for carry in (product.unembeddings, product.embeddings):
        np.testing.assert_allclose(carry(np.eye(12)), np.eye(12) - np.outer(top, top), atol=1e-8)
    assert product.rank == 11


@pytest.mark.parametrize("floor", [0.01, 0.3])
def test_a_floor_raises_the_eigenvalues_below_it_and_no_other(floor):
    gamma = vocabulary()
    values, vectors = np.linalg.eigh(np.cov(gamma.T, bias=True))
    raised = np.maximum(values, floor * values[-1])
    assert (raised > values).any()
    product = ip.causal(gamma, floor=floor)
    np.testing.assert_allclose(product.embeddings(np.eye(12)), vectors * np.sqrt(raised) @ vectors.T, atol=1e-8)
    assert product.floor == pytest.approx(floor * values[-1])
    assert product.condition == pytest.approx(1 / floor)


# Metrics


@pytest.mark.parametrize("pairs", [2, 3, 17])
def test_parallelism_and_leave_one_out_are_the_naive_loops(pairs):
    d = np.random.default_rng(pairs).standard_normal((pairs, 6)) + 1
    assert metrics.parallelism(d) == pytest.approx(naive_parallelism(d), abs=1e-12)
    expected = [cos(d[j], np.delete(d, j, axis=0).sum(axis=0)) for j in range(pairs)]
    np.testing.assert_allclose(metrics.parallelism_leave_one_out(d), expected, atol=1e-12)
    mask = np.arange(pairs + 4) < pairs
    padded = np.concatenate([d, np.full((4, 6), 99.0)])
    assert metrics.parallelism(padded, mask) == pytest.approx(naive_parallelism(d), abs=1e-12)
    np.testing.assert_allclose(metrics.mean_difference(padded, mask), d.mean(axis=0))


def test_alignment_of_all_pairs_and_orthogonality_are_the_naive_loops():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 4)), rng.standard_normal((7, 4))
    assert metrics.alignment_all_pairs(a, b) == pytest.approx(np.mean([cos(x, y) for x in a for y in b]))
    expected = np.mean([abs(cos(x, y)) for x, y in combinations(a, 2)])
    cosines = metrics.direction_cosines(a)
    assert metrics.orthogonality(cosines) == pytest.approx(expected)
    among = np.zeros((5, 5), dtype=bool)
    among[0, 3] = among[3, 0] = True
    assert metrics.orthogonality(cosines, among) == pytest.approx(abs(cos(a[0], a[3])))


def test_leading_axes_are_carried_along():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 3, 7, 4))
    for function, arguments in (
        (metrics.parallelism, (a,)),
        (metrics.parallelism_leave_one_out, (a,)),
        (metrics.alignment, (a, b)),
        (metrics.alignment_all_pairs, (a, b)),
        (metrics.direction_cosines, (a,)),
        (metrics.orthogonality, (metrics.direction_cosines(a),)),
        (metrics.spread, (a,)),
    ):
        whole = function(*arguments)
        for i, j in np.ndindex(2, 3):
            np.testing.assert_allclose(whole[i, j], function(*(x[i, j] for x in arguments)), rtol=1e-12)


def test_jackknife_interval_is_the_naive_recomputation():
    rng = np.random.default_rng(0)
    d = rng.standard_normal((12, 5)) + 0.7
    group = np.array([0, 0, 1, 2, 3, 3, 3, 4, 5, 6, 7, 8])
    left = np.array([naive_parallelism(d[group != g]) for g in range(9)])
    error = np.sqrt(8 / 9 * np.sum((left - left.mean()) ** 2))
    reach = 2.306004135 * error  # t(8) at 97.5 %
    expected = naive_parallelism(d) - reach, naive_parallelism(d) + reach
    np.testing.assert_allclose(metrics.parallelism_interval(d, group), expected, rtol=1e-8)


def coverage_band(trials: int) -> tuple[float, float]:
    low, high = binom.interval(0.999, trials, 0.95)
    return low / trials, high / trials


@pytest.mark.parametrize(("pairs", "per_group"), [(30, 1), (40, 4)])
def test_intervals_of_parallelism_cover_its_expectation(pairs, per_group):
    """500 samples of clustered differences; the 99.9 % binomial band about 95 % coverage, and 1 % for the t."""
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(pairs // per_group), per_group)

    def sample() -> np.ndarray:
        shared = rng.standard_normal((groups.max() + 1, 30))[groups] if per_group > 1 else 0
        return np.eye(30)[0] * 3 + rng.standard_normal((pairs, 30)) + shared

    expectation = np.mean([metrics.parallelism(sample()) for _ in range(4000)])
    covered = [
        low <= expectation <= high for low, high in (metrics.parallelism_interval(sample(), groups) for _ in range(500))
    ]
    low, high = coverage_band(500)
    assert low - 0.01 <= np.mean(covered) <= high + 0.01


@pytest.mark.parametrize("dim", [1, 2, 3, 50])
def test_random_absolute_cosine_is_the_monte_carlo_mean(dim):
    u = metrics.unit(np.random.default_rng(0).standard_normal((40_000, dim)))
    sample = np.abs(u[:, 0])
    assert metrics.random_absolute_cosine(dim) == pytest.approx(sample.mean(), abs=4 * sample.std() / 200 + 1e-12)


def test_spread_of_random_differences_is_about_d_over_root_n():
    rng = np.random.default_rng(0)
    for n, d in ((30, 576), (100, 64)):
        found = metrics.spread(rng.standard_normal((200, n, d))).mean()
        assert found == pytest.approx(d / np.sqrt(n), rel=0.05)


def test_spread_recovers_the_concentration_of_von_mises_fisher_samples():
    for kappa in (5, 60):
        sample = vonmises_fisher(np.eye(8)[0], kappa).rvs(20_000, random_state=0)
        assert metrics.spread(sample) == pytest.approx(kappa, rel=0.05)


def test_max_margin_gap_of_a_known_geometry():
    """Support points (±1, 0) and decoys far out: the direction is e1, whatever the offset."""
    negative = np.array([[-1.0, 0.0], [-4.0, 30.0], [-4.0, -30.0]])
    positive = -negative
    differences = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 5.0], [-1.0, 0.0]])
    for offset in (0.0, 1000.0):
        gap = metrics.max_margin_gap(differences, negative + offset, positive + offset)
        np.testing.assert_allclose(gap, [0, 1 - np.sqrt(0.5), 1, 2], atol=1e-4)


def test_max_margin_gap_is_nan_where_no_margin_exists_and_says_so_at_once():
    points = np.random.default_rng(0).standard_normal((2, 200, 2))
    assert np.isnan(metrics.max_margin_gap(np.eye(2), points[0], points[1] + 0.5)).all()
    same = np.ones((3, 2))
    assert np.isnan(metrics.max_margin_gap(np.eye(2), same, same)).all()


# Directions


def test_estimators_are_those_of_other_libraries():
    rng = np.random.default_rng(0)
    negative = rng.standard_normal((40, 6)) * [1, 2, 3, 1, 1, 1]
    positive = negative + rng.standard_normal((40, 6)) + [1, 0, 0.5, 0, 0, 0]
    d = positive - negative
    points = np.concatenate([negative, positive])
    label = np.repeat([0, 1], 40)
    scaled = (points - points.mean(axis=0)) / np.sqrt(np.sum((points - points.mean(axis=0)) ** 2) / 80)
    within = (LedoitWolf().fit(scaled[:40]).covariance_ + LedoitWolf().fit(scaled[40:]).covariance_) / 2
    expected = {
        "mean": d.mean(axis=0),
        "pca": np.linalg.eigh(d.T @ d)[1][:, -1],
        "lda": np.linalg.solve(within, d.mean(axis=0)),
        "logistic": LogisticRegression(max_iter=2000).fit(scaled, label).coef_[0],
        "von_mises_fisher": (d / np.linalg.norm(d, axis=1, keepdims=True)).sum(axis=0),
    }
    assert set(expected) == set(directions.ESTIMATORS)
    for name, direction in expected.items():
        found = directions.ESTIMATORS[name](negative, positive)
        assert abs(cos(found, direction)) == pytest.approx(1, abs=1e-6), name
        assert found @ d.mean(axis=0) > 0, name


# Nulls


def model_of(gamma: np.ndarray, product: str = "causal") -> nulls.NullModel:
    r = Representations(unembeddings=gamma)
    return nulls.NullModel.of(r, ip.INNER_PRODUCTS[product](gamma), nulls.WordPool.of(r))


PAIRS = np.array([[0, 1], [2, 3], [0, 4], [5, 1], [6, 7], [8, 9], [10, 11], [12, 13]])  # some words shared


@pytest.mark.parametrize("product", ["euclidean", "causal"])
def test_gram_nulls_are_the_same_draws_in_d_dimensions(product):
    model = model_of(vocabulary(), product)
    x = model.carry(np.arange(300))
    n, draws = len(PAIRS), 25

    rng = np.random.default_rng(3)
    sign = rng.choice([-1.0, 1.0], size=(draws, n))
    naive = [naive_parallelism((x[PAIRS[:, 1]] - x[PAIRS[:, 0]]) * s[:, None]) for s in sign]
    np.testing.assert_allclose(nulls.sign_flip(model, PAIRS, draws, np.random.default_rng(3)), naive, atol=1e-9)

    rng = np.random.default_rng(3)
    order = rng.permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
    found = nulls.partner_shuffle(model, PAIRS, draws, np.random.default_rng(3))
    compared = 0
    for o, value in zip(order, found, strict=True):
        d = x[PAIRS[o, 1]] - x[PAIRS[:, 0]]
        assert value == pytest.approx(naive_parallelism(d), abs=1e-9)
        compared += 1
    assert compared == draws

    distinct = PAIRS[[0, 1, 4, 5, 6, 7]]
    rng = np.random.default_rng(3)
    order = rng.permuted(np.tile(np.arange(distinct.size), (draws, 1)), axis=1)
    words = np.unique(distinct)
    index = np.searchsorted(words, distinct.reshape(-1))
    naive = [naive_parallelism(x[words[index[o[1::2]]]] - x[words[index[o[::2]]]]) for o in order]
    np.testing.assert_allclose(nulls.repairing(model, distinct, draws, np.random.default_rng(3)), naive, atol=1e-9)


def test_random_words_null_has_the_distribution_of_naive_draws():
    gamma = vocabulary(tokens=60)
    model = model_of(gamma, "euclidean")
    rng = np.random.default_rng(0)
    naive = []
    for _ in range(1500):
        w = rng.choice(60, 16, replace=False)
        naive.append(naive_parallelism(gamma[w[:8]] - gamma[w[8:]]))
    found = nulls.random_words(model, PAIRS, 1500, np.random.default_rng(1))
    for q in (0.1, 0.5, 0.9):
        assert np.quantile(found, q) == pytest.approx(np.quantile(naive, q), abs=5 * np.std(naive) / np.sqrt(1500))


def test_benjamini_hochberg_is_the_textbook_procedure():
    rng = np.random.default_rng(0)
    for n in (1, 5, 40):
        p = np.where(rng.random(n) < 0.4, rng.random(n) * 0.01, rng.random(n))
        adjusted = nulls.benjamini_hochberg(np.concatenate([p, [np.nan]]))
        assert np.isnan(adjusted[-1])
        for level in (0.01, 0.05, 0.2):
            order = np.sort(p)
            below = [k for k in range(n) if order[k] <= level * (k + 1) / n]
            threshold = order[below[-1]] if below else -1.0
            assert np.array_equal(adjusted[:-1] <= level, p <= threshold)
    assert np.isnan(nulls.benjamini_hochberg(np.full(3, np.nan))).all()


def test_shared_word_cosines_are_those_of_independent_token_vectors():
    lists = [PAIRS, np.array([[0, 1], [2, 20], [21, 3]]), np.array([[1, 0], [30, 31]]), np.array([[40, 41], [42, 43]])]
    expected = nulls.shared_word_cosines(nulls.difference_operators(lists))
    rng = np.random.default_rng(0)
    sums = np.zeros((4, 4))
    for _ in range(60):
        gamma = rng.standard_normal((50, 2000))  # in a wide space one draw is near the expectation
        sums += metrics.direction_cosines(np.stack([(gamma[p[:, 1]] - gamma[p[:, 0]]).mean(axis=0) for p in lists]))
    np.testing.assert_allclose(sums / 60, expected, atol=0.015)
    assert expected[0, 2] < -0.1  # opposite orientation shows as a negative cosine
    assert expected[0, 3] == 0


def test_alignment_matrix_is_the_stated_formula_for_every_cell():
    rng = np.random.default_rng(0)
    gamma, lam = vocabulary(), rng.standard_normal((40, 12))
    c = np.cov(gamma.T, bias=True)
    r = Representations(unembeddings=gamma, embeddings=lam)
    tokens = ConceptPairs.from_lists({"a": [(0, 1), (2, 3)], "b": [(4, 5), (6, 7), (8, 9)], "none": []})
    contexts = ConceptPairs.from_lists({"x": [(0, 1), (2, 3)], "y": [(4, 5)]}, side="embedding")
    found = alignment.matrix(r, model_of(gamma), tokens, contexts)
    for i, x in enumerate(contexts.names):
        delta = np.diff(lam[contexts.of(x)], axis=1)[:, 0].mean(axis=0)
        for j, t in enumerate(tokens.names[:2]):
            token = np.diff(gamma[tokens.of(t)], axis=1)[:, 0].mean(axis=0)
            expected = delta @ token / np.sqrt((delta @ c @ delta) * (token @ np.linalg.solve(c, token)))
            assert found[i, j] == pytest.approx(expected)
    assert np.isnan(found[:, 2]).all()


def alignment_sample(
    rng: np.random.Generator, true_cosine: float, dim: int, templates: int
) -> tuple[alignment.Sources, ConceptPairs, ConceptPairs]:
    """Noisy differences about two directions at a known angle: 30 word pairs, and contexts in templates of 4."""
    u, v = np.eye(dim)[:2]
    word = np.sqrt(0.4) * (true_cosine * u + np.sqrt(1 - true_cosine**2) * v)
    delta = np.sqrt(0.6) * u
    noise = rng.standard_normal((30 + 5 * templates, dim)) / np.sqrt(dim)
    d = delta + noise[30 : 30 + templates].repeat(4, axis=0) + 0.5 * noise[30 + templates :]
    # Negatives at 0 leave the differences as they are; other words stand by for the pool.
    gamma = np.concatenate([np.zeros((30, dim)), word + noise[:30], rng.standard_normal((40, dim))])
    lam = np.concatenate([np.zeros_like(d), d])
    r = Representations(unembeddings=gamma, embeddings=lam)
    tokens = ConceptPairs.from_lists({"c": [(i, 30 + i) for i in range(30)]})
    contexts = ConceptPairs.from_lists(
        {"c": [(i, len(d) + i) for i in range(len(d))]},
        groups={"c": np.repeat(np.arange(templates), 4).tolist()},
        side="embedding",
    )
    return alignment.Sources(r, model_of(gamma, "euclidean")), tokens, contexts


def test_interval_of_alignment_is_the_naive_jackknife():
    sources, tokens, contexts = alignment_sample(np.random.default_rng(0), 0.5, 20, 6)
    assert sources.representations.embeddings is not None
    delta = np.diff(sources.representations.embeddings[contexts.of("c")], axis=1)[:, 0]
    word = np.diff(sources.representations.unembeddings[tokens.of("c")], axis=1)[:, 0]
    template = contexts.groups_of("c")
    without_template = [cos(delta[template != t].sum(axis=0), word.sum(axis=0)) for t in range(6)]
    without_word = [cos(delta.sum(axis=0), np.delete(word, k, axis=0).sum(axis=0)) for k in range(30)]
    variance = 5 / 6 * 6 * np.var(without_template) + 29 / 30 * 30 * np.var(without_word)
    reach = 2.570581836 * np.sqrt(variance)  # t(5) at 97.5 %
    value = cos(delta.sum(axis=0), word.sum(axis=0))
    row = alignment.rows(sources, tokens, contexts, {}, 1, 0)[0]
    assert (row["low"], row["value"], row["high"]) == pytest.approx((value - reach, value, min(value + reach, 1)))


@pytest.mark.parametrize(("dim", "templates"), [(200, 5), (30, 8)])
def test_intervals_of_alignment_hold_their_value_and_cover_its_expectation(dim, templates):
    """At least the lower end of the 99.9 % band: the jackknife may err on the wide side, never on the narrow one."""
    rng = np.random.default_rng(0)
    rows = [alignment.rows(*alignment_sample(rng, 0.5, dim, templates), {}, 1, 0)[0] for _ in range(300)]
    expectation = np.mean([row["value"] for row in rows])
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert np.mean([row["low"] <= expectation <= row["high"] for row in rows]) >= coverage_band(300)[0]
