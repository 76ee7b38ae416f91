"""Inner products: when whitening is arithmetic, what is reported, what is refused."""

import warnings

import numpy as np
import pytest

from linrep.errors import DegenerateGeometryWarning, InvalidInputError
from linrep.geometry import inner_products as ip
from linrep.geometry import metrics


def tokens(n: int, dim: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)) + 1


def warned(act) -> bool:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        act()
    return any(issubclass(w.category, DegenerateGeometryWarning) for w in seen)


@pytest.mark.parametrize(
    ("n", "dim", "degenerate"),
    [(5, 3, False), (5, 4, True), (5, 9, True), (6, 4, False), (64, 63, True), (65, 63, False), (2, 1, True)],
)
def test_the_warning_comes_exactly_when_the_rank_is_tokens_minus_one(n, dim, degenerate):
    assert warned(lambda: ip.causal(tokens(n, dim))) is degenerate


def test_the_rank_counts_not_the_width():
    flat = tokens(5, 3) @ np.random.default_rng(1).standard_normal((3, 20))
    assert not warned(lambda: ip.causal(flat))
    assert ip.causal(flat).rank == 3
    doubled = np.concatenate([tokens(5, 4), tokens(5, 4)[:1]])  # a token twice: 6 tokens, rank 4
    assert not warned(lambda: ip.causal(doubled))


def test_a_floor_silences_the_warning_only_if_it_raises_something():
    gamma = tokens(5, 4) * [100, 1, 1, 1]
    assert warned(lambda: ip.causal(gamma, floor=1e-9))
    assert warned(lambda: ip.causal(np.pad(gamma, ((0, 0), (0, 3))), floor=1e-9))
    assert not warned(lambda: ip.causal(gamma, floor=0.1))


def test_others_than_causal_never_warn():
    for name in set(ip.INNER_PRODUCTS) - {"causal"}:
        assert not warned(lambda name=name: ip.INNER_PRODUCTS[name](tokens(5, 9)))


def test_full_rank_whitening_makes_a_regular_simplex_of_any_tokens():
    """Raw parallelism .9999995; whitened it is exactly 0, whatever was learned."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4, 12))
    shared = 1000 * rng.standard_normal(12)
    gamma = np.concatenate([base, base + shared + 0.3 * rng.standard_normal((4, 12))])
    raw = gamma[4:] - gamma[:4]
    assert metrics.parallelism(raw) > 0.9999995
    with pytest.warns(DegenerateGeometryWarning, match=r"8 tokens has rank 7 = tokens − 1"):
        product = ip.causal(gamma)
    white = product.unembeddings(gamma)
    distances = np.linalg.norm(white[:, None] - white[None], axis=-1)[~np.eye(8, dtype=bool)]
    np.testing.assert_allclose(distances, np.sqrt(2 * 8), rtol=1e-4)
    assert metrics.parallelism(white[4:] - white[:4]) == pytest.approx(0, abs=1e-4)


def test_directions_in_which_nothing_varies_are_projected_out():
    gamma = np.pad(tokens(50, 3), ((0, 0), (0, 2)), constant_values=7.0)
    product = ip.causal(gamma)
    assert (product.rank, product.floor) == (3, 0.0)
    np.testing.assert_allclose(product.unembeddings(np.eye(5)[3:]), 0, atol=1e-12)
    np.testing.assert_allclose(product.embeddings(np.eye(5)[3:]), 0, atol=1e-12)
    assert ip.causal(gamma, floor=0.01).rank == 5


@pytest.mark.parametrize("name", ip.INNER_PRODUCTS)
def test_logits_of_differences_survive_the_common_space_within_the_rank(name):
    gamma = tokens(50, 6)
    product = ip.INNER_PRODUCTS[name](gamma)
    lam, difference = np.random.default_rng(2).standard_normal((2, 6))
    kept = product.unembeddings(product.embeddings(lam))  # R S = S R is the projection on the rank
    assert product.embeddings(lam) @ product.unembeddings(difference) == pytest.approx(kept @ difference)
    if product.rank == 6:
        np.testing.assert_allclose(kept, lam, rtol=1e-8)
    assert product.name == name


def test_numbers_do_not_depend_on_the_float_type_of_the_weights():
    gamma = tokens(200, 8).astype(np.float32)
    a, b = ip.causal(gamma), ip.causal(gamma.astype(np.float64))
    np.testing.assert_allclose(a.unembeddings(gamma), b.unembeddings(gamma.astype(np.float64)), rtol=1e-12, atol=1e-12)
    assert a.unembeddings(gamma).dtype == np.float64


@pytest.mark.parametrize("floor", [-0.1, 1.0, 2.0])
def test_a_floor_that_is_no_fraction_is_refused(floor):
    with pytest.raises(InvalidInputError, match=r"in \[0, 1\), not"):
        ip.causal(tokens(9, 3), floor=floor)


def test_equal_tokens_and_wrong_widths_are_refused():
    with pytest.raises(InvalidInputError, match="all unembeddings are equal"):
        ip.causal(np.ones((4, 3)))
    with pytest.raises(InvalidInputError, match="is for width 3, not 4"):
        ip.causal(tokens(9, 3)).embeddings(np.ones((2, 4)))


# The random control

UNEVEN = tokens(300, 6) @ np.diag([9.0, 4.0, 2.0, 1.0, 0.5, 0.2])


def test_the_random_product_has_the_spectrum_and_not_the_eigenvectors():
    product, values = ip.random(UNEVEN), ip.Spectrum(UNEVEN).values
    root, inverse = product.embedding_root, product.unembedding_root
    assert root is not None and inverse is not None
    np.testing.assert_allclose(np.linalg.eigvalsh(root @ root), values, rtol=1e-9)
    np.testing.assert_allclose(root @ inverse, np.eye(6), atol=1e-9)
    assert product.condition == pytest.approx(values[-1] / values[0]) == ip.causal(UNEVEN).condition
    # None of its axes is one of γ's (at this seed the nearest has a cosine of .9).
    axes = np.linalg.eigh(root)[1].T @ ip.Spectrum(UNEVEN).vectors
    assert np.abs(np.diag(axes)).max() < 0.95


def test_the_random_product_is_euclidean_in_expectation_however_the_tokens_are_rotated():
    a, b = np.random.default_rng(1).standard_normal((2, 6))
    inverse = 1 / ip.Spectrum(UNEVEN).values
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((6, 6)))[0]
    for gamma in (UNEVEN, UNEVEN @ rotation):
        products = [ip.random(gamma, seed=seed) for seed in range(600)]
        found = [product.unembeddings(a) @ product.unembeddings(b) for product in products]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - inverse.mean() * (a @ b)) < 4 * error


def test_the_random_product_follows_its_seed_and_never_warns():
    first, again, other = (ip.random(UNEVEN, seed=s).unembeddings(UNEVEN) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not warned(lambda: ip.random(tokens(5, 9)))
