"""Hidden states at the last token: linrep against TransformerLens, nnsight and repeng, each in its own environment.

    python benchmarks/bench_peers.py [--rounds 3] [--texts 1000] [--model smollm2-135m]

Every library runs in processes of its own on the same local model folder, offline, on one thread, and is used as its
documentation says, with early exit where it has one. All get the same texts in the same batches, already ordered by
length, so that none gains by bucketing. Loading and a warm-up batch are not counted; rounds are interleaved, and the
numbers are medians of CPU time. States are compared with ours: a library may number or end its layers otherwise. What
cannot be installed or run is printed as not measured, with the error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from linrep import open_model
from linrep.concepts.load import context_pairs, load_contexts

BATCH = 16
HERE = Path(__file__).parent
TORCH = "torch==2.13.0"
# Pinned, for their interfaces change between versions and the drivers follow these.
PEERS = {"transformer_lens": "transformer-lens==4.3.0", "nnsight": "nnsight==0.8.1", "repeng": "repeng==0.4.0"}


class NotMeasured(Exception):
    """Why a library is not in the table."""


def run(*command: str | Path, said: str = "") -> str:
    """Last line a command prints; its last line of error if it fails."""
    quiet = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise NotMeasured((done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
    return (done.stdout.splitlines() or [""])[-1]


def environment(name: str) -> Path:
    """Interpreter of a library's environment, which is made if it is not there."""
    if name == "linrep":
        return Path(sys.executable)
    folder = HERE.parent / ".venv-peers" / name
    python, done = folder / "bin" / "python", folder / PEERS[name]
    if not done.exists():
        print(f"installing {TORCH} and {PEERS[name]} into {folder}", file=sys.stderr)
        run(sys.executable, "-m", "venv", folder)
        for package in (TORCH, PEERS[name]):
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package)
        done.touch()
    return python


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """Largest |difference| as a share of a layer's largest entry: middle layer, all but the last, the last."""
    middle, every = (
        np.abs(ours[job] - theirs[job]).max((1, 2)) / np.abs(ours[job]).max((1, 2)) for job in ("middle", "all")
    )
    return float(middle[0]), float(every[:-1].max()), float(every[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="hidden states against other libraries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    source = open_model(arguments.model)
    model = source.forward(device="cpu")
    length = {text: len(model.tokenizer(text)["input_ids"]) for text in context_pairs(load_contexts())[0]}
    texts = sorted(list(length)[: arguments.texts], key=length.__getitem__)
    batches = json.dumps([texts[start : start + BATCH] for start in range(0, len(texts), BATCH)])
    seconds: dict[str, list[list[float]]] = {name: [] for name in ("linrep", *PEERS)}
    states, failed = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(arguments.rounds):
            for name in [n for n in seconds if n not in failed]:
                driver, answers = HERE / "peers" / f"run_{name}.py", Path(scratch) / f"{name}.npz"
                try:
                    said = run(environment(name), driver, source.path, answers, said=batches)
                except NotMeasured as e:
                    if name == "linrep":
                        raise
                    failed[name] = e
                    continue
                seconds[name].append(json.loads(said))
                states[name] = dict(np.load(answers))
    n = model.n_layers
    table = Table(title=f"{len(texts)} contexts of {arguments.model}: CPU seconds, and difference from our states")
    columns = ("library", f"layer {n // 2}", "ratio", "all layers", "ratio")
    for column in (*columns, f"Δ layer {n // 2}", f"Δ 1 to {n - 1}", f"Δ layer {n}"):
        table.add_column(column, justify="left" if column == "library" else "right")
    base = np.median(seconds["linrep"], axis=0)
    for name in states:
        one, every = np.median(seconds[name], axis=0)
        gaps = ["–"] * 3 if name == "linrep" else [f"{d:.0e}" for d in differences(states["linrep"], states[name])]
        ratios = (f"{one / base[0]:.2f} ×", f"{every / base[1]:.2f} ×")
        table.add_row(PEERS.get(name, name), f"{one:.2f}", ratios[0], f"{every:.2f}", ratios[1], *gaps)
    console = Console(width=120)
    console.print(table)
    for name, error in failed.items():
        console.print(f"{name}: not measured: {error}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
