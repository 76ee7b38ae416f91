"""Networks are trained as tables are: they learn, a frozen side stays, and a seed does not see its neighbours.

A transformer takes seconds to compile, so the tests share one shape and the optimisers are divided among the networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, World, fit, fit_many
from linrep.learning.optimizers import OPTIMIZERS, STEP_SIZES
from linrep.worlds.sentences import SentenceWorld

PLAIN = World(ConceptGraph.random(3, 0.5, seed=1), ContextLaw.complete())
SENTENCES = SentenceWorld(PLAIN, mentions=1)
COMBINATIONS = [*(("mlp", optimizer) for optimizer in OPTIMIZERS), ("transformer", "gradient_descent")]


@pytest.mark.parametrize(("name", "optimizer"), COMBINATIONS)
def test_the_excess_falls_at_the_defaults(name, optimizer):
    """Default step size and initial scale 0.01: no combination stands still or diverges.

    Small values are a saddle of the loss, which the transformer leaves slowly without Adam.
    """
    t = fit(SENTENCES, dim=6, predictor=name, optimizer=optimizer, steps=400, n_snapshots=2)
    assert t.settings["step_size"] == STEP_SIZES[optimizer, name]
    assert t.settings["initial_scale"] == 0.01
    assert t.excess[0, -1] < t.excess[0, 0] - 0.01
    assert t.excess.min() > -1e-6


@pytest.mark.parametrize(
    ("name", "still", "moving"),
    [
        ("mlp", "embeddings", "unembeddings"),
        ("mlp", "unembeddings", "embeddings"),
        ("transformer", "embeddings", "unembeddings"),
    ],
)
def test_a_frozen_side_keeps_its_initial_values(name, still, moving):
    settings: dict[str, Any] = {"dim": 6, "steps": 20, "predictor": name, "optimizer": "adamw", "n_snapshots": 2}
    t = fit(SENTENCES, **settings, initial_scale=0.5, frozen=still)
    np.testing.assert_array_equal(getattr(t, still)[0, -1], getattr(t, still)[0, 0])
    assert np.abs(getattr(t, moving)[0, -1] - getattr(t, moving)[0, 0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "world"),
    [("mlp", PLAIN), ("mlp", SENTENCES), ("transformer", SENTENCES), ("transformer-tied", SENTENCES)],
)
def test_small_networks_reach_the_floor(name, world):
    t = fit_many(world, seeds=range(3), dim=6, predictor=name, optimizer="adam", steps=600, n_snapshots=2)
    assert t.excess[:, -1].max() < 0.03
    assert t.excess[:, -1].min() > -1e-6


def test_a_seed_is_the_same_with_others_and_alone():
    worlds = [
        SentenceWorld(World(ConceptGraph.random(3, 0.5, seed=s), ContextLaw.complete()), mentions=1, seed=s)
        for s in (3, 4)
    ]
    settings: dict[str, Any] = {"dim": 6, "predictor": "transformer", "optimizer": "adam", "steps": 10}
    together = fit_many(worlds, seeds=[7, 8], n_snapshots=2, **settings)
    alone = fit(worlds[1], seed=8, n_snapshots=2, **settings)
    np.testing.assert_array_equal(together.embeddings[1], alone.embeddings[0])
    np.testing.assert_array_equal(together.unembeddings[1], alone.unembeddings[0])
