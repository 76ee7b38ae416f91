"""γ-side geometry of checkpoints of 7B and 70B size: peak memory, and CPU time against the bare linear algebra.

    python benchmarks/bench_large_models.py [--size 7b 70b] [--rounds 1] [--scratch FOLDER]

A sharded BF16 checkpoint is written into a temporary folder: a random output matrix among other tensors that are holes
in sparse files, so that 13 GB (or 130 GB) of checkpoint take the space of one matrix. Each measurement is a process of
its own. ``geometry`` opens the folder, builds the causal product and the two Euclidean ones, and measures parallelism,
directions and heat map of 27 concepts; ``with nulls`` adds 200 redraws of every null; ``bare`` is the covariance by one
symmetric product of the centred float64 matrix and `eigh`, with nothing read from disk (blockwise at 70B size, where
that matrix would be 8 GB). Nothing here fails for being slow, only for being wrong.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np

SIZES = {"7b": (32_000, 4_096, 32), "70b": (128_256, 8_192, 80)}  # tokens, width, layers

BARE = """
import sys
import numpy as np
from scipy import linalg
n, dim = int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
step = n if n * dim < 2e8 else 8192
c = np.zeros((dim, dim))
block = rng.standard_normal((step, dim))
start = cpu()
for at in range(0, n, step):
    part = block[: min(step, n - at)]
    part = part - part.mean(axis=0)
    c += part.T @ part
values, vectors = linalg.eigh(c / n, driver="evd", overwrite_a=True)
taken, answer = cpu() - start, bool(values[0] > 0)
"""

GEOMETRY = """
import sys
import numpy as np
from linrep.geometry.measure import measure
from linrep.geometry.pairs import ConceptPairs
from linrep.models.source import open_model
folder, draws = sys.argv[1], int(sys.argv[4])
rng = np.random.default_rng(1)
start = cpu()
r = open_model(folder).representations()
rows = rng.choice(r.n_tokens - 600, (27, 30, 2), replace=False) + 600
pairs = ConceptPairs.from_lists({f"c{i}": [(a, b) for a, b in of.tolist()] for i, of in enumerate(rows)})
measured = measure(r, pairs, draws=max(draws, 1), **({"null_names": ()} if draws == 0 else {}))
taken = cpu() - start
table = measured.measurements.where(metric="parallelism", inner_product="causal", null=None).table
answer = bool(np.isfinite(table["value"].to_numpy()).all() and len(table) == 27)
"""

_HEAD = """
import resource
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
"""
_TAIL = """
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, answer)
"""


def write_tokenizer(folder: Path, n: int) -> None:
    """A byte-level vocabulary of n made-up words, most of them with a space before them."""
    letters = "abcdefghijklmnopqrstuvwxyz"

    def word(i: int) -> str:
        return "".join(letters[i // 26**k % 26] for k in range(4))

    vocabulary = {("" if i % 5 == 0 else "Ġ") + word(i): i for i in range(n)}
    content = {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        "pre_tokenizer": {"type": "ByteLevel"},
        "added_tokens": [],
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def write_shard(path: Path, tensors: dict[str, tuple[int, ...]], matrix: np.ndarray | None = None) -> None:
    """A safetensors file of BF16 tensors: holes, but for the first when its numbers are given."""
    header, at = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        if matrix is not None:
            matrix.tofile(f)
        f.truncate(8 + len(text) + at)


def write_checkpoint(folder: Path, n: int, dim: int, layers: int) -> int:
    """A LLaMA-like folder; returns the bytes it claims to have."""
    write_tokenizer(folder, n)
    config = {"model_type": "llama", "hidden_size": dim, "num_hidden_layers": layers, "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(config))
    rng, matrix = np.random.default_rng(0), np.empty((n, dim), ml_dtypes.bfloat16)
    scale = np.geomspace(3, 0.3, dim, dtype=np.float32)  # a spectrum, not a ball
    for start in range(0, n, 4096):
        part = matrix[start : start + 4096]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32) * scale + 0.5
    shards: list[dict[str, tuple[int, ...]]] = [{"lm_head.weight": (n, dim), "model.embed_tokens.weight": (n, dim)}]
    for layer in range(layers):
        p = f"model.layers.{layer}."
        attention = {p + f"self_attn.{x}_proj.weight": (dim, dim) for x in "qkvo"}
        mlp = {p + f"mlp.{x}_proj.weight": (int(2.7 * dim), dim) for x in ("gate", "up", "down")}
        shards.append(attention | mlp)
    places = {}
    for i, tensors in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_shard(folder / file, tensors, matrix if i == 0 else None)
        places |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return sum(p.stat().st_size for p in folder.glob("*.safetensors"))


def run(code: str, folder: Path, n: int, dim: int, draws: int = 0) -> tuple[float, float]:
    """CPU seconds and peak GB of one process."""
    command = [sys.executable, "-c", _HEAD + code + _TAIL, str(folder), str(n), str(dim), str(draws)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    taken, peak, answer = done.stdout.split()[-3:]
    assert answer == "True", "the answer is wrong"
    return float(taken), float(peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["7b"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="where the checkpoint is written (default: the system's)")
    parser.add_argument("--skip-nulls", action="store_true")
    options = parser.parse_args()
    for size in options.size:
        n, dim, layers = SIZES[size]
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            folder = Path(scratch)
            claimed = write_checkpoint(folder, n, dim, layers)
            print(f"{size}: γ {n:,} × {dim:,} BF16 in a checkpoint of {claimed / 2**30:.1f} GB")
            ways = {"bare": (BARE, 0), "geometry": (GEOMETRY, 0), "with nulls": (GEOMETRY, 200)}
            if options.skip_nulls:
                del ways["with nulls"]
            seen: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, (code, draws) in ways.items():
                    seen[name].append(run(code, folder, n, dim, draws))
            medians = {name: statistics.median(t for t, _ in of) for name, of in seen.items()}
            for name, of in seen.items():
                ratio = medians[name] / medians["bare"]
                peak = max(p for _, p in of)
                print(
                    f"  {name:11s} {medians[name]:8.1f} s CPU ({ratio:.2f} of bare)   peak {peak:5.2f} GB", flush=True
                )


if __name__ == "__main__":
    main()
