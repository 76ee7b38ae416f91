"""Hidden states of short contexts: one middle layer with early exit, and all layers with λ, against transformers.

    python benchmarks/bench_extraction.py [--rounds 5] [--texts 1000] [--model smollm2-135m]

The texts are the first distinct ones of the built-in context sets. The peer is the plain forward pass of the same
weights as one writes it, all hidden states kept and the last token taken afterwards, over exactly our padded batches.
Each side tokenises, runs and returns NumPy arrays; rounds are interleaved, and the numbers are medians of CPU time, on
one thread: threads that wait for each other burn CPU time too, the more the busier the machine. Peak memory is that of
a fresh process, loading included. Nothing here fails for being slow, only for a state that differs.
"""

from __future__ import annotations

import argparse
import copy
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from linrep import open_model
from linrep.concepts.load import context_pairs, load_contexts
from linrep.models.transformers_model import TransformersModel

BATCH = 16
TARGETS = {"one layer": 0.55, "all layers and λ": 1.05}
PEER = "transformers, all layers"
States = dict[int | str, np.ndarray]


def batches(rows: list[list[int]]) -> list[list[int]]:
    """Which texts share a batch: texts of like length, as `TransformersModel.embeddings` puts them together."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    return [order[start : start + BATCH] for start in range(0, len(order), BATCH)]


class Peer:
    """The base model of transformers, with `output_hidden_states`."""

    def __init__(self, ours: TransformersModel) -> None:
        self.base = attrgetter(ours.layout.base)(ours.model)
        self.tokenizer = ours.tokenizer

    @torch.inference_mode()
    def all_layers(self, texts: list[str]) -> States:
        """States of every layer at the last token; what transformers calls the last is λ."""
        rows = self.tokenizer(texts)["input_ids"]
        parts: list[list[np.ndarray]] = []
        pad = torch.nn.utils.rnn.pad_sequence
        for batch in batches(rows):
            ids = pad([torch.tensor(rows[i]) for i in batch], batch_first=True)
            mask = pad([torch.ones(len(rows[i]), dtype=torch.long) for i in batch], batch_first=True)
            output = self.base(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
            at = torch.arange(len(batch)), mask.sum(dim=1) - 1
            parts.append([hidden[at].numpy() for hidden in output.hidden_states])
        back = np.argsort(np.concatenate(batches(rows)))
        *layers, last = (np.concatenate(part)[back] for part in zip(*parts, strict=True))
        return {**dict(enumerate(layers)), "λ": last}


def sides(model: TransformersModel, peer: Peer, texts: list[str]) -> dict[str, Callable[[], States]]:
    """What is timed, by name."""
    middle, every = [model.n_layers // 2], range(model.n_layers + 1)

    def all_layers() -> States:
        embeddings, states = model.embeddings(texts, batch_size=BATCH, layers=every)
        return {**states, "λ": embeddings}

    return {
        "one layer": lambda: dict(model.hidden_states(texts, middle, batch_size=BATCH)),
        "all layers and λ": all_layers,
        PEER: lambda: peer.all_layers(texts),
    }


def cpu_seconds(side: Callable[[], States]) -> float:
    start = time.process_time()
    side()
    return time.process_time() - start


def largest_difference(ours: States, peer: States) -> float:
    """Largest |difference| from the peer's states, as a share of the largest entry of each layer."""
    shared = [key for key in ours if key in peer]
    gap = max(float(np.abs(ours[k] - peer[k]).max() / np.abs(peer[k]).max()) for k in shared)
    if not gap < 1e-4:
        raise SystemExit(f"a hidden state differs from that of transformers by {gap:.2g} of the largest entry")
    return gap


def peak(name: str, arguments: argparse.Namespace) -> float:
    """Peak memory in MiB of a fresh process that runs one side once (not getrusage: it begins with its parent's)."""
    options = ["--texts", str(arguments.texts), "--model", arguments.model, "--only", name]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="hidden states of short contexts against transformers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(arguments.model).forward(device="cpu")
    texts = list(context_pairs(load_contexts())[0][: arguments.texts])
    if arguments.only:
        sides(model, Peer(model), texts)[arguments.only]()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        print(int(found[1]) / 1024)
        return
    # A copy for the peer, because transformers leaves its hooks in a model that was once asked for hidden states.
    todo = sides(model, Peer(copy.deepcopy(model)), texts)
    answers = {name: side() for name, side in todo.items()}  # the warm-up
    times: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(arguments.rounds):
        for name, side in todo.items():
            times[name].append(cpu_seconds(side))
    rows = model.tokenizer(texts)["input_ids"]
    real, padded = sum(map(len, rows)), sum(len(b) * max(len(rows[i]) for i in b) for b in batches(rows))
    table = Table(
        title=f"{len(texts)} contexts of {arguments.model}, batches of {BATCH}: {real} tokens, {padded} with padding"
    )
    for column in ("side", "CPU s", "lowest to highest", "ratio", "target", "peak MiB", "largest difference"):
        table.add_column(column, justify="left" if column == "side" else "right")
    base = statistics.median(times[PEER])
    for name, own in times.items():
        table.add_row(
            name,
            f"{statistics.median(own):.2f}",
            f"{min(own):.2f} – {max(own):.2f}",
            f"{statistics.median(own) / base:.2f} ×",
            f"≤ {TARGETS[name]} ×" if name in TARGETS else "–",
            f"{peak(name, arguments):.0f}",
            "–" if name == PEER else f"{largest_difference(answers[name], answers[PEER]):.0e}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
