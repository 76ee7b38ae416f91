"""A full-factorial sweep of about 1,000 small runs, compilation included: wall and CPU time of a fresh process.

    python benchmarks/bench_sweep.py [--seeds 21] [--warm]

The default grid of `linrep sweep`: m = 2, 3, 4; d/m = 1, 2; both laws; descent and Adam; two initial scales; 21 seeds
each, 1,008 runs, each to an excess loss below 0.02 nats or 5,000 steps. The cache of compiled programs is empty at
first; --warm runs it once more with the cache that this left. CPU time is that of all threads, and what to compare
on a shared machine. Nothing here fails for being slow.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

TARGET_SECONDS = 180
COMMAND = [sys.executable, "-c", "from linrep.cli.app import main; main()", "sweep"]


def timed(seeds: int, out: Path, cache: Path) -> tuple[float, float]:
    """Wall and CPU seconds of one sweep in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    environment = os.environ | {"LINREP_CACHE": str(cache)}
    subprocess.run([*COMMAND, "--seeds", str(seeds), "--out", str(out)], check=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="a sweep of 1,000 small runs")
    parser.add_argument("--seeds", type=int, default=21, help="of each of the 48 combinations")
    parser.add_argument("--warm", action="store_true", help="once more with the programs compiled")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("cold", "warm") if arguments.warm else ("cold",):
            wall, cpu = timed(arguments.seeds, Path(folder) / name, Path(folder) / "cache")
            runs = pl.read_parquet(Path(folder) / name / "runs.parquet")
            status = runs["status"].value_counts().sort("status")
            print(
                f"{name}: {len(runs)} runs in {wall:.1f} s of wall time, {cpu:.1f} s of CPU time on {os.cpu_count()} "
                f"cores, load {os.getloadavg()[0]:.1f} (target {TARGET_SECONDS} s); "
                + ", ".join(f"{n} {s}" for s, n in status.iter_rows())
            )


if __name__ == "__main__":
    main()
