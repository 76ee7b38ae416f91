"""Training: exact full-batch descent of many seeds at once, with snapshots on a logarithmic schedule.

This file checks what a caller asks for and says what comes back; `linrep.learning.descent` does the work. It must
not measure geometry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int64

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.learning.checkpoints import Checkpoints, fingerprint
from linrep.learning.descent import Fixed, Frozen, Precision, Settings, descend
from linrep.learning.networks import FLOATS_A_POSITION
from linrep.learning.optimizers import OPTIMIZERS, STEP_SIZES
from linrep.learning.predictors import PREDICTORS
from linrep.learning.trajectory import Trajectory
from linrep.worlds.checks import check_memory
from linrep.worlds.sentences import AnyWorld, SentenceWorld


def fit(
    world: AnyWorld,
    *,
    dim: int,
    predictor: str = "table",
    optimizer: str = "gradient_descent",
    step_size: float | None = None,
    steps: int = 15_000,
    initial_scale: float = 0.01,
    seed: int = 0,
    n_snapshots: int = 40,
    precision: Precision = "float32",
    frozen: Frozen | None = None,
    initial_embeddings: Float[np.ndarray, "context dim"] | None = None,
    initial_unembeddings: Float[np.ndarray, "token dim"] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Train one predictor on one world; the same numbers as this seed has in `fit_many`, which explains the rest.

    Examples
    --------
    >>> from linrep import ConceptGraph, ContextLaw, World, fit
    >>> trained = fit(World(ConceptGraph.chain(2), ContextLaw.complete()), dim=2, step_size=1.0, steps=3000)
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
        frozen=frozen,
        initial_embeddings=initial_embeddings,
        initial_unembeddings=initial_unembeddings,
        checkpoint=checkpoint,
        progress=progress,
    )


def fit_many(
    worlds: AnyWorld | Sequence[AnyWorld],
    *,
    seeds: Sequence[int],
    dim: int,
    predictor: str = "table",
    optimizer: str = "gradient_descent",
    step_size: float | Sequence[float] | None = None,
    steps: int = 15_000,
    initial_scale: float | Sequence[float] = 0.01,
    n_snapshots: int = 40,
    precision: Precision = "float32",
    frozen: Frozen | None = None,
    initial_embeddings: Float[np.ndarray, "*seed context dim"] | None = None,
    initial_unembeddings: Float[np.ndarray, "*seed token dim"] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Trajectory:
    """Train one predictor a seed on the exact expected cross-entropy of its world.

    Parameters
    ----------
    worlds
        One world for all seeds, or one a seed, all with the same numbers of contexts, tokens and concepts. The
        contexts of a `SentenceWorld` are its sentences.
    seeds
        Seeds of the initial values (not of the worlds), whole numbers of at least 0.
    dim
        Width d of λ and γ.
    predictor
        Name in `PREDICTORS`: ``table``, ``factored``, ``mlp``, ``transformer`` (reads sentences only) or
        ``transformer-tied`` (reads sentences that mention tokens).
    optimizer
        Name in `OPTIMIZERS`: ``gradient_descent``, ``momentum`` (0.9), ``adam`` or ``adamw``.
    step_size
        Learning rate, one for all seeds or one a seed; by default that of `STEP_SIZES`, 5.0 for gradient descent on
        tables. That suits hundreds of contexts, each with a small p(x); with ten, descent bounces at an excess of .01
        and wants 1.0.
    steps
        Number of updates.
    initial_scale
        Standard deviation of the Gaussian initial values, one for all seeds or one a seed; small, because where descent
        ends depends on it (LOG.md). Of networks it is that of γ and, about, of λ: the hidden maps start at 1/√fan-in
        whatever it is, so that small values do not silence them.
    n_snapshots
        Number of snapshots, see `log_schedule`.
    precision
        Float type of the training; ``float64`` needs JAX's 64-bit mode, which is never switched on here.
    frozen
        Side that keeps its initial values: ``embeddings`` or ``unembeddings``. The loss is convex in the other where
        that is a table. A tied predictor has no two sides.
    initial_embeddings, initial_unembeddings
        Initial values instead of random ones, for all seeds or with a seed axis; λ only for the table predictor,
        γ not for tied ones.
    checkpoint
        Folder in which the state of training is kept now and then, and whenever it is interrupted. The same call goes
        on from there, to the same numbers in every bit; it is emptied when training is done.
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
    if predictor not in PREDICTORS:
        raise UnknownNameError("predictor", predictor, PREDICTORS)
    if optimizer not in OPTIMIZERS:
        raise UnknownNameError("optimiser", optimizer, OPTIMIZERS)
    settings = Settings(
        dim=int(dim),
        predictor=predictor,
        optimizer=optimizer,
        step_size=_number_or_each(STEP_SIZES[optimizer, predictor] if step_size is None else step_size),
        steps=int(steps),
        initial_scale=_number_or_each(initial_scale),
        n_snapshots=int(n_snapshots),
        precision=precision,
        frozen=frozen,
    )
    numbers = _checked_seeds(seeds)
    _check(settings, len(numbers))
    each = _one_world_a_seed(worlds, len(numbers))
    schedule = log_schedule(settings.steps, settings.n_snapshots)
    _check_predictor(each, settings)
    _check_sizes(each, settings, len(schedule))
    fixed = Fixed(
        _given("initial_embeddings", initial_embeddings, (len(numbers), each[0].n_contexts, settings.dim)),
        _given("initial_unembeddings", initial_unembeddings, (len(numbers), each[0].n_tokens, settings.dim)),
    )
    if fixed.embeddings is not None and predictor != "table":
        raise InvalidInputError(f"initial_embeddings are for the table predictor, not {predictor!r}")
    if fixed.unembeddings is not None and predictor == "transformer-tied":
        raise InvalidInputError("initial_unembeddings are not for 'transformer-tied': its γ are words it reads as well")
    kept = None if checkpoint is None else Checkpoints(checkpoint, fingerprint(each, numbers.tolist(), settings, fixed))
    snapshots = descend(each, numbers, schedule, settings, fixed=fixed, checkpoints=kept, progress=progress)
    if kept is not None:
        kept.remove()
    return Trajectory(
        steps=schedule,
        seeds=numbers,
        loss=snapshots.loss.astype(np.float64),
        floor=np.array([world.entropy_floor() for world in each]),
        embeddings=snapshots.embeddings,
        unembeddings=snapshots.unembeddings,
        token_frequency=np.stack([world.p_token() for world in each]),
        worlds=tuple(world.name for world in each),
        tokens=tuple(world.token_names for world in each),
        contexts=tuple(world.context_names for world in each),
        settings={name: value for name, value in asdict(settings).items() if value is not None},
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


def _number_or_each(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, Sequence | np.ndarray) else float(value)


def _given(
    name: str, values: Float[np.ndarray, "*seed row dim"] | None, shape: tuple[int, int, int]
) -> Float[np.ndarray, "seed row dim"] | None:
    """Initial values with a seed axis."""
    if values is None:
        return None
    if values.shape not in (shape, shape[1:]):
        raise InvalidInputError(f"{name} has shape {values.shape}: it must be {shape[1:]}, or {shape} with one a seed")
    if not np.isfinite(values).all():
        raise InvalidInputError(f"{name} has entries that are not finite")
    return np.broadcast_to(values, shape)


def _check(settings: Settings, n_seeds: int) -> None:
    for name, least in (("dim", 1), ("steps", 1), ("n_snapshots", 2)):
        if (value := getattr(settings, name)) < least:
            raise InvalidInputError(f"{name} is {value}: it must be at least {least}")
    for name in ("step_size", "initial_scale"):
        values = getattr(settings, name)
        each = values if isinstance(values, tuple) else (values,)
        if isinstance(values, tuple) and len(values) != n_seeds:
            raise InvalidInputError(f"{len(values)} values of {name} for {n_seeds} seeds: give one, or one a seed")
        if bad := [value for value in each if not (math.isfinite(value) and value > 0)]:
            raise InvalidInputError(f"{name} is {bad[0]}: it must be a positive number")
    if settings.frozen not in (None, "embeddings", "unembeddings"):
        raise InvalidInputError(f"frozen is {settings.frozen!r}: it must be 'embeddings', 'unembeddings' or None")
    if settings.precision not in ("float32", "float64"):
        raise InvalidInputError(f"precision is {settings.precision!r}: it must be 'float32' or 'float64'")
    if settings.precision == "float64" and not jax.config.read("jax_enable_x64"):
        raise InvalidInputError(
            "precision is 'float64' but JAX is limited to float32: set JAX_ENABLE_X64=1 or call inside "
            "`with jax.enable_x64(True)`"
        )


def _checked_seeds(seeds: Sequence[int]) -> Int64[np.ndarray, "seed"]:
    if len(seeds) == 0:
        raise InvalidInputError("seeds is empty: give at least one seed")
    for seed in seeds:
        if int(seed) != seed or not 0 <= seed < 2**31:
            raise InvalidInputError(f"the seed is {seed}: it must be a whole number from 0 to 2147483647")
    return np.array([int(seed) for seed in seeds], dtype=np.int64)


def _one_world_a_seed(worlds: AnyWorld | Sequence[AnyWorld], n_seeds: int) -> list[AnyWorld]:
    if isinstance(worlds, AnyWorld):
        return [worlds] * n_seeds
    if len(worlds) != n_seeds:
        raise InvalidInputError(f"{len(worlds)} worlds for {n_seeds} seeds: give one world, or one a seed")
    shapes = {(w.graph.cardinalities, w.n_contexts, w.n_tokens): w.name for w in worlds}
    if len(shapes) > 1:
        (first, a), (second, b), *_ = shapes.items()
        raise InvalidInputError(
            f"worlds of different shapes: {a} has (values of the concepts, contexts, tokens) = {first} but {b} has "
            f"{second}; train them in separate calls"
        )
    reads = {(w.length, len(w.words)) if isinstance(w, SentenceWorld) else None: w.name for w in worlds}
    if len(reads) > 1:
        a, b, *_ = reads.values()
        raise InvalidInputError(f"contexts of {a} and {b} do not read alike; train them in separate calls")
    return list(worlds)


def _check_predictor(worlds: Sequence[AnyWorld], settings: Settings) -> None:
    name = settings.predictor
    if name == "transformer-tied" and settings.frozen:
        raise InvalidInputError(
            f"{settings.frozen} cannot be frozen for 'transformer-tied': it reads and predicts with one table; take "
            "'transformer'"
        )
    for world in worlds if name.startswith("transformer") else ():
        if not isinstance(world, SentenceWorld):
            raise InvalidInputError(
                f"{name!r} reads sentences, not the contexts of {world.name}: give SentenceWorld(world)"
            )
        if name == "transformer-tied" and not world.mentions:
            raise InvalidInputError(
                f"'transformer-tied' needs sentences that mention tokens, or nothing is tied, and {world.name} has "
                "none: give SentenceWorld(world, mentions=1)"
            )


def _check_sizes(worlds: Sequence[AnyWorld], settings: Settings, n_snapshots: int) -> None:
    world, n_seeds, width = worlds[0], len(worlds), np.dtype(settings.precision).itemsize
    check_memory(
        f"λ of {n_seeds} seeds at {n_snapshots} snapshots",
        width * n_seeds * n_snapshots * world.n_contexts * settings.dim,
        "take fewer snapshots, or train fewer seeds in one call",
    )
    if settings.predictor.startswith("transformer") and isinstance(world, SentenceWorld):
        n = world.n_contexts
        check_memory(
            f"a step of the transformer on {n} sentences of length {world.length}",
            width * n * world.length * FLOATS_A_POSITION,
            "use fewer renderings, concepts or contexts",
        )
