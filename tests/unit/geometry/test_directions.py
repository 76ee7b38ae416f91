"""ConceptDirections: unit under their product, duals, files, comparison."""

import dataclasses

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy
from safetensors.numpy import save_file

from linrep.errors import InvalidInputError, StorageError, UnknownNameError
from linrep.geometry import directions as module
from linrep.geometry.directions import ESTIMATORS, ConceptDirections, estimate_directions
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.pairs import ConceptPairs

RNG = np.random.default_rng(0)
GAMMA = RNG.standard_normal((200, 10)) @ RNG.standard_normal((10, 10))
LISTS = {"a": [(i, i + 20) for i in range(10)], "b": [(i, i + 50) for i in range(15)], "one": [(3, 4)]}


def directions(name: str = "causal", estimator: str = "mean", side: str = "unembedding") -> ConceptDirections:
    pairs = ConceptPairs.from_lists(LISTS, side=side)  # pyright: ignore[reportArgumentType]
    product = INNER_PRODUCTS[name](GAMMA)
    return estimate_directions(GAMMA, pairs, product, estimator=estimator, provenance={"model": "m", "tied": True})


@pytest.mark.parametrize("side", ["unembedding", "embedding"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", INNER_PRODUCTS)
def test_vectors_have_norm_one_under_their_product_and_know_their_dual(name, estimator, side):
    d = directions(name, estimator, side)
    product = INNER_PRODUCTS[name](GAMMA)
    carry = product.unembeddings if side == "unembedding" else product.embeddings
    np.testing.assert_allclose(np.linalg.norm(carry(d.vectors), axis=1), 1, rtol=1e-8)
    np.testing.assert_allclose(carry(carry(d.vectors)), d.dual, atol=1e-8)
    cosines = d.cosines()
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-8)
    np.testing.assert_allclose(cosines, cosines.T, atol=1e-8)
    assert d.names == ("a", "b")
    assert d.n_pairs == (10, 15)


def test_the_causal_dual_is_the_inverse_covariance():
    d = directions()
    np.testing.assert_allclose(d.dual, np.linalg.solve(np.cov(GAMMA.T, bias=True), d.vectors.T).T, rtol=1e-6)
    mean = np.diff(GAMMA[np.array(LISTS["a"])], axis=1)[:, 0].mean(axis=0)
    np.testing.assert_allclose(d["a"], mean / np.sqrt(mean @ np.linalg.solve(np.cov(GAMMA.T, bias=True), mean)))


def test_round_trip_bit_for_bit(tmp_path):
    for estimator in ESTIMATORS:
        d = directions(estimator=estimator)
        path = tmp_path / "d.safetensors"
        d.save(path)
        back = ConceptDirections.load(path)
        for field in dataclasses.fields(d):
            mine, loaded = getattr(d, field.name), getattr(back, field.name)
            if isinstance(mine, np.ndarray):
                assert mine.dtype == loaded.dtype
                assert mine.tobytes() == loaded.tobytes()
            else:
                assert mine == loaded, field.name
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "d.safetensors"
    directions().save(path)
    before = path.read_bytes()

    def full_disk(arrays, file, metadata):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        directions("euclidean").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_folders_that_are_not_there(tmp_path):
    with pytest.raises(StorageError, match="cannot write the directions"):
        directions().save(tmp_path / "no" / "d")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StorageError, match="no directions at"):
            ConceptDirections.load(path)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "other arrays", "array missing"])
def test_a_foreign_file_is_one_clear_line(tmp_path, kind):
    path = tmp_path / "d.safetensors"
    directions().save(path)
    if kind == "other arrays":
        save_file({"x": np.ones(3)}, path)
    elif kind == "array missing":
        arrays = safetensors_numpy.load_file(path)
        save_file({"vectors": arrays["vectors"]}, path, metadata={"format": "linrep-directions-1"})
    else:
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"king\tqueen\n" * 20, "truncated": whole[:-8]}[kind])
    with pytest.raises(InvalidInputError) as e:
        ConceptDirections.load(path)
    assert str(path) in str(e.value)
    assert "\n" not in str(e.value)


def test_compare_gives_cosines_of_shared_concepts():
    mean, pca = directions(), directions(estimator="pca")
    assert mean.compare(mean) == pytest.approx({"a": 1.0, "b": 1.0})
    found = mean.compare(pca)
    assert found["b"] == pytest.approx(float(mean.vectors[1] @ pca.dual[1]))
    assert all(-1 <= c <= 1 for c in found.values())
    only_b = dataclasses.replace(
        pca,
        names=("b",),
        vectors=pca.vectors[1:],
        dual=pca.dual[1:],
        n_pairs=(15,),
        spread=(1.0,),
        concentration=(1.0,),
    )
    assert mean.compare(only_b) == {"b": found["b"]}


def test_compare_refuses_directions_without_a_common_geometry():
    wide = np.pad(GAMMA, ((0, 0), (0, 2)))
    other_width = estimate_directions(wide, ConceptPairs.from_lists(LISTS), INNER_PRODUCTS["causal"](wide))
    twice = estimate_directions(2 * GAMMA, ConceptPairs.from_lists(LISTS), INNER_PRODUCTS["causal"](2 * GAMMA))
    for other, seen in (
        (directions("euclidean"), "'causal' and 'euclidean'"),
        (directions(side="embedding"), "'unembedding' and 'embedding'"),
        (other_width, "width 10 and 12"),
        (twice, "different covariances"),  # the same lines in space, but "cosines" of 2
    ):
        with pytest.raises(InvalidInputError) as e:
            directions().compare(other)
        assert seen in str(e.value)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pairs_of_equal_vectors_have_no_direction(estimator):
    gamma = np.repeat(GAMMA[:2], 100, axis=0)
    d = estimate_directions(
        gamma, ConceptPairs.from_lists({"a": [(0, 1), (2, 3)]}), INNER_PRODUCTS["euclidean"](gamma), estimator=estimator
    )
    assert not d.vectors.any()
    assert d.spread == (0.0,)


def test_identical_differences_have_infinite_or_huge_spread_never_a_negative_one():
    for n in range(2, 40):
        gamma = np.concatenate([np.zeros((n, 3)), np.tile([0.3, 0.1, 0.7], (n, 1))])
        d = estimate_directions(
            gamma, ConceptPairs.from_lists({"a": [(i, n + i) for i in range(n)]}), INNER_PRODUCTS["euclidean"](gamma)
        )
        assert d.spread[0] > 1e12


def test_unknown_names_and_missing_pairs():
    with pytest.raises(UnknownNameError, match="did you mean 'logistic'"):
        directions(estimator="logistc")
    with pytest.raises(UnknownNameError, match="unknown concept 'c'"):
        directions()["c"]
    product = INNER_PRODUCTS["euclidean"](GAMMA)
    with pytest.raises(InvalidInputError, match="no concept has two pairs"):
        estimate_directions(GAMMA, ConceptPairs.from_lists({"one": [(0, 1)]}), product)
    with pytest.raises(InvalidInputError, match="row 300 but there are 200"):
        estimate_directions(GAMMA, ConceptPairs.from_lists({"x": [(0, 1), (2, 300)]}), product)
