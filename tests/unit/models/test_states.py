"""States kept on disk: computed once, never half, never another model's; with a model that needs no torch."""

from __future__ import annotations

import concurrent.futures
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linrep.errors import InvalidInputError, StorageError
from linrep.models import states
from linrep.models.states import LAMBDA, Site, read_states

WIDTH = 6
TEXTS = tuple("x" * (2 + i * 7 % 5) + chr(97 + i % 26) * (i // 26) for i in range(90))


@dataclass
class Fake:
    """A model whose state is a function of fingerprint, tokens and site; counts the texts it has run."""

    fingerprint: str = "f" * 64
    batch: int = 4
    ran: list[tuple[int, tuple[Site, ...]]] = field(default_factory=list)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        if any(len(t) < 2 for t in texts):
            raise InvalidInputError("too short")
        return [list(map(ord, text)) for text in texts]

    def batches(self, rows, sites, *, done=0):
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(done, len(order), self.batch):
            at = np.array(order[start : start + self.batch])
            self.ran.append((len(at), tuple(sites)))
            yield at, {site: np.stack([self.state(rows[i], site) for i in at.tolist()]) for site in sites}

    def state(self, row: list[int], site: Site) -> np.ndarray:
        seed = [*row, *self.fingerprint.encode(), *str(site).encode()]
        return np.random.default_rng(seed).standard_normal(WIDTH if site == LAMBDA else WIDTH + 2).astype(np.float32)

    @property
    def n_ran(self) -> int:
        return sum(n for n, _ in self.ran)


def check(model: Fake, found, texts=TEXTS) -> None:
    for site, values in found.items():
        wanted = np.stack([model.state(list(map(ord, t)), site) for t in texts])
        np.testing.assert_array_equal(values, wanted)


def test_a_second_call_runs_nothing(tmp_path):
    model = Fake()
    check(model, read_states(model, TEXTS, (LAMBDA, 3), cache=tmp_path))
    assert model.n_ran == len(TEXTS)
    again = Fake()
    check(again, read_states(again, TEXTS, (3, LAMBDA), cache=tmp_path))
    assert again.n_ran == 0


def test_only_the_sites_that_are_missing_are_computed(tmp_path):
    model = Fake()
    read_states(model, TEXTS, (1,), cache=tmp_path)
    check(model, read_states(model, TEXTS, (1, 2, LAMBDA), cache=tmp_path))
    assert {sites for _, sites in model.ran} == {(1,), (2, LAMBDA)}


@given(
    change=st.sampled_from(["fingerprint", "a text", "the order", "one text less"]),
    sites=st.lists(st.sampled_from([LAMBDA, 0, 1]), min_size=1, unique=True),
)
@settings(max_examples=20, deadline=None)
def test_what_decides_the_numbers_decides_the_key(tmp_path_factory, change, sites):
    cache = tmp_path_factory.mktemp("states")
    read_states(Fake(), TEXTS, sites, cache=cache)
    texts = {
        "a text": (*TEXTS[:-1], TEXTS[-1] + "!"), "the order": TEXTS[::-1], "one text less": TEXTS[1:],
    }.get(change, TEXTS)  # fmt: skip
    other = Fake(fingerprint=("g" if change == "fingerprint" else "f") * 64)
    check(other, read_states(other, texts, sites, cache=cache), texts)
    assert other.n_ran == len(texts)


def test_no_texts(tmp_path):
    assert len(read_states(Fake(), (), (LAMBDA,), cache=tmp_path)[LAMBDA]) == 0


def test_bad_texts_leave_nothing(tmp_path):
    with pytest.raises(InvalidInputError):
        read_states(Fake(), ["ab", "c"], cache=tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_an_interrupted_pass_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "_EVERY", 3)
    model = Fake()

    def stop(_what: str, done: int, _of: int) -> None:
        if done >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path, progress=stop)
    first = model.n_ran
    check(model, read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path))
    assert model.n_ran < first + len(TEXTS)
    # 60 texts were done, 60 of them noted (every third batch of four).
    assert model.n_ran - first == len(TEXTS) - 60


def test_a_pass_over_other_sites_does_not_take_up_what_is_not_its_own(tmp_path, monkeypatch):
    """A note of an earlier pass must not vouch for arrays that a later pass has begun anew."""
    monkeypatch.setattr(states, "_EVERY", 1)

    def stop_at(n: int):
        def stop(_what: str, done: int, _of: int) -> None:
            if done >= n:
                raise KeyboardInterrupt

        return stop

    model = Fake()
    for sites, stop in (((LAMBDA, 1), stop_at(60)), ((1,), stop_at(0)), ((1,), stop_at(4))):
        with pytest.raises(KeyboardInterrupt):
            read_states(model, TEXTS, sites, cache=tmp_path, progress=stop)
    check(model, read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path))


KILLED = """
import os, sys
from pathlib import Path
from linrep.models import states
from tests.unit.models.test_states import Fake, TEXTS
states._EVERY = 1
at = int(sys.argv[2])
if at < 0:  # between two renames
    replace = Path.replace
    def once(path, target):
        replace(path, target)
        if str(target).endswith(".npy"):
            os.kill(os.getpid(), 9)
    Path.replace = once
def stop(what, done, of):
    if done >= at >= 0:
        os.kill(os.getpid(), 9)
states.read_states(Fake(), TEXTS, ("λ", 1, 2), cache=Path(sys.argv[1]), progress=stop)
"""


@pytest.mark.parametrize(("at", "again"), [(0, 90), (4, 86), (44, 46), (88, 2), (90, 0), (-1, 90)])
def test_killed_while_caching(tmp_path, at, again):
    """kill -9 at any moment: the next call gives the right numbers and runs the texts that were not noted.

    Between two renames the files that have no name yet are computed anew: the note speaks of all of them.
    """
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(at)], cwd=Path.cwd(), check=False)
    assert done.returncode == -9
    model = Fake()
    check(model, read_states(model, TEXTS, (LAMBDA, 1, 2), cache=tmp_path))
    assert model.n_ran == again
    left = sorted(p.name for p in tmp_path.glob("*/*/*") if p.name != ".lock")
    assert left == ["lambda.npy", "layer-1.npy", "layer-2.npy"]


@pytest.mark.parametrize("damage", ["cut", "empty", "another shape", "no array"])
def test_a_file_damaged_later_is_computed_again(tmp_path, damage):
    model = Fake()
    read_states(model, TEXTS, (1,), cache=tmp_path)
    (path,) = tmp_path.glob("*/*/layer-1.npy")
    content = path.read_bytes()
    if damage == "another shape":
        np.save(path, np.zeros((3, WIDTH), np.float32))
    else:
        path.write_bytes({"cut": content[:-40], "empty": b"", "no array": b"x" * len(content)}[damage])
    check(model, read_states(model, TEXTS, (1,), cache=tmp_path))
    assert model.n_ran == 2 * len(TEXTS)


def test_full_disk(tmp_path):
    """The kernel refuses files of this size: said before the pass, in one line, and nothing is taken for finished."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    model = Fake()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(StorageError) as caught:
            read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    says = str(caught.value)
    assert "cannot keep states" in says and "LINREP_CACHE" in says and "\n" not in says
    assert model.n_ran <= model.batch
    assert not list(tmp_path.glob("*/*/*.npy"))
    check(model, read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "states").write_text("a file")
    with pytest.raises(StorageError, match="cannot keep states"):
        read_states(Fake(), TEXTS, cache=tmp_path / "states")


def test_two_at_once_run_one_pass(tmp_path):
    model = Fake()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: read_states(model, TEXTS, (LAMBDA, 1), cache=tmp_path), range(2)):
            check(model, found)
    assert model.n_ran == len(TEXTS)


def test_the_entries_not_used_for_longest_go_first(tmp_path, monkeypatch):
    entries = {}
    for k, name in enumerate("abc"):
        read_states(Fake(fingerprint=name * 64), TEXTS, cache=tmp_path)
        (entries[name],) = (tmp_path / (name * 32)).iterdir()
        os.utime(entries[name], (1000.0 + k, 1000.0 + k))
    size = sum(f.stat().st_size for f in entries["a"].iterdir())
    read_states(Fake(fingerprint="a" * 64), TEXTS, cache=tmp_path)  # used now
    monkeypatch.setattr(states, "_LIMIT", 3 * size)
    read_states(Fake(fingerprint="d" * 64), TEXTS, cache=tmp_path)
    assert entries["a"].exists() and not entries["b"].exists() and entries["c"].exists()


def test_an_entry_that_may_be_in_work_stays(tmp_path, monkeypatch):
    read_states(Fake(fingerprint="a" * 64), TEXTS, cache=tmp_path)
    monkeypatch.setattr(states, "_LIMIT", 1)
    read_states(Fake(fingerprint="b" * 64), TEXTS, cache=tmp_path)
    assert len(list(tmp_path.glob("*/*/lambda.npy"))) == 2


def test_the_default_folder_is_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(states, "cache_folder", lambda: tmp_path)
    read_states(Fake(), TEXTS)
    assert list(tmp_path.glob("states/*/*/lambda.npy"))
