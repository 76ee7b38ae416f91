"""Generators make what they say, honest nulls keep their level, and rates are counted right."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.geometry import alignment, metrics, nulls, verdicts
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
from linrep.studies import calibration_contexts as contexts_study
from linrep.studies import calibration_rates as rates
from linrep.studies.calibration import CalibrationConfig, calibrate
from linrep.studies.calibration_nonsense import N_PAIRS, NONSENSE, Vocabulary, planted
from tests.fixtures.calibration_run import N_LOWER, SMALL, contexts, vocabulary

WORDS, TOKENS = vocabulary()


def built(product: str = "euclidean") -> Vocabulary:
    real = [TOKENS.of(n) for n in TOKENS.names]
    return Vocabulary.of(WORDS, INNER_PRODUCTS[product](WORDS.unembeddings), nulls.WordPool.of(WORDS), real)


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_pair_twice_and_no_word_with_itself(kind, seed):
    pairs = NONSENSE[kind](built(), np.random.default_rng(seed))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len({frozenset(p) for p in pairs.tolist()}) == len(pairs)
    assert len(pairs) == N_PAIRS or kind == "two lists"
    ConceptPairs.from_lists({"x": [(int(a), int(b)) for a, b in pairs]})


def test_gaps_are_gaps():
    v, rng = built(), np.random.default_rng(0)
    for kind in ("case gap", "related, case gap"):
        pairs = NONSENSE[kind](v, rng)
        assert (pairs[:, 0] < N_LOWER).all() and (pairs[:, 1] >= N_LOWER).all()
    assert WORDS.token_frequency is not None
    frequency = WORDS.token_frequency
    low, high = np.quantile(frequency[:N_LOWER], [0.25, 0.75])
    for kind in ("frequency gap", "related, frequency gap"):
        pairs = NONSENSE[kind](v, rng)
        assert (frequency[pairs[:, 0]] >= high - 1).all() and (frequency[pairs[:, 1]] <= low + 1).all()


def test_shared_words_are_shared():
    v, rng = built(), np.random.default_rng(0)
    used = {kind: [sorted(np.unique(NONSENSE[kind](v, rng)[:, k], return_counts=True)[1].tolist()) for k in (0, 1)]
            for kind in ("hub word", "one-to-many", "hubs on both sides", "random words")}  # fmt: skip
    assert sorted(used["hub word"]) == [[1] * N_PAIRS, [N_PAIRS]]
    assert used["one-to-many"] == [[1] * N_PAIRS, [6] * 5]
    assert used["hubs on both sides"] == [[1] * 15 + [5] * 3] * 2
    assert used["random words"] == [[1] * N_PAIRS] * 2


def test_two_lists_are_columns_of_two_real_lists():
    v, rng = built(), np.random.default_rng(0)
    columns = [set(TOKENS.of(n)[:, k].tolist()) for n in TOKENS.names for k in (0, 1)]
    for _ in range(10):
        pairs = NONSENSE["two lists"](v, rng)
        a, b = (next(c for c, column in enumerate(columns) if set(pairs[:, k].tolist()) <= column) for k in (0, 1))
        assert a != b and not set(pairs[:, 0].tolist()) & set(pairs[:, 1].tolist())


def test_nearest_words_are_nearest():
    v = built()
    pairs = NONSENSE["nearest word"](v, np.random.default_rng(0))
    unit = WORDS.unembeddings / np.linalg.norm(WORDS.unembeddings, axis=1, keepdims=True)
    taken = set(pairs[:, 0].tolist())
    for word, other in pairs.tolist():
        spelt = v.text[word].lower()
        free = [o for o in range(WORDS.n_tokens) if o not in taken and v.text[o].lower() != spelt]
        assert other == free[int(np.argmax(unit[free] @ unit[word]))]
        taken.add(other)


@pytest.mark.parametrize("product", ["euclidean", "causal"])
def test_planted_directions_have_their_strength(product):
    v = built(product)
    model, concepts = planted(v, (0.1, 0.5), 40, np.random.default_rng(0))
    for strength, lists in concepts.items():
        ends = [model.carry(pairs) for pairs in lists]
        found = [float(metrics.parallelism(e[:, 1] - e[:, 0])) for e in ends]
        error = np.std(found) / np.sqrt(len(found))
        assert abs(np.mean(found) - strength) < 4 * error + 0.01
    assert np.array_equal(model.unembeddings[: WORDS.n_tokens], WORDS.unembeddings)
    assert set(model.pool.rows.tolist()) == set(v.model.pool.rows.tolist())  # nulls draw real words only


def test_honest_nulls_reject_at_their_level():
    words = Representations(
        np.random.default_rng(5).standard_normal((1000, 20)), tokens=WORDS.tokens, token_frequency=WORDS.token_frequency
    )
    config = SMALL.model_copy(update={"inner_products": ("euclidean",), "random": 810, "structured": 27, "planted": 27})
    tests, aligned, _ = calibrate(words, TOKENS, None, config)
    plain = tests.filter(pl.col("kind") == "random words")
    low, high = rates.binomial_band(810)
    assert plain.height == 810 and aligned.is_empty()
    for null in nulls.NULLS:
        assert low <= float((plain[null].to_numpy() <= 0.05).mean()) <= high, null
    # The same p-values would not pass for a level of a fifth: the band is narrow enough to show something.
    assert high < float((plain["sign flip"].to_numpy() <= 0.2).mean())


def test_nonsense_is_called_nothing_and_planted_directions_are_found():
    config = SMALL.model_copy(update={"inner_products": ("euclidean",)})
    tests, _, skipped = calibrate(WORDS, TOKENS, None, config)
    assert not skipped
    rows = pl.DataFrame(rates.measurement_rows(tests, pl.DataFrame(schema={"inner_product": pl.String,
                        "kind": pl.String, "test": pl.String})), infer_schema_length=None)  # fmt: skip
    common = rows.filter(pl.col("metric") == "common_direction_rate")
    by = {(r["concept"], r["strength"]): r["value"] for r in common.iter_rows(named=True)}
    assert by[(rates.REAL, None)] == 1 and by[(rates.PLANTED, 0.6)] == 1
    assert by[(rates.RANDOM_WEIGHTS, None)] == 0
    assert all(by[(kind, None)] <= 0.05 for kind in NONSENSE)


def test_a_gap_that_reaches_the_floor_is_named():
    words, tokens = vocabulary(gap=2.0)
    tests, _, _ = calibrate(words, tokens, None, SMALL.model_copy(update={"inner_products": ("euclidean",)}))
    rows = pl.DataFrame(rates.measurement_rows(tests, pl.DataFrame(schema={"inner_product": pl.String,
                        "kind": pl.String, "test": pl.String})), infer_schema_length=None)  # fmt: skip
    needed = rows.filter(pl.col("metric") == "floor_needed")["value"][0]
    own = tests.filter(pl.col("kind").is_in(rates.GAPS)).group_by("kind").agg(pl.col("parallelism"))
    assert needed == pytest.approx(max(np.quantile(v, rates.FLOOR_QUANTILE) for v in own["parallelism"].to_list()))
    assert needed > verdicts.EFFECT_FLOOR["euclidean"]


def test_kinds_that_a_vocabulary_cannot_give_are_named():
    few = Representations(WORDS.unembeddings[:N_LOWER], tokens=(WORDS.tokens or ())[:N_LOWER])
    tests, _, skipped = calibrate(few, TOKENS, None, SMALL.model_copy(update={"inner_products": ("euclidean",)}))
    assert set(skipped) == {"case gap", "related, case gap"}
    assert "vocabulary has 0" in skipped["case gap"] and not tests.filter(pl.col("kind") == "case gap").height
    with pytest.raises(InvalidInputError, match="no tokens"):
        calibrate(Representations(WORDS.unembeddings), TOKENS, None, SMALL)


def frame(p: list[float], x: float, kind: str, n: int = rates.BATCH) -> pl.DataFrame:
    """Concepts of one run whose p-values are all the same in every null."""
    columns = {"inner_product": "causal", "kind": kind, "run": 0, "n_pairs": 30, "parallelism": x}
    return pl.DataFrame([columns | dict.fromkeys(nulls.NULLS, q) for q in (p * n)[:n]])


def test_false_discoveries_are_counted_beside_the_real_lists():
    real = frame([0.001], 0.5, rates.REAL, 9)
    clean = rates.false_discoveries(frame([0.9], 0.5, "case gap"), real)[verdicts.SPECIFIC]
    assert clean[:2] == (0.0, 0.0) and 0 < clean[2] < 27 * 0.13 / (27 * 0.13 + 9)
    bad = rates.false_discoveries(frame([0.001, 0.9, 0.9], 0.5, "case gap"), real)[verdicts.SPECIFIC]
    assert bad[0] == pytest.approx(9 / 18) and bad[1] < 0.5 < bad[2]


def test_runs_are_judged_by_themselves():
    both = pl.concat([frame([0.04], 0.5, "a"), frame([0.04] + [0.9] * 26, 0.5, "b")]).with_columns(
        strength=pl.lit(None, dtype=pl.Float64)
    )
    said = rates.called(both)
    assert (said[:27] == verdicts.SPECIFIC).all() and (said[27:] == verdicts.NONE).all()


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 40), (40, 40)])
def test_exact_interval_is_that_of_scipy(hits, n):
    expected = binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert rates.exact_interval(hits, n) == pytest.approx((expected.low, expected.high))


def test_context_nonsense_keeps_texts_and_templates():
    pairs = contexts(WORDS).pairs
    for kind, redraw in contexts_study.CONTEXT_NONSENSE.items():
        made = redraw(pairs, np.random.default_rng(0))
        for name in pairs.names:
            before = {g: np.unique(pairs.of(name)[pairs.groups_of(name) == g]).tolist() for g in range(6)}
            after = {g: np.unique(made.of(name)[made.groups_of(name) == g]).tolist() for g in range(6)}
            assert before == after, kind
            same = {frozenset(p) for p in pairs.of(name).tolist()} & {frozenset(p) for p in made.of(name).tolist()}
            assert (len(same) == 30) == (kind == "labels shuffled")
        assert made.of("set 0").tolist() != pairs.of("set 0").tolist()


def test_alignment_tests_tell_real_contexts_from_nonsense():
    own = contexts(WORDS)
    model = nulls.NullModel.of(WORDS, INNER_PRODUCTS["causal"](WORDS.unembeddings), nulls.WordPool.of(WORDS))
    sources = alignment.Sources(own.representations, model)
    real = contexts_study.alignment_tests(sources, TOKENS, own.pairs, own.partner, 99, 0)
    by = {test: [r["p_value"] for r in real if r["test"] == test] for test in {r["test"] for r in real}}
    assert set(by) == {"mismatched", "random word pairs", contexts_study.FLIPS, contexts_study.JOINT}
    assert max(by["random word pairs"]) <= 0.02 and max(by[contexts_study.FLIPS]) <= 0.05
    assert by[contexts_study.JOINT] == [pytest.approx(1 / 6)]  # three families: all six relabellings
    flips = []
    for seed in range(20):
        fake = contexts_study.shuffled_labels(own.pairs, np.random.default_rng(seed))
        said = contexts_study.alignment_tests(sources, TOKENS, fake, own.partner, 63, seed)
        flips += [r["p_value"] for r in said if r["test"] == contexts_study.FLIPS]
    assert np.mean(np.array(flips) <= 0.05) <= rates.binomial_band(len(flips))[1]
    other = contexts_study.other_partners(TOKENS, own.partner, np.random.default_rng(0))
    assert all(other[name] != partner for name, partner in own.partner.items())
    with pytest.raises(UnknownNameError):
        contexts_study.alignment_tests(sources, TOKENS, own.pairs, {"set 0": "list 0"}, 99, 0)


def test_quick_fills_what_is_not_given_and_wrong_values_are_refused():
    assert CalibrationConfig(quick=True).random == 108 and CalibrationConfig(quick=True, random=270).random == 270
    assert CalibrationConfig().random == 5000
    with pytest.raises(UnknownNameError):
        CalibrationConfig(inner_products=("casual",))
    with pytest.raises(ValueError, match="above 0"):
        CalibrationConfig(strengths=(1.0,))
