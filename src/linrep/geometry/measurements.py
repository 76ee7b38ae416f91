"""The tidy table every number ends in: one row a value, one more row for each null it is held against.

Simulated predictors and real models fill the same columns, so that the report, a comparison or a reader with
any data-frame library needs no special case.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linrep.errors import InvalidInputError, StorageError

# Column -> (type, what it holds). A missing value is null, never an empty string or a magic number.
COLUMNS: dict[str, tuple[type[pl.DataType], str]] = {
    "run_id": (pl.String, "the run the row belongs to"),
    "source": (pl.String, "what was measured: a world and predictor, or a model"),
    "seed": (pl.Int64, "seed of a simulated predictor"),
    "step": (pl.Int64, "training step of the snapshot"),
    "layer": (pl.Int64, "layer of a hidden state; null for γ and λ"),
    "side": (pl.String, "unembedding, embedding, or both"),
    "inner_product": (pl.String, "name of the inner product"),
    "inner_product_rank": (pl.Int64, "its rank"),
    "estimator": (pl.String, "estimator of the direction, where one is used"),
    "metric": (pl.String, "name in the table of metrics"),
    "concept": (pl.String, "concept, or null for a number about all concepts"),
    "concept_other": (pl.String, "second concept of a concept × concept number"),
    "strength": (pl.Float64, "strength of an intervention"),
    "split": (pl.String, "which pairs: all, train, test"),
    "n_pairs": (pl.Int64, "pairs behind the value"),
    "value": (pl.Float64, "the measured value"),
    "low": (pl.Float64, "lower end of its 95 % interval"),
    "high": (pl.Float64, "upper end of its 95 % interval"),
    "unit": (pl.String, "unit of the value"),
    "status": (pl.String, "ok, or why there is no value"),
    "null": (pl.String, "name of the null; null on the value's own row"),
    "null_value": (pl.Float64, "mean of the null, or its exact value"),
    "null_high": (pl.Float64, "95 % point of the null"),
    "p_value": (pl.Float64, "permutation p-value, never below 1/(draws + 1)"),
    "p_adjusted": (pl.Float64, "after Benjamini–Hochberg over the concepts of one run"),
}

SCHEMA = {name: dtype for name, (dtype, _) in COLUMNS.items()}

# The columns that say which number a row is about; two tables are compared where these agree.
KEYS = (
    "side", "inner_product", "estimator", "metric", "concept", "concept_other", "layer", "strength", "split", "null",
)  # fmt: skip

# The columns that say what a number is, not which one.
_VALUES = ("n_pairs", "value", "low", "high", "unit", "status", "null_value", "null_high", "p_value", "p_adjusted")


def _check_columns(names: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(SCHEMA)):
        raise InvalidInputError(f"unknown columns {unknown}; known: {', '.join(SCHEMA)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Measurements:
    """One tidy table with the columns of `COLUMNS`.

    Examples
    --------
    >>> m = Measurements.from_rows([{"metric": "parallelism", "concept": "gender", "value": 0.4}])
    >>> m.values("parallelism")
    {'gender': 0.4}
    """

    table: pl.DataFrame

    def __post_init__(self) -> None:
        if missing := [name for name in SCHEMA if name not in self.table.columns]:
            raise InvalidInputError(f"not a table of measurements: columns missing: {', '.join(missing)}")
        if wrong := [name for name, dtype in SCHEMA.items() if self.table.schema[name] != dtype]:
            raise InvalidInputError(f"not a table of measurements: columns of another type: {', '.join(wrong)}")
        # Further columns (somebody joined settings to it) are no part of it.
        object.__setattr__(self, "table", self.table.select(SCHEMA.keys()))

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, Any]]) -> Measurements:
        """Build from dictionaries; columns not given are null, unknown ones are an error."""
        rows = list(rows)
        _check_columns({k for row in rows for k in row})
        return cls(pl.DataFrame(rows, schema=SCHEMA, orient="row"))

    @classmethod
    def concat(cls, parts: Iterable[Measurements]) -> Measurements:
        """Stack several tables."""
        tables = [part.table for part in parts]
        return cls(pl.concat(tables) if tables else pl.DataFrame(schema=SCHEMA))

    def where(self, **equal: Any) -> Measurements:
        """Rows whose columns equal the given values (``None`` means: is missing)."""
        _check_columns(equal)
        keep = [pl.col(k).is_null() if v is None else pl.col(k) == v for k, v in equal.items()]
        return Measurements(self.table.filter(*keep) if keep else self.table)

    def values(self, metric: str, **equal: Any) -> dict[str, float]:
        """Value by concept of one metric (the values' own rows, not those of the nulls).

        Raises
        ------
        InvalidInputError
            If a concept has several values (inner products, seeds, other concepts): name the one that is meant.
        """
        rows = self.where(metric=metric, null=None, **equal).table
        if rows["concept"].is_duplicated().any():
            several = [k for k in SCHEMA if k not in ("concept", *_VALUES) and rows[k].n_unique() > 1]
            raise InvalidInputError(
                f"{metric} has several values for one concept: say which with {' or '.join(several) or 'where()'}"
            )
        return dict(zip(rows["concept"].to_list(), rows["value"].to_list(), strict=True))

    def with_columns(self, **constant: Any) -> Measurements:
        """Same rows with some columns set to one value."""
        _check_columns(constant)
        columns = [pl.lit(v, dtype=SCHEMA[k]).alias(k) for k, v in constant.items()]
        return Measurements(self.table.with_columns(columns))

    def save(self, path: str | Path) -> None:
        """Write parquet, whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.table.write_parquet(temporary)
            temporary.replace(path)
        except (OSError, pl.exceptions.ComputeError) as e:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write the measurements to {path}: {_one_line(e)}") from e

    @classmethod
    def load(cls, path: str | Path) -> Measurements:
        """Read parquet written by `save`."""
        if not Path(path).is_file():
            raise StorageError(f"no measurements at {path}")
        try:
            return cls(pl.read_parquet(Path(path), glob=False))
        except pl.exceptions.PolarsError as e:
            raise InvalidInputError(f"{path} is not a parquet file of measurements: {_one_line(e)}") from e

    def compare(self, other: Measurements) -> pl.DataFrame:
        """Rows of both tables that are about the same number, with ``difference`` = other − self.

        Tables with several seeds or steps must be narrowed with `where` first: a key seen twice is an error.
        """
        sides = []
        for table in (self.table, other.table):
            rows = table.select(*KEYS, "n_pairs", "value", "low", "high", "p_value")
            if rows.select(KEYS).is_duplicated().any():
                raise InvalidInputError("several rows are about one number (seeds, steps?): narrow with where() first")
            sides.append(rows)
        joined = sides[0].join(sides[1], on=KEYS, how="inner", suffix="_other", nulls_equal=True)
        return joined.with_columns((pl.col("value_other") - pl.col("value")).alias("difference"))
