"""Tables as people read them: a few columns, a value with its interval in one cell, p-values as bounds.

The run's folder keeps every column; what a page leaves out is there. This file formats rows; it draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from linrep.report.findings import number, p_text

Row = Mapping[str, Any]
# What stands in a cell, and in small letters beneath it; a string alone has nothing beneath.
Cell = str | tuple[str, str]


@dataclass(frozen=True)
class Column:
    """One column of a table on a page: its heading, and the cell it makes of a row."""

    heading: str
    cell: Callable[[Row], Cell]
    number: bool = True


def listing(rows: Iterable[Row], columns: Sequence[Column], caption: str, name: str) -> dict[str, Any] | None:
    """A table as the macro of the same name takes it, or None without rows; ``name`` is its file in the run."""
    made = [[_parts(column.cell(row)) for column in columns] for row in rows]
    if not made:
        return None
    heads = [{"text": column.heading, "number": column.number} for column in columns]
    return {"name": name, "caption": caption, "heads": heads, "rows": made}


def _parts(cell: Cell) -> dict[str, str]:
    text, small = (cell, "") if isinstance(cell, str) else cell
    return {"text": text, "small": small}


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in brackets, or nothing where there is none.

    Examples
    --------
    >>> interval(-0.104, 0.2), interval(None, 0.2)
    ('[−0.10, 0.20]', '')
    """
    return "" if low is None or high is None else f"[{number(low, digits)}, {number(high, digits)}]"


def words(heading: str, key: str, small: str | None = None) -> Column:
    """A column of text, with a second one beneath."""
    return Column(heading, lambda r: (str(r[key]), str(r[small]) if small else ""), number=False)


def value(heading: str, key: str, low: str | None = None, high: str | None = None, *, digits: int = 2) -> Column:
    """A column of numbers, with the interval beneath."""

    def cell(r: Row) -> Cell:
        return number(r.get(key), digits), interval(r.get(low), r.get(high), digits) if low and high else ""

    return Column(heading, cell)


def beside(heading: str, key: str, null: str, label: str, *, digits: int = 2) -> Column:
    """A column of numbers, with what a null gives beneath."""

    def cell(r: Row) -> Cell:
        under = r.get(null)
        return number(r.get(key), digits), "" if under is None else f"{label} {number(under, digits)}"

    return Column(heading, cell)


def p_value(heading: str, key: str, floor: float | None) -> Column:
    """A column of p-values; one at the floor of its test is printed as the bound it is."""
    return Column(heading, lambda r: p_text(r.get(key), r.get(key), floor))


def count(heading: str, key: str) -> Column:
    """A column of whole numbers."""
    return Column(heading, lambda r: "–" if r.get(key) is None else str(int(r[key])))


def listed(names: Sequence[str]) -> str:
    """Names as a sentence takes them.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
