"""`fit_many` against a plain PyTorch loop of the same exact gradient descent, run seed after seed, and its limits.

    python benchmarks/bench_training.py [--rounds 7] [--worlds 3,5,7,8] [--only torch,parts,large]

Ratios of interleaved medians within one run: the peer is the faster of one and two threads. Our time is that of the
whole call, set-up and snapshots included and compilation apart. Besides: a step at m = 8 against its bare parts, and
m = 10, memory of a training and time of all normalisers. Nothing here fails for being slow; the two sides are first
checked to compute the same losses from the same initial values.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from rich.console import Console
from rich.table import Table

from linrep import ConceptGraph, ContextLaw, World, fit_many
from linrep.learning.descent import world_data
from linrep.learning.objectives import BlockTarget, cross_entropy

STEP_SIZE = 5.0


@dataclass(frozen=True)
class Case:
    """A world of m concepts with complete contexts, d = m; steps a round of each side; wanted ratio."""

    concepts: int
    seeds: int
    our_steps: int
    peer_steps: int
    target: float


CASES = (
    Case(3, 64, our_steps=15_000, peer_steps=4000, target=150),
    Case(5, 64, our_steps=2000, peer_steps=3000, target=14),
    Case(5, 8, our_steps=15_000, peer_steps=3000, target=10),
    Case(7, 4, our_steps=300, peer_steps=300, target=2.5),
    Case(8, 2, our_steps=100, peer_steps=50, target=2),
)


class Peer:
    """Full-batch gradient descent of one seed as one writes it in PyTorch, updated in place (faster than SGD)."""

    def __init__(self, world: World, embeddings: np.ndarray, unembeddings: np.ndarray) -> None:
        joint = world.p_context[:, None] * world.p_token_given_context()
        self.joint = torch.tensor(joint, dtype=torch.float32)
        self.embeddings = torch.tensor(embeddings, requires_grad=True)
        self.unembeddings = torch.tensor(unembeddings, requires_grad=True)

    def loss(self) -> torch.Tensor:
        """Exact expected cross-entropy."""
        log_p = torch.log_softmax(self.embeddings @ self.unembeddings.T, dim=1)
        return -(self.joint * log_p).sum()

    def run(self, steps: int) -> None:
        """Take that many steps."""
        for _ in range(steps):
            self.loss().backward()
            with torch.no_grad():
                for parameter in (self.embeddings, self.unembeddings):
                    assert parameter.grad is not None
                    parameter.sub_(parameter.grad, alpha=STEP_SIZE)
                    parameter.grad = None


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def check_same(worlds: list[World], dim: int, steps: int = 200) -> float:
    """Largest difference of the losses of the first two seeds after `steps` updates, in nats."""
    ours = fit_many(worlds[:2], seeds=range(2), dim=dim, step_size=STEP_SIZE, steps=steps, n_snapshots=2)
    differences = []
    for s, world in enumerate(worlds[:2]):
        peer = Peer(world, ours.embeddings[s, 0], ours.unembeddings[s, 0])
        peer.run(steps)
        differences.append(abs(peer.loss().item() - ours.loss[s, -1]))
    if not max(differences) < 1e-4:
        raise SystemExit(f"the losses of the two sides differ by {max(differences):.2g} nats: they are not the same")
    return max(differences)


def measure(case: Case, rounds: int) -> list[str]:
    m = case.concepts
    worlds = [World(ConceptGraph.random(m, seed=s), ContextLaw.complete()) for s in range(case.seeds)]

    def ours(steps: int) -> Callable[[], object]:
        return lambda: fit_many(worlds, seeds=range(case.seeds), dim=m, step_size=STEP_SIZE, steps=steps)

    cold = seconds(ours(1))
    compilation = cold - seconds(ours(1))
    difference = check_same(worlds, m)
    start = fit_many(worlds[:1], seeds=[0], dim=m, steps=1)
    peer = Peer(worlds[0], start.embeddings[0, 0], start.unembeddings[0, 0])
    times: dict[str, list[float]] = {"ours": [], "1 thread": [], "2 threads": []}
    for _ in range(rounds):
        times["ours"].append(seconds(ours(case.our_steps)) / case.our_steps / case.seeds)
        for threads, name in ((1, "1 thread"), (2, "2 threads")):
            torch.set_num_threads(threads)
            peer.run(case.peer_steps // 10)
            times[name].append(seconds(lambda: peer.run(case.peer_steps)) / case.peer_steps)
    micro = {name: 1e6 * statistics.median(values) for name, values in times.items()}
    ratio = min(micro["1 thread"], micro["2 threads"]) / micro["ours"]
    return [
        f"m = d = {m}, {case.seeds} seeds",
        *(f"{micro[name]:.3g}" for name in ("ours", "1 thread", "2 threads")),
        f"{ratio:.3g} ×",
        f"{case.target:g} ×",
        f"{compilation:.2f} s",
        f"{difference:.1g}",
    ]


# --- a step at m = 8 against its bare parts --------------------------------------------------------------------

Tables = tuple[Array, Array]  # λ and γ


def exact(target: BlockTarget) -> Callable[[Tables], Tables]:
    """A step of descent as it is trained."""

    def step(tables: Tables) -> Tables:
        return descended(tables, jax.grad(lambda t: cross_entropy(t[0], t[1], target))(tables))

    return step


def bare_parts(target: BlockTarget) -> Callable[[Tables], Tables]:
    """The three matrix products and one exp a logit, in the same blocks of the same float type; it learns nothing."""
    n_blocks, rows = target.p_context.shape

    def step(tables: Tables) -> Tables:
        lam, gamma = tables
        padded = jnp.pad(lam, ((0, n_blocks * rows - len(lam)), (0, 0))).reshape(n_blocks, rows, -1)

        def block(of_tokens: Array, contexts: Array) -> tuple[Array, Array]:
            odds = jnp.exp(contexts @ gamma.T)
            return of_tokens + contexts.T @ odds, odds @ gamma

        of_tokens, of_contexts = jax.lax.scan(block, jnp.zeros_like(gamma.T), padded)
        return lam - 1e-6 * of_contexts.reshape(n_blocks * rows, -1)[: len(lam)], gamma - 1e-6 * of_tokens.T

    return step


def autodiff(joint: Array) -> Callable[[Tables], Tables]:
    """A step as one writes it: automatic differentiation of log-softmax on all logits at once."""

    def step(tables: Tables) -> Tables:
        def loss(t: Tables) -> Array:
            return -jnp.sum(joint * jax.nn.log_softmax(t[0] @ t[1].T, axis=1))

        return descended(tables, jax.grad(loss)(tables))

    return step


def descended(tables: Tables, gradient: Tables) -> Tables:
    return tables[0] - STEP_SIZE * gradient[0], tables[1] - STEP_SIZE * gradient[1]


def against_parts(rounds: int, steps: int = 30) -> Table:
    """Wall and CPU time of a step at m = d = 8, one seed."""
    world, dtype = World(ConceptGraph.random(8, seed=0), ContextLaw.complete()), np.dtype("float32")
    target = world_data(world, dtype, in_blocks=True).target
    assert isinstance(target, BlockTarget)
    joint = jnp.asarray(world.p_context[:, None] * world.p_token_given_context(), dtype)
    rng = np.random.default_rng(0)
    start = tuple(jnp.asarray(0.1 * rng.standard_normal((n, 8)), dtype) for n in (world.n_contexts, world.n_tokens))

    def compiled(make: Callable[..., Callable[[Tables], Tables]], data: object) -> Callable[[], object]:
        run = jax.jit(lambda start, data, n: jax.lax.fori_loop(0, n, lambda _, t: make(data)(t), start))
        return lambda: jax.block_until_ready(run(start, data, steps))

    sides = {
        "bare parts": compiled(bare_parts, target),
        "exact training": compiled(exact, target),
        "plain autodiff": compiled(autodiff, joint),
    }
    wanted = {"exact training": "≤ 1.5 ×", "plain autodiff": "near 2 ×"}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for k in range(rounds + 1):
        for name, side in sides.items():
            cpu, wall = time.process_time(), seconds(side)
            if k:  # the first compiles
                times[name].append((1e3 * wall / steps, 1e3 * (time.process_time() - cpu) / steps))
    median = {name: np.median(np.array(own), axis=0) for name, own in times.items()}
    table = Table(
        "side", "wall ms", "CPU ms", "wall ratio", "CPU ratio", "target", title="A step at m = d = 8, one seed"
    )
    for name, (wall, cpu) in median.items():
        ratios = (f"{wall / median['bare parts'][0]:.2f} ×", f"{cpu / median['bare parts'][1]:.2f} ×")
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", *ratios, wanted.get(name, "–"))
    return table


# --- m = 10 ------------------------------------------------------------------------------------------------------

_LARGE = """
import re, time
from pathlib import Path
from linrep import ConceptGraph, ContextLaw, World, fit
start = time.perf_counter()
world = World(ConceptGraph.random(10, seed=0), ContextLaw.complete())
trained = fit(world, dim=10, steps=30, step_size=1000.0, n_snapshots=2)
wall = time.perf_counter() - start
# Not getrusage: its peak begins with that of the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(wall, int(peak[1]) / 2**20, *trained.loss[0])
"""


def large(rounds: int) -> str:
    """Memory of m = 10 in a process of its own, and the time of its 3^10 normalisers."""
    done = subprocess.run([sys.executable, "-c", _LARGE], capture_output=True, text=True, check=True)
    wall, memory, before, after = map(float, done.stdout.split())
    graphs = [ConceptGraph.random(10, seed=s) for s in range(max(20, rounds))]
    worlds = [World(graph, ContextLaw.at_most(1)) for graph in graphs]  # each keeps what it has computed
    took = statistics.median(seconds(world.log_normalisers) for world in worlds)
    return (
        f"m = d = 10, complete contexts, 30 steps: {wall:.1f} s, peak memory {memory:.2f} GiB (target 2), loss "
        f"{before:.4f} to {after:.4f}; all 3^10 normalisers: {1e3 * took:.1f} ms (target 10)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="fit_many against PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worlds", default="3,5,7,8", help="numbers of concepts")
    parser.add_argument("--only", default="torch,parts,large", help="what is measured")
    arguments = parser.parse_args()
    console, only = Console(width=120), arguments.only.split(",")
    if "parts" in only:
        console.print(against_parts(arguments.rounds))
    if "large" in only:
        console.print(large(arguments.rounds))
    if "torch" in only:
        console.print(against_torch(arguments))


def against_torch(arguments: argparse.Namespace) -> Table:
    wanted = {int(m) for m in arguments.worlds.split(",")}
    table = Table(title="Exact gradient descent: time per seed and step in µs")
    for column in ("world", "fit_many", "torch, 1 thread", "2 threads", "ratio", "target", "compilation", "Δ loss"):
        table.add_column(column, justify="left" if column == "world" else "right")
    for case in CASES:
        if case.concepts in wanted:
            table.add_row(*measure(case, arguments.rounds))
    return table


if __name__ == "__main__":
    main()
