"""Training on sampled contexts, for worlds whose contexts cannot be enumerated: up to 20 binary concepts.

A step costs the logits of its batch and γ, whatever the number of contexts, and the excess loss is an estimate with
a standard error. This file must not measure geometry; where all contexts fit, `linrep.learning.training` is exact.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float64, Int, Int8, Int64

from linrep.errors import InvalidInputError, UnknownNameError
from linrep.learning.checkpoints import Checkpoints
from linrep.learning.optimizers import OPTIMIZERS, STEP_SIZES
from linrep.learning.predictors import PREDICTORS, AbstractPredictor, TablePredictor
from linrep.learning.sampled_trajectory import SampledTrajectory
from linrep.learning.training import log_schedule
from linrep.worlds.checks import check_memory
from linrep.worlds.contexts import UNKNOWN, ContextLaw, context_codes
from linrep.worlds.sampling import Estimate, WorldSampler, excess_estimate
from linrep.worlds.world import World

# The update of sampled gradient descent is that of exact descent; only the gradient is sampled.
SAMPLED_OPTIMIZERS = {"sgd": OPTIMIZERS["gradient_descent"], **OPTIMIZERS}
SAMPLED_PREDICTORS = ("table", "factored", "mlp")
# Instead of those of `STEP_SIZES`: the row of a sampled context takes the step of B^-1 and not of p(x). At 5.0 the
# noise held 3 of 3 seeds above an excess of .02 at m = d = 3, at 1.0 about as many as exact descent (LOG.md).
_STEP_SIZES = {("gradient_descent", "table"): 1.0, ("momentum", "table"): 0.1}

_DRAWN_STEPS = 256  # whose contexts are drawn together; a block has its own random stream, so chunks change nothing
_CHUNK_LOGITS = 10**8  # about a second: progress is told, and an interrupt heard, this often
# Arrays of the size of the parameters, of that of the logits, and other bytes a token, as measured by
# benchmarks/bench_sampled.py: drawing the initial γ takes as much as Adam's γ, gradient and two moments.
_PARAMETER_COPIES, _LOGIT_COPIES, _BYTES_A_TOKEN = 4, 2, 96


class Batch(eqx.Module):
    """Sampled contexts as a step reads them; a table looks them up by row, other predictors read the features."""

    features: Float[Array, "*step sample feature"]
    rows: Int[Array, "*step sample"]
    known: Int[Array, "*step sample"]
    wanted: Int[Array, "*step sample"]


class Law(eqx.Module):
    """What every context shares: p(c) and the bits of each token."""

    p_token: Float[Array, "token"]
    token_codes: Int[Array, "token"]


class State(NamedTuple):
    """What changes from step to step."""

    predictor: AbstractPredictor
    optimizer: optax.OptState


def losses(predictor: AbstractPredictor, batch: Batch, law: Law) -> Float[Array, "sample"]:
    """Cross-entropy −Σ_c p(c|d) log softmax_c(λ(d)·γ(c)) of each context under its exact conditional, in nats.

    p(c|d) is made on the way from p(c) and the bits of d, so that it costs no more than the logits. A single token
    sampled from it would give the same expected gradient with more noise, for the same logits.
    """
    logits = embeddings_of(predictor, batch) @ predictor.unembeddings().T
    agrees = (law.token_codes[None] & batch.known[:, None]) == batch.wanted[:, None]
    p = jnp.where(agrees, law.p_token[None], 0.0)
    logits = logits - jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    return jnp.log(jnp.sum(jnp.exp(logits), axis=1)) - jnp.sum(p * logits, axis=1) / jnp.sum(p, axis=1)


def embeddings_of(predictor: AbstractPredictor, batch: Batch) -> Float[Array, "sample dim"]:
    """λ of the contexts of a batch."""
    if isinstance(predictor, TablePredictor):
        return predictor.context_table.T[batch.rows]
    return predictor.embeddings(batch.features)


@partial(jax.jit, static_argnames="optimizer", donate_argnames="state")
def advance(
    state: State,
    law: Law,
    batches: Batch,
    first: Int[Array, ""],
    n_steps: Int[Array, ""],
    step_size: Float[Array, ""],
    *,
    optimizer: str,
) -> State:
    """State after the steps `first`..`first + n_steps − 1` of a block of batches; γ is updated in place."""
    update = SAMPLED_OPTIMIZERS[optimizer](step_size).update

    def step(t: Array, state: State) -> State:
        batch = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, keepdims=False), batches)
        predictor: Any = state.predictor
        gradient = jax.grad(lambda p: jnp.mean(losses(p, batch, law)))(predictor)
        with jax.numpy_dtype_promotion("standard"):  # optax's Adam relies on it; the caller may be strict
            updates, memory = update(gradient, state.optimizer, predictor)
        return State(eqx.apply_updates(predictor, updates), memory)

    return jax.lax.fori_loop(first, first + n_steps, step, state)


_losses = jax.jit(losses)


def fit_sampled(
    world: World,
    *,
    dim: int,
    predictor: str = "factored",
    optimizer: str = "adam",
    step_size: float | None = None,
    steps: int = 2000,
    batch: int = 16,
    initial_scale: float = 0.01,
    seed: int = 0,
    n_snapshots: int = 20,
    n_evaluated: int = 256,
    contexts: Int8[np.ndarray, "context concept"] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> SampledTrajectory:
    """Train a predictor on batches of sampled contexts, each with its exact p(c|d) as the target.

    The loss of a batch is the mean over its contexts of the cross-entropy over *all* tokens, unbiased for the expected
    loss. Contexts are drawn anew in every step. The initial values are those that this seed has in `fit`.

    Parameters
    ----------
    world
        With the plain vocabulary and without a hierarchy. Neither its contexts nor their normalisers are built.
    dim
        Width d of λ and γ.
    predictor
        ``factored``, ``mlp``, or ``table`` where the contexts of the law can be listed (at most k known); the table
        of contexts is then updated as a whole in every step, whose cost is no longer flat in their number.
    optimizer
        Name in `SAMPLED_OPTIMIZERS`: ``sgd`` (``gradient_descent`` is the same update), ``momentum``, ``adam`` or
        ``adamw``. With thousands of tokens the gradient of γ has entries of about p(y): descent leaves them where they
        are for a long time, Adam does not.
    step_size
        Learning rate; by default that of `STEP_SIZES`; for tables 1.0 with descent and 0.1 with momentum.
    steps
        Number of updates.
    batch
        Sampled contexts B in each step. The logits take 4 B 2^m bytes.
    initial_scale
        As in `fit_many`.
    seed
        Whole number of at least 0. The same seed gives the same numbers.
    n_snapshots
        Number of estimates of the excess, see `log_schedule`.
    n_evaluated
        Contexts of each estimate, drawn once, independently of the batches, rounded up to whole batches.
    contexts
        Contexts whose λ to keep at the end; by default those of the law with at most one known concept, whose
        counterfactual pairs exist.
    checkpoint
        Folder in which the state is kept now and then, and where it is interrupted, see `fit_many`.
    progress
        Called now and then with the fraction done; 1.0 comes last.

    Returns
    -------
    SampledTrajectory
        Divergence is data: training stops at the first estimate that is not finite and the status says so.

    Raises
    ------
    UnknownNameError
        On an unknown predictor or optimiser.
    InvalidInputError
        On a setting outside its range, a world that cannot be sampled, contexts that do not exist, or arrays that do
        not fit in memory.

    Examples
    --------
    >>> from linrep import ConceptGraph, ContextLaw, World
    >>> world = World(ConceptGraph.chain(10), ContextLaw.complete())
    >>> trained = fit_sampled(world, dim=10, steps=20, n_snapshots=3)
    >>> trained.unembeddings.shape, bool(trained.excess[-1] < trained.excess[0])
    ((1024, 10), True)
    """
    if predictor not in SAMPLED_PREDICTORS:
        raise UnknownNameError("predictor of sampled training", predictor, SAMPLED_PREDICTORS)
    if optimizer not in SAMPLED_OPTIMIZERS:
        raise UnknownNameError("optimiser", optimizer, SAMPLED_OPTIMIZERS)
    if step_size is None:
        chosen = "gradient_descent" if optimizer == "sgd" else optimizer, predictor
        step_size = _STEP_SIZES.get(chosen, STEP_SIZES[chosen])
    settings = {
        "dim": int(dim),
        "predictor": predictor,
        "optimizer": optimizer,
        "step_size": float(step_size),
        "steps": int(steps),
        "batch": int(batch),
        "initial_scale": float(initial_scale),
        "n_snapshots": int(n_snapshots),
        "n_evaluated": -(-int(n_evaluated) // max(1, int(batch))) * int(batch),
        "precision": "float32",
    }
    _check(settings, seed)
    sampler = WorldSampler(world)
    _check_sizes(world, settings)
    rows = _listed(world) if predictor == "table" else None
    asked = _asked(world, contexts)
    _batch_of(sampler, asked, rows)  # refuses contexts that a table does not have, before any training
    checkpoints = None
    if checkpoint is not None:
        checkpoints = Checkpoints(checkpoint, _fingerprint(sampler, settings, seed))
    state, (loss, excess, error) = _train(sampler, rows, settings, seed, checkpoints, progress)
    if checkpoints is not None:
        checkpoints.remove()
    return SampledTrajectory(
        steps=log_schedule(settings["steps"], settings["n_snapshots"]),
        loss=loss,
        excess=excess,
        standard_error=error,
        unembeddings=np.asarray(state.predictor.unembeddings()),
        embeddings=np.asarray(embeddings_of(state.predictor, _batch_of(sampler, asked, rows))),
        context_concepts=asked,
        seed=int(seed),
        world=world.name,
        settings=settings,
    )


def _check(settings: Mapping[str, Any], seed: int) -> None:
    for name, least in (("dim", 1), ("steps", 1), ("batch", 1), ("n_snapshots", 2), ("n_evaluated", 2)):
        if settings[name] < least:
            raise InvalidInputError(f"{name} is {settings[name]}: it must be at least {least}")
    for name in ("step_size", "initial_scale"):
        if not (math.isfinite(settings[name]) and settings[name] > 0):
            raise InvalidInputError(f"{name} is {settings[name]}: it must be a positive number")
    if int(seed) != seed or not 0 <= seed < 2**31:
        raise InvalidInputError(f"the seed is {seed}: it must be a whole number from 0 to 2147483647")


def _check_sizes(world: World, settings: Mapping[str, Any]) -> None:
    check_memory(
        f"sampled training of {world.name} with dim {settings['dim']} and batch {settings['batch']}",
        step_bytes(world, settings),
        "use fewer concepts, or a smaller batch or dim",
    )


def step_bytes(world: World, settings: Mapping[str, Any]) -> int:
    """Estimate of the memory of training: parameters, gradient and moments, the arrays of a batch, p(c) and codes."""
    n_context_rows = world.n_contexts if settings["predictor"] == "table" else 0
    parameters = 4 * settings["dim"] * (world.n_tokens + n_context_rows)
    logits = 4 * settings["batch"] * world.n_tokens
    return _PARAMETER_COPIES * parameters + _LOGIT_COPIES * logits + _BYTES_A_TOKEN * world.n_tokens


def _listed(world: World) -> Int64[np.ndarray, "context"]:
    """Codes of the contexts of the law, which are the rows of a table of contexts, in increasing order."""
    return context_codes(world.context_concepts, world.graph.cardinalities)


def _asked(world: World, contexts: Int8[np.ndarray, "context concept"] | None) -> Int8[np.ndarray, "asked concept"]:
    """Contexts whose λ is kept, in lexicographic order and each once."""
    values, law = world.graph.cardinalities, world.law
    if contexts is None:
        contexts = ContextLaw.at_most(min(1, int(law.amount or 0)) if law.kind == "at-most" else 1).contexts(values)[0]
        if law.kind == "kept":
            there = np.isin(context_codes(contexts, values), _listed(world))
            contexts = contexts[there] if there.any() else world.context_concepts[:1]
    if contexts.ndim != 2 or contexts.shape[1] != len(values) or len(contexts) == 0:
        raise InvalidInputError(f"contexts has shape {contexts.shape}: it must be (at least 1, {len(values)})")
    if (contexts < UNKNOWN).any() or (contexts >= np.array(values)).any():
        raise InvalidInputError("contexts has a value that its concept does not have: −1 is ⋄, others start at 0")
    return contexts[np.unique(context_codes(contexts, values), return_index=True)[1]]


def _batch_of(
    sampler: WorldSampler, contexts: Int8[np.ndarray, "sample concept"], rows: Int64[np.ndarray, "context"] | None
) -> Batch:
    known, wanted = sampler.context_codes(contexts)
    at = np.zeros(len(contexts), dtype=np.int32)
    if rows is not None:
        codes = context_codes(contexts, sampler.world.graph.cardinalities)
        at = np.minimum(np.searchsorted(rows, codes), len(rows) - 1).astype(np.int32)
        if (rows[at] != codes).any():
            raise InvalidInputError("contexts has rows outside the context law: a table has no λ for them")
    return Batch(*map(jnp.asarray, (sampler.world.features_of(contexts), at, known, wanted)))


def _fingerprint(sampler: WorldSampler, settings: Mapping[str, Any], seed: int) -> str:
    """Hash of everything that decides the numbers of a training; `checkpoints.fingerprint` reads all contexts."""
    described = [dict(settings), int(seed), sampler.world.law.name, sampler.world.graph.cardinalities, jax.__version__]
    return hashlib.sha256(json.dumps(described).encode() + sampler.p_assignment.tobytes()).hexdigest()


def _train(
    sampler: WorldSampler,
    rows: Int64[np.ndarray, "context"] | None,
    settings: Mapping[str, Any],
    seed: int,
    checkpoints: Checkpoints | None,
    progress: Callable[[float], None] | None,
) -> tuple[State, Float64[np.ndarray, "3 snapshot"]]:
    """Final state, and loss, excess and standard error at every moment of the schedule."""
    size, schedule = settings["batch"], log_schedule(settings["steps"], settings["n_snapshots"])
    law = Law(jnp.asarray(sampler.p_assignment, np.float32), jnp.asarray(sampler.token_codes))
    evaluated = sampler.contexts(settings["n_evaluated"], np.random.default_rng([seed, 0]))
    entropies = sampler.entropies(evaluated)
    parts = [_batch_of(sampler, evaluated[k : k + size], rows) for k in range(0, len(evaluated), size)]
    state = _initial(parts[0], rows, settings, sampler.world.n_tokens, seed)
    chunk = min(_DRAWN_STEPS, max(1, _CHUNK_LOGITS // (size * sampler.world.n_tokens)))
    regular = np.concatenate([np.arange(0, settings["steps"], n) for n in (chunk, _DRAWN_STEPS)])
    stops, column = np.union1d(schedule, regular), {step: k for k, step in enumerate(schedule.tolist())}
    kept = np.full((3, len(schedule)), np.nan)
    first, block, batches = 0, -1, parts[0]
    if checkpoints is not None and (found := checkpoints.load(0, state, [kept])) is not None:
        first, state = found
    done: int | None = first
    try:
        for j in range(first, len(stops)):
            start, stop = (int(stops[j - 1]) if j else 0), int(stops[j])
            done = None  # until state and estimates belong together again
            if stop > start:
                if start // _DRAWN_STEPS != block:
                    block = start // _DRAWN_STEPS
                    batches = _drawn(sampler, rows, size, np.random.default_rng([seed, 1, block]))
                at, n_steps = np.int32(start % _DRAWN_STEPS), np.int32(stop - start)
                step_size = np.float32(settings["step_size"])
                state = advance(state, law, batches, at, n_steps, step_size, optimizer=settings["optimizer"])
            if stop in column:
                kept[:, column[stop]] = _estimate(state.predictor, parts, law, entropies)
                if not np.isfinite(kept[0, column[stop]]):
                    break
            done = j + 1
            jax.block_until_ready(state)
            if checkpoints is not None:
                checkpoints.save(0, done, state, [kept], now=False)
            if progress is not None and stop < settings["steps"]:
                progress(stop / settings["steps"])
    except BaseException:  # an interrupt, or an error of `progress`
        if checkpoints is not None and done is not None:
            checkpoints.save(0, done, state, [kept], now=True)
        raise
    if progress is not None:
        progress(1.0)
    return state, kept


def _initial(
    batch: Batch, rows: Int64[np.ndarray, "context"] | None, settings: Mapping[str, Any], n_tokens: int, seed: int
) -> State:
    """Untrained state; a table reads only the number of its contexts off the features."""
    features = batch.features if rows is None else jnp.zeros((len(rows), 1), jnp.float32)
    predictor: Any = PREDICTORS[settings["predictor"]](
        jax.random.key(np.int32(seed)), features, n_tokens, settings["dim"], jnp.float32(settings["initial_scale"])
    )
    predictor = jax.tree.map(jnp.copy, predictor)  # biases may share one array of zeros, which cannot be donated twice
    return State(predictor, SAMPLED_OPTIMIZERS[settings["optimizer"]](0.0).init(predictor))


def _drawn(
    sampler: WorldSampler, rows: Int64[np.ndarray, "context"] | None, size: int, rng: np.random.Generator
) -> Batch:
    """Batches of the next steps, with an axis of steps."""
    batch = _batch_of(sampler, sampler.contexts(_DRAWN_STEPS * size, rng), rows)
    return jax.tree.map(lambda x: x.reshape(_DRAWN_STEPS, size, *x.shape[1:]), batch)


def _estimate(
    predictor: AbstractPredictor, parts: list[Batch], law: Law, entropies: Float64[np.ndarray, "sample"]
) -> tuple[float, float, float]:
    """Mean loss, excess and its standard error in the evaluated contexts."""
    each = np.concatenate([np.asarray(_losses(predictor, part, law), np.float64) for part in parts])
    estimate: Estimate = excess_estimate(each, entropies)
    return float(each.mean()), estimate.value, estimate.standard_error
