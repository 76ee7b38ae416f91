"""Inner products on unembeddings γ and, dually, on embeddings λ.

γ and λ live in dual spaces: only λ·γ is a logit. An inner product here is therefore a pair of symmetric roots,
one a side, that carry both into one common space where plain dot products and cosines are taken. This file does
linear algebra in NumPy float64 whatever the caller's JAX settings, and never folds or centres what is stored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import linalg

from linrep.errors import DegenerateGeometryWarning, InvalidInputError
from linrep.geometry.rows import Gamma, blocks

# The symmetric product A Aᵀ + C of the linear algebra library.
(_SYRK,) = linalg.get_blas_funcs(("syrk",), dtype=np.float64)


@dataclass(frozen=True)
class InnerProduct:
    """A named inner product in its two dual forms.

    γ-side ⟨a, b⟩ = (R a)·(R b) with R = `unembedding_root`; λ-side ⟨a, b⟩ = (S a)·(S b) with
    S = `embedding_root`. For the causal product R = C^−½ and S = C^½, so that λ·γ = (S λ)·(R γ) is unchanged.
    A root of ``None`` is the identity.

    Parameters
    ----------
    name
        The name every table carries.
    dim
        Width of γ and λ.
    rank
        Dimensions that are not projected out.
    condition
        Largest over smallest eigenvalue of C within the rank; 1 for Euclidean.
    floor
        Eigenvalues of C below this value were raised to it; 0 if none was asked for.
    shrinkage
        Weight of the identity in a shrunk covariance; 0 if none.
    removed
        Unit vector that is projected out on both sides; None if none is.
    """

    name: str
    dim: int
    rank: int
    unembedding_root: Float[np.ndarray, "dim dim"] | None = None
    embedding_root: Float[np.ndarray, "dim dim"] | None = None
    condition: float = 1.0
    floor: float = 0.0
    shrinkage: float = 0.0
    removed: Float[np.ndarray, "dim"] | None = None

    def unembeddings(self, gamma: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        """Carry γ-side vectors into the common space: R γ."""
        return self._apply(self.unembedding_root, gamma)

    def embeddings(self, lam: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch dim"]:
        """Carry λ-side vectors into the common space: S λ."""
        return self._apply(self.embedding_root, lam)

    def _apply(self, root: np.ndarray | None, vectors: np.ndarray) -> np.ndarray:
        if vectors.shape[-1] != self.dim:
            raise InvalidInputError(f"inner product {self.name!r} is for width {self.dim}, not {vectors.shape[-1]}")
        wide = np.asarray(vectors, dtype=np.float64)
        if self.removed is not None:
            wide = wide - (wide @ self.removed)[..., None] * self.removed
        # Roots are symmetric. Flat: a stack of small matrices would read the root once for each of them.
        return wide if root is None else (wide.reshape(-1, self.dim) @ root).reshape(wide.shape)


def covariance(gamma: Gamma) -> Float[np.ndarray, "dim dim"]:
    """Covariance of γ over the vocabulary, C = (1/n) Σ (γ − γ̄)(γ − γ̄)ᵀ, in float64.

    Rows are widened and centred in blocks, so that a 16-bit matrix never stands in memory as float64.
    """
    upper, _ = _moments(gamma)
    upper += np.triu(upper, 1).T
    return upper


def _moments(gamma: Gamma) -> tuple[Float[np.ndarray, "dim dim"], float]:
    """Upper triangle of the covariance (zeros below it), and the mean of ‖γ − γ̄‖⁴, over the vocabulary."""
    n, dim = gamma.shape
    mean = np.zeros(dim)
    for block in blocks(gamma):
        mean += block.sum(axis=0)
    mean /= n
    total, fourth = np.zeros((dim, dim), order="F"), 0.0
    for block in blocks(gamma):
        block -= mean
        fourth += float(np.square(np.einsum("td,td->t", block, block)).sum())
        # Half the work of a general product, added in place.
        total = _SYRK(1.0, block.T, beta=1.0, c=total, overwrite_c=True)
    total /= n
    return total, fourth / n


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues and eigenvectors of Cov(γ), made once however many inner products are built from them.

    Parameters
    ----------
    gamma
        All unembeddings of the real vocabulary, without padding rows.
    """

    gamma: Gamma

    @property
    def shape(self) -> tuple[int, int]:
        """(tokens, dim) of γ."""
        return len(self.gamma), self.gamma.shape[1]

    @cached_property
    def _parts(self) -> tuple[np.ndarray, np.ndarray, float]:
        upper, fourth = _moments(self.gamma)
        # Divide and conquer: all vectors are wanted. They take the place of the covariance.
        values, vectors = linalg.eigh(upper, lower=False, driver="evd", overwrite_a=True)
        return values, vectors, fourth

    @property
    def values(self) -> Float[np.ndarray, "dim"]:
        """Eigenvalues, increasing."""
        return self._parts[0]

    @property
    def vectors(self) -> Float[np.ndarray, "dim dim"]:
        """Eigenvectors, in columns."""
        return self._parts[1]

    @property
    def shrinkage(self) -> float:
        """Ledoit–Wolf weight s of the identity, from ‖C‖² = Σ λ² and the mean of ‖γ − γ̄‖⁴."""
        (n, dim), (values, _, fourth) = self.shape, self._parts
        distance = np.square(values - values.mean()).sum() / dim
        noise = (fourth - np.square(values).sum()) / (dim * n)
        return float(min(noise, distance) / distance) if noise > 0 and distance > 0 else 0.0


def _spectrum(gamma: Gamma | Spectrum) -> Spectrum:
    return gamma if isinstance(gamma, Spectrum) else Spectrum(gamma)


def euclidean(gamma: Gamma | Spectrum) -> InnerProduct:
    """Return the product of the coordinates as they are stored; not identified by the loss, training picks it."""
    dim = gamma.shape[1]
    return InnerProduct(name="euclidean", dim=dim, rank=dim)


def causal(gamma: Gamma | Spectrum, *, floor: float = 0.0) -> InnerProduct:
    """Causal inner product: γ-side C⁻¹, λ-side C, with C = Cov(γ) over the vocabulary.

    Invariant under (λ, γ) → (Aλ, A⁻ᵀγ) at full rank without floor. Directions in which γ does not vary are
    projected out (differences of unembeddings have no part in them).

    Parameters
    ----------
    gamma
        All unembeddings of the real vocabulary, without padding rows, or their `Spectrum`.
    floor
        Eigenvalues of C below ``floor × largest`` are raised to it; 0 leaves them.

    Warns
    -----
    DegenerateGeometryWarning
        If the rank is tokens − 1: whitening then makes the tokens a regular simplex, orthogonality is
        arithmetic and parallelism 0 whatever the model learned.

    Source: Park, Choe, Veitch, "The Linear Representation Hypothesis and the Geometry of LLMs", ICML 2024.
    """
    spectrum = _spectrum(gamma)
    if not 0 <= floor < 1:
        raise InvalidInputError(f"floor is a fraction of the largest eigenvalue, in [0, 1), not {floor}")
    return _from_spectrum("causal", spectrum.values, spectrum.vectors, spectrum.shape[0], floor=floor)


def shrunk(gamma: Gamma | Spectrum) -> InnerProduct:
    """Causal inner product of the Ledoit–Wolf covariance (1 − s) C + s (tr C / d) I.

    Always of full rank; the weight s is reported as `shrinkage`. Not invariant under linear maps.

    Source: Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", 2004.
    """
    spectrum = _spectrum(gamma)
    s, values = spectrum.shrinkage, spectrum.values
    return _from_spectrum(
        "shrunk", (1 - s) * values + s * values.mean(), spectrum.vectors, spectrum.shape[0], shrinkage=s
    )


def without_top_component(gamma: Gamma | Spectrum) -> InnerProduct:
    """Return the Euclidean product with the first principal component of γ projected out, on both sides.

    The control for causal against Euclidean: if this one projection (mostly word frequency) does what whitening
    does, the gain is no evidence for the whole covariance.
    """
    spectrum = _spectrum(gamma)
    dim = spectrum.shape[1]
    # As a vector: the same projection as a matrix costs as much as whitening.
    return InnerProduct("euclidean without top component", dim, rank=dim - 1, removed=spectrum.vectors[:, -1].copy())


def random(gamma: Gamma | Spectrum, *, seed: int = 0) -> InnerProduct:
    """Causal form of a random covariance C_r = Q diag(λ) Qᵀ: the eigenvalues of Cov(γ), eigenvectors drawn uniformly.

    The control for causal against Euclidean: as uneven as the causal product, but blind to where γ varies. What it
    shows too is no finding about the covariance. The mean over seeds is Euclidean: E[aᵀC_r⁻¹b] = (tr C⁻¹/d) a·b.

    Parameters
    ----------
    gamma
        All unembeddings of the real vocabulary, without padding rows, or their `Spectrum`.
    seed
        Of the rotation Q.
    """
    spectrum = _spectrum(gamma)
    dim = spectrum.shape[1]
    q, r = np.linalg.qr(np.random.default_rng([seed, *b"random inner product"]).standard_normal((dim, dim)))
    # Signs as of R's diagonal: without them Q is not uniform over rotations and reflections.
    return _from_spectrum("random", spectrum.values, q * np.sign(np.diag(r)), None)


def _from_spectrum(
    name: str,
    values: np.ndarray,
    vectors: np.ndarray,
    n_tokens: int | None,
    *,
    floor: float = 0.0,
    shrinkage: float = 0.0,
) -> InnerProduct:
    dim = len(values)
    largest = float(values[-1])
    if not largest > 0:
        raise InvalidInputError("all unembeddings are equal: their covariance is zero")
    # Below this an eigenvalue is rounding of the Gram product, not variance.
    kept = values > largest * dim * np.finfo(np.float64).eps
    rank = int(kept.sum())
    # A floor that raises no direction in which the tokens vary leaves the simplex as it is. Without a number of tokens
    # the covariance is not theirs, and nothing is whitened.
    if n_tokens is not None and shrinkage == 0 and rank >= n_tokens - 1 and values[kept][0] >= floor * largest:
        warnings.warn(
            f"centred γ of {n_tokens} tokens has rank {rank} = tokens − 1: under the {name} inner product the tokens "
            "are a regular simplex and every geometric number is arithmetic; read the Euclidean ones",
            DegenerateGeometryWarning,
            stacklevel=3,
        )
    if floor > 0:  # raised directions count as present, with the floor as their variance
        values, kept = np.maximum(values, floor * largest), np.ones_like(kept)
    if not kept.all():
        values, vectors = values[kept], vectors[:, kept]
    # A matrix times its own transpose: exactly symmetric, and half the work of a general product. One after the
    # other: at width 8,192 each of these is half a gigabyte.
    quarter = values**0.25
    factor = vectors * quarter
    half = factor @ factor.T
    np.divide(vectors, quarter, out=factor)
    inverse_half = factor @ factor.T
    return InnerProduct(
        name,
        dim,
        rank=int(kept.sum()),
        unembedding_root=inverse_half,
        embedding_root=half,
        condition=float(values[-1] / values[0]),
        floor=floor * largest,
        shrinkage=shrinkage,
    )


# Name -> constructor from the unembeddings or their spectrum: the one table that commands and `list` read.
INNER_PRODUCTS: dict[str, Callable[[np.ndarray | Spectrum], InnerProduct]] = {
    "euclidean": euclidean,
    "causal": causal,
    "shrunk": shrunk,
    "euclidean without top component": without_top_component,
}

# Controls: measured where asked for, never judged or calibrated, because no concept can be right or wrong under them.
CONTROL_PRODUCTS: dict[str, Callable[[np.ndarray | Spectrum], InnerProduct]] = {"random": random}
