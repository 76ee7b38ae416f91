"""Hooks on a running model: read the residual stream, add to it, or end the pass there.

Beside `transformers_model` the only file that imports torch. It knows blocks and modules, no family: what a block takes
and gives (a tensor or a tuple, by position or by name) is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# What to do with the states that pass: None leaves them, a tensor takes their place.
Act = Callable[[torch.Tensor], torch.Tensor | None]


class EnoughError(Exception):
    """Raised inside a pass when nothing that follows is asked for."""


@contextmanager
def on_residual(blocks: torch.nn.ModuleList, layer: int, act: Act) -> Iterator[None]:
    """Call `act` with the residual stream after block `layer` (0: with what enters the first block)."""

    def after(_block: Any, _arguments: Any, output: Any) -> Any:
        new = act(output[0] if isinstance(output, tuple) else output)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    if layer == 0:
        with on_input(blocks[0], act):
            yield
        return
    handle = blocks[layer - 1].register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def on_input(module: Any, act: Act) -> Iterator[None]:
    """Call `act` with what enters a module: its first argument, or the one named hidden_states."""

    def before(_module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        new = act(arguments[0] if arguments else named["hidden_states"])
        if new is None:
            return None
        return ((new, *arguments[1:]), named) if arguments else (arguments, named | {"hidden_states": new})

    handle = module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def enough(_hidden: torch.Tensor) -> None:
    """End the pass: the last hook of a pass whose later blocks nobody asked for."""
    raise EnoughError
