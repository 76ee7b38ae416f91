"""Nulls: what each of them finds and lets pass, on vocabularies whose truth is known."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binom

from linrep.errors import InvalidInputError
from linrep.geometry import metrics, nulls, verdicts
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.nulls import NullModel, WordPool, p_value, surface_class
from linrep.geometry.representations import Representations

DIM, WORDS, DRAWS = 40, 1500, 99
MATCHED = verdicts.COMMON_NULLS[1:]


def model_of(gamma: np.ndarray, product: str = "causal", **facts) -> NullModel:
    r = Representations(unembeddings=gamma, **facts)
    return NullModel.of(r, INNER_PRODUCTS[product](gamma), WordPool.of(r))


def gaussian(seed: int = 0, words: int = WORDS, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((words, dim))


def value(model: NullModel, pairs: np.ndarray) -> float:
    ends = model.carry(pairs)
    return float(metrics.parallelism(ends[:, 1] - ends[:, 0]))


def p_values(
    model: NullModel, concepts: list[np.ndarray], seed: int, names=tuple(nulls.NULLS)
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {name: np.empty(len(concepts)) for name in names}
    for i, pairs in enumerate(concepts):
        observed = value(model, pairs)
        for name in names:
            found[name][i] = p_value(observed, nulls.NULLS[name](model, pairs, DRAWS, rng))
    return found


def within_the_band(rejected: np.ndarray, rate: float = 0.05) -> bool:
    low, high = binom.interval(0.999, len(rejected), rate)
    return low <= rejected.sum() <= high


def not_above_the_band(rejected: np.ndarray, rate: float = 0.05) -> bool:
    return rejected.sum() <= binom.ppf(0.9995, len(rejected), rate)


# p-values


def test_a_p_value_has_a_floor_and_ties_count_against():
    draws = np.array([0.1, 0.2, 0.3, 0.4])
    assert p_value(9.0, draws) == 0.2
    assert p_value(-9.0, draws) == 1.0
    assert p_value(0.4, draws) == p_value(0.4 + 1e-14, draws) == 0.4
    assert np.isnan(p_value(float("nan"), draws))
    assert np.isnan(p_value(1.0, np.array([0.1, np.nan])))
    assert np.isnan(p_value(1.0, np.array([])))


# Calibration and power


def test_every_null_is_calibrated_on_random_words():
    """600 concepts of unrelated Gaussian words."""
    rng = np.random.default_rng(1)
    model = model_of(gaussian())
    found = p_values(model, [rng.choice(WORDS, (12, 2), replace=False) for _ in range(600)], 2)
    for name, p in found.items():
        assert within_the_band(p <= 0.05), (name, np.mean(p <= 0.05))
        assert within_the_band(p <= 0.5, 0.5), (name, np.mean(p <= 0.5))


@pytest.mark.parametrize("product", ["euclidean", "causal"])
def test_a_planted_direction_is_found(product):
    """Each positive is its negative, moved along one direction and by noise of twice that length."""
    rng = np.random.default_rng(1)
    gamma = gaussian()
    pairs = rng.choice(WORDS, (20, 2), replace=False)
    step = 2.5 * metrics.unit(rng.standard_normal(DIM))
    gamma[pairs[:, 1]] = gamma[pairs[:, 0]] + step + 5 * metrics.unit(rng.standard_normal((20, DIM)))
    model = model_of(gamma, product)
    assert 0.1 < value(model, pairs) < 0.35
    assert {float(p[0]) for p in p_values(model, [pairs], 0, verdicts.COMMON_NULLS).values()} == {1 / (DRAWS + 1)}


def test_a_direction_of_one_column_alone_is_no_concept():
    """Positives of one kind, negatives any words: another negative does as well, which one matched null notices."""
    rng = np.random.default_rng(1)
    gamma = gaussian()
    pairs = rng.choice(WORDS, (20, 2), replace=False)
    gamma[pairs[:, 1]] += 6 * metrics.unit(rng.standard_normal(DIM))
    model = model_of(gamma)
    assert value(model, pairs) > 0.2
    found = p_values(model, [pairs, pairs[:, ::-1]], 0, verdicts.COMMON_NULLS)
    assert (found["sign flip"] == 1 / (DRAWS + 1)).all()
    assert found["matched re-pairing (negative)"][0] > 0.05
    assert found["matched re-pairing (positive)"][1] > 0.05


def test_nearest_words_beat_the_partner_shuffle_and_have_no_direction():
    """Partners more alike than strangers, in no common way: only the partner shuffle notices."""
    rng = np.random.default_rng(1)
    gamma = gaussian()
    gamma[1::2] = gamma[::2] + 0.7 * gamma[1::2]  # words 2k and 2k + 1 are neighbours
    model = model_of(gamma)
    concepts = [
        np.stack([c, c + 1], axis=1) for c in (2 * rng.choice(WORDS // 2, 20, replace=False) for _ in range(100))
    ]
    found = p_values(model, concepts, 2, (*verdicts.COMMON_NULLS, verdicts.SPECIFIC_NULL))
    assert np.mean(found["partner shuffle"] <= 0.05) > 0.9
    assert within_the_band(found["sign flip"] <= 0.05)
    largest = np.max([found[name] for name in verdicts.COMMON_NULLS], axis=0)
    assert not_above_the_band(largest <= 0.05)


def hub(rng: np.random.Generator) -> np.ndarray:
    w = rng.choice(WORDS, 25, replace=False)
    return np.stack([np.full(24, w[0]), w[1:]], axis=1)


def few_partners(rng: np.random.Generator) -> np.ndarray:
    w = rng.choice(WORDS, 28, replace=False)
    return np.stack([w[4:], np.repeat(w[:4], 6)], axis=1)


def hubs_on_both_sides(rng: np.random.Generator) -> np.ndarray:
    pairs = few_partners(rng)
    pairs[12:] = pairs[12:, ::-1]
    return pairs


@pytest.mark.parametrize("maker", [hub, few_partners, hubs_on_both_sides])
@pytest.mark.parametrize("turned", [False, True])
def test_words_shared_between_pairs_are_no_common_direction(maker, turned):
    """One word against many, whichever column it is in: parallel by construction, which both matched nulls know."""
    rng = np.random.default_rng(3)
    model = model_of(gaussian())
    concepts = [maker(rng)[:, ::-1] if turned else maker(rng) for _ in range(150)]
    found = p_values(model, concepts, 4, verdicts.COMMON_NULLS)
    assert np.mean([value(model, c) for c in concepts]) > 2 * verdicts.EFFECT_FLOOR["causal"] - 0.005
    assert np.mean(found["sign flip"] <= 0.05) > 0.95
    for name in MATCHED:
        assert not_above_the_band(found[name] <= 0.05), (name, np.mean(found[name] <= 0.05))


@pytest.mark.parametrize("gap", ["case", "frequency"])
def test_a_gap_in_case_or_frequency_is_no_concept(gap, monkeypatch):
    """One component of γ says how frequent (or of which case) a word is; unrelated words across the gap."""
    monkeypatch.setattr(nulls, "_WINDOW", 120)  # of 1,500 words, as 800 are of a pool of 20,000
    rng = np.random.default_rng(1)
    gamma = gaussian()
    upper = np.arange(WORDS) >= WORDS // 2
    rank = np.arange(WORDS) / WORDS
    gamma[:, 0] += 8 * (upper if gap == "case" else rank)
    letters = ["".join(chr(97 + int(d)) for d in f"{i:04d}") for i in range(WORDS)]
    tokens = tuple(f" {w.capitalize() if u and gap == 'case' else w}" for w, u in zip(letters, upper, strict=True))
    frequency = rank if gap == "frequency" else rng.random(WORDS)
    model = model_of(gamma, "euclidean", tokens=tokens, token_frequency=frequency)
    if gap == "case":
        low, high = np.flatnonzero(~upper), np.flatnonzero(upper)
    else:
        low, high = np.arange(WORDS // 4), np.arange(WORDS - WORDS // 4, WORDS)
    concepts = [np.stack([rng.choice(x, 15, replace=False) for x in (low, high)], axis=1) for _ in range(60)]
    found = p_values(model, concepts, 2, verdicts.COMMON_NULLS)
    assert np.mean([value(model, c) for c in concepts]) > 0.15
    assert (found["sign flip"] == 1 / (DRAWS + 1)).all()
    largest = np.max([found[name] for name in MATCHED], axis=0)
    assert not_above_the_band(largest <= 0.05), np.mean(largest <= 0.05)


# What a null keeps


def test_matched_partners_have_the_case_and_the_frequency_of_the_word_they_replace(monkeypatch):
    monkeypatch.setattr(nulls, "_WINDOW", 60)
    rng = np.random.default_rng(0)
    frequency = rng.permutation(WORDS).astype(float)
    tokens = tuple(f" {'K' if i % 3 == 0 else 'k'}{'ab'[i % 2]}" for i in range(WORDS))
    pool = WordPool.of(Representations(unembeddings=gaussian(), tokens=tokens, token_frequency=frequency))
    for row in (0, 1, 700, 1499):
        near = pool.rows[nulls._nearest_in_frequency(pool, row, avoid=(row,))]
        same = np.array([i for i in range(WORDS) if (i % 3 == 0) == (row % 3 == 0) and i != row])
        away = np.sort(np.abs(frequency[same] - frequency[row]))
        assert row not in near
        assert set(near) <= set(same)
        assert len(near) == 59
        # A window at the end of the vocabulary reaches further on its one side.
        assert np.abs(frequency[near] - frequency[row]).max() <= away[min(2 * 59, len(away) - 1)]


def test_a_case_the_pool_lacks_is_matched_by_frequency_alone(monkeypatch):
    monkeypatch.setattr(nulls, "_WINDOW", 60)
    frequency = np.random.default_rng(0).permutation(WORDS).astype(float)
    tokens = (" 12", *(f" k{'ab'[i % 2]}" for i in range(WORDS - 1)))
    pool = WordPool.of(Representations(unembeddings=gaussian(), tokens=tokens, token_frequency=frequency))
    near = pool.rows[nulls._nearest_in_frequency(pool, 0, avoid=(0,))]
    assert np.abs(frequency[near] - frequency[0]).max() <= 2 * 60


def test_without_frequencies_partners_come_from_the_whole_vocabulary():
    pool = WordPool.of(Representations(unembeddings=gaussian(words=5000)))
    near = nulls._nearest_in_frequency(pool, 17, avoid=(17,))
    assert near.min() < 100
    assert near.max() > 4900


def test_a_common_offset_of_all_tokens_changes_no_null():
    gamma = gaussian()
    pairs = np.random.default_rng(1).choice(WORDS, (12, 2), replace=False)
    for name, null in nulls.NULLS.items():
        for product in ("euclidean", "causal"):
            drawn = [
                null(model_of(gamma + offset, product), pairs, 50, np.random.default_rng(2)) for offset in (0.0, 1e6)
            ]
            np.testing.assert_allclose(drawn[0], drawn[1], atol=2e-5, err_msg=name)


def test_equal_vectors_count_for_nothing_in_every_null():
    """A word twice in the vocabulary: its difference is 0, and a null may draw it."""
    gamma = np.repeat(gaussian(words=30), 2, axis=0)
    pairs = np.arange(32).reshape(16, 2)  # half of them of equal words: none has a length
    model = model_of(gamma, "euclidean")
    assert value(model, pairs) == 0
    for name, null in nulls.NULLS.items():
        drawn = null(model, pairs, 50, np.random.default_rng(0))
        assert np.isfinite(drawn).all(), name
        assert (drawn >= -1 / 15 - 1e-6).all(), name
    assert not nulls.sign_flip(model, pairs, 5, np.random.default_rng(0)).any()


def test_a_partner_equal_to_the_word_kept_counts_for_nothing(monkeypatch):
    """Every word three times: the best match of a partner that is a copy is the third copy."""
    monkeypatch.setattr(nulls, "_CANDIDATES", 1)
    model = model_of(np.repeat(gaussian(words=20), 3, axis=0), "euclidean")
    pairs = np.array([[3 * i, 3 * i + 1] for i in range(10)])
    for name in MATCHED:
        np.testing.assert_allclose(nulls.NULLS[name](model, pairs, 5, np.random.default_rng(0)), 0, atol=1e-9)


def test_nulls_are_reproducible_and_differ_between_seeds():
    model = model_of(gaussian())
    pairs = np.arange(24).reshape(12, 2)
    for name, null in nulls.NULLS.items():
        first, again, other = (null(model, pairs, 20, np.random.default_rng(s)) for s in (0, 0, 1))
        assert np.array_equal(first, again), name
        assert not np.array_equal(first, other), name
        assert first.shape == (20,)


# The pool


def test_the_pool_holds_the_words_of_running_text():
    tokens = (" king", "king", " k", " Queen", " 12", " don't", "\n", " QUEEN")
    pool = WordPool.of(Representations(unembeddings=gaussian(words=8), tokens=tokens))
    assert pool.rows.tolist() == [0, 3, 7]
    assert {c: pool.rows[at].tolist() for c, at in pool.by_class.items()} == {
        "lower": [0],
        "capitalised": [3],
        "upper": [7],
    }


def test_a_vocabulary_without_words_is_its_own_pool_and_a_large_one_is_sampled():
    names = tuple(f"{i:05b}" for i in range(32))
    assert WordPool.of(Representations(unembeddings=gaussian(words=32), tokens=names)).rows.tolist() == list(range(32))
    r = Representations(unembeddings=gaussian(words=25_000, dim=2))
    a, b, c = (WordPool.of(r, seed=s).rows for s in (0, 0, 1))
    assert len(a) == 20_000
    assert len(set(a.tolist())) == 20_000
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (" I", "capitalised"),
        (" iPhone", "other"),
        (" McDonald", "other"),
        (" é", "lower"),
        (" 中", "other"),
        (" ", "other"),
    ],
)
def test_surface_classes(token, kind):
    assert surface_class(token) == kind


def test_vocabularies_too_small_for_a_null_say_so():
    model = model_of(gaussian(words=20), "euclidean")
    with pytest.raises(InvalidInputError, match="11 random pairs need 22 words, the vocabulary has 20"):
        nulls.random_words(model, np.array([[0, i] for i in range(1, 12)]), 5, np.random.default_rng(0))
    pair_only = dataclasses.replace(model.pool, rows=np.array([0, 1]))
    with pytest.raises(InvalidInputError, match="needs a larger vocabulary"):
        nulls._nearest_in_frequency(pair_only, 0, avoid=(0, 1))
