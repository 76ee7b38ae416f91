"""Forward passes: embeddings λ and hidden states. The only file that imports torch or transformers.

λ is the vector that meets γ, and a hidden state is the output of a block before the final norm; both are checked
when a model is loaded, so a model of another shape is refused instead of measured wrongly. Raw text only: no chat
template, and a beginning-of-text token where the tokenizer adds one by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from jaxtyping import Float

from linrep.errors import InvalidInputError, ModelFileError
from linrep.models.layouts import Layout

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
            model = _CAUSAL_LM.from_config(config, dtype=_DTYPES[self.dtype])
        return replace(self, name=f"untrained {self.name}, seed {seed}", model=model.to(self.device).eval())

    def _plain_config(self) -> dict[str, Any]:
        # A model read from GGUF carries a quantisation entry that new weights must not have.
        config = self.model.config.to_dict()
        config.pop("quantization_config", None)
        return config

    @property
    def n_layers(self) -> int:
        """Number of blocks; layers are numbered 0 (input embedding) to `n_layers` (last block)."""
        return len(self._blocks)

    @cached_property
    def _blocks(self) -> Any:
        return attrgetter(self.layout.blocks)(self.model)

    def unembeddings(self) -> Float[np.ndarray, "token dim"]:
        """γ as the running model holds it, float32, padding rows of the matrix left out."""
        weight = self.model.get_output_embeddings().weight[: self.n_tokens]
        return weight.detach().to("cpu", torch.float32).numpy().copy()

    def describe(self) -> dict[str, str | int | float | bool]:
        """How the forward pass was run; joins the provenance of the source."""
        first = self.tokenizer("a")["input_ids"][:1]
        special = set(self.tokenizer.all_special_ids)
        return {
            "forward_model": self.name,
            "device": self.device,
            "dtype": self.dtype,
            "bos_added": self.tokenizer.convert_ids_to_tokens(first[0]) if first and first[0] in special else "none",
            "chat_template_applied": False,
        }

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
        self._check_layers(layers)
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1, not {batch_size}")
        rows = [self._encode(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: dict[int | str, list[np.ndarray]] = {key: [] for key in ("λ", *layers)}
        for start in range(0, len(order), batch_size):
            batch = [rows[i] for i in order[start : start + batch_size]]
            for key, value in self._last_states(batch, layers).items():
                found[key].append(value)
            if progress:
                progress("embed", min(start + batch_size, len(order)), len(order))
        back = np.argsort(order)  # from length order to the caller's

        def joined(key: int | str) -> np.ndarray:
            parts = found[key]
            return np.concatenate(parts)[back] if parts else np.zeros((0, self.unembeddings().shape[1]), np.float32)

        return joined("λ"), {k: joined(k) for k in layers}

    def _check_layers(self, layers: Iterable[int]) -> None:
        if bad := [k for k in layers if not 0 <= k <= self.n_layers]:
            raise InvalidInputError(f"layer {bad[0]} does not exist: layers are 0 to {self.n_layers}")

    def _encode(self, text: str, *, room: int = 0) -> list[int]:
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
    def _last_states(self, batch: Sequence[Sequence[int]], layers: Sequence[int]) -> dict[int | str, np.ndarray]:
        """λ and the hidden states of one batch at the last real token of each text."""
        ids, mask = self._pad(batch)
        last = mask.sum(dim=1) - 1
        rows = torch.arange(len(batch), device=self.device)
        states: dict[int | str, np.ndarray] = {}

        def keep(key: int | str, hidden: torch.Tensor) -> None:
            states[key] = hidden[rows, last].to("cpu", torch.float32).numpy()

        with ExitStack() as hooks:
            for layer in layers:
                hooks.enter_context(self._on_layer(layer, keep))
            output = attrgetter(self.layout.base)(self.model)(input_ids=ids, attention_mask=mask, use_cache=False)
        keep("λ", output.last_hidden_state)
        return states

    @contextmanager
    def _on_layer(self, layer: int, keep: Callable[[int | str, torch.Tensor], None]) -> Iterator[None]:
        """Call `keep` with the residual stream after block `layer` (0: what enters the first block)."""

        def before(_block: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            keep(layer, arguments[0] if arguments else named["hidden_states"])

        def after(_block: Any, _arguments: Any, output: Any) -> None:
            keep(layer, output[0] if isinstance(output, tuple) else output)

        if layer == 0:
            handle = self._blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self._blocks[layer - 1].register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()

    @torch.inference_mode()
    def steered(
        self, text: str, additions: Mapping[int, Float[np.ndarray, "row width"]], *, steps: int = 1
    ) -> tuple[Float[np.ndarray, "row token"], list[list[int]]]:
        """Logits after a text, and what the model then says, while vectors are added to its residual stream.

        The text is read once and unchanged up to its last token. Then row r of ``additions[k]`` is added to the output
        of block k (0: to what enters the first block) at the last token, and at every token that row goes on to say;
        what comes after block k is computed by the model. A row of zeros is the unsteered model.

        Parameters
        ----------
        text
            Raw text, of at least two tokens.
        additions
            Vectors by layer, all with the same number of rows.
        steps
            Tokens to say, each the likeliest one (greedy).

        Returns
        -------
        tuple
            Logits of the first token said, over the tokens of γ; and the ids each row says.

        Raises
        ------
        InvalidInputError
            On a layer that does not exist, arrays of unequal length, or a text that is too short or too long.
        """
        self._check_layers(additions)
        rows = {len(vectors) for vectors in additions.values()}
        if len(rows) != 1 or steps < 1:
            raise InvalidInputError(
                f"additions need one number of rows (seen {sorted(rows)}) and steps ≥ 1, not {steps}"
            )
        ids = self._encode(text, room=steps)
        base = attrgetter(self.layout.base)(self.model)
        prefix = torch.tensor([ids[:-1]], device=self.device)
        cache = base(input_ids=prefix, use_cache=True).past_key_values
        cache.batch_repeat_interleave(rows.pop())
        token = torch.full((len(next(iter(additions.values()))), 1), ids[-1], device=self.device)
        first, said = None, []
        with ExitStack() as hooks:
            for layer, vectors in additions.items():
                hooks.enter_context(self._adding(layer, vectors))
            for _ in range(steps):
                output = self.model(input_ids=token, past_key_values=cache, use_cache=True)
                logits = output.logits[:, -1, : self.n_tokens]
                first = logits.float().cpu().numpy() if first is None else first
                token = logits.argmax(dim=-1, keepdim=True)
                said.append(token[:, 0].tolist())
        assert first is not None  # noqa: S101 - there is at least one step
        return first, [list(row) for row in zip(*said, strict=True)]

    @contextmanager
    def _adding(self, layer: int, vectors: Float[np.ndarray, "row width"]) -> Iterator[None]:
        """Add one vector a row to the residual stream after block `layer` (0: to what enters the first block)."""
        added = torch.tensor(np.asarray(vectors), device=self.device, dtype=_DTYPES[self.dtype])[:, None]

        def before(_block: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            if arguments:
                return (arguments[0] + added, *arguments[1:]), named
            return arguments, named | {"hidden_states": named["hidden_states"] + added}

        def after(_block: Any, _arguments: Any, output: Any) -> Any:
            return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added

        if layer == 0:
            handle = self._blocks[0].register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self._blocks[layer - 1].register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()

    def text_of(self, ids: Sequence[int]) -> str:
        """Tokens as text, up to the end-of-text token."""
        end = self.tokenizer.eos_token_id
        kept = ids[: ids.index(end)] if end in ids else ids
        return self.tokenizer.decode(list(kept), skip_special_tokens=True)

    @torch.inference_mode()
    def logit_lens(self, hidden: Float[np.ndarray, "context width"]) -> Float[np.ndarray, "context dim"]:
        """λ as if a hidden state were that of the last block: final norm and projection, float32."""
        states = torch.tensor(np.asarray(hidden), device=self.device, dtype=_DTYPES[self.dtype])
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
        x = torch.ones(1, width, device=self.device, dtype=_DTYPES[self.dtype])
        x[:, ::2] = -1
        return ((norm(x) - norm(-x)) / (2 * x))[0].float().cpu().numpy()

    @torch.inference_mode()
    def _check(self, gamma: Float[np.ndarray, "token dim"], where: str) -> None:
        """Refuse a model whose logits are not cap(scale · λ·γ + bias), or whose λ is not norm(last block)."""
        ids, mask = self._pad([self.tokenizer(text)["input_ids"] for text in _CHECK_TEXTS])
        last = (torch.arange(len(ids), device=self.device), mask.sum(dim=1) - 1)
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[last].float().cpu().numpy()
        batch = [row[:n].tolist() for row, n in zip(ids, mask.sum(dim=1), strict=True)]
        states = self._last_states(batch, [self.n_layers])
        embeddings, block = states["λ"], states[self.n_layers]
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
        last_block = torch.tensor(block, device=self.device, dtype=_DTYPES[self.dtype])
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
