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
    "CategoricalGraph": "linrep.worlds.categorical",
    "MarkovField": "linrep.worlds.markov_field",
    "Hierarchy": "linrep.worlds.hierarchy",
    "ContextLaw": "linrep.worlds.contexts",
    "Vocabulary": "linrep.worlds.vocabulary",
    "World": "linrep.worlds.world",
    "SentenceWorld": "linrep.worlds.sentences",
    "preset": "linrep.worlds.presets",
    "Trajectory": "linrep.learning.trajectory",
    "fit": "linrep.learning.training",
    "fit_many": "linrep.learning.training",
    "Representations": "linrep.geometry.representations",
    "ConceptPairs": "linrep.geometry.pairs",
    "InnerProduct": "linrep.geometry.inner_products",
    "ConceptDirections": "linrep.geometry.directions",
    "Measurements": "linrep.geometry.measurements",
    "measure": "linrep.geometry.measure",
    "estimate_directions": "linrep.geometry.directions",
    "load_concepts": "linrep.concepts.load",
    "load_contexts": "linrep.concepts.load",
    "list_concepts": "linrep.concepts.load",
    "list_contexts": "linrep.concepts.load",
    "token_pairs": "linrep.concepts.load",
    "context_pairs": "linrep.concepts.load",
    "lint": "linrep.concepts.lint",
    "open_model": "linrep.models.source",
    "get_model": "linrep.models.get",
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
