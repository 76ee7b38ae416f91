"""Concept graphs to and from other tools: networkx graphs and Bayesian network interchange files (BIF).

Binary graphs come back as `ConceptGraph`, others as `CategoricalGraph` of nominal concepts. Kinds (ordinal, cyclic)
and labels have no place in BIF and are not kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from linrep.errors import InvalidInputError, MissingExtraError, StorageError
from linrep.worlds.categorical import CategoricalGraph
from linrep.worlds.graph import ConceptGraph

if TYPE_CHECKING:
    import networkx

Directed = ConceptGraph | CategoricalGraph


def to_networkx(graph: Directed) -> networkx.DiGraph:
    """Directed graph with the concepts as nodes; node attribute ``table`` is P(C_i | parents), parents in node order.

    Raises
    ------
    MissingExtraError
        Without networkx.
    """
    try:
        import networkx
    except ImportError as e:
        raise MissingExtraError("networkx graphs", "dev") from e
    made = networkx.DiGraph(label=graph.label)
    for name, table in zip(graph.names, _full_tables(graph), strict=True):
        made.add_node(name, table=table)
    for i, above in enumerate(graph.parents):
        made.add_edges_from((graph.names[p], graph.names[i]) for p in above)
    return made


def from_networkx(graph: networkx.DiGraph) -> Directed:
    """Graph of a networkx DiGraph whose nodes have a ``table`` as `to_networkx` writes it.

    Raises
    ------
    InvalidInputError
        If a node has no table, or what the classes of graphs refuse.
    """
    names = [str(node) for node in graph.nodes]
    for node, data in graph.nodes(data=True):
        if "table" not in data:
            raise InvalidInputError(f"node {node!r} has no attribute 'table': P(C | parents), one axis a parent")
    place = {node: k for k, node in enumerate(graph.nodes)}
    parents = [tuple(sorted(place[p] for p in graph.predecessors(node))) for node in graph.nodes]
    tables = [np.asarray(data["table"], dtype=np.float64) for _, data in graph.nodes(data=True)]
    return _graph(names, parents, tables, str(graph.graph.get("label", "networkx")))


def write_bif(graph: Directed, path: str | Path) -> None:
    """Write a BIF file, whole or not at all; states of a concept are named ``s0``, ``s1``, ...

    Raises
    ------
    InvalidInputError
        If a name is no word of letters, digits and ``_-.``, which BIF cannot hold.
    StorageError
        If the file cannot be written.
    """
    if bad := [name for name in graph.names if not re.fullmatch(r"[\w.\-]+", name)]:
        raise InvalidInputError(f"BIF cannot hold the concept name {bad[0]!r}: use letters, digits and _-. only")
    lines = [f"network {re.sub(r'[^A-Za-z0-9_.-]', '_', graph.label) or 'concepts'} {{", "}"]
    for name, k in zip(graph.names, graph.cardinalities, strict=True):
        states = ", ".join(f"s{v}" for v in range(k))
        lines += [f"variable {name} {{", f"  type discrete [ {k} ] {{ {states} }};", "}"]
    for name, above, table in zip(graph.names, graph.parents, _full_tables(graph), strict=True):
        given = f" | {', '.join(graph.names[p] for p in above)}" if above else ""
        lines.append(f"probability ( {name}{given} ) {{")
        for row in product(*(range(n) for n in table.shape[:-1])):
            states = "table" if not above else f"({', '.join(f's{v}' for v in row)})"
            lines.append(f"  {states} {', '.join(repr(float(x)) for x in table[row])};")
        lines.append("}")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write the graph to {path}: {e.strerror or e}") from e


def read_bif(path: str | Path) -> Directed:
    """Read a discrete Bayesian network from a BIF file; states keep their order in the file, not their names.

    Raises
    ------
    StorageError
        If the file cannot be read.
    InvalidInputError
        If it is not BIF (the line is named), or describes no graph that the classes of graphs take.

    Source of the format: "The Interchange Format for Bayesian Networks", Fabio Cozman, 1998 (version 0.15).
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise StorageError(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from e
    parser = _Parser(text, str(path))
    states: dict[str, list[str]] = {}
    parts: dict[str, tuple[list[str], dict[tuple[str, ...], list[float]]]] = {}
    while (word := parser.next(optional=True)) is not None:
        if word == "network":
            parser.skip_block()
        elif word == "variable":
            name, values = parser.variable()
            states[name] = values
        elif word == "probability":
            name, above, rows = parser.probability()
            parts[name] = (above, rows)
        else:
            raise parser.error(f"expected network, variable or probability, not {word!r}")
    names = list(states)
    if missing := [name for name in names if name not in parts]:
        raise InvalidInputError(f"{path}: variable {missing[0]!r} has no probability block")
    parents, tables = [], []
    for name in names:
        above, rows = parts[name]
        if unknown := [p for p in above if p not in states]:
            raise InvalidInputError(f"{path}: {name!r} has the parent {unknown[0]!r}, which is no variable")
        table = _table(f"{path}: {name!r}", [states[p] for p in above], len(states[name]), rows)
        order = sorted(range(len(above)), key=lambda k: names.index(above[k]))
        parents.append(tuple(names.index(above[k]) for k in order))
        tables.append(table.transpose([*order, len(above)]))
    return _graph(names, parents, tables, Path(path).stem)


def _full_tables(graph: Directed) -> tuple[np.ndarray, ...]:
    """P(C_i | parents) with the values of C_i as the last axis."""
    if isinstance(graph, CategoricalGraph):
        return graph.tables
    return tuple(np.stack([1 - table, table], axis=-1) for table in graph.tables)


def _graph(names: list[str], parents: list[tuple[int, ...]], tables: list[np.ndarray], label: str) -> Directed:
    checked = CategoricalGraph(tuple(names), tuple(parents), tuple(tables), ("nominal",) * len(names), label)
    if any(k != 2 for k in checked.cardinalities):
        return checked
    return ConceptGraph(checked.names, checked.parents, tuple(table[..., 1] for table in checked.tables), label)


def _table(what: str, states: list[list[str]], n_values: int, rows: dict[tuple[str, ...], list[float]]) -> np.ndarray:
    """Rows by the states of the parents, as an array."""
    if not states and (flat := rows.get(())) is not None:
        rows = {(): flat}
    elif () in rows:  # `table` with all numbers in a row, the variable itself varying slowest
        flat = np.asarray(rows[()])
        shape = [n_values, *map(len, states)]
        if flat.size != np.prod(shape):
            raise InvalidInputError(f"{what} lists {flat.size} probabilities where {int(np.prod(shape))} are needed")
        return np.moveaxis(flat.reshape(shape), 0, -1)
    table = np.full([*map(len, states), n_values], np.nan)
    for key, row in rows.items():
        if len(key) != len(states) or any(v not in of for v, of in zip(key, states, strict=True)):
            raise InvalidInputError(f"{what} has a row for ({', '.join(key)}), which are no states of its parents")
        if len(row) != n_values:
            raise InvalidInputError(f"{what} lists {len(row)} probabilities in a row where {n_values} are needed")
        table[tuple(of.index(v) for v, of in zip(key, states, strict=True))] = row
    if np.isnan(table).any():
        raise InvalidInputError(f"{what} has no probabilities for some states of its parents")
    return table


class _Parser:
    """Words and punctuation of a BIF file, with their line numbers."""

    def __init__(self, text: str, path: str) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.DOTALL)
        self._words = [(m[0], text.count("\n", 0, m.start()) + 1)
                       for m in re.finditer(r'"[^"]*"|[{}()\[\];,|]|[^\s{}()\[\];,|]+', text)]  # fmt: skip
        self._at, self._path = 0, path

    def error(self, text: str) -> InvalidInputError:
        line = self._words[min(self._at, len(self._words)) - 1][1] if self._words else 1
        return InvalidInputError(f"{self._path} line {line}: {text}")

    def next(self, *, optional: bool = False) -> Any:
        if self._at >= len(self._words):
            if optional:
                return None
            raise self.error("the file ends in the middle of a block")
        self._at += 1
        return self._words[self._at - 1][0].strip('"')

    def expect(self, wanted: str) -> None:
        if (word := self.next()) != wanted:
            raise self.error(f"expected {wanted!r}, not {word!r}")

    def until(self, end: str) -> Iterator[str]:
        """Words before `end`, commas left out."""
        while (word := self.next()) != end:
            if word != ",":
                yield word

    def numbers(self) -> list[float]:
        found = []
        for word in self.until(";"):
            try:
                found.append(float(word))
            except ValueError:
                raise self.error(f"expected a number, not {word!r}") from None
        return found

    def skip_block(self) -> None:
        list(self.until("{"))
        list(self.until("}"))

    def variable(self) -> tuple[str, list[str]]:
        name = self.next()
        self.expect("{")
        values: list[str] = []
        while (word := self.next()) != "}":
            if word == "type":
                self.expect("discrete")
                self.expect("[")
                list(self.until("]"))
                self.expect("{")
                values = list(self.until("}"))
                self.expect(";")
            elif word == "property":
                list(self.until(";"))
            else:
                raise self.error(f"expected type or property, not {word!r}")
        if len(values) < 2:
            raise self.error(f"variable {name!r} has {len(values)} states: it needs at least 2")
        return name, values

    def probability(self) -> tuple[str, list[str], dict[tuple[str, ...], list[float]]]:
        self.expect("(")
        words = [word for word in self.until(")") if word != "|"]
        if not words:
            raise self.error("a probability block names no variable")
        self.expect("{")
        rows: dict[tuple[str, ...], list[float]] = {}
        while (word := self.next()) != "}":
            if word == "table":
                rows[()] = self.numbers()
            elif word == "(":
                key = tuple(self.until(")"))
                rows[key] = self.numbers()
            elif word == "property":
                list(self.until(";"))
            else:
                raise self.error(f"expected table or (states of the parents), not {word!r}")
        return words[0], words[1:], rows
