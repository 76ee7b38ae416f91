"""Graphs through files and other libraries: round trips, and posteriors as pgmpy computes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linrep import CategoricalGraph, ConceptGraph, ContextLaw, World
from linrep.errors import InvalidInputError, StorageError
from linrep.worlds.exchange import from_networkx, read_bif, to_networkx, write_bif


def graphs(seed: int, binary: bool) -> ConceptGraph | CategoricalGraph:
    return ConceptGraph.random(4, 0.6, seed=seed) if binary else CategoricalGraph.random((2, 3, 2, 4), 0.6, seed=seed)


@given(seed=st.integers(0, 10**6), binary=st.booleans())
def test_round_trips_keep_every_number(tmp_path_factory, seed, binary):
    graph = graphs(seed, binary)
    file = tmp_path_factory.mktemp("bif") / "graph.bif"
    write_bif(graph, file)
    for back in (read_bif(file), from_networkx(to_networkx(graph))):
        assert type(back) is type(graph)
        assert (back.names, back.parents) == (graph.names, graph.parents)
        # Binary tables hold P(1) only: P(0) = 1 − P(1) is rounded once more.
        np.testing.assert_allclose(back.joint(), graph.joint(), rtol=1e-14)


def test_networkx_knows_the_same_moral_graph():
    graph = ConceptGraph.random(6, 0.5, seed=4)
    moral = networkx.moral_graph(to_networkx(graph))
    assert (networkx.to_numpy_array(moral, nodelist=graph.names) > 0).tolist() == graph.moral_adjacency().tolist()


@pytest.mark.filterwarnings("ignore:.*pgmpy:FutureWarning")  # of its own modules, as it imports them
@pytest.mark.parametrize("binary", [True, False])
def test_posteriors_agree_with_pgmpy(tmp_path: Path, binary: bool):
    from pgmpy.inference import VariableElimination
    from pgmpy.readwrite import BIFReader

    graph = graphs(7, binary)
    write_bif(graph, tmp_path / "graph.bif")
    network = BIFReader(str(tmp_path / "graph.bif")).get_model()
    inference: Any = VariableElimination(network)  # its annotations do not know named states
    world = World(graph, ContextLaw.kept(0.2, seed=1))
    z = np.exp(world.log_normalisers())
    for d in world.context_concepts.tolist():
        evidence = {name: f"s{v}" for name, v in zip(graph.names, d, strict=True) if v >= 0}
        for i, name in enumerate(graph.names):
            if name in evidence:
                continue
            theirs = inference.query([name], evidence=evidence, show_progress=False)
            ours = [z[(*d[:i], v, *d[i + 1 :])] / z[tuple(d)] for v in range(graph.cardinalities[i])]
            values = [theirs.get_value(**{name: f"s{v}"}) for v in range(graph.cardinalities[i])]
            np.testing.assert_allclose(ours, values, rtol=1e-9)


GOOD = """network n { property author "someone"; }
variable a { type discrete [ 2 ] { yes, no }; }
variable b { type discrete [ 2 ] { yes, no }; }
probability ( a ) { table 0.25, 0.75; }  // a comment
probability ( b | a ) { (yes) 0.5, 0.5; (no) 0.125, 0.875; }
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.25, 0.75", "0.25, 0.65", "sums to 0.9"),
        ("0.25, 0.75", "0.25, many", "line 4: expected a number"),
        ("0.25, 0.75", "0.25", "lists 1 probabilities"),
        ("(yes) 0.5, 0.5;", "", "no probabilities for some states"),
        ("(yes) 0.5", "(maybe) 0.5", "no states of its parents"),
        ("b | a", "b | c", "'c', which is no variable"),
        ("probability ( a ) { table 0.25, 0.75; }", "", "no probability block"),
        ("{ yes, no }; }\nvariable b", "{ yes }; }\nvariable b", "at least 2"),
        ("network n", "graph n", "line 1: expected network"),
        ("0.125, 0.875; }", "0.125, 0.875;", "ends in the middle"),
        (
            "probability ( a ) { table 0.25, 0.75; }",
            "probability ( a | b ) { (yes) 0.5, 0.5; (no) 0.5, 0.5; }",
            "cycle",
        ),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, old: str, new: str, said: str):
    file = tmp_path / "graph.bif"
    file.write_text(GOOD)
    np.testing.assert_allclose(read_bif(file).joint(), [[0.125, 0.125], [0.09375, 0.65625]])
    assert old in GOOD
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(InvalidInputError) as e:
        read_bif(file)
    assert said in str(e.value) and "\n" not in str(e.value)


def test_files_that_cannot_be_used_say_so(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot read"):
        read_bif(tmp_path / "missing.bif")
    with pytest.raises(StorageError, match="cannot write"):
        write_bif(ConceptGraph.chain(2), tmp_path / "no" / "where.bif")
    with pytest.raises(InvalidInputError, match="BIF cannot hold"):
        write_bif(ConceptGraph.from_edges([(0, 1)], names=["a b", "c"]), tmp_path / "x.bif")
    with pytest.raises(InvalidInputError, match="no attribute 'table'"):
        from_networkx(networkx.DiGraph([("a", "b")]))
