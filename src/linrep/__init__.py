"""linrep: linear representations of concepts in language models, where they come from and where they are.

Importing this package imports nothing heavy: every public name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# Public name -> the module that defines it. This table is the public interface.
_PUBLIC = {
    "ConceptGraph": "linrep.worlds.graph",
    "ContextLaw": "linrep.worlds.contexts",
    "World": "linrep.worlds.world",
    "Trajectory": "linrep.learning.training",
    "fit": "linrep.learning.training",
    "fit_many": "linrep.learning.training",
    "Representations": "linrep.geometry.representations",
    "ConceptPairs": "linrep.geometry.pairs",
    "InnerProduct": "linrep.geometry.inner_products",
    "ConceptDirections": "linrep.geometry.directions",
    "Measurements": "linrep.geometry.measurements",
    "measure": "linrep.geometry.measure",
    "load_concepts": "linrep.concepts.load",
    "load_contexts": "linrep.concepts.load",
    "open_model": "linrep.models.source",
    "LinrepError": "linrep.errors",
    "LinrepWarning": "linrep.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'linrep' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
