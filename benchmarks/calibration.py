"""What a p-value and a verdict of linrep are worth: rates on nonsense, power on planted directions.

    python benchmarks/calibration.py [--model smollm2-135m] [--random 5000] [--structured 300] [--draws 199]

For each inner product it prints the rejection rate at 5 % of every null on random-word concepts, with the 99.9 %
binomial band; for each type of structured nonsense the rate of every null and verdict and the quantiles of its
parallelism (the effect floor comes from them); the false-discovery rate when nonsense of each type is mixed with the
built-in concepts; and the power for planted directions. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binom

from linrep import load_concepts, open_model
from linrep.concepts.load import token_pairs
from linrep.geometry import metrics, nulls, verdicts
from linrep.geometry.inner_products import INNER_PRODUCTS
from linrep.geometry.representations import Representations

N_PAIRS = 30
BATCH = 27  # concepts in one run, over which Benjamini–Hochberg adjusts
console = Console(width=200)


@dataclass(frozen=True)
class Vocabulary:
    """Rows of the pool by kind, the model's words in the common space, and real lists."""

    model: nulls.NullModel
    text: tuple[str, ...]
    lists: tuple[np.ndarray, ...]  # columns of the built-in concepts, as rows of γ

    def rows(self, surface: str | None = None) -> np.ndarray:
        """Rows of the pool, of one case if asked, by increasing frequency."""
        pool = self.model.pool
        if surface is None:
            return pool.rows
        return pool.rows[pool.by_class[surface]]

    @cached_property
    def unit_words(self) -> np.ndarray:
        """Every word of the pool at unit length, as it is stored (not centred)."""
        return metrics.unit(self.model.carry(self.model.pool.rows)).astype(np.float32)

    def position(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of γ stand in the pool."""
        return np.searchsorted(self.model.pool.rows, rows)

    def nearest(self, words: np.ndarray, among: np.ndarray) -> np.ndarray:
        """Each word with the most similar other word among some; nobody twice, never the same letters."""
        cosines = self.unit_words[self.position(words)] @ self.unit_words[self.position(among)].T
        pairs, taken = [], set(words.tolist())
        for word, row in zip(words.tolist(), cosines, strict=True):
            order = among[np.argsort(-row)].tolist()
            same = self.text[word].lower()
            other = next(o for o in order if o not in taken and self.text[o].lower() != same)
            taken.add(other)
            pairs.append((word, other))
        return np.array(pairs)


Maker = Callable[[Vocabulary, np.random.Generator], np.ndarray]


def two_groups(rng: np.random.Generator, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Random pairs, negatives from a and positives from b, no word twice."""
    first = rng.choice(a, N_PAIRS, replace=False)
    return np.stack([first, rng.choice(np.setdiff1d(b, first), N_PAIRS, replace=False)], axis=1)


def random_words(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Unrelated words."""
    return two_groups(rng, v.rows(), v.rows())


def case_gap(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Unrelated words, lower case to capitalised."""
    return two_groups(rng, v.rows("lower"), v.rows("capitalised"))


def frequency_gap(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Unrelated lower-case words, most frequent quarter to least frequent quarter."""
    lower = v.rows("lower")
    quarter = len(lower) // 4
    return two_groups(rng, lower[-quarter:], lower[:quarter])


def two_lists(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Words of two lists without any pairing: the columns of two concepts (up to 30 pairs)."""
    i, j = rng.choice(len(v.lists), 2, replace=False)
    a, b = rng.permutation(v.lists[i]), rng.permutation(np.setdiff1d(v.lists[j], v.lists[i]))
    n = min(len(a), len(b), N_PAIRS)
    return np.stack([a[:n], b[:n]], axis=1)


def hub(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """One word against thirty unrelated ones."""
    words = rng.choice(v.rows(), N_PAIRS + 1, replace=False)
    pairs = np.stack([np.full(N_PAIRS, words[0]), words[1:]], axis=1)
    return pairs if rng.random() < 0.5 else pairs[:, ::-1]


def hubs_on_both_sides(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Three words against fifteen unrelated ones, and fifteen others against three."""
    words = rng.choice(v.rows(), N_PAIRS + 6, replace=False)
    half = N_PAIRS // 2
    left = np.stack([np.repeat(words[:3], half // 3), words[6 : 6 + half]], axis=1)
    right = np.stack([words[6 + half :], np.repeat(words[3:6], half // 3)], axis=1)
    return np.concatenate([left, right])


def few_partners(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """One-to-many: five words, each against six unrelated ones."""
    words = rng.choice(v.rows(), N_PAIRS + 5, replace=False)
    return np.stack([words[5:], np.repeat(words[:5], 6)], axis=1)


def nearest_word(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Each word with its most similar word."""
    return v.nearest(rng.choice(v.rows(), N_PAIRS, replace=False), v.rows())


def related_case_gap(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Lower-case words, each with its most similar capitalised other word."""
    return v.nearest(rng.choice(v.rows("lower"), N_PAIRS, replace=False), v.rows("capitalised"))


def related_frequency_gap(v: Vocabulary, rng: np.random.Generator) -> np.ndarray:
    """Frequent words, each with its most similar infrequent word."""
    lower = v.rows("lower")
    quarter = len(lower) // 4
    return v.nearest(rng.choice(lower[-quarter:], N_PAIRS, replace=False), lower[:quarter])


STRUCTURED: dict[str, Maker] = {
    "case gap": case_gap,
    "frequency gap": frequency_gap,
    "two lists": two_lists,
    "hub word": hub,
    "hubs on both sides": hubs_on_both_sides,
    "one-to-many": few_partners,
    "nearest word": nearest_word,
    "related, case gap": related_case_gap,
    "related, frequency gap": related_frequency_gap,
}


@dataclass(frozen=True)
class Tested:
    """Parallelism and raw p-values of many concepts."""

    n_pairs: np.ndarray
    parallelism: np.ndarray
    p: dict[str, np.ndarray]
    inner_product: str

    def take(self, index: np.ndarray) -> Tested:
        """Some of the concepts."""
        p = {k: p[index] for k, p in self.p.items()}
        return Tested(self.n_pairs[index], self.parallelism[index], p, self.inner_product)

    def verdicts(self) -> tuple[str, ...]:
        """Verdicts when these concepts are one run."""
        return verdicts.decide(self.n_pairs, self.parallelism, self.p, self.inner_product).verdict


def join(parts: list[Tested]) -> Tested:
    """Stack tests."""
    return Tested(
        np.concatenate([t.n_pairs for t in parts]),
        np.concatenate([t.parallelism for t in parts]),
        {k: np.concatenate([t.p[k] for t in parts]) for k in parts[0].p},
        parts[0].inner_product,
    )


def test_one(model: nulls.NullModel, pairs: np.ndarray, draws: int, rng: np.random.Generator) -> Tested:
    """Every null on one concept."""
    ends = model.carry(pairs)
    value = float(metrics.parallelism(ends[:, 1] - ends[:, 0]))
    p = {n: np.array([nulls.p_value(value, f(model, pairs, draws, rng))]) for n, f in nulls.NULLS.items()}
    return Tested(np.array([len(pairs)]), np.array([value]), p, model.inner_product.name)


def test_many(v: Vocabulary, maker: Maker, count: int, draws: int, seed: int, what: str) -> Tested:
    """Every null on many nonsense concepts of one type."""
    rng = np.random.default_rng(seed)
    loop = track(range(count), description=f"{v.model.inner_product.name}: {what}", transient=True)
    return join([test_one(v.model, maker(v, rng), draws, rng) for _ in loop])


def verdict_rates(tested: Tested, real: Tested, rng: np.random.Generator) -> tuple[float, float, float]:
    """Share called common and pair-specific in runs of one type, and false discoveries beside the real concepts."""
    called = np.concatenate(
        [
            tested.take(np.arange(i, min(i + BATCH, len(tested.n_pairs)))).verdicts()
            for i in range(0, len(tested.n_pairs), BATCH)
        ]
    )
    specific = called == verdicts.SPECIFIC
    common = specific | (called == verdicts.COMMON)
    false_share = []
    for _ in range(50):
        some = rng.choice(len(tested.n_pairs), BATCH, replace=False)
        said = np.array(join([real, tested.take(some)]).verdicts())
        found = (said == verdicts.COMMON) | (said == verdicts.SPECIFIC)
        false_share.append(found[len(real.n_pairs) :].sum() / max(1, found.sum()))
    return float(common.mean()), float(specific.mean()), float(np.mean(false_share))


def plant(v: Vocabulary, pairs: np.ndarray, strength: float, rng: np.random.Generator) -> nulls.NullModel:
    """The same model with one direction added to the positives, for an expected cosine of ``strength``.

    Noise is realistic: the differences of nearest words. Each is given a part of length √(s/(1−s)) times its own.
    """
    gamma = v.model.unembeddings.copy()
    root = v.model.inner_product
    direction = metrics.unit(rng.standard_normal(root.dim))
    ends = v.model.carry(pairs)
    length = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    # The roots of the two sides are inverse to each other: the λ-side root leads back to γ's coordinates.
    added = root.embeddings(direction[None] * length[:, None] * np.sqrt(strength / (1 - strength)))
    gamma[pairs[:, 1]] += added.astype(gamma.dtype)
    return replace(v.model, unembeddings=gamma)


def power(v: Vocabulary, strength: float, count: int, draws: int, seed: int) -> tuple[float, float]:
    """Median measured parallelism of planted concepts, and the share called a common direction."""
    rng = np.random.default_rng(seed)
    tests = []
    for _ in track(range(count), description=f"planted {strength:.2f}", transient=True):
        pairs = nearest_word(v, rng)
        tests.append(test_one(plant(v, pairs, strength, rng), pairs, draws, rng))
    tested = join(tests)
    called = [w for i in range(0, count, BATCH) for w in tested.take(np.arange(i, min(i + BATCH, count))).verdicts()]
    return float(np.median(tested.parallelism)), float(
        np.mean([w in (verdicts.COMMON, verdicts.SPECIFIC) for w in called])
    )


def report(v: Vocabulary, real_pairs: list[np.ndarray], args: argparse.Namespace) -> None:
    """All tables of one inner product."""
    name = v.model.inner_product.name
    rng = np.random.default_rng(args.seed)
    real = join([test_one(v.model, pairs, 999, rng) for pairs in real_pairs])
    said = real.verdicts()
    console.print(
        f"\n[bold]{name}[/]: {len(real_pairs)} built-in concepts, median parallelism "
        f"{np.median(real.parallelism):.3f}; " + ", ".join(f"{said.count(w)} {w}" for w in sorted(set(said)))
    )
    if args.random:
        low, high = binom.interval(0.999, args.random, 0.05)
        tested = test_many(v, random_words, args.random, args.draws, args.seed, "random words")
        table = Table(
            "null", "rejected at 5 %", f"99.9 % band for {args.random}", title=f"{name}: random words, {N_PAIRS} pairs"
        )
        for null, p in tested.p.items():
            table.add_row(null, f"{np.mean(p <= 0.05):.4f}", f"{low / args.random:.4f}–{high / args.random:.4f}")
        console.print(table)
    table = Table(
        "nonsense",
        *nulls.NULLS,
        "common",
        "pair-specific",
        "FDR with real",
        "median",
        "95 %",
        title=f"{name}: rejection rates at 5 % and verdicts on structured nonsense",
    )
    for what, maker in STRUCTURED.items():
        tested = test_many(v, maker, args.structured, args.draws, args.seed, what)
        rates = [f"{np.mean(p <= 0.05):.2f}" for p in tested.p.values()]
        common, specific, fdr = verdict_rates(tested, real, rng)
        table.add_row(
            what,
            *rates,
            f"{common:.3f}",
            f"{specific:.3f}",
            f"{fdr:.3f}",
            f"{np.median(tested.parallelism):.3f}",
            f"{np.quantile(tested.parallelism, 0.95):.3f}",
        )
    console.print(table)
    table = Table("planted", "measured median", "called a common direction", title=f"{name}: power, {N_PAIRS} pairs")
    for strength in args.strengths:
        table.add_row(f"{strength:.2f}", *(f"{x:.3f}" for x in power(v, strength, args.power, args.draws, args.seed)))
    console.print(table)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--random", type=int, default=5000, help="random-word concepts; 0 leaves that table out")
    parser.add_argument("--structured", type=int, default=300)
    parser.add_argument("--power", type=int, default=108)
    parser.add_argument("--draws", type=int, default=199)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strengths", type=float, nargs="*", default=[0.05, 0.1, 0.15, 0.2, 0.3])
    parser.add_argument(
        "--inner-products", nargs="*", default=["euclidean", "causal", "euclidean without top component"]
    )
    args = parser.parse_args()
    source = open_model(args.model)
    real = source.representations()
    pairs = token_pairs(load_concepts(), source.vocabulary().find)
    real_pairs = [pairs.of(n) for n, k in zip(pairs.names, pairs.n_pairs, strict=True) if k >= verdicts.MIN_PAIRS]
    weights = np.random.default_rng(args.seed).standard_normal(real.unembeddings.shape, dtype=np.float32)
    untrained = replace(real, unembeddings=weights * real.unembeddings.std())
    for name in args.inner_products:
        report(vocabulary(real, name, real_pairs), real_pairs, args)
        random_model = vocabulary(untrained, name, real_pairs).model
        rng = np.random.default_rng(args.seed)
        said = join([test_one(random_model, p, 999, rng) for p in real_pairs]).verdicts()
        console.print(
            f"{name}: the built-in concepts on random weights: "
            + ", ".join(f"{said.count(w)} {w}" for w in sorted(set(said)))
        )


def vocabulary(r: Representations, inner_product: str, real_pairs: list[np.ndarray]) -> Vocabulary:
    """Everything the makers draw from."""
    pool = nulls.WordPool.of(r)
    model = nulls.NullModel.of(r, INNER_PRODUCTS[inner_product](r.unembeddings), pool)
    lists = tuple(np.unique(p[:, k]) for p in real_pairs for k in (0, 1))
    return Vocabulary(model, r.tokens or (), tuple(x for x in lists if len(x) >= verdicts.MIN_PAIRS))


if __name__ == "__main__":
    main()
