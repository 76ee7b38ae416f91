"""γ that is widened row by row gives the numbers of γ as an array, and never stands in memory whole."""

from typing import Any, cast

import numpy as np
import pytest

from linrep.errors import InvalidInputError
from linrep.geometry import inner_products as ip
from linrep.geometry import rows as rows_module
from linrep.geometry.measure import measure
from linrep.geometry.pairs import ConceptPairs
from linrep.geometry.representations import Representations
from linrep.geometry.rows import StoredRows, blocks

N, DIM = 300, 8


class Codes:
    """Whole numbers that stand for tenths; remembers how many rows were widened at a time."""

    def __init__(self) -> None:
        self.codes = np.random.default_rng(0).integers(-100, 100, (N, DIM)).astype(np.int16)
        self.asked: list[int] = []

    def widen(self, codes: np.ndarray) -> np.ndarray:
        self.asked.append(len(codes))
        return codes.astype(np.float32) / 8

    @property
    def array(self) -> np.ndarray:
        return self.codes.astype(np.float32) / 8

    @property
    def rows(self) -> StoredRows:
        return StoredRows(self.codes, DIM, self.widen)


@pytest.fixture
def codes() -> Codes:
    return Codes()


@pytest.mark.parametrize("index", [3, slice(5, 20), [4, 4, 1], np.array([[0, 1], [2, 299]]), slice(0, 0)], ids=str)
def test_rows_are_those_of_the_array(codes, index):
    np.testing.assert_array_equal(codes.rows[index], codes.array[index])
    assert codes.rows[index].shape == codes.array[index].shape


def test_the_whole_is_made_only_on_request(codes):
    assert codes.rows.shape == codes.array.shape == np.asarray(codes.rows).shape
    assert len(codes.rows) == N and codes.rows.ndim == 2 and codes.rows.nbytes == codes.array.nbytes
    np.testing.assert_array_equal(np.asarray(codes.rows.head(7), dtype=np.float64), codes.array[:7])


def test_blocks_cover_the_rows_once_in_float64_of_their_own(codes, monkeypatch):
    monkeypatch.setattr(rows_module, "_ENTRIES", 7 * DIM)
    for gamma in (codes.rows, codes.array, codes.array.astype(np.float64)):
        parts = list(blocks(gamma))
        assert all(part.dtype == np.float64 and len(part) <= 7 for part in parts)
        np.testing.assert_array_equal(np.concatenate(parts), codes.array)
        for part in parts:
            part[:] = 0  # a block may be changed without changing γ
        np.testing.assert_array_equal(np.asarray(gamma), codes.array)


@pytest.mark.parametrize("name", ip.INNER_PRODUCTS)
def test_inner_products_do_not_depend_on_where_blocks_end(codes, monkeypatch, name):
    whole = ip.INNER_PRODUCTS[name](codes.array)
    monkeypatch.setattr(rows_module, "_ENTRIES", 13 * DIM)
    parts = ip.INNER_PRODUCTS[name](codes.rows)
    np.testing.assert_allclose(parts.unembeddings(codes.array), whole.unembeddings(codes.array), atol=1e-9)
    assert parts.shrinkage == pytest.approx(whole.shrinkage)


def pairs() -> ConceptPairs:
    index = np.random.default_rng(1).permutation(N)[:48].reshape(2, 12, 2)
    return ConceptPairs.from_lists(
        {name: [(a, b) for a, b in of.tolist()] for name, of in zip("ab", index, strict=True)}
    )


def test_a_measurement_never_widens_the_whole_matrix(codes, monkeypatch):
    monkeypatch.setattr(rows_module, "_ENTRIES", 40 * DIM)
    words = ("".join("abcdefghij"[int(digit)] for digit in f"{i:03}") for i in range(N))
    tokens = tuple(f" {word}" if i % 2 else f"{i}" for i, word in enumerate(words))  # every other one is a word
    lazy, whole = (Representations(unembeddings=g, tokens=tokens) for g in (codes.rows, codes.array))
    codes.asked.clear()
    seen, expected = (measure(r, pairs(), draws=19).measurements.table for r in (lazy, whole))
    assert seen.equals(expected)
    assert max(codes.asked) <= N / 2  # the words from which nulls draw


def test_damaged_rows_are_refused(codes):
    nan = StoredRows(codes.codes, DIM, lambda c: np.full(c.shape, np.nan, np.float32))
    with pytest.raises(InvalidInputError, match="unembeddings has NaN or infinite values"):
        Representations(unembeddings=cast(Any, nan))
