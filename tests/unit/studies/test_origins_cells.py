"""The plan of the origins study: which cells each family asks for, and with how many seeds."""

from collections import Counter
from dataclasses import asdict, replace

import pytest

from linrep import ContextLaw
from linrep.studies.origins_cells import FAMILIES, Cell, Planned, factors, phase_dims, plan, step_size

OF_CELLS = [family for family in FAMILIES if family != "I"]
EVERYTHING = plan(FAMILIES)
QUICK = plan(FAMILIES, quick=True)


@pytest.mark.parametrize("planned", [EVERYTHING, QUICK], ids=["full", "quick"])
def test_names_and_cells_are_unique(planned: list[Planned]):
    assert max(Counter(p.cell.name for p in planned).values()) == 1
    assert max(Counter(p.cell for p in planned).values()) == 1


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("family", OF_CELLS)
def test_every_family_has_cells_and_asks_for_no_others(family: str, quick: bool):
    alone = plan([family], quick=quick)
    assert alone and all(p.families == (family,) for p in alone)
    together = {p.cell for p in (QUICK if quick else EVERYTHING) if family in p.families}
    assert {p.cell for p in alone} == together


def test_the_family_of_fixed_embeddings_is_not_made_of_cells():
    assert plan(["I"]) == plan([]) == []


def test_the_number_of_seeds_is_the_most_that_a_family_wants():
    for p in EVERYTHING:
        # Family F compares tables and factored embeddings over the whole phase diagram; its networks are extra.
        headline = {"B", "C", "J"} & set(p.families) or (
            "F" in p.families and p.cell.predictor in ("table", "factored")
        )
        assert p.seeds == (30 if headline else 10), p
    assert {p.seeds for p in QUICK} == {3}


@pytest.mark.parametrize("family", OF_CELLS)
def test_the_headline_families_want_thirty_seeds_by_themselves(family: str):
    expected = {"B": {30}, "C": {30}, "J": {30}, "F": {10, 30}}.get(family, {10})
    assert {p.seeds for p in plan([family])} == expected


def test_a_shared_cell_is_planned_once_with_every_family():
    base = next(p for p in EVERYTHING if p.cell == Cell())
    assert {"A", "B", "C", "E", "F", "G", "J"} <= set(base.families)
    assert base.seeds == 30
    assert next(p for p in plan(["A"]) if p.cell == Cell()).seeds == 10


def test_the_quick_study_is_small():
    for p in QUICK:
        assert p.cell.concepts <= 3 and p.cell.steps <= 3000
        assert p.cell.law != "at-most-3"  # of three concepts these are all
    assert len(QUICK) < len(EVERYTHING)


def test_every_law_is_one():
    for p in (*EVERYTHING, *QUICK):
        assert ContextLaw.parse(p.cell.law).n_contexts((p.cell.values,) * p.cell.concepts) > 0


def test_a_name_says_every_field_that_is_not_the_default():
    assert Cell().name == "m=5 d=10 complete"
    assert Cell(low=0.1, predictor="factored", sentences=True).name == (
        "m=5 d=10 complete low=0.1 sentences=True predictor=factored"
    )
    for name, value in asdict(Cell()).items():
        changed = value + "x" if isinstance(value, str) else not value if isinstance(value, bool) else value + 1
        assert replace(Cell(), **{name: changed}).name != Cell().name


def test_widths_of_the_phase_diagram():
    assert phase_dims(5) == (3, 4, 5, 10, 20, 31)
    assert phase_dims(2) == (1, 2, 3, 4, 8)
    asked = {p.cell.dim for p in plan(["B"]) if p.cell.law == "complete" and p.cell.predictor == "table"}
    assert asked >= set(phase_dims(5))


def test_the_step_size_of_tables_follows_the_number_of_contexts():
    assert step_size(Cell()) == 5
    assert step_size(Cell(concepts=7)) == pytest.approx(15)
    assert step_size(Cell(concepts=3)) == pytest.approx(5 / 3)
    for other in (Cell(optimizer="adam"), Cell(predictor="factored"), Cell(values=3)):
        assert step_size(other) is None  # the default of the optimiser and predictor


def test_factors_are_the_cell_and_what_follows_from_it():
    cell = Cell(concepts=4, dim=6)
    found = factors(cell)
    assert found["d_over_m"] == 1.5 and found["step_size"] == step_size(cell)
    assert asdict(cell).items() <= found.items()
