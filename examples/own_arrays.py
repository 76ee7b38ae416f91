"""Measure any unembedding matrix: one planted direction, one list of nonsense, every null.

python examples/own_arrays.py
"""

import numpy as np

from linrep import ConceptPairs, Representations, measure

rng = np.random.default_rng(0)
gamma = rng.standard_normal((2000, 64))
planted, nonsense = np.arange(40).reshape(20, 2), np.arange(40, 80).reshape(20, 2)
gamma[planted[:, 1]] = gamma[planted[:, 0]] + 0.7 * rng.standard_normal((20, 64)) + 4 * np.eye(64)[0]

pairs = ConceptPairs.from_lists(
    {"planted": [tuple(p) for p in planted.tolist()], "nonsense": [tuple(p) for p in nonsense.tolist()]}
)
result = measure(Representations(unembeddings=gamma), pairs, inner_products=["causal"], draws=500)
for row in result.verdicts.iter_rows(named=True):
    print(f"{row['concept']:9s} parallelism {row['parallelism']:6.3f}: {row['verdict']}")
for row in (
    result.measurements.where(metric="parallelism", concept="planted").table.drop_nulls("null").iter_rows(named=True)
):
    print(f"  {row['null']:30s} mean {row['null_value']:6.3f}  p {row['p_value']:.3f}")
