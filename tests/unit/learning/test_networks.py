"""Networks: shapes, what they read, one table if tied, frozen sides, and that they learn."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linrep import ConceptGraph, ContextLaw, World, fit, fit_many
from linrep.errors import InvalidInputError
from linrep.learning import networks, training
from linrep.learning.checkpoints import fingerprint
from linrep.learning.descent import _only_free, world_data
from linrep.learning.networks import Block, TiedTransformerPredictor, norm
from linrep.learning.objectives import cross_entropy
from linrep.learning.predictors import PREDICTORS
from linrep.worlds.sentences import SentenceWorld

PLAIN = World(ConceptGraph.random(3, 0.5, seed=1), ContextLaw.complete())
SENTENCES = SentenceWorld(PLAIN, mentions=1)
DATA = world_data(SENTENCES, np.dtype("float32"))
FEATURES = DATA.context_features
NETWORKS = ("mlp", "transformer", "transformer-tied")


def make(name: str, *, scale: float = 0.5, seed: int = 0, dim: int = 6, features: jax.Array = FEATURES) -> Any:
    return PREDICTORS[name](jax.random.key(seed), features, PLAIN.n_tokens, dim, jnp.float32(scale))


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes(name):
    predictor = make(name)
    assert predictor.embeddings(FEATURES).shape == (54, 6)
    assert predictor.unembeddings().shape == (8, 6)


def test_the_mlp_and_the_factored_predictor_read_any_features():
    for features in (FEATURES, jnp.asarray(PLAIN.context_features())):
        for name in ("mlp", "factored"):
            assert make(name, features=features).embeddings(features).shape == (len(features), 6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_the_initial_scale_is_about_that_of_both_sides(name, scale):
    predictor = make(name, scale=scale, dim=30)
    assert float(predictor.unembeddings().std()) == pytest.approx(scale, rel=0.25)
    assert 0.2 * scale < float(predictor.embeddings(FEATURES).std()) < 1.5 * scale


@pytest.mark.parametrize("name", NETWORKS)
def test_sentences_in_another_order_give_the_same_rows_in_that_order(name):
    order = np.random.default_rng(0).permutation(54)
    predictor = make(name)
    np.testing.assert_allclose(
        predictor.embeddings(FEATURES[order]), predictor.embeddings(FEATURES)[order], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_word_of_a_sentence_and_its_place_are_read(name):
    predictor = make(name)
    before = np.asarray(predictor.embeddings(FEATURES))
    for position in range(SENTENCES.length):
        other = FEATURES.at[:, position].set(jnp.roll(FEATURES[:, position], 3, axis=1))
        assert np.abs(np.asarray(predictor.embeddings(other)) - before).max(axis=1).min() > 1e-5
    swapped = FEATURES.at[:, [0, 3]].set(FEATURES[:, [3, 0]])
    differs = np.asarray(swapped != FEATURES).any(axis=(1, 2))
    assert np.abs(np.asarray(predictor.embeddings(swapped)) - before).max(axis=1)[differs].min() > 1e-5


def attention_by_hand(block: Block, stream: np.ndarray) -> np.ndarray:
    """One block over one sentence, position by position and head by head."""
    inner = stream / np.sqrt((stream**2).mean(axis=1, keepdims=True) + 1e-6)
    q, k, v = (inner @ np.asarray(x, np.float64) for x in (block.query, block.key, block.value))
    size = networks.WIDTH // networks.HEADS
    mixed = np.zeros_like(stream)
    for t in range(len(stream)):
        for h in range(networks.HEADS):
            part = slice(h * size, (h + 1) * size)
            weight = np.exp(k[: t + 1, part] @ q[t, part] / np.sqrt(size))
            mixed[t, part] = weight @ v[: t + 1, part] / weight.sum()
    stream = stream + mixed @ np.asarray(block.mix, np.float64)
    inner = stream / np.sqrt((stream**2).mean(axis=1, keepdims=True) + 1e-6)
    hidden = np.asarray(jax.nn.gelu(jnp.asarray(inner @ np.asarray(block.first) + np.asarray(block.first_bias)[None])))
    return stream + hidden @ np.asarray(block.second) + np.asarray(block.second_bias)[None]


@pytest.mark.parametrize("last_only", [False, True])
def test_a_block_is_causal_attention_and_a_perceptron(last_only):
    block = make("transformer").blocks[0]
    stream = np.random.default_rng(0).standard_normal((5, 6, networks.WIDTH))
    found = np.asarray(block(jnp.asarray(stream, "float32"), last_only=last_only))
    for one, sentence in zip(found, stream, strict=True):
        wanted = attention_by_hand(block, sentence)
        np.testing.assert_allclose(one, wanted[-1:] if last_only else wanted, rtol=1e-4, atol=1e-4)


def test_lambda_is_read_after_the_final_norm():
    predictor = make("transformer")
    with_unit_map = eqx.tree_at(lambda p: p.out, predictor, jnp.eye(networks.WIDTH))
    read = np.asarray(with_unit_map.embeddings(FEATURES))
    np.testing.assert_allclose((read**2).mean(axis=1), 1, rtol=1e-4)
    np.testing.assert_allclose(norm(jnp.full((1, 4), -3.0)), -1, rtol=1e-5)


def test_tied_means_one_table():
    tied = make("transformer-tied")
    assert isinstance(tied, TiedTransformerPredictor)
    n_words, n_tokens = len(SENTENCES.words), SENTENCES.n_tokens
    same_shape = [x for x in jax.tree.leaves(tied) if n_words in x.shape or n_tokens in x.shape]
    assert len(same_shape) == 1  # no other array has a row a word or a token
    assert SENTENCES.words[-n_tokens:] == SENTENCES.token_names
    np.testing.assert_array_equal(tied.unembeddings(), tied.shared_table[n_words - n_tokens :])
    # Another γ of one token changes λ of the sentences that mention it, and of no other.
    other = eqx.tree_at(lambda p: p.shared_table, tied, replace_fn=lambda t: t.at[-1].set(-t[-1]))
    mentions = (SENTENCES.sequences == n_words - 1).any(axis=1)
    moved = np.abs(np.asarray(other.embeddings(FEATURES) - tied.embeddings(FEATURES))).max(axis=1)
    assert 0 < mentions.sum() < 54
    assert moved[mentions].min() > 1e-4
    assert moved[~mentions].max() < 1e-6
    untied = make("transformer")
    assert len([x for x in jax.tree.leaves(untied) if n_words in x.shape or n_tokens in x.shape]) == 2


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_array_has_a_gradient(name, scale):
    def loss(predictor: Any) -> jax.Array:
        return cross_entropy(predictor.embeddings(FEATURES), predictor.unembeddings(), DATA.target)

    gradient = jax.jit(jax.grad(loss))(make(name, scale=scale))
    for path, value in jax.tree_util.tree_flatten_with_path(gradient)[0]:
        assert float(jnp.abs(value).max()) > 1e-9, jax.tree_util.keystr(path)
    words = {"transformer": "word_table", "transformer-tied": "shared_table"}
    if name in words:
        said = np.unique(SENTENCES.sequences)
        rows = np.abs(np.asarray(getattr(gradient, words[name])))[said]
        assert rows.max(axis=1).min() > 0


@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_a_frozen_side_has_no_updates(name):
    """The sides are told apart by the predictor's own fields, whatever the arrays inside a network are called."""
    updates = jax.tree.map(jnp.ones_like, make(name))
    for frozen in ("embeddings", "unembeddings"):
        free = _only_free(updates, frozen)
        assert (np.asarray(free.token_table) == float(frozen == "embeddings")).all()
        others = eqx.tree_at(lambda p: p.token_table, free, None)
        assert {float(x.min()) for x in jax.tree.leaves(others)} == {float(frozen == "unembeddings")}


def test_a_checkpoint_belongs_to_the_sentences_and_not_only_to_their_concepts():
    one, same, other = (fingerprint([SentenceWorld(PLAIN, seed=s)], [0], {}, []) for s in (0, 0, 1))
    assert one == same != other


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictor": "transformer", "worlds": PLAIN}, "'transformer' reads sentences, not the contexts of m=3"),
        ({"predictor": "transformer-tied", "worlds": PLAIN}, "'transformer-tied' reads sentences"),
        ({"predictor": "transformer-tied", "worlds": SentenceWorld(PLAIN)}, "give SentenceWorld(world, mentions=1)"),
        ({"predictor": "transformer-tied", "frozen": "embeddings"}, "embeddings cannot be frozen for"),
        ({"predictor": "transformer-tied", "frozen": "unembeddings"}, "unembeddings cannot be frozen for"),
        (
            {"predictor": "transformer-tied", "initial_unembeddings": np.zeros((8, 4))},
            "initial_unembeddings are not for 'transformer-tied'",
        ),
        (
            {"predictor": "mlp", "initial_embeddings": np.zeros((54, 4))},
            "initial_embeddings are for the table predictor",
        ),
        (
            {"worlds": [SENTENCES, SentenceWorld(PLAIN)], "seeds": [0, 1], "predictor": "transformer"},
            "do not read alike; train them in separate calls",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, message):
    arguments: dict[str, Any] = {"worlds": SENTENCES, "seeds": [0], "dim": 4, "steps": 5} | changes
    with pytest.raises(InvalidInputError) as caught:
        fit_many(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transformer_that_does_not_fit_in_memory_is_refused(monkeypatch):
    monkeypatch.setattr(training, "FLOATS_A_POSITION", 10**7)
    with pytest.raises(InvalidInputError, match="a step of the transformer on 54 sentences of length 6 would take"):
        fit(SENTENCES, dim=4, predictor="transformer")
