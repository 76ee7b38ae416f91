"""`fit_sampled`: memory and time of a step at m = 20, and whether the time depends on the number of contexts.

    python benchmarks/bench_sampled.py [--rounds 5] [--concepts 20]

Three questions. How large does a process become that trains on 2^20 tokens (peak resident memory in a process of its
own, beside the estimate that refuses)? How long is a step? At m = 16, is a step with complete contexts (3^16 of them)
as long as one with at most 2 known (513)? Times are CPU time, compilation and the drawing of the initial values
taken off by a second, shorter training. Nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp

from linrep import ConceptGraph, ContextLaw, World
from linrep.learning.sampled import fit_sampled, step_bytes
from linrep.worlds.sampling import WorldSampler

BATCH = 16
LAWS = ("complete", "at-most-2")


def world_of(m: int, law: str) -> World:
    return World(ConceptGraph.random(m, 0.2, seed=1), ContextLaw.parse(law))


def train(world: World, steps: int) -> float:
    """CPU seconds of one training."""
    start = time.process_time()
    fit_sampled(world, dim=world.graph.n_concepts, steps=steps, batch=BATCH, n_snapshots=2, n_evaluated=BATCH)
    return time.process_time() - start


def seconds_a_step(world: World, steps: int) -> float:
    """Difference of two trainings that are alike in everything else."""
    return (train(world, 1 + steps) - train(world, 1)) / steps


def resident() -> float:
    """Peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: kibibytes


def in_a_process(m: int, law: str) -> None:
    """What the parent asks of a process of its own: one line of JSON."""
    world = world_of(m, law)
    train(world_of(4, law), 2)
    before = resident()
    step = seconds_a_step(world, 8)
    settings = {"dim": m, "predictor": "factored", "batch": BATCH}
    estimate = step_bytes(world, settings) / 2**20
    print(json.dumps({"law": law, "step": step, "before": before, "peak": resident(), "estimate": estimate}))


def spread_of_the_excess(m: int = 10, n: int = 4000) -> tuple[float, float, float]:
    """Excess of a trained predictor, and its standard deviation a context: with exact p(c|d), and with one token of it.

    Contexts that were drawn twice count once, which is as good for comparing the two.
    """
    world = world_of(m, "complete")
    sampler, rng = WorldSampler(world), np.random.default_rng(0)
    trained = fit_sampled(world, dim=m, steps=1000, contexts=sampler.contexts(n, rng))
    contexts = trained.context_concepts
    tokens, log_z = sampler.tokens(contexts, rng), world.log_normalisers()[tuple(contexts.T)]
    logits = trained.embeddings.astype(np.float64) @ trained.unembeddings.astype(np.float64).T
    log_q = logits - np.asarray(logsumexp(logits, axis=1, keepdims=True))
    known, wanted = sampler.context_codes(contexts)
    agrees = (sampler.token_codes & known[:, None]) == wanted[:, None]
    p = agrees * sampler.p_assignment / np.exp(log_z)[:, None]
    exact = -(p * log_q).sum(axis=1) - sampler.entropies(contexts)
    single = np.log(sampler.p_assignment[tokens]) - log_z - log_q[np.arange(len(tokens)), tokens]
    return float(exact.mean()), float(exact.std()), float(single.std())


def main() -> None:
    parser = argparse.ArgumentParser(description="sampled training: memory, time, flatness")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison at m = 16")
    parser.add_argument("--concepts", type=int, default=20, help="of the large world")
    parser.add_argument("--in-a-process", metavar="LAW", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_a_process:
        return in_a_process(arguments.concepts, arguments.in_a_process)
    m = arguments.concepts
    console = Console(width=120)
    table = Table(title=f"m = d = {m}, batch {BATCH}, factored, Adam")
    for heading in ("contexts", "s/step", "peak RSS, MiB", "before, MiB", "rise, MiB", "estimated rise, MiB"):
        table.add_column(heading, justify="right")
    for law in LAWS:
        command = [sys.executable, __file__, "--concepts", str(m), "--in-a-process", law]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        numbers = (told["peak"], told["before"], told["peak"] - told["before"], told["estimate"])
        table.add_row(law, f"{told['step']:.3f}", *(f"{value:.0f}" for value in numbers))
    console.print(table)
    worlds = {law: world_of(16, law) for law in LAWS}
    for world in worlds.values():
        train(world, 1)  # compiles
    times: dict[str, list[float]] = {law: [] for law in LAWS}
    for _ in range(arguments.rounds):
        for law, world in worlds.items():
            times[law].append(seconds_a_step(world, 100))
    medians = {law: statistics.median(values) for law, values in times.items()}
    n = {law: world.n_contexts for law, world in worlds.items()}
    console.print(
        f"m = d = 16: {1e3 * medians['complete']:.2f} ms a step with {n['complete']} contexts, "
        f"{1e3 * medians['at-most-2']:.2f} ms with {n['at-most-2']}: ratio of times "
        f"{medians['complete'] / medians['at-most-2']:.2f}, of contexts {n['complete'] / n['at-most-2']:.0f}"
    )
    mean, exact, single = spread_of_the_excess()
    console.print(
        f"m = d = 10, trained to an excess of {mean:.3f}: standard deviation of the excess a context {exact:.3f} nats "
        f"with the exact p(c|d), {single:.3f} with one token of it"
    )


if __name__ == "__main__":
    main()
