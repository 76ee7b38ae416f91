"""What the geometry must not depend on, and what it must."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from linrep.geometry import alignment, metrics, nulls
from linrep.geometry.directions import ESTIMATORS, estimate_directions
from linrep.geometry.inner_products import INNER_PRODUCTS, InnerProduct
from linrep.geometry.measure import Measured, measure
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations

DIM, TOKENS, CONTEXTS = 8, 120, 24
seeds = st.integers(0, 2**32)
conditions = st.floats(1.0, 100.0)
WORD_LISTS = {
    "a": [(i, 30 + i) for i in range(10)],
    "b": [(10 + i, 50 + i) for i in range(9)],
    "shares": [(0, 70), (71, 72), (1, 73), (74, 75), (76, 77), (78, 79), (80, 81), (82, 83)],
}
CONTEXT_LISTS = {"a": [(i, 10 + i) for i in range(8)], "b": [(18, 19), (20, 21), (22, 23)]}
FEW = settings(max_examples=25, deadline=None)


def representations(seed: int) -> Representations:
    """Correlated words off the centre, two concepts with a direction."""
    rng = np.random.default_rng(seed)
    gamma = rng.standard_normal((TOKENS, DIM))
    for name in ("a", "b"):
        for negative, positive in WORD_LISTS[name]:
            gamma[positive] = gamma[negative] + 0.7 * rng.standard_normal(DIM)
        gamma[[p for _, p in WORD_LISTS[name]]] += rng.standard_normal(DIM)
    gamma = gamma @ (np.eye(DIM) + 0.4 * rng.standard_normal((DIM, DIM))) + rng.standard_normal(DIM)
    return Representations(unembeddings=gamma, embeddings=rng.standard_normal((CONTEXTS, DIM)))


def invertible(seed: int, condition: float) -> np.ndarray:
    """A random matrix of a given condition number."""
    rng = np.random.default_rng(seed)
    left, right = ortho_group.rvs(DIM, size=2, random_state=rng)
    stretch = np.exp(np.linspace(0, np.log(condition), DIM))
    return left * (rng.permutation(stretch) * 10 ** rng.uniform(-1, 1)) @ right


def moved(r: Representations, a: np.ndarray, offset: np.ndarray | None = None) -> Representations:
    """(Aλ, A⁻ᵀγ), and one vector added to every γ: the same predictor."""
    assert r.embeddings is not None
    gamma = r.unembeddings @ np.linalg.inv(a) + (0 if offset is None else offset)
    return replace(r, unembeddings=gamma, embeddings=r.embeddings @ a.T)


def word_pairs() -> ConceptPairs:
    return ConceptPairs.from_lists(WORD_LISTS)


def context_pairs() -> ConceptPairs:
    return ConceptPairs.from_lists(CONTEXT_LISTS, side="embedding")


def geometry(r: Representations, product: InnerProduct) -> dict[str, np.ndarray]:
    """Everything deterministic that is measured."""
    model = nulls.NullModel.of(r, product, nulls.WordPool.of(r))
    words, contexts = word_pairs(), context_pairs()
    found: dict[str, list] = {"parallelism": [], "leave one out": [], "interval": [], "spread": []}
    for name in words.names:
        ends = model.carry(words.of(name))
        d = ends[:, 1] - ends[:, 0]
        found["parallelism"].append(metrics.parallelism(d))
        found["leave one out"] += metrics.parallelism_leave_one_out(d).tolist()
        found["interval"] += metrics.parallelism_interval(d, words.groups_of(name))
        found["spread"].append(metrics.spread(d))
    assert r.embeddings is not None
    out = {k: np.array(v) for k, v in found.items()}
    out["heat map"] = estimate_directions(r.unembeddings, words, product).cosines()
    out["context heat map"] = estimate_directions(r.embeddings, contexts, product).cosines()
    out["orthogonality"] = metrics.orthogonality(out["heat map"])
    out["alignment"] = alignment.matrix(r, model, words, contexts)
    rows = alignment.rows(alignment.Sources(r, model), words, contexts, {}, 5, 0)
    out["alignment interval"] = np.array(
        [(x["low"], x["high"]) for x in rows if x["split"] == "matched" and "null" not in x]
    )
    return out


def assert_equal_geometry(a: dict[str, np.ndarray], b: dict[str, np.ndarray], rtol: float = 1e-6) -> None:
    assert len(a["alignment interval"]) == 2
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=rtol, err_msg=name)


# Maps of the whole space


@pytest.mark.parametrize("product", INNER_PRODUCTS)
@given(seed=seeds)
@FEW
def test_rotations_change_nothing_under_any_product(product, seed):
    r = representations(seed)
    turned = moved(r, ortho_group.rvs(DIM, random_state=np.random.default_rng(seed)))
    make = INNER_PRODUCTS[product]
    assert_equal_geometry(geometry(r, make(r.unembeddings)), geometry(turned, make(turned.unembeddings)), rtol=1e-7)


@given(seeds, conditions, st.floats(-50, 50))
@FEW
def test_invertible_maps_and_common_offsets_change_nothing_under_the_causal_product(seed, condition, offset):
    r = representations(seed)
    a = invertible(seed + 1, condition)
    same = moved(r, a, offset * np.random.default_rng(seed).standard_normal(DIM))
    causal = INNER_PRODUCTS["causal"]
    product = causal(same.unembeddings)
    assert product.rank == DIM
    assert_equal_geometry(geometry(r, causal(r.unembeddings)), geometry(same, product))
    assert r.embeddings is not None
    assert same.embeddings is not None
    logits = [x.embeddings @ (x.unembeddings[1:] - x.unembeddings[0]).T for x in (r, same)]  # it is the same predictor
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-6, atol=1e-6)


@given(seeds, st.floats(20.0, 100.0))
@FEW
def test_invertible_maps_do_change_euclidean_numbers(seed, condition):
    """The loss does not identify them: this is why the causal product is there."""
    r = representations(seed)
    same = moved(r, invertible(seed + 1, condition))
    for product in ("euclidean", "euclidean without top component"):
        make = INNER_PRODUCTS[product]
        a, b = geometry(r, make(r.unembeddings)), geometry(same, make(same.unembeddings))
        assert np.abs(a["parallelism"] - b["parallelism"]).max() > 0.01
        assert np.abs(a["alignment"] - b["alignment"]).max() > 0.01


@given(seed=seeds, condition=conditions)
@settings(max_examples=15, deadline=None)
def test_invertible_maps_and_offsets_leave_null_draws_as_they_are(seed, condition):
    """Same seed, same draws; of the matched nulls nearly all, since float32 may break a tie of two candidates."""
    r = representations(seed)
    same = moved(r, invertible(seed + 1, condition), 20 * np.ones(DIM))
    pool = nulls.WordPool.of(r)
    models = [nulls.NullModel.of(x, INNER_PRODUCTS["causal"](x.unembeddings), pool) for x in (r, same)]
    for concept in WORD_LISTS:
        pairs = word_pairs().of(concept)
        for name, null in nulls.NULLS.items():
            a, b = (null(m, pairs, 49, np.random.default_rng(seed)) for m in models)
            if name.startswith("matched"):
                assert np.mean(np.abs(a - b) < 1e-4) > 0.5, name
                assert abs(np.median(a) - np.median(b)) < 0.02, name
            else:
                np.testing.assert_allclose(a, b, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_estimators_turn_with_the_space(estimator, seed):
    r = representations(seed)
    rotation = ortho_group.rvs(DIM, random_state=np.random.default_rng(seed))
    euclidean = INNER_PRODUCTS["euclidean"](r.unembeddings)
    a = estimate_directions(r.unembeddings, word_pairs(), euclidean, estimator=estimator)
    b = estimate_directions(r.unembeddings @ rotation, word_pairs(), euclidean, estimator=estimator)
    np.testing.assert_allclose(a.vectors @ rotation, b.vectors, atol=2e-3 if estimator == "logistic" else 1e-6)


@pytest.mark.parametrize("product", INNER_PRODUCTS)
@given(seed=seeds, factor=st.floats(1e-6, 1e6))
@FEW
def test_scaling_changes_nothing(product, seed, factor):
    r = representations(seed)
    assert r.embeddings is not None
    scaled = replace(r, unembeddings=factor * r.unembeddings, embeddings=r.embeddings / 3)
    make = INNER_PRODUCTS[product]
    assert_equal_geometry(geometry(r, make(r.unembeddings)), geometry(scaled, make(scaled.unembeddings)))


# Order and orientation


@pytest.mark.parametrize("product", ["euclidean", "causal", "shrunk"])
@given(seed=seeds)
@FEW
def test_the_order_of_tokens_and_of_pairs_does_not_matter(product, seed):
    r = representations(seed)
    rng = np.random.default_rng(seed)
    order = rng.permutation(TOKENS)
    place = np.argsort(order)
    make = INNER_PRODUCTS[product]
    shuffled = r.unembeddings[order]
    words = word_pairs()
    for concept in WORD_LISTS:
        pairs = words.of(concept)
        elsewhere = place[pairs][rng.permutation(len(pairs))]
        a, b = (
            metrics.parallelism(np.diff(make(g).unembeddings(g[p]), axis=1)[:, 0])
            for g, p in ((r.unembeddings, pairs), (shuffled, elsewhere))
        )
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@given(seeds)
@FEW
def test_a_concept_read_the_other_way_round_keeps_its_parallelism_and_turns_its_alignment(seed):
    r = representations(seed)
    product = INNER_PRODUCTS["causal"](r.unembeddings)
    model = nulls.NullModel.of(r, product, nulls.WordPool.of(r))
    words, contexts = word_pairs(), context_pairs()
    turned = ConceptPairs.from_lists(WORD_LISTS | {"a": [(b, a) for a, b in WORD_LISTS["a"]]})
    d, back = (np.diff(model.carry(p.of("a")), axis=1)[:, 0] for p in (words, turned))
    np.testing.assert_allclose(metrics.parallelism(d), metrics.parallelism(back), rtol=1e-10)
    np.testing.assert_allclose(
        metrics.parallelism_interval(d, words.groups_of("a")), metrics.parallelism_interval(back, turned.groups_of("a"))
    )
    sign = np.array([-1, 1, 1])
    np.testing.assert_allclose(
        alignment.matrix(r, model, turned, contexts), alignment.matrix(r, model, words, contexts) * sign, atol=1e-10
    )
    maps = [estimate_directions(r.unembeddings, p, product).cosines() for p in (words, turned)]
    np.testing.assert_allclose(maps[1], maps[0] * np.outer(sign, sign), atol=1e-10)
    operators = [nulls.difference_operators([p.of(n) for n in p.names]) for p in (words, turned)]
    shared = [nulls.shared_word_cosines(o) for o in operators]
    np.testing.assert_allclose(shared[1], shared[0] * np.outer(sign, sign), atol=1e-12)


# Ranges


@given(seeds, st.integers(2, 30), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_metrics_stay_in_their_ranges(seed, n, dim):
    rng = np.random.default_rng(seed)
    d = rng.standard_normal((n, dim)) * 10.0 ** rng.integers(-3, 4, size=(n, 1))
    d[rng.random(n) < 0.2] = 0
    value = float(metrics.parallelism(d))
    assert -1 / (n - 1) - 1e-12 <= value <= 1 + 1e-12
    assert np.abs(metrics.parallelism_leave_one_out(d)).max() <= 1 + 1e-12
    assert 0 <= metrics.resultant_length(d) <= 1 + 1e-12
    assert metrics.spread(d) >= 0
    low, high = metrics.parallelism_interval(d, rng.integers(0, n, size=n))
    assert np.isnan(low) == np.isnan(high)
    assert np.isnan(low) or -1 <= low <= value + 1e-12
    assert np.isnan(high) or value - 1e-12 <= high <= 1


@given(seeds, st.integers(2, 12))
@settings(max_examples=50, deadline=None)
def test_equal_differences_are_perfectly_parallel_and_regular_simplices_as_little_as_can_be(seed, n):
    difference = np.random.default_rng(seed).standard_normal(5)
    np.testing.assert_allclose(metrics.parallelism(np.tile(difference, (n, 1))), 1)
    np.testing.assert_allclose(metrics.parallelism(np.eye(n) - 1 / n), -1 / (n - 1), atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_adjusted_p_values_are_monotone_and_no_smaller(p):
    raw = np.array(p)
    adjusted = nulls.benjamini_hochberg(raw)
    assert (adjusted >= raw - 1e-15).all()
    assert (adjusted <= 1).all()
    order = np.argsort(raw)
    assert (np.diff(adjusted[order]) >= -1e-15).all()


# Numbers and their types


@pytest.mark.parametrize("product", INNER_PRODUCTS)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_float32_weights_give_the_numbers_of_float64_weights(product, seed):
    r = representations(seed)
    assert r.embeddings is not None
    narrow = replace(r, unembeddings=r.unembeddings.astype(np.float32), embeddings=r.embeddings.astype(np.float32))
    make = INNER_PRODUCTS[product]
    condition = make(r.unembeddings).condition
    assume(condition < 1e4)
    assert_equal_geometry(
        geometry(r, make(r.unembeddings)), geometry(narrow, make(narrow.unembeddings)), rtol=2e-5 * np.sqrt(condition)
    )


def test_float32_and_float64_weights_measure_alike():
    """The whole measurement; matched nulls may swap one candidate, other nulls agree to rounding."""
    r = representations(0)
    wide = replace(r, unembeddings=r.unembeddings.astype(np.float32).astype(np.float64))
    narrow = replace(r, unembeddings=r.unembeddings.astype(np.float32))
    a, b = (measured_values(measure(x, word_pairs(), context_pairs(), draws=49)) for x in (wide, narrow))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-6, atol=1e-6, err_msg=str(key))


def measured_values(m: Measured) -> dict[tuple, list]:
    t = m.measurements.table
    columns = ("value", "low", "high", "null_value", "p_value")
    keys = t.select("metric", "inner_product", "concept", "concept_other", "split", "null").rows()
    values = t.select(columns).rows()
    return {k: [np.nan if x is None else x for x in v] for k, v in zip(keys, values, strict=True)}


SCRIPT = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from linrep.geometry.measure import measure
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
r = np.random.default_rng(0)
gamma, lam = (jnp.asarray(r.standard_normal((n, 6)).astype(np.float32)) for n in (60, 12))
m = measure(
    Representations(unembeddings=gamma, embeddings=lam),
    ConceptPairs.from_lists({"a": [(i, 10 + i) for i in range(9)], "b": [(30 + i, 45 + i) for i in range(9)]}),
    ConceptPairs.from_lists({"a": [(0, 1), (2, 3), (4, 5)]}, side="embedding"),
    draws=19,
)
t = m.measurements.table
print(json.dumps([jax.config.jax_enable_x64, [v.hex() for v in t["value"].drop_nulls()], t["p_value"].to_list()]))
"""


def test_numbers_do_not_depend_on_the_jax_precision_setting():
    found = []
    for flag in ("0", "1"):
        environment = os.environ | {"JAX_ENABLE_X64": flag, "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert [f[0] for f in found] == [False, True]
    assert found[0][1:] == found[1][1:]
    assert len(found[0][1]) > 20
