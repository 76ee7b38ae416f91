"""TOML files to validated configurations, with one clear line for every way they can be wrong."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from linrep.errors import ConfigError
from linrep.studies.result import StudyConfig

C = TypeVar("C", bound=StudyConfig)


def load_config(kind: type[C], path: Path | None, overrides: Mapping[str, Any]) -> C:
    """Read a TOML file, put the given options over it, and validate.

    Parameters
    ----------
    kind
        Configuration class of the study.
    path
        TOML file, or None for the defaults.
    overrides
        Options of the command line; None means not given.

    Raises
    ------
    ConfigError
        For a file that cannot be read or parsed, an unknown key (with near misses) or a value out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise ConfigError(f"cannot read the configuration {path}: {e.strerror}") from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path} is not valid TOML: {e}") from e
    values |= {k: v for k, v in overrides.items() if v is not None}
    return validate(kind, values, str(path) if path else "options")


def validate(kind: type[C], values: Mapping[str, Any], where: str) -> C:
    """Validate values, as `load_config` does after reading."""
    try:
        return kind(**values)
    except ValidationError as e:
        problem = e.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, kind.model_fields, n=2)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(kind.model_fields)}"
            raise ConfigError(f"{where}: unknown key {key!r}: {hint}") from e
        message = problem["msg"].removeprefix("Value error, ")
        seen = f", not {problem['input']!r}" if problem["type"] != "missing" else ""
        raise ConfigError(f"{where}: {key}: {message}{seen}") from e
