"""Interventions on a running model: vectors added at one site or several, and what the model then says.

Pushes are added at the last token of a text and at every token said after it. What a push *means* (which direction, of
which norm, against which null) is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import signature

import numpy as np
import torch
from jaxtyping import Float

from linrep.errors import InvalidInputError
from linrep.models.states import Site
from linrep.models.transformers_hooks import on_input, on_residual
from linrep.models.transformers_model import TransformersModel


@torch.inference_mode()
def steered(
    running: TransformersModel, text: str, additions: Mapping[Site, Float[np.ndarray, "row width"]], *, steps: int = 1
) -> tuple[Float[np.ndarray, "row token"], list[list[int]]]:
    """Logits after a text, and what the model then says, while vectors are added to its states.

    The text is read once and unchanged up to its last token. Then row r of ``additions[k]`` is added to the output
    of block k (0: to what enters the first block; "λ": to what meets γ) at the last token, and at every token that
    row goes on to say; what comes after is computed by the model. A row of zeros is the unsteered model.

    Parameters
    ----------
    running
        The model.
    text
        Raw text, of at least two tokens.
    additions
        Vectors by site, all with the same number of rows.
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
    running.check_layers(additions)
    counts = {len(vectors) for vectors in additions.values()}
    if len(counts) != 1 or steps < 1:
        raise InvalidInputError(f"additions need one number of rows (seen {sorted(counts)}) and steps ≥ 1, not {steps}")
    count = counts.pop()
    ids = running.encode_one(text, room=steps)
    # What transformers calls the keys and values of a text already read; the name changed in version 5.
    name = "cache" if "cache" in signature(running.model.forward).parameters else "past_key_values"
    prefix = torch.tensor([ids[:-1]], device=running.device)
    cache = getattr(running.base(input_ids=prefix, use_cache=True), name)
    cache.batch_repeat_interleave(count)
    token = torch.full((count, 1), ids[-1], device=running.device)
    first, said = None, []
    with ExitStack() as hooks:
        for site, vectors in additions.items():
            hooks.enter_context(adding(running, site, vectors))
        for _ in range(steps):
            output = running.model(input_ids=token, use_cache=True, **{name: cache})
            logits = output.logits[:, -1, : running.n_tokens]
            first = logits.float().cpu().numpy() if first is None else first
            token = logits.argmax(dim=-1, keepdim=True)
            said.append(token[:, 0].tolist())
    assert first is not None  # noqa: S101 - there is at least one step
    return first, [list(row) for row in zip(*said, strict=True)]


@contextmanager
def adding(running: TransformersModel, site: Site, vectors: Float[np.ndarray, "row width"]) -> Iterator[None]:
    """Add one vector a row to the residual stream after a block, to what enters the first one, or to λ."""
    added = torch.tensor(np.asarray(vectors), device=running.device, dtype=running.torch_dtype)[:, None]

    def act(hidden: torch.Tensor) -> torch.Tensor:
        return hidden + added

    at = running.model.get_output_embeddings()
    with on_residual(running.blocks, site, act) if isinstance(site, int) else on_input(at, act):
        yield
