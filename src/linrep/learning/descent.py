"""The engine of training: one seed written without a seed axis, vmapped over a block of seeds.

The size of a block depends on the shape of the world and the predictor only, never on how many seeds or cores there
are, so that every call runs the same compiled program and a seed has the same numbers, to the last bit, whoever its
neighbours are. Blocks run side by side in threads, because XLA runs these small programs on one core. This file must
not change JAX's configuration, and does not check what the caller asks for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Int64

from linrep.learning.abstract import AbstractPredictor
from linrep.learning.checkpoints import Checkpoints
from linrep.learning.objectives import BlockTarget, Target, cross_entropy
from linrep.learning.optimizers import OPTIMIZERS
from linrep.learning.predictors import PREDICTORS
from linrep.worlds.sentences import AnyWorld

Precision = Literal["float32", "float64"]
Frozen = Literal["embeddings", "unembeddings"]

_BLOCK_LOGITS = 2**15  # of one block: its few arrays of that size stay in the cache of one core
_MOST_SEEDS = 32  # of one block
_FEWEST_CHUNKS = 10  # progress is told, and an interrupt heard, at least this often
_CHUNK_LOGITS = 10**9  # and about once a second
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Settings:
    """Resolved settings of a training, as they are stored; `linrep.learning.training.fit_many` explains them."""

    dim: int
    predictor: str
    optimizer: str
    step_size: float | tuple[float, ...]
    steps: int
    initial_scale: float | tuple[float, ...]
    n_snapshots: int
    precision: Precision
    frozen: Frozen | None = None


class Fixed(NamedTuple):
    """Initial values that are given instead of drawn, in the training precision."""

    embeddings: Float[np.ndarray, "seed context dim"] | None = None
    unembeddings: Float[np.ndarray, "seed token dim"] | None = None


class State(eqx.Module):
    """What changes from step to step."""

    predictor: AbstractPredictor
    optimizer: optax.OptState


class Data(eqx.Module):
    """What does not: the law to learn and what describes each context to the predictor."""

    target: Target | BlockTarget
    context_features: Float[Array, "context *feature"]
    step_size: Float[Array, ""]


class Snapshot(NamedTuple):
    """What is kept of a state."""

    loss: Float[Array, ""]
    embeddings: Float[Array, "context dim"]
    unembeddings: Float[Array, "token dim"]


class Snapshots(NamedTuple):
    """`Snapshot` of every seed at every moment of the schedule."""

    loss: Float[np.ndarray, "seed snapshot"]
    embeddings: Float[np.ndarray, "seed snapshot context dim"]
    unembeddings: Float[np.ndarray, "seed snapshot token dim"]


@partial(jax.jit, static_argnames=("optimizer", "frozen"))
def advance(
    states: State, data: Data, n_steps: Int[Array, ""], *, optimizer: str, frozen: Frozen | None
) -> tuple[State, Snapshot]:
    """States of a block of seeds after `n_steps` more updates, and their snapshots.

    Everything but the number of steps has a seed axis. The number of steps is an argument of the compiled program, so
    that one compilation serves every chunk.
    """

    def one_seed(state: State, data: Data, n_steps: Array) -> tuple[State, Snapshot]:
        update = OPTIMIZERS[optimizer](data.step_size).update

        def loss(predictor: AbstractPredictor) -> Array:
            return cross_entropy(predictor.embeddings(data.context_features), predictor.unembeddings(), data.target)

        def step(_: Array, state: State) -> State:
            predictor: Any = state.predictor
            gradient = jax.grad(loss)(predictor)
            with jax.numpy_dtype_promotion("standard"):  # optax's Adam relies on it; the caller may be strict
                updates, memory = update(gradient, state.optimizer, predictor)
            return State(eqx.apply_updates(predictor, _only_free(updates, frozen)), memory)

        state = jax.lax.fori_loop(0, n_steps, step, state)
        predictor = state.predictor
        return state, Snapshot(loss(predictor), predictor.embeddings(data.context_features), predictor.unembeddings())

    if len(data.step_size) > 1:
        return jax.vmap(one_seed, in_axes=(0, 0, None))(states, data, n_steps)
    # A batch of one costs more than twice the time: XLA has a slower matrix product for batches.
    state, own = jax.tree.map(lambda x: x[0], (states, data))
    alone = one_seed(state, own, n_steps)
    return jax.tree.map(lambda x: x[None], alone)


def _only_free(updates: Any, frozen: Frozen | None) -> Any:
    """Updates with those of the frozen side replaced by 0; every array but the token table belongs to the contexts.

    The side is that of the predictor's own field: what is inside a network has names of its own.
    """
    if frozen is None:
        return updates

    def free(path: tuple[Any, ...], update: Array) -> Array:
        side = "unembeddings" if path[0].name == "token_table" else "embeddings"
        return jnp.zeros_like(update) if side == frozen else update

    return jax.tree_util.tree_map_with_path(free, updates)


@partial(jax.jit, static_argnames=("predictor", "optimizer", "n_tokens", "dim"))
def initial_states(
    seeds: Int[Array, "seed"],
    context_features: Float[Array, "seed context *feature"],
    scale: Float[Array, "seed"],
    *,
    predictor: str,
    optimizer: str,
    n_tokens: int,
    dim: int,
) -> State:
    """Untrained states of a block of seeds."""

    def one_seed(seed: Array, features: Array, scale: Array) -> State:
        untrained: Any = PREDICTORS[predictor](jax.random.key(seed), features, n_tokens, dim, scale)
        return State(untrained, OPTIMIZERS[optimizer](0.0).init(untrained))

    return jax.vmap(one_seed)(seeds, context_features, scale)


def descend(
    worlds: Sequence[AnyWorld],
    seeds: Int64[np.ndarray, "seed"],
    schedule: Int64[np.ndarray, "snapshot"],
    settings: Settings,
    *,
    fixed: Fixed = Fixed(),  # noqa: B008 - a named tuple of None does not change
    checkpoints: Checkpoints | None = None,
    progress: Callable[[float], None] | None = None,
) -> Snapshots:
    """Train every seed on its world and keep what `schedule` asks for."""
    world, shape = worlds[0], (len(seeds), len(schedule))
    result = Snapshots(
        loss=np.empty(shape, settings.precision),
        embeddings=np.empty((*shape, world.n_contexts, settings.dim), settings.precision),
        unembeddings=np.empty((*shape, world.n_tokens, settings.dim), settings.precision),
    )
    size = block_size(world, settings.predictor)
    blocks = [np.arange(start, min(start + size, len(seeds))) for start in range(0, len(seeds), size)]
    chunk = min(settings.steps // _FEWEST_CHUNKS, _CHUNK_LOGITS // (size * world.n_contexts * world.n_tokens))
    stops = np.union1d(schedule, np.arange(0, settings.steps, max(1, chunk)))
    column = {step: k for k, step in enumerate(schedule.tolist())}
    done, cancelled = np.zeros(len(blocks)), threading.Event()
    x64 = jax.config.read("jax_enable_x64")

    def train(k: int, stops: Int64[np.ndarray, "stop"]) -> None:
        rows = blocks[k]
        full = np.append(rows, np.repeat(rows[-1:], size - len(rows)))  # the last block is filled up with copies
        kept = [values[rows] for values in result]
        with jax.enable_x64(x64):  # a caller's `with jax.enable_x64(...)` holds in its own thread only
            data, states = _start(worlds, seeds, full, settings, fixed)
            first = 0
            if checkpoints is not None and (found := checkpoints.load(k, states, kept)) is not None:
                first, states = found
            for j in range(first, len(stops)):
                n_steps = np.int32(stops[j] - (stops[j - 1] if j else 0))
                states, snapshot = advance(states, data, n_steps, optimizer=settings.optimizer, frozen=settings.frozen)
                if (step := int(stops[j])) in column:
                    for own, values in zip(kept, snapshot, strict=True):
                        own[:, column[step]] = np.asarray(values)[: len(rows)]
                done[k] = step / max(1, settings.steps)
                if checkpoints is not None:
                    checkpoints.save(k, j + 1, states, kept, now=cancelled.is_set())
                if cancelled.is_set():
                    return
        for values, own in zip(result, kept, strict=True):
            values[rows] = own

    train(0, stops[:1])  # compiles here, once, and not in every thread
    with ThreadPoolExecutor(min(len(blocks), _n_workers())) as pool:
        futures = [pool.submit(train, k, stops) for k in range(len(blocks))]
        try:
            while wait(futures, _POLL_SECONDS, FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in futures):
                    break
                if progress is not None:
                    progress(float(done.mean()))
        finally:  # an error here or in a block, or an interrupt: the other blocks end at their next stop
            cancelled.set()
    for future in futures:
        future.result()
    if progress is not None:
        progress(1.0)
    return result


def block_size(world: AnyWorld, predictor: str = "table") -> int:
    """Number of seeds that are trained together: a power of two that keeps the logits of a block in cache.

    One for networks: two together took 24 to 31 % more time a seed (m = 5), and a block is filled up with copies.
    """
    if predictor not in ("table", "factored"):
        return 1
    fitting = max(1, _BLOCK_LOGITS // (world.n_contexts * world.n_tokens))
    return min(_MOST_SEEDS, 2 ** (fitting.bit_length() - 1))


def _start(
    worlds: Sequence[AnyWorld],
    seeds: Int64[np.ndarray, "seed"],
    rows: Int64[np.ndarray, "row"],
    settings: Settings,
    fixed: Fixed,
) -> tuple[Data, State]:
    """What a block learns and its untrained states, with a seed axis."""
    dtype = np.dtype(settings.precision)
    alone = len(rows) == 1
    parts = [
        world_data(worlds[s], dtype, _of_seed(settings.step_size, s), in_blocks=alone) for s in rows.tolist()
    ]  # fmt: skip
    data = jax.tree.map(lambda *parts: jnp.stack(parts), *parts)
    states = initial_states(
        jnp.asarray(seeds[rows], np.int32),
        data.context_features,
        jnp.asarray([_of_seed(settings.initial_scale, s) for s in rows.tolist()], dtype),
        predictor=settings.predictor,
        optimizer=settings.optimizer,
        n_tokens=worlds[0].n_tokens,
        dim=settings.dim,
    )
    for name, given in (("context_table", fixed.embeddings), ("token_table", fixed.unembeddings)):
        if given is not None:
            table = jnp.asarray(np.swapaxes(given[rows], 1, 2), dtype)
            states = eqx.tree_at(lambda s, name=name: getattr(s.predictor, name), states, table)
    return data, states


def _of_seed(value: float | tuple[float, ...], seed: int) -> float:
    return value[seed] if isinstance(value, tuple) else value


def world_data(world: AnyWorld, dtype: np.dtype, step_size: float = 1.0, *, in_blocks: bool = False) -> Data:
    """The law of one world and what its contexts show to a predictor."""
    if in_blocks:
        target = BlockTarget.of(world.p_context, world.p_token_given_context_blocks(), world.n_tokens, dtype)
    else:
        target = Target.of(world.p_context, world.p_token_given_context(), dtype)
    return Data(
        target=target,
        context_features=jnp.asarray(world.context_features(), dtype),
        step_size=jnp.asarray(step_size, dtype),
    )


def _n_workers() -> int:
    """Threads that train side by side: one a core this process may use, and one on a GPU, which needs no help."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
