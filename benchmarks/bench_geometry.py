"""Geometry against its bare parts, and the cold γ-side measurement against the same done by hand.

    python benchmarks/bench_geometry.py [--model smollm2-135m] [--rounds 7]

Ratios of interleaved medians within one run; nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import linalg

from linrep import ConceptPairs, Representations, load_concepts, measure, open_model
from linrep.concepts.load import token_pairs
from linrep.geometry import metrics, nulls, verdicts
from linrep.geometry.directions import estimate_directions
from linrep.geometry.inner_products import causal

# The same measurement, in a process of its own: covariance, whitening, directions, parallelism of every concept.
OURS = """
import sys
from linrep import load_concepts, measure, open_model
from linrep.concepts.load import token_pairs
source = open_model(sys.argv[1])
pairs = token_pairs(load_concepts(), source.vocabulary().find)
result = measure(source.representations(), pairs, inner_products=["causal"], null_names=())
print(result.measurements.values("parallelism", inner_product="causal")["male–female"])
"""

BY_HAND = """
import sys
from pathlib import Path
import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer
path = Path(sys.argv[1])
where, more = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
tokenizer = AutoTokenizer.from_pretrained(where, **more)
model = AutoModelForCausalLM.from_pretrained(where, **more)
gamma = model.get_output_embeddings().weight.detach().numpy().astype(np.float64)
gamma_centred = gamma - gamma.mean(axis=0)
values, vectors = np.linalg.eigh(gamma_centred.T @ gamma_centred / len(gamma))
whitener = (vectors / np.sqrt(values)) @ vectors.T
directions = {}
for line in sys.stdin.read().split(";"):
    name, rest = line.split("|")
    ids = [[tokenizer.encode(" " + w, add_special_tokens=False) for w in p.split(",")] for p in rest.split()]
    kept = np.array([[a[0], b[0]] for a, b in ids if len(a) == len(b) == 1])
    if len(kept) < 2:
        continue
    delta = (gamma[kept[:, 1]] - gamma[kept[:, 0]]) @ whitener
    unit = delta / np.linalg.norm(delta, axis=1, keepdims=True)
    n = len(unit)
    directions[name] = delta.mean(axis=0)
    if name == "male–female":
        print((np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1)))
mean = np.stack(list(directions.values()))
mean /= np.linalg.norm(mean, axis=1, keepdims=True)
heat_map = mean @ mean.T
"""


def interleaved(rounds: int, **jobs: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each job, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds + 1):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t[1:]) for name, t in times.items()}  # the first round warms up


def full_geometry(representations: Representations, pairs: ConceptPairs, names: tuple[str, ...]) -> float:
    """Seconds of one measurement with its nulls, the reading of the model left out."""
    start = time.perf_counter()
    measure(representations, pairs, inner_products=["euclidean", "causal"], null_names=names, draws=1000)
    return time.perf_counter() - start


def main() -> None:
    """Time everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--gguf", type=Path, help="the GGUF file the folder was converted from, to time reading it by hand"
    )
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    source = open_model(args.model)
    gamma = np.ascontiguousarray(source.unembeddings())
    pairs = token_pairs(load_concepts(), source.vocabulary().find)
    wide = gamma.astype(np.float64)

    def ours() -> None:
        product = causal(gamma)
        estimate_directions(gamma, pairs, product).cosines()
        for name in pairs.names:
            of = pairs.of(name)
            metrics.parallelism(product.unembeddings(gamma[of[:, 1]] - gamma[of[:, 0]]))

    times = interleaved(args.rounds, ours=ours, bare=lambda: linalg.eigh(wide.T @ wide))
    table = Table(
        "what", "seconds", "peer", "seconds", "ratio", "target", title=f"geometry of {args.model} {gamma.shape}"
    )

    def row(what: str, mine: float, peer: str, other: float, target: str) -> None:
        table.add_row(what, f"{mine:.2f}", peer, f"{other:.2f}", f"{mine / other:.2f}", target)

    row("covariance, whitening, directions, parallelism", times["ours"], "Gram product + eigh", times["bare"], "≤ 1.5")
    for names, target in ((verdicts.COMMON_NULLS, "≤ 30 s"), (tuple(nulls.NULLS), "–")):
        taken = [full_geometry(source.representations(), pairs, names) for _ in range(3)]
        what = f"everything, 1,000 draws of {len(names)} nulls, 27 concepts, two products"
        table.add_row(what, f"{statistics.median(taken):.2f}", "–", "–", "–", target)
    lists = ";".join(
        f"{c.name}|" + " ".join(f"{a},{b}" for a, b in c.pairs if " " not in a + b) for c in load_concepts()
    )

    def cold(code: str, path: str, text: str = "") -> Callable[[], str]:
        command = [sys.executable, "-W", "ignore", "-c", code, path]
        return lambda: subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout

    folder = str(source.describe()["path"])
    jobs = {"ours": cold(OURS, folder), "hand": cold(BY_HAND, folder, lists)}
    if args.gguf:
        jobs["gguf"] = cold(BY_HAND, str(args.gguf), lists)
    answers = {name: float(job()) for name, job in jobs.items()}
    if not np.allclose(list(answers.values()), answers["ours"], atol=1e-5):
        raise SystemExit(f"the three ways do not measure the same thing: {answers}")
    times = interleaved(3, **jobs)
    row("cold process, folder", times["ours"], "transformers, folder", times["hand"], "≤ 1")
    if args.gguf:
        row("cold process, folder", times["ours"], "transformers, GGUF", times["gguf"], "≤ 0.25")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
