"""Representations: what is accepted, what is refused and how."""

import importlib.util
import sys
from types import ModuleType

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from linrep.errors import InvalidInputError
from linrep.geometry import representations


def without_type_checks(module: ModuleType) -> ModuleType:
    """The same module as a caller sees it, without the tests' own shape checks (which would speak first)."""
    name = f"plain_{module.__name__.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, module.__file__)
    assert spec is not None
    assert spec.loader is not None
    plain = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    return plain


Representations = without_type_checks(representations).Representations
GAMMA = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_float_types_are_kept(dtype):
    r = Representations(unembeddings=GAMMA.astype(dtype))
    assert r.unembeddings.dtype == dtype
    assert (r.n_tokens, r.dim) == (4, 3)


@pytest.mark.parametrize(
    "array", [GAMMA.astype(ml_dtypes.bfloat16), GAMMA.astype(int), GAMMA.tolist(), jnp.asarray(GAMMA, jnp.float32)]
)
def test_any_array_of_real_numbers_will_do(array):
    r = Representations(unembeddings=array)
    assert isinstance(r.unembeddings, np.ndarray)
    assert np.array_equal(r.unembeddings, GAMMA)


def test_values_whose_sum_overflows_are_finite():
    big = np.full((2, 2), 1e308)
    assert np.array_equal(Representations(unembeddings=big).unembeddings, big)


def test_everything_together():
    r = Representations(
        unembeddings=GAMMA,
        embeddings=np.ones((2, 3)),
        hidden_states={0: np.ones((2, 5)), 3: np.ones((2, 5))},
        tokens=["a", "b", "c", "d"],
        token_frequency=np.arange(4.0),
        contexts=["x", "y"],
        provenance={"model": "m"},
    )
    assert r.tokens == ("a", "b", "c", "d")
    assert set(r.hidden_states) == {0, 3}


def holed(value: float) -> np.ndarray:
    g = GAMMA.copy()
    g[2, 1] = value
    return g


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ({"unembeddings": holed(np.nan)}, "first in row 2"),
        ({"unembeddings": holed(-np.inf).astype(np.float32)}, "first in row 2"),
        ({"unembeddings": np.ones(3)}, "shape (3,)"),
        ({"unembeddings": np.ones((2, 3, 4))}, "one seed or snapshot at a time"),
        ({"unembeddings": np.ones((0, 3))}, "shape (0, 3)"),
        ({"unembeddings": np.array([["a", "b"]])}, "real numbers"),
        ({"unembeddings": GAMMA * 1j}, "real numbers, not complex128"),
        ({"unembeddings": GAMMA, "embeddings": np.ones((2, 4))}, "width 4 but unembeddings have 3"),
        ({"unembeddings": GAMMA, "embeddings": np.full((2, 3), np.nan)}, "embeddings has NaN"),
        ({"unembeddings": GAMMA, "hidden_states": {5: np.full((2, 3), np.nan)}}, "hidden state 5 has NaN"),
        ({"unembeddings": GAMMA, "tokens": ["a"]}, "tokens has 1 entries where 4"),
        ({"unembeddings": GAMMA, "token_frequency": np.ones(3)}, "token_frequency has 3"),
        ({"unembeddings": GAMMA, "token_frequency": np.ones((4, 1))}, "one number a token"),
        ({"unembeddings": GAMMA, "token_frequency": np.array([1, 2, np.nan, 4])}, "without NaN"),
        ({"unembeddings": GAMMA, "embeddings": np.ones((2, 3)), "contexts": ["x"]}, "against embeddings"),
        ({"unembeddings": GAMMA, "hidden_states": {1: np.ones((2, 3))}, "contexts": ["x"]}, "against hidden state 1"),
        (
            {"unembeddings": GAMMA, "embeddings": np.ones((2, 3)), "hidden_states": {1: np.ones((5, 3))}},
            "hidden state 1 (against embeddings) has 5",
        ),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(arguments, seen):
    with pytest.raises(InvalidInputError) as e:
        Representations(**arguments)
    assert seen in str(e.value)
    assert "\n" not in str(e.value)
