"""measure(): one table from arrays and pairs, with nulls, verdicts and refusals."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from linrep.errors import DegenerateGeometryWarning, InvalidInputError, UnknownNameError
from linrep.geometry import metrics, nulls, verdicts
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.measure import Measured, measure
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations

DRAWS, SEED, DIM = 49, 3, 24
PRODUCTS = ("euclidean", "causal", "euclidean without top component")


def word(i: int) -> str:
    return " " + "".join(chr(97 + int(digit)) for digit in f"{i:03d}")


def planted(seed: int = 0) -> tuple[Representations, ConceptPairs, ConceptPairs]:
    """400 words; two concepts with a direction, one without, a small one; contexts in which the first two move."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal((400, DIM)).astype(np.float32)
    directions = metrics.unit(rng.standard_normal((2, DIM)))
    lists = {
        "gender": [(i, 100 + i) for i in range(15)],
        "tense": [(20 + i, 120 + i) for i in range(12)],
        "nonsense": [(40 + i, 140 + i) for i in range(10)],
        "small": [(60 + i, 160 + i) for i in range(7)],
        "single": [(80, 180)],
        "empty": [],
    }
    for name, direction in zip(("gender", "tense"), directions, strict=True):
        for a, b in lists[name]:
            gamma[b] = gamma[a] + 3 * direction + 2.5 * metrics.unit(rng.standard_normal(DIM))
    lam = rng.standard_normal((80, DIM))
    inverse = np.linalg.inv(np.cov(gamma.T.astype(np.float64), bias=True))
    for k in (0, 1):
        lam[20 + 40 * k : 40 + 40 * k] = lam[40 * k : 20 + 40 * k] + 4 * metrics.unit(inverse @ directions[k])
    contexts = ConceptPairs.from_lists(
        {name: [(40 * k + i, 40 * k + 20 + i) for i in range(20)] for k, name in enumerate(("gender", "past"))},
        groups={name: np.repeat(np.arange(5), 4).tolist() for name in ("gender", "past")},
        side="embedding",
    )
    r = Representations(
        unembeddings=gamma,
        embeddings=lam,
        tokens=tuple(map(word, range(400))),
        token_frequency=rng.permutation(400).astype(float),
        provenance={"model": "planted"},
    )
    families = {"nonsense": "x", "small": "x"}
    return r, ConceptPairs.from_lists(lists, families=families), contexts


R, TOKENS, CONTEXTS = planted()
UNTRAINED = replace(
    R,
    unembeddings=np.random.default_rng(9).standard_normal(R.unembeddings.shape),
    embeddings=np.random.default_rng(8).standard_normal((80, DIM)),
)
KINDS = ("metric", "inner_product", "concept", "concept_other", "split", "null")


def run(**changed) -> Measured:
    arguments = {"matched": {"past": "tense"}, "untrained": UNTRAINED, "draws": DRAWS, "seed": SEED} | changed
    return measure(R, TOKENS, CONTEXTS, **arguments)


@pytest.fixture(scope="module")
def measured() -> Measured:
    return run()


def only(tokens: ConceptPairs, *names: str) -> ConceptPairs:
    return ConceptPairs.from_lists({n: [(int(a), int(b)) for a, b in tokens.of(n)] for n in names})


def rows(m: Measured, **equal) -> pl.DataFrame:
    return m.measurements.where(**equal).table


def test_a_control_product_is_measured_and_not_judged():
    m = measure(R, TOKENS, inner_products=("causal", "random"), draws=DRAWS)
    assert set(m.verdicts["inner_product"]) == {"causal"}
    own = rows(m, inner_product="random", metric="parallelism", concept="tense")
    assert set(nulls.NULLS) <= set(own["null"].drop_nulls())
    heat = rows(m, inner_product="random", metric="direction_cosine", null=None)["value"].to_numpy()
    assert len(heat) and (np.abs(heat) <= 1 + 1e-9).all()


# Reproducible and independent


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(measured):
    again = run()
    assert again.measurements.table.equals(measured.measurements.table)
    assert again.verdicts.equals(measured.verdicts)
    assert again.pairs.equals(measured.pairs)
    other = run(seed=SEED + 1)
    drawn = {"metric": "parallelism", "concept": "nonsense", "null": "sign flip", "inner_product": "causal"}
    assert rows(other, **drawn)["null_value"][0] != rows(measured, **drawn)["null_value"][0]
    own = drawn | {"null": None}
    assert rows(other, **own).equals(rows(measured, **own))


def test_another_concept_or_null_changes_no_raw_number(measured):
    some = ["metric", "inner_product", "concept", "null", "value", "low", "high", "null_value", "null_high", "p_value"]
    key = ["metric", "inner_product", "concept", "null"]
    for alone in (
        measure(R, only(TOKENS, "tense"), draws=DRAWS, seed=SEED),
        measure(R, TOKENS, draws=DRAWS, seed=SEED, null_names=("partner shuffle", "sign flip")),
        measure(R, TOKENS, draws=DRAWS, seed=SEED, inner_products=("causal",)),
    ):
        few = alone.measurements.table.filter(pl.col("concept") == "tense", pl.col("concept_other").is_null())
        all_ = measured.measurements.table.join(few.select(key), on=key, how="semi", nulls_equal=True)
        all_ = all_.filter(pl.col("concept_other").is_null(), pl.col("null").fill_null("") != "untrained")
        assert few.height >= 6
        assert few.select(some).sort(key).equals(all_.select(some).sort(key))


def test_concepts_and_nulls_do_not_share_their_draws():
    pairs = [(40 + i, 140 + i) for i in range(10)]
    twins = ConceptPairs.from_lists({"x": pairs, "y": pairs})
    m = measure(R, twins, draws=DRAWS, inner_products=("causal",))
    drawn = m.measurements.table.filter(pl.col("null").is_in(list(nulls.NULLS)))["null_value"].to_list()
    assert len(drawn) == len(set(drawn)) == 2 * len(nulls.NULLS)


# Verdicts


def test_one_verdict_for_every_concept_and_product(measured):
    table = measured.verdicts
    assert sorted(table.select("concept", "inner_product").rows()) == sorted(
        (c, p) for c in TOKENS.names for p in PRODUCTS
    )
    assert dict(zip(table["concept"], table["n_pairs"], strict=False)) == dict(
        zip(TOKENS.names, TOKENS.n_pairs.tolist(), strict=True)
    )


def test_verdicts_follow_from_the_table_by_the_printed_rule(measured):
    for product in PRODUCTS:
        p = {
            null: {
                r["concept"]: r["p_value"] for r in rows(measured, null=null, inner_product=product).rows(named=True)
            }
            for null in (*verdicts.COMMON_NULLS, verdicts.SPECIFIC_NULL)
        }
        values = measured.measurements.values("parallelism", inner_product=product)
        judged = [n for n in TOKENS.names if n in p["sign flip"]]
        common_p = np.array([max(p[null][n] for null in verdicts.COMMON_NULLS) for n in judged])
        specific_p = np.array([max(p[null][n] for null in p) for n in judged])
        adjusted = [dict(zip(judged, nulls.benjamini_hochberg(x), strict=True)) for x in (common_p, specific_p)]
        for row in measured.verdicts.filter(pl.col("inner_product") == product).rows(named=True):
            n = row["concept"]
            if n not in judged:
                expected = verdicts.TOO_FEW
            elif values[n] <= verdicts.EFFECT_FLOOR[product] or adjusted[0][n] > verdicts.LEVEL:
                expected = verdicts.NONE
            else:
                expected = verdicts.SPECIFIC if adjusted[1][n] <= verdicts.LEVEL else verdicts.COMMON
            assert (row["verdict"], row["rule"]) == (expected, verdicts.rule(expected, product))
            assert row["parallelism"] == values[n]


def test_planted_concepts_are_found_and_nonsense_is_not(measured):
    said = {
        r["concept"]: r["verdict"]
        for r in measured.verdicts.filter(pl.col("inner_product") == "causal").rows(named=True)
    }
    assert {said["gender"], said["tense"]} <= {verdicts.COMMON, verdicts.SPECIFIC}
    assert said["nonsense"] == verdicts.NONE


def test_fewer_than_eight_pairs_get_no_null_and_no_judgement(measured):
    for name in ("small", "single", "empty"):
        own = measured.measurements.table.filter(pl.col("concept") == name, pl.col("metric") == "parallelism")
        assert set(own["status"]) == {verdicts.TOO_FEW}
        assert set(own["null"].drop_nulls()) <= {"untrained"}
        assert own["p_value"].null_count() == own.height
    values = measured.measurements.values("parallelism", inner_product="causal")
    assert values["small"] is not None
    assert values["single"] is values["empty"] is None


def test_adjusted_p_values_and_floors_are_those_of_the_run(measured):
    for product in PRODUCTS:
        for null in nulls.NULLS:
            t = rows(measured, metric="parallelism", null=null, inner_product=product)
            assert t["concept"].to_list() == ["gender", "tense", "nonsense"]
            np.testing.assert_allclose(t["p_adjusted"], nulls.benjamini_hochberg(t["p_value"].to_numpy()))
            assert (t["p_value"].to_numpy() >= 1 / (DRAWS + 1)).all()


def test_without_the_nulls_of_verdicts_there_are_none():
    m = measure(R, TOKENS, null_names=("sign flip",), draws=9)
    assert m.verdicts.is_empty()
    assert set(m.measurements.where(metric="parallelism").table["null"].drop_nulls()) == {"sign flip"}


# Values


@pytest.mark.parametrize("product", PRODUCTS)
def test_values_are_those_of_the_metrics(measured, product):
    carry = INNER_PRODUCTS[product](R.unembeddings).unembeddings
    for name in ("gender", "small"):
        d = np.diff(carry(R.unembeddings[TOKENS.of(name)]), axis=1)[:, 0]
        own = rows(measured, concept=name, inner_product=product, null=None, concept_other=None)
        found = dict(zip(own["metric"], own["value"], strict=True))
        assert found["parallelism"] == pytest.approx(float(metrics.parallelism(d)))
        assert found["parallelism_leave_one_out"] == pytest.approx(metrics.parallelism_leave_one_out(d).mean())
        assert found["resultant_length"] == pytest.approx(float(metrics.resultant_length(d)))
        assert found["spread"] == pytest.approx(float(metrics.spread(d)))
        low, high = metrics.parallelism_interval(d, TOKENS.groups_of(name))
        assert (own["low"][0], own["high"][0]) == pytest.approx((low, high))
        assert set(own["inner_product_rank"]) == {DIM - (product == PRODUCTS[2])}


def test_heat_map_is_symmetric_and_stands_beside_its_shared_word_null(measured):
    t = rows(measured, metric="direction_cosine", inner_product="causal", null=None)
    cells = {(a, b): v for a, b, v in t.select("concept", "concept_other", "value").rows()}
    names = ("gender", "tense", "nonsense")  # concepts with enough pairs
    assert set(cells) == {(a, b) for a in names for b in names}
    for a, b in cells:
        assert cells[a, b] == pytest.approx(cells[b, a])
        assert a != b or cells[a, b] == pytest.approx(1)
    null = rows(measured, metric="direction_cosine", inner_product="causal", null="shared words")
    assert {(a, b): round(v, 12) for a, b, v in null.select("concept", "concept_other", "null_value").rows()} == {
        (a, b): float(a == b)
        for a, b in cells  # these lists share no word
    }
    mean = rows(measured, metric="orthogonality", inner_product="causal", split="all", null=None)["value"][0]
    assert mean == pytest.approx(np.mean([abs(v) for (a, b), v in cells.items() if a != b]))
    chance = rows(measured, metric="orthogonality", inner_product="causal", split="all", null="random directions")
    assert chance["null_value"][0] == metrics.random_absolute_cosine(DIM)


def test_families_are_left_out_between_families():
    pairs = replace(TOKENS, families=("one",) * len(TOKENS.names))
    m = measure(R, pairs, null_names=(), inner_products=("causal",))
    own = m.measurements.where(metric="orthogonality", null=None)
    assert own.where(split="between families").table["value"].to_list() == [None]
    assert own.where(split="all").table["value"][0] > 0


def test_pair_pictures_hold_every_pair_and_some_of_each_null(measured):
    for name in ("gender", "nonsense"):
        own = measured.pairs.filter(pl.col("concept") == name, pl.col("inner_product") == "causal")
        real = own.filter(pl.col("null").is_null())
        text = [(word(a).strip(), word(b).strip()) for a, b in TOKENS.of(name).tolist()]
        assert real.select("negative", "positive").rows() == text
        leave_one_out = rows(
            measured, metric="parallelism_leave_one_out", concept=name, inner_product="causal", null=None
        )
        assert real["cosine"].mean() == pytest.approx(leave_one_out["value"][0])
        assert set(own["null"].drop_nulls()) == {"partner shuffle", "random words"}
        assert own.filter(pl.col("null").is_not_null())["negative"].null_count() == own.height - real.height


# Alignment


def test_every_cell_of_alignment_is_there_once_and_the_matched_ones_are_marked(measured):
    for product in PRODUCTS:
        t = rows(measured, metric="alignment", inner_product=product, null=None)
        cells = t.select("concept", "concept_other").rows()
        assert sorted(cells) == sorted((c, n) for c in CONTEXTS.names for n in TOKENS.names)
        marked = t.filter(pl.col("split") == "matched")
        assert set(marked.select("concept", "concept_other").rows()) == {("gender", "gender"), ("past", "tense")}
        assert t.filter(pl.col("status") == "no pairs")["concept_other"].unique().to_list() == ["empty"]
        assert t.filter(pl.col("status") == "no pairs")["value"].null_count() == len(CONTEXTS.names)


def test_matched_alignment_is_high_and_judged_against_three_nulls(measured):
    t = rows(measured, metric="alignment", inner_product="causal", split="matched")
    assert set(t["null"].drop_nulls()) == {"mismatched", "random word pairs", "untrained"}
    for name in CONTEXTS.names:
        own = t.filter(pl.col("concept") == name)
        value, low, high = own.filter(pl.col("null").is_null()).select("value", "low", "high").row(0)
        assert low <= value <= high
        assert value > 0.5
        by = {r["null"]: r for r in own.rows(named=True)}
        assert by["random word pairs"]["p_value"] == 1 / (DRAWS + 1)
        assert by["mismatched"]["p_value"] == pytest.approx(1 / 5)  # four other concepts have a direction
        assert abs(by["untrained"]["null_value"]) < 0.5 < value


def test_mismatched_concepts_are_of_other_families(measured):
    m = run(matched={"past": "nonsense", "gender": "gender"})
    t = rows(m, metric="alignment", inner_product="causal", null=None, concept="past")
    others = {n: abs(v) for n, v in t.select("concept_other", "value").rows() if n in ("gender", "tense", "single")}
    null = rows(m, metric="alignment", inner_product="causal", null="mismatched", concept="past")
    assert null["null_value"][0] == pytest.approx(np.mean(list(others.values())))


def test_random_word_pairs_are_differences_even_in_a_small_vocabulary():
    """A large offset common to all words must not show in a null made of differences."""
    rng = np.random.default_rng(0)
    gamma, lam = rng.standard_normal((13, 6)) + 1000, rng.standard_normal((6, 6))
    tokens = ConceptPairs.from_lists({"c": [(0, i) for i in range(1, 8)], "d": [(1, 2), (3, 4)]})
    contexts = ConceptPairs.from_lists({"c": [(0, 1), (2, 3), (4, 5)]}, side="embedding")
    m = measure(
        Representations(unembeddings=gamma, embeddings=lam + gamma.mean(axis=0)),
        tokens,
        contexts,
        inner_products=("euclidean",),
        draws=300,
    )
    null = rows(m, metric="alignment", null="random word pairs", concept="c")
    assert abs(null["null_value"][0]) < 0.15  # symmetric about 0


# Other worlds


def test_a_simulated_vocabulary_without_words_works():
    """Sixteen tokens named by their bits: too few pairs to judge at m = 4, enough at m = 5."""
    for m in (4, 5):
        rng = np.random.default_rng(m)
        gamma = rng.standard_normal((2**m, m + 2))
        lists = {f"c{i}": [(t, t | 1 << i) for t in range(2**m) if not t >> i & 1] for i in range(m)}
        r = Representations(
            unembeddings=gamma, tokens=tuple(f"{t:b}" for t in range(2**m)), token_frequency=rng.random(2**m)
        )
        found = measure(r, ConceptPairs.from_lists(lists), draws=19)
        assert set(found.verdicts["concept"]) == set(lists)
        assert (verdicts.TOO_FEW in set(found.verdicts["verdict"])) is (2 ** (m - 1) < verdicts.MIN_PAIRS)
        assert set(found.measurements.where(metric="parallelism").table["null"].drop_nulls()) == set(nulls.NULLS)


def test_full_rank_whitening_is_warned_about():
    gamma = np.random.default_rng(0).standard_normal((8, 9))
    pairs = ConceptPairs.from_lists({"a": [(0, 1), (2, 3)]})
    with pytest.warns(DegenerateGeometryWarning):
        m = measure(Representations(unembeddings=gamma), pairs, null_names=())
    assert m.measurements.values("parallelism", inner_product="causal")["a"] == pytest.approx(0, abs=1e-10)


def test_zero_differences_are_no_direction():
    gamma = np.repeat(np.random.default_rng(0).standard_normal((100, 6)), 2, axis=0)
    pairs = ConceptPairs.from_lists({"same": [(2 * i, 2 * i + 1) for i in range(10)], "x": [(0, 2), (4, 7)]})
    m = measure(Representations(unembeddings=gamma), pairs, draws=19, inner_products=("causal",))
    assert m.measurements.values("parallelism")["same"] == 0
    assert m.verdicts["verdict"][0] == verdicts.NONE
    p = rows(m, metric="parallelism", concept="same", null="sign flip")["p_value"][0]
    assert p == 1


# Progress and refusals


def test_progress_rises_from_zero_to_at_most_one():
    seen: list[tuple[float, str]] = []
    run(draws=5, progress=lambda fraction, text: seen.append((fraction, text)))
    fractions = [f for f, _ in seen]
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1
    assert all(any(product in text for _, text in seen) for product in PRODUCTS)


def bad_rows() -> ConceptPairs:
    return ConceptPairs.from_lists({"x": [(0, 1), (2, 400)]})


@pytest.mark.parametrize(
    ("error", "act", "seen"),
    [
        (UnknownNameError, lambda: run(inner_products=("casual",)), "did you mean 'causal'"),
        (UnknownNameError, lambda: run(null_names=("sign flp",)), "did you mean 'sign flip'"),
        (UnknownNameError, lambda: run(matched={"past": "tens"}), "did you mean 'tense'"),
        (UnknownNameError, lambda: run(matched={"gendr": "gender"}), "did you mean 'gender'"),
        (InvalidInputError, lambda: run(draws=0), "draws must be at least 1"),
        (InvalidInputError, lambda: run(seed=-1), "seed at least 0"),
        (InvalidInputError, lambda: measure(R, CONTEXTS), "side 'unembedding'"),
        (InvalidInputError, lambda: measure(R, TOKENS, TOKENS), "side 'embedding'"),
        (InvalidInputError, lambda: measure(R, bad_rows()), "row 400 but there are 400"),
        (InvalidInputError, lambda: measure(R, only(TOKENS, "single")), "no concept has two pairs"),
        (InvalidInputError, lambda: measure(replace(R, embeddings=None), TOKENS, CONTEXTS), "need embeddings λ"),
        (
            InvalidInputError,
            lambda: run(untrained=Representations(unembeddings=np.eye(20, DIM))),
            "there are 20 rows",
        ),
        (
            InvalidInputError,
            lambda: run(untrained=replace(UNTRAINED, embeddings=np.ones((3, DIM)))),
            "there are 3 rows",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(error, act, seen):
    with pytest.raises(error) as e:
        act()
    assert seen in str(e.value)
    assert "\n" not in str(e.value)


def test_measured_tables_save_and_compare(measured, tmp_path):
    measured.measurements.save(tmp_path / "m.parquet")
    loaded = measured.measurements.load(tmp_path / "m.parquet")
    compared = measured.measurements.compare(loaded)
    assert compared.height == measured.measurements.table.height
    different = [x for x in compared["difference"].drop_nulls() if not (x == 0 or math.isnan(x))]
    assert different == []
