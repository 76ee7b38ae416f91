"""Resuming, frozen sides, settings of each seed, optimisers, and large worlds in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, Trajectory, World, fit, fit_many
from linrep.errors import InvalidInputError
from linrep.learning import checkpoints, descent, objectives
from linrep.learning.objectives import BlockTarget, Target, cross_entropy
from linrep.learning.optimizers import OPTIMIZERS

WORLD = World(ConceptGraph.random(3, 0.5, seed=1), ContextLaw.complete())
WORLDS = [World(ConceptGraph.random(3, 0.5, seed=s), ContextLaw.complete()) for s in range(40)]


class Stop(Exception):
    """Somebody presses Ctrl-C."""


def same(a: Trajectory, b: Trajectory) -> None:
    for name in ("steps", "loss", "embeddings", "unembeddings"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
):
    monkeypatch.setattr(descent, "_POLL_SECONDS", 0.002)  # so that the interrupt comes in the middle
    settings: dict[str, Any] = {"seeds": range(40), "dim": 4, "steps": 3000, "optimizer": optimizer}
    settings |= {"n_snapshots": 12, "step_size": 0.01}
    whole = fit_many(WORLDS, **settings)
    folder, calls = tmp_path / "training", []

    def stop(fraction: float) -> None:
        calls.append(fraction)
        if fraction > 0.3:
            raise Stop

    with pytest.raises(Stop):
        fit_many(WORLDS, **settings, checkpoint=folder, progress=stop)
    assert 0.3 < calls[-1] < 1
    files = sorted(folder.glob("block-*.safetensors"))
    assert files
    first: list[float] = []
    same(fit_many(WORLDS, **settings, checkpoint=folder, progress=first.append), whole)
    assert not folder.exists()  # nothing is left when training is done


def test_checkpoints_of_another_training_are_refused_and_kept(tmp_path: Path):
    def stop(fraction: float) -> None:
        raise Stop

    with pytest.raises(Stop):
        fit(WORLD, dim=3, steps=200_000, checkpoint=tmp_path, progress=stop)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert before
    for other in ({"dim": 4}, {"dim": 3, "seed": 1}, {"dim": 3, "step_size": 0.1}):
        with pytest.raises(InvalidInputError, match="checkpoints of another training"):
            fit(WORLD, steps=200_000, checkpoint=tmp_path, **other)
    with pytest.raises(InvalidInputError, match="checkpoints of another training"):
        fit(WORLDS[2], dim=3, steps=200_000, checkpoint=tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    block = tmp_path / "block-0.safetensors"
    block.write_bytes(block.read_bytes()[:100])
    with pytest.raises(InvalidInputError, match="is damaged"):
        fit(WORLD, dim=3, steps=200_000, checkpoint=tmp_path)


def test_a_write_that_fails_leaves_the_last_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept = checkpoints.Checkpoints(tmp_path, "mark")
    kept.save(0, 3, {"x": jnp.ones(4)}, [np.zeros(2)], now=True)
    whole = (tmp_path / "block-0.safetensors").read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(0, 4, {"x": jnp.zeros(4)}, [np.zeros(2)], now=True)
    assert (tmp_path / "block-0.safetensors").read_bytes() == whole
    assert kept.load(0, {"x": jnp.zeros(4)}, [np.zeros(2)]) is not None


@pytest.mark.parametrize("predictor", ["table", "factored"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_frozen_side_keeps_its_initial_values(predictor: str, optimizer: str):
    settings: dict[str, Any] = {"dim": 4, "steps": 200, "predictor": predictor, "optimizer": optimizer}
    still = fit(WORLD, **settings, frozen="embeddings")
    np.testing.assert_array_equal(still.embeddings[0, -1], still.embeddings[0, 0])
    assert np.abs(still.unembeddings[0, -1] - still.unembeddings[0, 0]).max() > 0.01
    still = fit(WORLD, **settings, frozen="unembeddings")
    np.testing.assert_array_equal(still.unembeddings[0, -1], still.unembeddings[0, 0])
    assert np.abs(still.embeddings[0, -1] - still.embeddings[0, 0]).max() > 1e-3


def test_initial_values_are_those_given():
    rng = np.random.default_rng(0)
    lam, gamma = rng.standard_normal((27, 4)), rng.standard_normal((8, 4))
    given = fit(WORLD, dim=4, steps=5, initial_embeddings=lam, initial_unembeddings=gamma)
    np.testing.assert_array_equal(given.embeddings[0, 0], lam.astype(np.float32))
    np.testing.assert_array_equal(given.unembeddings[0, 0], gamma.astype(np.float32))
    each = fit_many(WORLD, seeds=[0, 1], dim=4, steps=5, initial_embeddings=np.stack([lam, -lam]))
    np.testing.assert_array_equal(each.embeddings[1, 0], -lam.astype(np.float32))
    with pytest.raises(InvalidInputError, match=r"initial_embeddings has shape \(27, 4\): it must be \(27, 3\)"):
        fit(WORLD, dim=3, initial_embeddings=lam)
    with pytest.raises(InvalidInputError, match="not finite"):
        fit(WORLD, dim=4, initial_unembeddings=gamma * np.nan)
    with pytest.raises(InvalidInputError, match="for the table predictor"):
        fit(WORLD, dim=4, predictor="factored", initial_embeddings=lam)


def test_every_seed_may_have_its_own_settings():
    steps, scales = [0.1, 1.0, 5.0], [0.01, 0.1, 0.5]
    together = fit_many(WORLD, seeds=[3, 4, 5], dim=3, steps=50, step_size=steps, initial_scale=scales)
    for k in range(3):
        alone = fit(WORLD, seed=3 + k, dim=3, steps=50, step_size=steps[k], initial_scale=scales[k])
        np.testing.assert_array_equal(alone.unembeddings[0], together.unembeddings[k])
        assert together.representations(k).provenance["step_size"] == steps[k]
    with pytest.raises(InvalidInputError, match="2 values of step_size for 3 seeds"):
        fit_many(WORLD, seeds=[3, 4, 5], dim=3, step_size=[1.0, 2.0])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_learns(optimizer: str):
    assert fit(WORLD, dim=6, steps=3000, optimizer=optimizer).status == ("converged",)


def test_blocks_have_the_loss_and_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    world = World(ConceptGraph.random(4, 0.5, seed=2), ContextLaw.complete())
    rng = np.random.default_rng(1)
    monkeypatch.setattr(objectives, "_BLOCK_LOGITS", 200)
    with jax.enable_x64(True):
        dtype = np.dtype("float64")
        lam, gamma = jnp.asarray(rng.standard_normal((81, 3))), jnp.asarray(rng.standard_normal((16, 3)))
        whole = Target.of(world.p_context, world.p_token_given_context(), dtype)
        blocks = BlockTarget.of(world.p_context, world.p_token_given_context_blocks(10), 16, dtype)
        assert len(blocks.joint) > 3
        np.testing.assert_allclose(blocks.joint.sum(), 1)
        of_whole, of_blocks = (
            jax.value_and_grad(cross_entropy, argnums=(0, 1))(lam, gamma, target) for target in (whole, blocks)
        )
        for a, b in zip(jax.tree.leaves(of_blocks), jax.tree.leaves(of_whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_a_large_world_trains_in_blocks():
    world = World(ConceptGraph.random(8, 0.5, seed=0), ContextLaw.complete())
    trained = fit(world, dim=8, steps=100, step_size=25.0, n_snapshots=3)
    assert (np.diff(trained.loss[0]) < 0).all()
