"""Training: exact full-batch descent of many seeds at once, with snapshots on a logarithmic schedule.

One seed is written without a batch axis and vmapped; a seed's numbers depend on its own world and seed only. On
CPUs the seeds are shared out among threads, because XLA runs these small programs on one core each. This file
must not change JAX's configuration and must not measure geometry.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Int64

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.learning.objectives import Target, cross_entropy
from linrep.learning.predictors import PREDICTORS, AbstractPredictor
from linrep.learning.trajectory import Trajectory
from linrep.worlds.checks import check_memory
from linrep.worlds.world import World

Precision = Literal["float32", "float64"]

# Name -> (constructor from a step size, default step size).
OPTIMIZERS: dict[str, tuple[Callable[[Any], optax.GradientTransformation], float]] = {
    "gradient_descent": (optax.sgd, 5.0),
    "adam": (optax.adam, 0.01),
}

_CHUNKS = 50  # progress is told, and an interrupt heard, at least this often
_POLL_SECONDS = 0.1


class State(eqx.Module):
    """What changes from step to step."""

    predictor: AbstractPredictor
    optimizer: optax.OptState


class Data(eqx.Module):
    """What does not: the law to learn and what describes each context to the predictor."""

    target: Target
    context_features: Float[Array, "context feature"]


class Snapshot(eqx.Module):
    """What is kept of a state."""

    loss: Float[Array, ""]
    embeddings: Float[Array, "context dim"]
    unembeddings: Float[Array, "token dim"]


@dataclass(frozen=True)
class _Settings:
    """Resolved settings of a training, as they are stored."""

    dim: int
    predictor: str
    optimizer: str
    step_size: float
    steps: int
    initial_scale: float
    n_snapshots: int
    precision: Precision

    def __post_init__(self) -> None:
        if self.predictor not in PREDICTORS:
            raise UnknownNameError("predictor", self.predictor, PREDICTORS)
        for name, least in (("dim", 1), ("steps", 1), ("n_snapshots", 2)):
            if (value := getattr(self, name)) < least:
                raise InvalidInputError(f"{name} is {value}: it must be at least {least}")
        for name in ("step_size", "initial_scale"):
            if not (math.isfinite(value := getattr(self, name)) and value > 0):
                raise InvalidInputError(f"{name} is {value}: it must be a positive number")
        if self.precision == "float64" and not jax.config.read("jax_enable_x64"):
            raise InvalidInputError(
                "precision is 'float64' but JAX is limited to float32: set JAX_ENABLE_X64=1 or call inside "
                "`with jax.enable_x64(True)`"
            )


def fit(
    world: World,
    *,
    dim: int,
    predictor: str = "table",
    optimizer: str = "gradient_descent",
    step_size: float | None = None,
    steps: int = 15_000,
    initial_scale: float = 0.1,
    seed: int = 0,
    n_snapshots: int = 40,
    precision: Precision = "float32",
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Train one predictor on one world; the same numbers as this seed has in `fit_many`, which explains the rest.

    Examples
    --------
    >>> from linrep import ConceptGraph, ContextLaw, World, fit
    >>> trained = fit(World(ConceptGraph.chain(2), ContextLaw.complete()), dim=2, steps=3000)
    >>> trained.status, trained.embeddings.shape[2:]
    (('converged',), (9, 2))
    """
    return fit_many(
        world,
        seeds=[seed],
        dim=dim,
        predictor=predictor,
        optimizer=optimizer,
        step_size=step_size,
        steps=steps,
        initial_scale=initial_scale,
        n_snapshots=n_snapshots,
        precision=precision,
        progress=progress,
    )


def fit_many(
    worlds: World | Sequence[World],
    *,
    seeds: Sequence[int],
    dim: int,
    predictor: str = "table",
    optimizer: str = "gradient_descent",
    step_size: float | None = None,
    steps: int = 15_000,
    initial_scale: float = 0.1,
    n_snapshots: int = 40,
    precision: Precision = "float32",
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Train one predictor a seed on the exact expected cross-entropy of its world.

    Parameters
    ----------
    worlds
        One world for all seeds, or one a seed, all with the same numbers of contexts, tokens and concepts.
    seeds
        Seeds of the initial values (not of the worlds), whole numbers of at least 0.
    dim
        Width d of λ and γ.
    predictor
        Name in `PREDICTORS`: ``table`` or ``factored``.
    optimizer
        Name in `OPTIMIZERS`: ``gradient_descent``, or ``adam`` with optax's moments (0.9, 0.999, 1e-8).
    step_size
        Learning rate; by default 5.0 for gradient descent and 0.01 for Adam.
    steps
        Number of updates.
    initial_scale
        Standard deviation of the Gaussian initial values.
    n_snapshots
        Number of snapshots, see `log_schedule`.
    precision
        Float type of the training; ``float64`` needs JAX's 64-bit mode, which is never switched on here.
    progress
        Called now and then with the fraction done, from the calling thread; 1.0 comes last.

    Returns
    -------
    Trajectory
        A seed that diverges is data: its values are kept, its status says so, and the others are untouched.

    Raises
    ------
    UnknownNameError
        On an unknown predictor or optimiser.
    InvalidInputError
        On a setting outside its range, worlds that do not match, or arrays that do not fit in memory.
    """
    if optimizer not in OPTIMIZERS:
        raise UnknownNameError("optimiser", optimizer, OPTIMIZERS)
    settings = _Settings(
        dim=int(dim),
        predictor=predictor,
        optimizer=optimizer,
        step_size=float(OPTIMIZERS[optimizer][1] if step_size is None else step_size),
        steps=int(steps),
        initial_scale=float(initial_scale),
        n_snapshots=int(n_snapshots),
        precision=precision,
    )
    numbers = _checked_seeds(seeds)
    each = _one_world_a_seed(worlds, len(numbers))
    schedule = log_schedule(settings.steps, settings.n_snapshots)
    _check_sizes(each, settings, len(schedule))
    snapshots = _train(each, numbers, schedule, settings, progress)
    return Trajectory(
        steps=schedule,
        seeds=numbers,
        loss=snapshots["loss"].astype(np.float64),
        floor=np.array([world.entropy_floor() for world in each]),
        embeddings=snapshots["embeddings"],
        unembeddings=snapshots["unembeddings"],
        token_frequency=np.stack([world.p_token() for world in each]),
        worlds=tuple(world.name for world in each),
        tokens=tuple(world.token_names for world in each),
        contexts=tuple(world.context_names for world in each),
        settings=asdict(settings),
    )


def log_schedule(steps: int, n_snapshots: int) -> Int64[np.ndarray, "snapshot"]:
    """Steps at which a snapshot is taken: 0, then whole numbers in equal ratios from 1 to `steps`.

    At most `n_snapshots`, fewer where neighbours round to the same number.

    Examples
    --------
    >>> log_schedule(1000, 5).tolist()
    [0, 1, 10, 100, 1000]
    """
    later = np.geomspace(1, steps, n_snapshots - 1) if n_snapshots > 2 else np.array([steps])
    return np.unique(np.append(0, np.round(later))).astype(np.int64)


@partial(jax.jit, static_argnames=("optimizer", "one_world"))
def advance(
    states: State, data: Data, step_size: Array, n_steps: Int[Array, ""], *, optimizer: str, one_world: bool
) -> tuple[State, Snapshot]:
    """States of all seeds after `n_steps` more updates, and their snapshots.

    The number of steps is an argument of the compiled program, so that one compilation serves every chunk.
    `one_world` says that the data have no seed axis.
    """
    update = OPTIMIZERS[optimizer][0](step_size).update

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
        snapshot = Snapshot(
            loss=loss(predictor),
            embeddings=predictor.embeddings(data.context_features),
            unembeddings=predictor.unembeddings(),
        )
        return state, snapshot

    return jax.vmap(one_seed, in_axes=(0, None if one_world else 0, None))(states, data, n_steps)


def _train(
    worlds: Sequence[World],
    seeds: Int64[np.ndarray, "seed"],
    schedule: Int64[np.ndarray, "snapshot"],
    settings: _Settings,
    progress: Callable[[float], None] | None,
) -> dict[str, np.ndarray]:
    """Run every seed through the schedule; the fields of `Snapshot` as arrays "seed snapshot ..."."""
    one_world = all(world is worlds[0] for world in worlds)
    dtype = np.dtype(settings.precision)
    run = partial(
        advance, step_size=jnp.asarray(settings.step_size, dtype), optimizer=settings.optimizer, one_world=one_world
    )
    shards = np.array_split(np.arange(len(seeds)), min(len(seeds), _n_workers()))
    inputs = []
    for rows in shards:
        own = [_data(world, dtype) for world in ([worlds[0]] if one_world else [worlds[s] for s in rows])]
        data = own[0] if one_world else jax.tree.map(lambda *parts: jnp.stack(parts), *own)
        inputs.append((_initial(own[0], worlds[0].n_tokens, seeds[rows], settings), data))

    done = np.zeros(len(shards), dtype=np.int64)  # seed-steps
    stop = threading.Event()
    chunk = max(1, settings.steps // _CHUNKS)
    x64 = jax.config.read("jax_enable_x64")
    # The first call of each shape compiles, here and not in the threads, and gives the shapes of the result.
    untrained = [run(*shard, n_steps=np.int32(0))[1] for shard in inputs]
    result = {
        name: np.empty((len(seeds), len(schedule), *getattr(untrained[0], name).shape[1:]), dtype)
        for name in ("loss", "embeddings", "unembeddings")
    }

    def work(k: int) -> None:
        (states, data), snapshot, reached = inputs[k], untrained[k], 0
        with jax.enable_x64(x64):  # a caller's `with jax.enable_x64(...)` holds in its own thread only
            for column, step in enumerate(schedule.tolist()):
                while reached < step and not stop.is_set():
                    n_steps = min(chunk, step - reached)
                    states, snapshot = run(states, data, n_steps=np.int32(n_steps))
                    jax.block_until_ready(states)
                    reached += n_steps
                    done[k] = reached * len(shards[k])
                for name, values in result.items():
                    values[shards[k], column] = getattr(snapshot, name)

    with ThreadPoolExecutor(len(shards)) as pool:
        futures = [pool.submit(work, k) for k in range(len(shards))]
        try:
            while wait(futures, _POLL_SECONDS, FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in futures):
                    break
                if progress is not None:
                    progress(float(done.sum() / (len(seeds) * settings.steps)))
        finally:
            stop.set()
    for future in futures:
        future.result()
    if progress is not None:
        progress(1.0)
    return result


def _n_workers() -> int:
    """Threads that train side by side: one a core this process may use, and one on a GPU, which needs no help."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _data(world: World, dtype: np.dtype) -> Data:
    symbols = np.eye(3)[world.context_concepts % 3]  # 0, 1, ⋄: −1 % 3 is 2
    return Data(
        target=Target.of(world.p_context, world.p_token_given_context(), dtype),
        context_features=jnp.asarray(symbols.reshape(world.n_contexts, -1), dtype),
    )


def _initial(data: Data, n_tokens: int, seeds: Int64[np.ndarray, "seed"], settings: _Settings) -> State:
    """Untrained states, with a seed axis. Of the data only shapes and type matter."""

    def one_seed(key: Array) -> State:
        constructor = PREDICTORS[settings.predictor]
        predictor: Any = constructor(key, data.context_features, n_tokens, settings.dim, settings.initial_scale)
        return State(predictor, OPTIMIZERS[settings.optimizer][0](settings.step_size).init(predictor))

    states = [one_seed(jax.random.key(seed)) for seed in seeds.tolist()]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *states)


def _checked_seeds(seeds: Sequence[int]) -> Int64[np.ndarray, "seed"]:
    if len(seeds) == 0:
        raise InvalidInputError("seeds is empty: give at least one seed")
    for seed in seeds:
        if int(seed) != seed or not 0 <= seed < 2**31:
            raise InvalidInputError(f"the seed is {seed}: it must be a whole number from 0 to 2147483647")
    return np.array([int(seed) for seed in seeds], dtype=np.int64)


def _one_world_a_seed(worlds: World | Sequence[World], n_seeds: int) -> list[World]:
    if isinstance(worlds, World):
        return [worlds] * n_seeds
    if len(worlds) != n_seeds:
        raise InvalidInputError(f"{len(worlds)} worlds for {n_seeds} seeds: give one world, or one a seed")
    shapes = {(w.graph.n_concepts, w.n_contexts, w.n_tokens): w.name for w in worlds}
    if len(shapes) > 1:
        (first, a), (second, b), *_ = shapes.items()
        raise InvalidInputError(
            f"worlds of different shapes: {a} has (concepts, contexts, tokens) = {first} but {b} has {second}; "
            "train them in separate calls"
        )
    return list(worlds)


def _check_sizes(worlds: Sequence[World], settings: _Settings, n_snapshots: int) -> None:
    world, n_seeds, width = worlds[0], len(worlds), np.dtype(settings.precision).itemsize
    check_memory(
        f"p(context, token) of {n_seeds} worlds",
        width * world.n_contexts * world.n_tokens * (1 if all(w is world for w in worlds) else n_seeds),
        "train fewer seeds in one call, or worlds with fewer concepts or contexts",
    )
    check_memory(
        f"λ of {n_seeds} seeds at {n_snapshots} snapshots",
        width * n_seeds * n_snapshots * world.n_contexts * settings.dim,
        "take fewer snapshots, or train fewer seeds in one call",
    )
