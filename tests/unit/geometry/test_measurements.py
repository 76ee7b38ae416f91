"""Measurements: the tidy table, its file, and two tables side by side."""

import polars as pl
import pytest

from linrep.errors import InvalidInputError, StorageError
from linrep.geometry.measurements import SCHEMA, Measurements

ROWS = [
    {"metric": "parallelism", "concept": "a", "inner_product": "causal", "value": 0.5, "seed": 1, "n_pairs": 9},
    {"metric": "parallelism", "concept": "b", "inner_product": "causal", "value": 0.25, "seed": 1},
    {"metric": "parallelism", "concept": "a", "inner_product": "causal", "value": 0.5, "null": "sign flip"},
    {"metric": "parallelism", "concept": "a", "inner_product": "euclidean", "value": 0.75},
    {"metric": "orthogonality", "split": "all", "value": 0.1},
    {"metric": "orthogonality", "split": "between families", "value": 0.05},
]


def table() -> Measurements:
    return Measurements.from_rows(ROWS)


def test_columns_not_given_are_null_and_types_are_those_of_the_schema():
    t = table().table
    assert t.schema == pl.Schema(SCHEMA)
    assert t["low"].null_count() == len(ROWS)
    assert t["n_pairs"].to_list() == [9] + [None] * 5
    assert Measurements.from_rows([]).table.is_empty()


def test_where_selects_and_none_means_missing():
    m = table()
    assert m.where(metric="parallelism", null=None).table.height == 3
    assert m.where(null="sign flip").table.height == 1
    assert m.where().table.equals(m.table)
    assert m.where(metric="nothing").table.is_empty()


def test_values_by_concept_leave_out_the_nulls():
    assert table().values("parallelism", inner_product="causal") == {"a": 0.5, "b": 0.25}


def test_values_do_not_choose_silently_between_two_numbers():
    with pytest.raises(InvalidInputError, match="several values for one concept: say which with seed or inner_product"):
        table().values("parallelism")
    with pytest.raises(InvalidInputError, match="say which with split"):
        table().values("orthogonality")


def test_concat_and_constant_columns():
    both = Measurements.concat([table().with_columns(run_id="x", seed=3), table()])
    assert both.table.height == 2 * len(ROWS)
    assert both.where(run_id="x", seed=3).table.height == len(ROWS)
    assert Measurements.concat([]).table.schema == pl.Schema(SCHEMA)


def test_columns_joined_by_others_do_not_stay():
    joined = Measurements(table().table.with_columns(pl.lit("q4").alias("quantisation")))
    assert Measurements.concat([joined, table()]).table.columns == list(SCHEMA)


def test_compare_pairs_rows_about_the_same_number():
    other = Measurements.from_rows([r | {"value": r["value"] + 1} for r in reversed(ROWS[:-1])])
    compared = table().compare(other)
    assert compared.height == len(ROWS) - 1
    assert compared["difference"].to_list() == pytest.approx([1.0] * 5)
    split = compared.filter(pl.col("metric") == "orthogonality")
    assert split["split"].to_list() == ["all"]


def test_compare_of_a_table_with_itself_shows_no_difference():
    compared = table().compare(table())
    assert compared.height == len(ROWS)
    assert set(compared["difference"].to_list()) == {0.0}


def test_compare_refuses_two_seeds_of_one_number():
    m = Measurements.concat([table(), table().with_columns(seed=2)])
    with pytest.raises(InvalidInputError, match="narrow with where"):
        m.compare(table())


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (lambda: Measurements.from_rows([{"valeu": 1.0}]), "['valeu']"),
        (lambda: table().where(consept="a"), "['consept']"),
        (lambda: table().with_columns(runid="a"), "['runid']"),
        (lambda: Measurements(table().table.drop("value", "low")), "missing: value, low"),
        (lambda: Measurements(table().table.with_columns(pl.col("value").cast(pl.String))), "another type: value"),
    ],
)
def test_wrong_columns_are_named(act, seen):
    with pytest.raises(InvalidInputError) as e:
        act()
    assert seen in str(e.value)
    assert "\n" not in str(e.value)


def test_round_trip(tmp_path):
    table().save(tmp_path / "m.parquet")
    assert Measurements.load(tmp_path / "m.parquet").table.equals(table().table)
    assert [p.name for p in tmp_path.iterdir()] == ["m.parquet"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "m.parquet"
    table().save(path)
    before = path.read_bytes()

    def full_disk(self, file, **_):
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        table().where(concept="a").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.parquet"]


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot write the measurements"):
        table().save(tmp_path / "no" / "m.parquet")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(StorageError, match="no measurements at"):
            Measurements.load(path)


@pytest.mark.parametrize("content", [b"", b"hello" * 30, "truncated", "another table"])
def test_a_foreign_file_is_one_clear_line(tmp_path, content):
    path = tmp_path / "m.parquet"
    if content == "another table":
        pl.DataFrame({"a": [1]}).write_parquet(path)
    else:
        table().save(path)
        path.write_bytes(path.read_bytes()[:-100] if content == "truncated" else content)
    with pytest.raises(InvalidInputError) as e:
        Measurements.load(path)
    assert "\n" not in str(e.value)
