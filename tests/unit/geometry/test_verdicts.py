"""Verdicts: the rules, and that they print themselves."""

import numpy as np
import pytest

from linrep.geometry import verdicts
from linrep.geometry.inner_products import CONTROL_PRODUCTS, INNER_PRODUCTS
from linrep.geometry.nulls import NULLS, benjamini_hochberg

TESTED = (*verdicts.COMMON_NULLS, verdicts.SPECIFIC_NULL)


def decide(p: dict[str, list[float]], n_pairs: int = 30, parallelism: float = 0.5) -> tuple[str, ...]:
    k = len(next(iter(p.values())))
    filled = {name: np.array(p.get(name, [0.001] * k)) for name in TESTED}
    return verdicts.decide(np.full(k, n_pairs), np.full(k, parallelism), filled, "causal").verdict


def test_every_null_of_a_rule_exists_and_every_product_has_a_floor():
    assert set(TESTED) <= set(NULLS)
    assert set(verdicts.EFFECT_FLOOR) == set(INNER_PRODUCTS)


def test_a_product_without_a_floor_gets_no_verdict():
    for product in CONTROL_PRODUCTS:
        found = verdicts.decide(np.array([30]), np.array([0.9]), {n: np.array([0.001]) for n in TESTED}, product)
        assert found.verdict == () and found.p_adjusted["sign flip"] == 0.001


@pytest.mark.parametrize("null", verdicts.COMMON_NULLS)
def test_one_null_that_is_not_beaten_is_enough_for_no(null):
    assert decide({null: [0.2]}) == (verdicts.NONE,)
    assert decide({null: [0.05]}) == (verdicts.SPECIFIC,)
    assert decide({null: [float("nan")]}) == (verdicts.NONE,)


def test_pair_specific_needs_the_partner_shuffle_too():
    assert decide({verdicts.SPECIFIC_NULL: [0.2]}) == (verdicts.COMMON,)
    assert decide({verdicts.SPECIFIC_NULL: [0.2], "sign flip": [0.2]}) == (verdicts.NONE,)


def test_effect_floor_and_number_of_pairs():
    floor = verdicts.EFFECT_FLOOR["causal"]
    assert decide({"sign flip": [0.001]}, parallelism=floor) == (verdicts.NONE,)
    assert decide({"sign flip": [0.001]}, parallelism=floor + 1e-9) == (verdicts.SPECIFIC,)
    assert decide({"sign flip": [0.001]}, n_pairs=verdicts.MIN_PAIRS - 1) == (verdicts.TOO_FEW,)
    assert decide({"sign flip": [0.001]}, n_pairs=verdicts.MIN_PAIRS) == (verdicts.SPECIFIC,)


def test_concepts_with_too_few_pairs_do_not_move_the_others():
    p = {name: np.array([0.03, 0.9, 0.9]) for name in TESTED}
    n, x = np.array([30, 2, 2]), np.full(3, 0.5)
    assert verdicts.decide(n, x, p, "causal").verdict == (verdicts.SPECIFIC, verdicts.TOO_FEW, verdicts.TOO_FEW)
    assert verdicts.decide(np.full(3, 30), x, p, "causal").verdict[0] == verdicts.NONE
    assert np.isnan(verdicts.decide(n, x, p, "causal").p_adjusted["sign flip"][1:]).all()


def test_rules_name_what_they_use():
    for product, floor in verdicts.EFFECT_FLOOR.items():
        common = verdicts.rule(verdicts.COMMON, product)
        for part in (*verdicts.COMMON_NULLS, f"{floor:g}", product, f"{verdicts.LEVEL:g}", "Benjamini–Hochberg"):
            assert part in common
        assert verdicts.SPECIFIC_NULL in verdicts.rule(verdicts.SPECIFIC, product)
        assert verdicts.rule(verdicts.NONE, product).removeprefix("not: ") in common
        assert verdicts.KNOWN_LIMIT in common  # the nonsense that breaks the verdict is named where it is printed
        assert str(verdicts.MIN_PAIRS) in verdicts.rule(verdicts.TOO_FEW, product)


def test_false_discoveries_stay_at_the_level_when_many_concepts_fail_just_one_null():
    """100 lists that only matched re-pairing one way unmasks, 100 the other way, 5 real concepts.

    Adjusting each null by itself calls near half of the discoveries false here.
    """
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        p = {name: np.full(205, 0.001) for name in TESTED}
        p[verdicts.COMMON_NULLS[1]][:100] = rng.random(100)
        p[verdicts.COMMON_NULLS[2]][100:200] = rng.random(100)
        called = np.array(decide({k: v.tolist() for k, v in p.items()})) != verdicts.NONE
        assert called[200:].all()
        shares.append(called[:200].sum() / called.sum())
    error = np.std(shares) / np.sqrt(200)
    assert np.mean(shares) <= verdicts.LEVEL + 3.3 * error


def test_without_the_nulls_of_a_verdict_only_adjusts():
    p = {"sign flip": np.array([0.01, 0.5])}
    judged = verdicts.decide(np.array([30, 30]), np.full(2, 0.5), p, "causal")
    assert judged.verdict == ()
    assert np.array_equal(judged.p_adjusted["sign flip"], benjamini_hochberg(p["sign flip"]))
