"""Where a real model comes from: a folder, a GGUF file, a name fetched before, or the local hub cache.

`open_model` finds it; a source answers with plain NumPy arrays and a plain dictionary of provenance. Reading γ and
the vocabulary imports neither torch nor transformers, and nothing is ever downloaded here (`linrep get` does that).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import Float

from linrep.errors import MissingExtraError, ModelFileError
from linrep.geometry.representations import Representations
from linrep.geometry.rows import Gamma, StoredRows, blocks
from linrep.models.layouts import Layout, layout_of
from linrep.models.registry import locate
from linrep.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel


_SMALL = 256 << 20  # bytes of γ as floats up to which `representations` holds all of it


@dataclass(frozen=True)
class AbstractModelSource(abc.ABC):
    """A model on disk. Its γ and vocabulary are read without torch; `forward` needs ``linrep[hf]``.

    Parameters
    ----------
    path
        The folder or the file.
    name
        The name it was opened under.
    """

    path: Path
    name: str

    def __post_init__(self) -> None:
        layout_of(self._model_type, str(self.path))  # an unknown family is refused before anything is read

    @property
    @abc.abstractmethod
    def _model_type(self) -> str:
        """Family, a key of `layouts.LAYOUTS`."""

    @property
    @abc.abstractmethod
    def _width(self) -> int:
        """Width of λ and γ as the configuration says."""

    @property
    @abc.abstractmethod
    def _output_name(self) -> str | None:
        """Tensor that holds γ, or None when only the embedding matrix is stored (tied)."""

    @property
    @abc.abstractmethod
    def _embedding_name(self) -> str | None:
        """Tensor that holds W_E."""

    @abc.abstractmethod
    def _rows(self, name: str) -> Float[np.ndarray, "..."] | StoredRows:
        """One tensor, as floats or as rows that become floats when they are asked for."""

    @abc.abstractmethod
    def _read_vocabulary(self) -> Vocabulary:
        """The tokenizer's own vocabulary."""

    @abc.abstractmethod
    def _storage(self) -> dict[str, str | int | float | bool]:
        """The part of `describe` that only this format knows."""

    @cached_property
    def layout(self) -> Layout:
        """Where this family keeps what linrep needs."""
        return layout_of(self._model_type, str(self.path))

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return self._read_vocabulary()

    def vocabulary(self) -> Vocabulary:
        """Which row of γ is which token."""
        return self._vocabulary

    def unembeddings(self) -> Float[np.ndarray, "token dim"]:
        """γ, one row a token: the output matrix as stored, never folded or centred.

        Rows beyond the vocabulary are padding and are dropped. Only this matrix is read.

        Raises
        ------
        ModelFileError
            When there is no such matrix, or it has another shape than the configuration says, or NaN weights.
        """
        return np.asarray(self.unembedding_rows())

    def unembedding_rows(self) -> Gamma:
        """The same, but not widened to floats before rows are asked for, unless it is stored as floats."""
        return self._matrix(self._output_name or self._embedding_name)

    def input_embeddings(self) -> Float[np.ndarray, "token dim"]:
        """W_E, one row a token, as stored; the same numbers as γ when the model ties them."""
        return np.asarray(self._matrix(self._embedding_name))

    def _matrix(self, name: str | None) -> Gamma:
        if name is None:
            reason = self.why_not_run() or f"is it a {self._model_type} language model?"
            raise ModelFileError(f"{self.path}: no embedding or output matrix found; {reason}")
        matrix = cast(Gamma, self._rows(name))
        if matrix.ndim != 2 or matrix.shape[1] != self._width or not len(matrix):
            raise ModelFileError(
                f"{self.path}: tensor {name!r} has shape {matrix.shape}, not (tokens, {self._width}) as the "
                "configuration says: weights and configuration belong to different models"
            )
        # A sum is finite only if every weight is: one pass, no mask.
        with np.errstate(over="ignore", invalid="ignore"):
            finite = all(np.isfinite(block.sum()) for block in blocks(matrix))
        if not finite:
            raise ModelFileError(f"{self.path}: tensor {name!r} has NaN or infinite weights; fetch the model again")
        n = len(self.vocabulary().clipped(len(matrix), str(self.path)))
        return matrix[:n] if isinstance(matrix, np.ndarray) else matrix.head(n)

    def representations(self) -> Representations:
        """γ with its tokens and provenance: everything word pairs need.

        ``token_frequency`` is −log(row + 1). BPE adds tokens in the order in which merging them pays, so an
        earlier row is a more frequent token: a proxy, whose order alone is used.

        γ is an array for small models and `StoredRows` where 16-bit or quantised weights would take more than
        256 MB as floats.
        """
        gamma = self.unembedding_rows()
        if gamma.nbytes <= _SMALL:
            gamma = np.asarray(gamma)
        return Representations(
            unembeddings=gamma,
            tokens=self.vocabulary().surfaces[: len(gamma)],
            token_frequency=-np.log(np.arange(len(gamma)) + 1.0),
            provenance=self.describe(),
        )

    def describe(self) -> dict[str, str | int | float | bool]:
        """Where the weights come from and how they are stored; copied into every table.

        ``tied`` is decided by comparing values: γ is stored once, or twice with the same numbers.
        """
        vocabulary = self.vocabulary()
        return {
            "model": self.name,
            "path": str(self.path),
            "architecture": self._model_type,
            "tied": self._tied(),
            "vocabulary": len(vocabulary),
            "vocabulary_kind": vocabulary.kind,
            "dim": self._width,
            **self._storage(),
        }

    def _tied(self) -> bool | str:
        return self._output_name is None or _same(self.unembedding_rows(), self._matrix(self._embedding_name))

    def why_not_run(self) -> str | None:
        """Why these files cannot run though γ can be read, and what to do; None if they can."""
        return None

    def forward(self, *, device: str = "auto", dtype: str = "float32") -> TransformersModel:
        """The running model, for embeddings λ and hidden states.

        Parameters
        ----------
        device
            ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, ...
        dtype
            ``"float32"``, ``"bfloat16"`` or ``"float16"``. On a CPU float32 is the fastest.

        Raises
        ------
        MissingExtraError
            Without torch and transformers.
        ModelFileError
            When only a part of the model is there, or the logits are not cap(scale · λ·γ + bias) with what was read
            from the files.
        """
        if reason := self.why_not_run():
            raise ModelFileError(f"{self.name}: cannot run: {reason}")
        try:
            from linrep.models.transformers_model import TransformersModel
        except ModuleNotFoundError as e:
            if e.name not in ("torch", "transformers"):
                raise
            raise MissingExtraError("running a model (embeddings, hidden states)", "hf") from e

        return TransformersModel.load(self, device=device, dtype=dtype)


def _same(a: Gamma, b: Gamma, *, rows: int = 4096) -> bool:
    """Whether two matrices hold the same numbers; stops at the first block that differs."""
    return a.shape == b.shape and all(np.array_equal(a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows))


def open_model(model: str | Path, *, revision: str | None = None) -> AbstractModelSource:
    """Find a model on this machine.

    Parameters
    ----------
    model
        A name fetched before (``"smollm2-135m"``), a folder, a ``.gguf`` file, or a hub id
        (``"org/name"``) that is in the local hub cache. Nothing is downloaded.
    revision
        Branch, tag or commit of a hub id.

    Raises
    ------
    ModelNotFoundError
        When there is no such model; the message says how to get it.
    ModelFileError
        When there is one but not of a format that is read.
    """
    path, name = locate(model, revision=revision)
    # Imported here: measuring a folder does not pay for the gguf package.
    if path.is_dir():
        from linrep.models.folder_source import FolderSource

        return FolderSource(path, name)
    from linrep.models.gguf_source import GgufSource

    return GgufSource(path, name)
