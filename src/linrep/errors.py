"""Every exception and warning of linrep.

One root, `LinrepError`; each child is also the builtin a caller would expect to catch. A message is one
line that says what was wrong, the value seen, what is allowed and what to do next. The command line prints
it and exits with 2; any other exception is a bug. This file must not import anything from linrep.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LinrepError(Exception):
    """Root of every error that linrep raises on purpose."""


class InvalidInputError(LinrepError, ValueError):
    """An argument, array or file content that cannot be used."""


class ConfigError(LinrepError, ValueError):
    """A configuration file or option that does not validate."""


class ModelFileError(LinrepError, ValueError):
    """A model file that is truncated, foreign or inconsistent with its own header."""


class ModelNotFoundError(LinrepError, FileNotFoundError):
    """A MODEL that is no folder, no file and no model fetched before."""


class UnknownNameError(LinrepError, LookupError):
    """A name that is in none of the tables; the message lists near misses."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")


class MissingExtraError(LinrepError, ImportError):
    """A feature that needs an optional part of the installation."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'linrep[{extra}]'")


class StorageError(LinrepError, OSError):
    """A folder that cannot be written, a full disk, or a run directory that is not complete."""


class LinrepWarning(UserWarning):
    """Root of every warning of linrep."""


class DegenerateGeometryWarning(LinrepWarning):
    """Whitening that makes the geometry arithmetic instead of evidence (rank = tokens − 1)."""


class NotConvergedWarning(LinrepWarning):
    """Samples of a Markov chain whose diagnostics say that they are not yet those of its stationary law."""
