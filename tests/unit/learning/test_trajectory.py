"""Trajectories: how a seed ended, handing over to the geometry, and files."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from linrep.errors import InvalidInputError, StorageError
from linrep.learning.training import fit_many
from linrep.learning.trajectory import Trajectory
from linrep.worlds.contexts import ContextLaw
from linrep.worlds.presets import preset
from linrep.worlds.world import World

WORLD = preset("royalty")


@pytest.fixture(scope="module")
def trained() -> Trajectory:
    return fit_many(WORLD, seeds=[7, 8], dim=3, steps=30, n_snapshots=4)


def ended(loss: float, *, embedding: float = 1.0) -> str:
    """Status of a seed with floor 1, untrained loss 2 and this final loss."""
    return Trajectory(
        steps=np.array([0, 10]),
        seeds=np.array([0]),
        loss=np.array([[2.0, loss]]),
        floor=np.array([1.0]),
        embeddings=np.full((1, 2, 3, 2), embedding, np.float32),
        unembeddings=np.ones((1, 2, 4, 2), np.float32),
        token_frequency=np.full((1, 4), 0.25),
        worlds=("w",),
        tokens=(("00", "01", "10", "11"),),
        contexts=(("0", "1", "⋄"),),
        settings={},
    ).status[0]


def test_how_a_seed_ended():
    assert ended(1.0199) == "converged"
    assert ended(1.0201) == "max_steps"
    assert ended(1.9999) == "max_steps"
    assert ended(2.0001) == "diverged"
    assert ended(np.inf) == ended(np.nan) == "nonfinite"
    assert ended(1.0, embedding=np.nan) == ended(1.0, embedding=-np.inf) == "nonfinite"


def test_excess_and_converged_follow_from_loss_and_floor(trained):
    np.testing.assert_array_equal(trained.excess, trained.loss - WORLD.entropy_floor())
    np.testing.assert_array_equal(trained.converged, trained.excess[:, -1] < 0.02)
    close = replace(trained, floor=trained.loss[:, -1] - [0.01, 0.03])
    assert close.converged.tolist() == [True, False]


def test_representations_are_a_snapshot_of_a_seed(trained):
    r = trained.representations(1, 2)
    np.testing.assert_array_equal(r.embeddings, trained.embeddings[1, 2])
    np.testing.assert_array_equal(r.unembeddings, trained.unembeddings[1, 2])
    assert r.tokens == WORLD.token_names
    assert r.contexts == WORLD.context_names
    np.testing.assert_array_equal(r.token_frequency, WORLD.p_token())
    assert r.provenance == {
        "world": WORLD.name,
        "dim": 3,
        "predictor": "table",
        "optimizer": "gradient_descent",
        "step_size": 5.0,
        "steps": 30,
        "initial_scale": 0.01,
        "n_snapshots": 4,
        "precision": "float32",
        "seed": 8,
        "step": int(trained.steps[2]),
    }
    np.testing.assert_array_equal(trained.representations().embeddings, trained.embeddings[0, -1])


@pytest.mark.parametrize(
    ("where", "message"),
    [((2, 0), "seed_index is 2 but there are 2: use -2..1"), ((0, 4), "snapshot is 4 but there are 4: use -4..3")],
)
def test_no_such_seed_or_snapshot(trained, where, message):
    with pytest.raises(InvalidInputError, match=message):
        trained.representations(*where)


def assert_same(a: Trajectory, b: Trajectory) -> None:
    for name in ("steps", "seeds", "loss", "floor", "embeddings", "unembeddings", "token_frequency"):
        one, other = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for name in ("worlds", "tokens", "contexts", "settings", "status"):
        assert getattr(a, name) == getattr(b, name)


def test_a_file_gives_back_the_trajectory(trained, tmp_path):
    trained.save(tmp_path / "t.safetensors")
    assert_same(Trajectory.load(tmp_path / "t.safetensors"), trained)
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


def test_a_file_keeps_labels_that_differ_between_seeds_and_values_that_are_not_finite(tmp_path):
    worlds = [World(WORLD.graph, ContextLaw.kept(0.5, seed)) for seed in (0, 1)]
    trained = fit_many(worlds, seeds=[0, 1], dim=2, step_size=1e30, steps=9, n_snapshots=2)
    assert trained.contexts[0] != trained.contexts[1]
    assert trained.status == ("nonfinite", "nonfinite")
    trained.save(tmp_path / "t.safetensors")
    assert_same(Trajectory.load(tmp_path / "t.safetensors"), trained)


def test_files_that_are_no_trajectories(trained, tmp_path):
    path = tmp_path / "t.safetensors"
    with pytest.raises(StorageError, match="no trajectory at"):
        Trajectory.load(path)
    trained.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidInputError, match="not a whole safetensors file"):
        Trajectory.load(path)
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(InvalidInputError, match="not a trajectory of linrep"):
        Trajectory.load(path)


def test_a_place_that_cannot_be_written_leaves_nothing(trained, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="cannot write the trajectory to"):
        trained.save(tmp_path / "taken")
    with pytest.raises(StorageError, match="cannot write the trajectory to"):
        trained.save(tmp_path / "missing" / "t.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
