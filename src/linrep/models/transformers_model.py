"""Forward passes: embeddings λ and hidden states. Beside its hooks the only file that imports torch or transformers.

λ is the vector that meets γ, and a hidden state is the output of a block before the final norm; both are checked
when a model is loaded, so a model of another shape is refused instead of measured wrongly. Raw text only: no chat
template, and a beginning-of-text token where the tokenizer adds one by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Int

from linrep.errors import InvalidInputError, ModelFileError
from linrep.models.layouts import Layout
from linrep.models.states import LAMBDA, Site
from linrep.models.transformers_hooks import EnoughError, enough, on_residual

if TYPE_CHECKING:
    from linrep.models.source import AbstractModelSource

# The stubs of the auto classes describe a model, not its loader.
_CAUSAL_LM: Any = transformers.AutoModelForCausalLM
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Largest |logit − cap(scale·λ·γ + bias)| allowed, as a share of the largest logit.
_AGREEMENT = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 5e-3}
_CHECK_TEXTS = ("The capital of France is", "Once upon a time, there was a little")


@dataclass(frozen=True)
class TransformersModel:
    """A causal language model that runs.

    Parameters
    ----------
    name
        The name it was opened under, ``"untrained ..."`` for random weights.
    model, tokenizer
        The transformers objects, for what this class does not do (interventions).
    layout
        Where its family keeps blocks and final norm.
    n_tokens
        Rows of γ that are tokens; the rest of the matrix is padding.
    device, dtype
        Where it runs, and in which float type.
    """

    name: str
    model: Any
    tokenizer: Any
    layout: Layout
    n_tokens: int
    device: str
    dtype: str

    @classmethod
    def load(cls, source: AbstractModelSource, *, device: str, dtype: str) -> TransformersModel:
        """Load through transformers and check λ and γ against the logits (see `AbstractModelSource.forward`)."""
        if dtype not in _DTYPES:
            raise InvalidInputError(f"dtype must be one of {', '.join(_DTYPES)}, not {dtype!r}")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        gguf = source.path.is_file()
        where = str(source.path.parent if gguf else source.path)
        options = {"gguf_file": source.path.name} if gguf else {}
        with _quiet():
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(where, local_files_only=True, **options)
                model = _CAUSAL_LM.from_pretrained(where, dtype=_DTYPES[dtype], local_files_only=True, **options)
            except (OSError, ValueError, KeyError, ImportError, RuntimeError) as e:
                reason = (str(e).strip() or type(e).__name__).splitlines()[0]
                raise ModelFileError(f"{source.path}: transformers cannot load it ({reason})") from e
            model = model.to(device).eval()
        gamma = source.unembeddings()
        running = cls(source.name, model, tokenizer, source.layout, len(gamma), device, dtype)
        running._check(gamma, str(source.path))
        return running

    def untrained(self, seed: int) -> TransformersModel:
        """The same architecture with random weights drawn from `seed`: the untrained-model null.

        The weights are those transformers initialises a new model with; the caller's random state is kept.
        """
        config = transformers.AutoConfig.for_model(**self._plain_config())
        devices = [] if self.device == "cpu" else [self.device]
        with _quiet(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            model = _CAUSAL_LM.from_config(config, dtype=self.torch_dtype)
        return replace(self, name=f"untrained {self.name}, seed {seed}", model=model.to(self.device).eval())

    def _plain_config(self) -> dict[str, Any]:
        # A model read from GGUF carries a quantisation entry that new weights must not have.
        config = self.model.config.to_dict()
        config.pop("quantization_config", None)
        return config

    @property
    def n_layers(self) -> int:
        """Number of blocks; layers are numbered 0 (input embedding) to `n_layers` (last block)."""
        return len(self.blocks)

    @cached_property
    def blocks(self) -> Any:
        """The blocks, in order."""
        return attrgetter(self.layout.blocks)(self.model)

    def unembeddings(self) -> Float[np.ndarray, "token dim"]:
        """γ as the running model holds it, float32, padding rows of the matrix left out."""
        weight = self.model.get_output_embeddings().weight[: self.n_tokens]
        return weight.detach().to("cpu", torch.float32).numpy().copy()

    def describe(self) -> dict[str, str | int | float | bool]:
        """How the forward pass was run; joins the provenance of the source."""
        first = self.tokenizer("a")["input_ids"][:1]
        bos = self.tokenizer.bos_token_id  # not any special token: an unknown word is one too
        return {
            "forward_model": self.name,
            "device": self.device,
            "dtype": self.dtype,
            "bos_added": self.tokenizer.convert_ids_to_tokens(first[0]) if first and first[0] == bos else "none",
            "chat_template_applied": False,
        }

    @property
    def base(self) -> Any:
        """The model without its output matrix."""
        return attrgetter(self.layout.base)(self.model)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Float type of weights and states."""
        return _DTYPES[self.dtype]

    @property
    def fingerprint(self) -> str:
        """Hash of all that states depend on besides the tokens: weights, configuration, float type, device, versions.

        The name and place of the model are no part of it, so that a model found elsewhere is the same model.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        config = self.model.config.to_dict() | {"_name_or_path": None}
        facts = [config, self.layout.base, self.dtype, self.device.partition(":")[0], torch.__version__]
        digest = hashlib.sha256(json.dumps([*facts, transformers.__version__], sort_keys=True, default=str).encode())
        weights = self.base.state_dict()
        with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter
            for part in pool.map(_tensor_hash, *zip(*sorted(weights.items()), strict=True)):
                digest.update(part)
        return digest.hexdigest()

    def embeddings(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 16,
        layers: Sequence[int] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> tuple[Float[np.ndarray, "context dim"], dict[int, Float[np.ndarray, "context width"]]]:
        """λ of each text, and its hidden state at some layers, at the last token.

        Parameters
        ----------
        texts
            Raw text, of at least two tokens: the first token's state is an attention sink and says nothing.
        batch_size
            Texts run together; texts of like length share a batch. The result does not depend on it.
        layers
            0 is the input embedding (with positions where they are added), k the output of block k before
            the final norm.
        progress
            Called with ("embed", done, total).

        Raises
        ------
        InvalidInputError
            On a text of fewer than two tokens or more than the model takes, or a layer that does not exist.
        """
        found = self._collected(texts, (LAMBDA, *layers), batch_size, progress)
        return found.pop(LAMBDA), found  # pyright: ignore[reportReturnType] - only layers are left

    def hidden_states(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        *,
        batch_size: int = 16,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[int, Float[np.ndarray, "context width"]]:
        """Hidden state of each text at some layers, at the last token; no block after the last of them is run.

        Parameters and errors are those of `embeddings`.
        """
        return self._collected(texts, layers, batch_size, progress)  # pyright: ignore[reportReturnType] - all are layers

    def _collected(
        self,
        texts: Sequence[str],
        sites: Sequence[Site],
        batch_size: int,
        progress: Callable[[str, int, int], None] | None,
    ) -> dict[Site, np.ndarray]:
        rows = self.encode(texts)
        found: dict[Site, np.ndarray] = {}
        done = 0
        for at, states in self.batches(rows, sites, batch_size=batch_size):
            for site, values in states.items():
                if site not in found:
                    found[site] = np.empty((len(rows), values.shape[1]), np.float32)
                found[site][at] = values
            done += len(at)
            if progress:
                progress("embed", done, len(rows))
        width = self.model.get_input_embeddings().weight.shape[1]
        dim = self.model.get_output_embeddings().weight.shape[1]
        return {s: found.get(s, np.zeros((0, dim if s == LAMBDA else width), np.float32)) for s in sites}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; `InvalidInputError` on one that is too short or too long (see `embeddings`)."""
        return [self.encode_one(text) for text in texts]

    def batches(
        self, rows: Sequence[Sequence[int]], sites: Sequence[Site], *, batch_size: int = 16, done: int = 0
    ) -> Iterator[tuple[Int[np.ndarray, "text"], dict[Site, Float[np.ndarray, "text width"]]]]:
        """Which texts, and their states at their last token, batch by batch in the order of their length.

        The order depends on the token ids alone; the first `done` texts of it are left out.
        """
        self.check_layers(sites)
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, not {batch_size}")
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(done, len(order), batch_size):
            at = order[start : start + batch_size]
            yield np.array(at), self._last_states([rows[i] for i in at], sites)

    def check_layers(self, sites: Iterable[Site]) -> None:
        """`InvalidInputError` on a layer that does not exist, or a site that is neither a layer nor λ."""
        if bad := [k for k in sites if k not in (LAMBDA, *range(self.n_layers + 1))]:
            raise InvalidInputError(f"layer {bad[0]} does not exist: layers are 0 to {self.n_layers}, and {LAMBDA!r}")

    def encode_one(self, text: str, *, room: int = 0) -> list[int]:
        """Token ids of a text that leaves room for `room` more."""
        ids = self.tokenizer(text)["input_ids"]
        config = self.model.config.get_text_config()
        longest = (getattr(config, "max_position_embeddings", None) or len(ids) + room) - room
        if not 2 <= len(ids) <= longest:
            raise InvalidInputError(
                f"context {text[:60]!r} has {len(ids)} tokens; between 2 and {longest} are needed "
                "(the state of the first token is an attention sink)"
            )
        return ids

    def _pad(self, batch: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids padded on the right, and the mask of real tokens; padding comes after what is read."""
        longest = max(len(ids) for ids in batch)
        padded = [[*ids, *[ids[-1]] * (longest - len(ids))] for ids in batch]
        mask = [[1] * len(ids) + [0] * (longest - len(ids)) for ids in batch]
        return torch.tensor(padded, device=self.device), torch.tensor(mask, device=self.device)

    @torch.inference_mode()
    def _last_states(self, batch: Sequence[Sequence[int]], sites: Sequence[Site]) -> dict[Site, np.ndarray]:
        """States of one batch at the last real token of each text; the pass ends after the last site asked for."""
        ids, mask = self._pad(batch)
        last = mask.sum(dim=1) - 1
        rows = torch.arange(len(batch), device=self.device)
        kept: dict[Site, torch.Tensor] = {}

        def keep(site: Site) -> Callable[[torch.Tensor], None]:
            return lambda hidden: kept.update({site: hidden[rows, last]})

        layers = sorted(site for site in sites if isinstance(site, int))
        with ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(on_residual(self.blocks, layer, keep(layer)))
            if LAMBDA not in sites:
                hooks.enter_context(on_residual(self.blocks, layers[-1], enough))
            try:
                output = self.base(input_ids=ids, attention_mask=mask, use_cache=False)
                keep(LAMBDA)(output.last_hidden_state)
            except EnoughError:
                pass
        # To the CPU at the end: a copy a layer would make a GPU wait for each.
        return {site: kept[site].to("cpu", torch.float32).numpy() for site in sites}

    def text_of(self, ids: Sequence[int]) -> str:
        """Tokens as text, up to the end-of-text token."""
        end = self.tokenizer.eos_token_id
        kept = ids[: ids.index(end)] if end in ids else ids
        return self.tokenizer.decode(list(kept), skip_special_tokens=True)

    @torch.inference_mode()
    def logit_lens(self, hidden: Float[np.ndarray, "context width"]) -> Float[np.ndarray, "context dim"]:
        """λ as if a hidden state were that of the last block: final norm and projection, float32."""
        states = torch.tensor(np.asarray(hidden), device=self.device, dtype=self.torch_dtype)
        return self._to_lambda(states).float().cpu().numpy()

    @torch.inference_mode()
    def final_gain(self) -> Float[np.ndarray, "width"] | None:
        """Gain w of the final norm, λ = w ⊙ h / size of h (+ bias); None where a projection follows or no norm is.

        Read off the norm itself, (norm(x) − norm(−x)) / 2x at a vector of mean 0 and mean square 1, so that no family's
        way to store it matters.
        """
        path, projection = self.layout.final_norm, self.layout.projection
        norm = attrgetter(path)(self.model) if path else None
        if norm is None or (projection and attrgetter(projection)(self.model) is not None):
            return None
        width = self.model.get_input_embeddings().weight.shape[1]
        x = torch.ones(1, width, device=self.device, dtype=self.torch_dtype)
        x[:, ::2] = -1
        return ((norm(x) - norm(-x)) / (2 * x))[0].float().cpu().numpy()

    @torch.inference_mode()
    def _check(self, gamma: Float[np.ndarray, "token dim"], where: str) -> None:
        """Refuse a model whose logits are not cap(scale · λ·γ + bias), or whose λ is not norm(last block)."""
        ids, mask = self._pad([self.tokenizer(text)["input_ids"] for text in _CHECK_TEXTS])
        last = (torch.arange(len(ids), device=self.device), mask.sum(dim=1) - 1)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[last].float().cpu().numpy()
        batch = [row[:n].tolist() for row, n in zip(ids, mask.sum(dim=1), strict=True)]
        states = self._last_states(batch, [LAMBDA, self.n_layers])
        embeddings, block = states[LAMBDA], states[self.n_layers]
        allowed = _AGREEMENT[self.dtype] * float(np.abs(logits).max())
        if embeddings.shape[1] == gamma.shape[1]:
            gap = float(np.abs(self.logits(embeddings, gamma) - logits[:, : len(gamma)]).max())
        else:
            gap = float("inf")
        if gap > allowed:
            raise ModelFileError(
                f"{where}: logits differ by {gap:.3g} from cap(scale · λ·γ + bias), at most {allowed:.3g} is allowed: "
                f"its layout in linrep/models/layouts.py (scale, cap, bias, output) is not right for it"
            )
        last_block = torch.tensor(block, device=self.device, dtype=self.torch_dtype)
        normed = self._to_lambda(last_block).float().cpu().numpy()
        if (
            normed.shape != embeddings.shape
            or np.abs(normed - embeddings).max() > _AGREEMENT[self.dtype] * np.abs(embeddings).max()
        ):
            raise ModelFileError(
                f"{where}: the final norm of the last block is not λ: its layout in linrep/models/layouts.py "
                "(base, blocks, final_norm, projection) is not right for it"
            )

    def _to_lambda(self, hidden: torch.Tensor) -> torch.Tensor:
        """λ from the output of the last block: final norm and projection, where the model has them."""
        for path in (self.layout.final_norm, self.layout.projection):
            step = attrgetter(path)(self.model) if path else None
            hidden = hidden if step is None else step(hidden)
        return hidden

    def logits(
        self, embeddings: Float[np.ndarray, "context dim"], unembeddings: Float[np.ndarray, "token dim"]
    ) -> Float[np.ndarray, "context token"]:
        """Logits cap(scale · λ·γ + bias) as this model computes them from λ and γ."""
        scale, cap = self.layout.scale, self.layout.cap
        logits = embeddings @ unembeddings.T
        if scale:
            logits = logits * np.float32(getattr(self.model.config, scale[0]))
        bias = getattr(self.model.get_output_embeddings(), "bias", None)
        if bias is not None:
            logits = logits + bias.detach().float().cpu().numpy()[: len(unembeddings)]
        value = getattr(self.model.config, cap[0]) if cap else None
        return logits if not value else np.float32(value) * np.tanh(logits / np.float32(value))


def _tensor_hash(name: str, tensor: torch.Tensor) -> bytes:
    """Hash of the name, type, shape and bytes of one tensor."""
    digest = hashlib.sha256(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    plain = tensor.detach().to("cpu").contiguous().reshape(-1)
    digest.update(plain.view(torch.uint8).numpy().data)
    return digest.digest()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the terminal while it loads."""
    log = transformers.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()
