"""Estimators of a concept's direction, and the directions themselves, which can be saved, loaded and compared.

A direction is a unit vector under a *named* inner product; with it travels its dual, so that a steering vector for
λ and a probe for γ need no third file. This file must not judge a direction: that is for metrics and nulls.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from linrep.errors import InvalidInputError, StorageError, UnknownNameError
from linrep.geometry import metrics
from linrep.geometry.inner_products import InnerProduct
from linrep.geometry.pairs import ConceptPairs, Side
from linrep.geometry.rows import Gamma

# An estimator maps (negative, positive) "pair dim", in the common space, to one direction of any length.
Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def mean(negative: Float[np.ndarray, "pair dim"], positive: Float[np.ndarray, "pair dim"]) -> Float[np.ndarray, "dim"]:
    """Mean difference, (1/n) Σ (positive − negative)."""
    return (positive - negative).mean(axis=0)


def von_mises_fisher(
    negative: Float[np.ndarray, "pair dim"], positive: Float[np.ndarray, "pair dim"]
) -> Float[np.ndarray, "dim"]:
    """Maximum-likelihood mean direction of unit differences: their mean, so that long differences do not rule."""
    return metrics.unit(positive - negative).mean(axis=0)


def pca(negative: Float[np.ndarray, "pair dim"], positive: Float[np.ndarray, "pair dim"]) -> Float[np.ndarray, "dim"]:
    """First right singular vector of the differences (not centred), signed to agree with their mean."""
    differences = positive - negative
    direction = np.linalg.svd(differences, full_matrices=False)[2][0]
    return direction if direction @ differences.mean(axis=0) >= 0 else -direction


def lda(negative: Float[np.ndarray, "pair dim"], positive: Float[np.ndarray, "pair dim"]) -> Float[np.ndarray, "dim"]:
    """Linear discriminant between the two values, with the Ledoit–Wolf within-class covariance."""
    # Not shrinkage="auto": that standardises every coordinate first, so that the answer would turn with the axes.
    classifier = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf())
    return _classifier_direction(classifier, negative, positive)


def logistic(
    negative: Float[np.ndarray, "pair dim"], positive: Float[np.ndarray, "pair dim"]
) -> Float[np.ndarray, "dim"]:
    """Weights of an L2-penalised logistic regression (C = 1 on inputs of unit mean square) between the two values."""
    return _classifier_direction(LogisticRegression(max_iter=2000), negative, positive)


def _classifier_direction(
    classifier: LinearDiscriminantAnalysis | LogisticRegression, negative: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    points = np.concatenate([negative, positive])
    points = points - points.mean(axis=0)
    # One scale for all axes keeps the geometry and makes the penalty mean the same for every model.
    points = points / np.sqrt(np.square(points).sum(axis=1).mean())
    classifier.fit(points, np.repeat([0, 1], [len(negative), len(positive)]))
    return classifier.coef_[0]


ESTIMATORS: dict[str, Estimator] = {
    "mean": mean,
    "pca": pca,
    "lda": lda,
    "logistic": logistic,
    "von_mises_fisher": von_mises_fisher,
}

_FORMAT = "linrep-directions-1"


@dataclass(frozen=True)
class ConceptDirections:
    """Unit vectors, one a concept, under a named inner product.

    Parameters
    ----------
    names
        Concepts.
    vectors
        Directions in the coordinates of their own side, of norm 1 under the inner product (0 where all differences
        are 0).
    dual
        The same direction seen from the other side: for γ-side ḡ it is C⁻¹ḡ, the vector to add to λ; the cosine
        of two directions is vectors · dual.
    inner_product, side, estimator
        How they were made.
    n_pairs
        Pairs behind each direction.
    spread
        κ of the unit differences (read beside its null, about d/√n for random vectors).
    concentration
        n κ r̄, the concentration of the mean direction: its uncertainty.
    provenance
        Model, quantisation and whatever else says where they come from.
    """

    names: tuple[str, ...]
    vectors: Float[np.ndarray, "concept dim"]
    dual: Float[np.ndarray, "concept dim"]
    inner_product: str
    side: Side
    estimator: str
    n_pairs: tuple[int, ...]
    spread: tuple[float, ...]
    concentration: tuple[float, ...]
    provenance: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Float[np.ndarray, "dim"]:
        """Vector of one concept."""
        if name not in self.names:
            raise UnknownNameError("concept", name, self.names)
        return self.vectors[self.names.index(name)]

    def cosines(self) -> Float[np.ndarray, "concept concept"]:
        """Concept × concept cosines under the inner product."""
        return self.vectors @ self.dual.T

    def compare(self, other: ConceptDirections) -> dict[str, float]:
        """Cosine between the two directions of every concept both have, under the inner product of both.

        Raises
        ------
        InvalidInputError
            If side, inner product (by name or by covariance) or width differ: no common geometry, no cosine.
        """
        for what in ("side", "inner_product"):
            if getattr(self, what) != getattr(other, what):
                raise InvalidInputError(
                    f"directions of {what} {getattr(self, what)!r} and {getattr(other, what)!r} cannot be compared"
                )
        if self.vectors.shape[1] != other.vectors.shape[1]:
            raise InvalidInputError(
                f"directions of width {self.vectors.shape[1]} and {other.vectors.shape[1]} cannot be compared: "
                "compare measurements instead"
            )
        # ⟨g, h⟩ read with either dual: equal for every g and h when both come from one covariance.
        if not np.allclose(self.dual @ other.vectors.T, self.vectors @ other.dual.T, rtol=1e-6, atol=1e-6):
            raise InvalidInputError(
                f"the two {self.inner_product!r} inner products come from different covariances (two models or "
                "checkpoints) and give no common cosine: compare Euclidean directions, or measurements"
            )
        shared = [n for n in self.names if n in other.names]
        rows = {n: (self.names.index(n), other.names.index(n)) for n in shared}
        return {n: float(self.dual[i] @ other.vectors[j]) for n, (i, j) in rows.items()}

    def save(self, path: str | Path) -> None:
        """Write one safetensors file (arrays) with everything else as JSON in its metadata."""
        path = Path(path)
        facts = {
            name: getattr(self, name)
            for name in ("names", "inner_product", "side", "estimator", "n_pairs", "spread", "concentration")
        }
        facts["provenance"] = dict(self.provenance)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file(
                {"vectors": np.ascontiguousarray(self.vectors), "dual": np.ascontiguousarray(self.dual)},
                temporary,
                metadata={"format": _FORMAT, "directions": json.dumps(facts)},
            )
            temporary.replace(path)
        except (OSError, SafetensorError) as e:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write the directions to {path}: {e}") from e

    @classmethod
    def load(cls, path: str | Path) -> ConceptDirections:
        """Read a file written by `save`."""
        if not Path(path).is_file():
            raise StorageError(f"no directions at {path}")
        try:
            with safe_open(str(path), framework="numpy") as f:
                metadata = f.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise InvalidInputError(
                        f"{path} is not a file of directions (format {metadata.get('format')!r}, not {_FORMAT!r})"
                    )
                arrays = {name: f.get_tensor(name) for name in ("vectors", "dual")}
        except SafetensorError as e:
            raise InvalidInputError(f"{path} is not a readable safetensors file: {e}") from e
        facts = json.loads(metadata["directions"])
        for name in ("names", "n_pairs", "spread", "concentration"):
            facts[name] = tuple(facts[name])
        return cls(**arrays, **facts)


def estimate_directions(
    rows: Gamma,
    pairs: ConceptPairs,
    inner_product: InnerProduct,
    *,
    estimator: str = "mean",
    provenance: Mapping[str, str | int | float | bool] | None = None,
) -> ConceptDirections:
    """Direction of every concept with at least two pairs.

    Parameters
    ----------
    rows
        γ for pairs of side ``"unembedding"``, λ for ``"embedding"``.
    estimator
        One of `ESTIMATORS`; applied in the common space of the inner product.

    Raises
    ------
    UnknownNameError
        For an estimator that does not exist.
    InvalidInputError
        If no concept has two pairs, or a pair names a missing row.
    """
    if estimator not in ESTIMATORS:
        raise UnknownNameError("estimator", estimator, ESTIMATORS)
    pairs.check_rows(len(rows))
    carry = inner_product.unembeddings if pairs.side == "unembedding" else inner_product.embeddings
    ends = {n: carry(rows[pairs.of(n)]) for n, k in zip(pairs.names, pairs.n_pairs, strict=True) if k >= 2}
    return directions_of_ends(ends, inner_product, side=pairs.side, estimator=estimator, provenance=provenance)


def directions_of_ends(
    ends: Mapping[str, Float[np.ndarray, "pair 2 dim"]],
    inner_product: InnerProduct,
    *,
    side: Side = "unembedding",
    estimator: str = "mean",
    provenance: Mapping[str, str | int | float | bool] | None = None,
) -> ConceptDirections:
    """Directions of concepts whose pairs stand in the common space already (see `estimate_directions`)."""
    if not ends:
        raise InvalidInputError("no concept has two pairs: a direction needs at least two")
    on_tokens = side == "unembedding"
    carry = inner_product.unembeddings if on_tokens else inner_product.embeddings
    common, kappas, concentrations = [], [], []
    for pair_ends in ends.values():
        differences = pair_ends[:, 1] - pair_ends[:, 0]
        # Without a difference there is no direction; the estimators would make one up from rounding.
        sides = pair_ends[:, 0], pair_ends[:, 1]
        found = ESTIMATORS[estimator](*sides) if differences.any() else np.zeros(inner_product.dim)
        common.append(metrics.unit(found))
        kappa = float(metrics.spread(differences))
        kappas.append(kappa)
        concentrations.append(len(pair_ends) * kappa * float(metrics.resultant_length(differences)))
    common = np.stack(common)
    # In the common space γ is R γ and λ is S λ with S = R⁺: the roots of the other side lead back.
    back = inner_product.embeddings if on_tokens else inner_product.unembeddings
    return ConceptDirections(
        names=tuple(ends),
        vectors=back(common),
        dual=carry(common),
        inner_product=inner_product.name,
        side=side,
        estimator=estimator,
        n_pairs=tuple(map(len, ends.values())),
        spread=tuple(kappas),
        concentration=tuple(concentrations),
        provenance=dict(provenance or {}),
    )
