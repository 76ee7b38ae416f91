"""The engine of training: one seed written without a seed axis, vmapped over a block of seeds.

The size of a block depends on the shape of the world only, never on how many seeds or cores there are, so that
every call runs the same compiled program and a seed has the same numbers, to the last bit, whoever its neighbours
are. Blocks run side by side in threads, because XLA runs these small programs on one core. This file must not
change JAX's configuration, and does not check what the caller asks for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
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

from linrep.learning.objectives import Target, cross_entropy
from linrep.learning.predictors import PREDICTORS, AbstractPredictor
from linrep.worlds.world import World

Precision = Literal["float32", "float64"]

# Name -> constructor from a step size.
OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "gradient_descent": optax.sgd,
    "adam": optax.adam,
}
# (optimiser, predictor) -> default step size. A symbol of the factored predictor collects the gradient of a third
# of all contexts where a row of the table has one context's: at 5.0 it diverges, at 2.0 it oscillates (m = 3..7).
STEP_SIZES: dict[tuple[str, str], float] = {
    ("gradient_descent", "table"): 5.0,
    ("gradient_descent", "factored"): 0.5,
    ("adam", "table"): 0.01,
    ("adam", "factored"): 0.01,
}

_BLOCK_LOGITS = 2**15  # of one block: its few arrays of that size stay in the cache of one core
_MOST_SEEDS = 32  # of one block
_CHUNKS = 50  # progress is told, and an interrupt heard, at least this often
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Settings:
    """Resolved settings of a training, as they are stored; `linrep.learning.training.fit_many` explains them."""

    dim: int
    predictor: str
    optimizer: str
    step_size: float
    steps: int
    initial_scale: float
    n_snapshots: int
    precision: Precision


class State(eqx.Module):
    """What changes from step to step."""

    predictor: AbstractPredictor
    optimizer: optax.OptState


class Data(eqx.Module):
    """What does not: the law to learn and what describes each context to the predictor."""

    target: Target
    context_features: Float[Array, "context feature"]


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


@partial(jax.jit, static_argnames="optimizer")
def advance(
    states: State, data: Data, step_size: Array, n_steps: Int[Array, ""], *, optimizer: str
) -> tuple[State, Snapshot]:
    """States of a block of seeds after `n_steps` more updates, and their snapshots.

    Everything but the step size and the number of steps has a seed axis. The number of steps is an argument of the
    compiled program, so that one compilation serves every chunk.
    """
    update = OPTIMIZERS[optimizer](step_size).update

    def one_seed(state: State, data: Data, n_steps: Array) -> tuple[State, Snapshot]:
        def loss(predictor: AbstractPredictor) -> Array:
            return cross_entropy(predictor.embeddings(data.context_features), predictor.unembeddings(), data.target)

        def step(_: Array, state: State) -> State:
            predictor: Any = state.predictor
            gradient = jax.grad(loss)(predictor)
            with jax.numpy_dtype_promotion("standard"):  # optax's Adam relies on it; the caller may be strict
                updates, memory = update(gradient, state.optimizer, predictor)
            return State(eqx.apply_updates(predictor, updates), memory)

        state = jax.lax.fori_loop(0, n_steps, step, state)
        predictor = state.predictor
        return state, Snapshot(loss(predictor), predictor.embeddings(data.context_features), predictor.unembeddings())

    return jax.vmap(one_seed, in_axes=(0, 0, None))(states, data, n_steps)


@partial(jax.jit, static_argnames=("predictor", "optimizer", "n_tokens", "dim"))
def initial_states(
    seeds: Int[Array, "seed"],
    context_features: Float[Array, "seed context feature"],
    scale: Array,
    *,
    predictor: str,
    optimizer: str,
    n_tokens: int,
    dim: int,
) -> State:
    """Untrained states of a block of seeds."""

    def one_seed(seed: Array, features: Array) -> State:
        untrained: Any = PREDICTORS[predictor](jax.random.key(seed), features, n_tokens, dim, scale)
        return State(untrained, OPTIMIZERS[optimizer](0.0).init(untrained))

    return jax.vmap(one_seed)(seeds, context_features)


def descend(
    worlds: Sequence[World],
    seeds: Int64[np.ndarray, "seed"],
    schedule: Int64[np.ndarray, "snapshot"],
    settings: Settings,
    progress: Callable[[float], None] | None,
) -> Snapshots:
    """Train every seed on its world and keep what `schedule` asks for."""
    world, shape = worlds[0], (len(seeds), len(schedule))
    result = Snapshots(
        loss=np.empty(shape, settings.precision),
        embeddings=np.empty((*shape, world.n_contexts, settings.dim), settings.precision),
        unembeddings=np.empty((*shape, world.n_tokens, settings.dim), settings.precision),
    )
    size = block_size(world)
    blocks = [np.arange(start, min(start + size, len(seeds))) for start in range(0, len(seeds), size)]
    stops = np.union1d(schedule, np.arange(0, settings.steps, max(1, settings.steps // _CHUNKS)))
    column = {step: k for k, step in enumerate(schedule.tolist())}
    done, cancelled = np.zeros(len(blocks)), threading.Event()
    x64 = jax.config.read("jax_enable_x64")

    def train(k: int, stops: Int64[np.ndarray, "stop"]) -> None:
        rows = blocks[k]
        full = np.append(rows, np.repeat(rows[-1:], size - len(rows)))  # the last block is filled up with copies
        with jax.enable_x64(x64):  # a caller's `with jax.enable_x64(...)` holds in its own thread only
            snapshots = _run_block([worlds[s] for s in full.tolist()], seeds[full], stops, settings)
            for step, snapshot in zip(stops.tolist(), snapshots, strict=True):
                if step in column:
                    for kept, values in zip(result, snapshot, strict=True):
                        kept[rows, column[step]] = values[: len(rows)]
                done[k] = step / settings.steps
                if cancelled.is_set():
                    return

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


def block_size(world: World) -> int:
    """Number of seeds that are trained together: a power of two that keeps the logits of a block in cache."""
    fitting = max(1, _BLOCK_LOGITS // (world.n_contexts * world.n_tokens))
    return min(_MOST_SEEDS, 2 ** (fitting.bit_length() - 1))


def _run_block(
    worlds: Sequence[World],
    seeds: Int64[np.ndarray, "seed"],
    stops: Int64[np.ndarray, "stop"],
    settings: Settings,
) -> Iterator[Snapshot]:
    """Yield the snapshots, with a seed axis, of one block at every stop; the first stop is step 0."""
    dtype = np.dtype(settings.precision)
    data = jax.tree.map(lambda *parts: jnp.stack(parts), *(world_data(world, dtype) for world in worlds))
    states = initial_states(
        jnp.asarray(seeds, np.int32),
        data.context_features,
        jnp.asarray(settings.initial_scale, dtype),
        predictor=settings.predictor,
        optimizer=settings.optimizer,
        n_tokens=worlds[0].n_tokens,
        dim=settings.dim,
    )
    step_size = jnp.asarray(settings.step_size, dtype)
    for n_steps in np.diff(stops, prepend=0).astype(np.int32):
        states, snapshot = advance(states, data, step_size, n_steps, optimizer=settings.optimizer)
        yield jax.tree.map(np.asarray, snapshot)


def world_data(world: World, dtype: np.dtype) -> Data:
    """The law of one world and the one-hots of its contexts' symbols."""
    symbols = np.eye(3, dtype=dtype)[world.context_concepts % 3]  # 0, 1, ⋄: −1 % 3 is 2
    return Data(
        target=Target.of(world.p_context, world.p_token_given_context(), dtype),
        context_features=jnp.asarray(symbols.reshape(world.n_contexts, -1)),
    )


def _n_workers() -> int:
    """Threads that train side by side: one a core this process may use, and one on a GPU, which needs no help."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
