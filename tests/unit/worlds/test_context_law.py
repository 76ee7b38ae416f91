"""ContextLaw: which contexts exist, how often, how a law is spelled, and what is refused."""

from itertools import product

import numpy as np
import pytest

from linrep.errors import InvalidInputError
from linrep.worlds.contexts import ContextLaw, context_codes

LAWS = [
    ContextLaw.complete(),
    ContextLaw.at_most(0),
    ContextLaw.at_most(2),
    ContextLaw.masked(0.3),
    ContextLaw.kept(0.4, seed=2),
    ContextLaw.kept(1.0),
]


def ids(law):
    return law.name


@pytest.mark.parametrize("law", LAWS, ids=ids)
@pytest.mark.parametrize("m", [2, 3, 5])
def test_contexts_are_distinct_ordered_and_their_probabilities_sum_to_one(law, m):
    rows, p = law.contexts(m)
    assert rows.shape == (law.n_contexts(m), m)
    assert rows.dtype == np.int8
    assert p.dtype == np.float64
    assert set(np.unique(rows)) <= {-1, 0, 1}
    codes = context_codes(rows)
    assert (np.diff(codes) > 0).all()
    assert p.min() > 0
    assert abs(p.sum() - 1) < 1e-13


def test_complete_has_every_context_in_lexicographic_order():
    rows, p = ContextLaw.complete().contexts(3)
    assert rows.tolist() == [list(d) for d in product((0, 1, -1), repeat=3)]
    assert np.ptp(p) == 0


@pytest.mark.parametrize("k", range(5))
def test_at_most_k_is_the_complete_law_restricted(k):
    everything, _ = ContextLaw.complete().contexts(4)
    rows, p = ContextLaw.at_most(k).contexts(4)
    wanted = everything[(everything != -1).sum(axis=1) <= k]
    assert np.array_equal(rows, wanted)
    assert np.ptp(p) == 0


def test_at_most_few_of_many_concepts_needs_no_list_of_all_contexts():
    rows, _ = ContextLaw.at_most(2).contexts(30)
    assert len(rows) == 1 + 30 * 2 + 435 * 4
    assert (rows != -1).sum(axis=1).max() == 2


def test_masked_concepts_are_unknown_with_probability_q_independently():
    q = 0.2
    rows, p = ContextLaw.masked(q).contexts(4)
    unknown = rows == -1
    np.testing.assert_allclose(p @ unknown, q, rtol=1e-13)
    np.testing.assert_allclose(p @ (unknown[:, 0] & unknown[:, 2]), q**2, rtol=1e-13)
    np.testing.assert_allclose(p @ (rows == 0), p @ (rows == 1), rtol=1e-13)


def test_masked_with_one_third_is_complete():
    np.testing.assert_allclose(
        ContextLaw.masked(1 / 3).contexts(5)[1], ContextLaw.complete().contexts(5)[1], rtol=1e-13
    )


def test_kept_is_a_random_subset_that_the_seed_decides():
    kept = [ContextLaw.kept(0.25, seed=s).contexts(5)[0] for s in (0, 0, 1)]
    assert len(kept[0]) == round(0.25 * 3**5)
    assert np.array_equal(kept[0], kept[1])
    assert not np.array_equal(kept[0], kept[2])
    assert np.array_equal(ContextLaw.kept(1.0).contexts(4)[0], ContextLaw.complete().contexts(4)[0])


def test_kept_takes_every_context_equally_often():
    n_seeds = 2000
    counts = np.zeros(9)
    for seed in range(n_seeds):
        counts[context_codes(ContextLaw.kept(1 / 3, seed=seed).contexts(2)[0])] += 1
    standard_deviation = np.sqrt(n_seeds * (1 / 3) * (2 / 3))
    assert abs(counts - n_seeds / 3).max() < 5 * standard_deviation


@pytest.mark.parametrize("text", ["complete", "at-most-2", "masked-0.5", "kept-0.25", "kept-0.25-seed3", "kept-1"])
def test_name_is_the_spelling_that_parse_reads(text):
    assert ContextLaw.parse(text).name == text


@pytest.mark.parametrize("law", [*LAWS, ContextLaw.masked(1 / 3), ContextLaw.kept(1e-5, seed=7)], ids=ids)
def test_parse_restores_the_law_of_a_name(law):
    assert ContextLaw.parse(law.name) == law


def test_numpy_numbers_are_spelled_like_python_numbers():
    assert ContextLaw("masked", np.float64(0.5)).name == "masked-0.5"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ContextLaw.at_most(-1), "at most -1 known concepts"),
        (lambda: ContextLaw("at-most", 1.5), "at most 1.5 known concepts"),
        (lambda: ContextLaw("at-most"), "at most None known concepts"),
        (lambda: ContextLaw.at_most(4).contexts(3), r"at most 4 known concepts of 3.*0\.\.3"),
        (lambda: ContextLaw.masked(0.0), "masking probability is 0.0: it must lie strictly between"),
        (lambda: ContextLaw.masked(1.0), "masking probability is 1.0"),
        (lambda: ContextLaw.masked(float("nan")), "masking probability is nan"),
        (lambda: ContextLaw.kept(0.0), r"kept is 0.0: it must lie in \(0, 1\]"),
        (lambda: ContextLaw.kept(1.1), "kept is 1.1"),
        (lambda: ContextLaw.kept(0.01).contexts(3), "keeps none: it must be at least 0.037"),
        (lambda: ContextLaw.kept(0.5, seed=-1).contexts(3), "seed is -1"),
        (lambda: ContextLaw.complete().contexts(0), "n_concepts is 0"),
        (lambda: ContextLaw.complete().contexts(17), r"129140163 contexts over 17 concepts would take .* GiB"),
        (lambda: ContextLaw.kept(1e-7).contexts(20), "GiB"),
        (lambda: ContextLaw.parse("at-most-two"), "unknown context law 'at-most-two': write complete, at-most-K"),
        (lambda: ContextLaw.parse("masked-"), "unknown context law"),
        (lambda: ContextLaw.parse("kept-0.25-seed"), "unknown context law"),
        (lambda: ContextLaw.parse("all"), "unknown context law 'all'"),
        (lambda: ContextLaw.parse("masked-2"), "masking probability is 2.0"),
        (lambda: ContextLaw("all"), "unknown kind of context law 'all'"),
    ],
)
def test_bad_input_is_one_clear_line(build, message):
    with pytest.raises(InvalidInputError, match=message) as info:
        build()
    assert "\n" not in str(info.value)
