"""`fit_many` against a plain PyTorch loop of the same exact gradient descent, run seed after seed.

    python benchmarks/bench_training.py [--rounds 7] [--worlds 3,5,7,8]

Ratios of interleaved medians within one run: the peer is the faster of one and two threads. Our time is that of the
whole call, set-up and snapshots included and compilation apart. Nothing here fails for being slow; the two sides
are first checked to compute the same losses from the same initial values.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from linrep import ConceptGraph, ContextLaw, World, fit_many

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
    Case(3, 64, our_steps=15_000, peer_steps=4000, target=130),
    Case(5, 64, our_steps=2000, peer_steps=3000, target=10),
    Case(5, 8, our_steps=15_000, peer_steps=3000, target=10),
    Case(7, 4, our_steps=300, peer_steps=300, target=1.7),
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


def main() -> None:
    parser = argparse.ArgumentParser(description="fit_many against PyTorch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worlds", default="3,5,7,8", help="numbers of concepts")
    arguments = parser.parse_args()
    wanted = {int(m) for m in arguments.worlds.split(",")}
    table = Table(title="Exact gradient descent: time per seed and step in µs")
    for column in ("world", "fit_many", "torch, 1 thread", "2 threads", "ratio", "target", "compilation", "Δ loss"):
        table.add_column(column, justify="left" if column == "world" else "right")
    for case in CASES:
        if case.concepts in wanted:
            table.add_row(*measure(case, arguments.rounds))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
