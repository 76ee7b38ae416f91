"""Interventions on tiny models of several architectures: adding nothing, adding and taking away, and cleaning up."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from linrep.errors import InvalidInputError
from linrep.models.source import open_model

pytestmark = pytest.mark.hf

TEXT = "a man and a woman walk to the palace of the king"
WIDTH = 32


@pytest.fixture(scope="module", params=["llama", "gpt2", "gpt_neox", "gemma2", "phi", "opt"])
def running(request, tmp_path_factory):
    import torch

    from tests.fixtures.tiny_models import build_tiny

    torch.set_num_threads(1)
    folder = build_tiny(request.param, tmp_path_factory.mktemp(request.param), tied=True)
    return open_model(folder).forward(device="cpu")


def steered(*given, **named):
    from linrep.models import steering  # torch

    return steering.steered(*given, **named)


def whole_pass(running, layer: int, vector: np.ndarray) -> np.ndarray:
    """Logits after TEXT by one uncached forward pass in which `vector` is added at the last token: the naive oracle."""
    import torch

    ids = torch.tensor([running.tokenizer(TEXT)["input_ids"]])
    push = torch.tensor(vector, dtype=torch.float32)

    def pre(_block, arguments, named):
        hidden = (arguments[0] if arguments else named["hidden_states"]).clone()
        hidden[:, -1] += push
        return ((hidden, *arguments[1:]), named) if arguments else (arguments, named | {"hidden_states": hidden})

    def post(_block, _arguments, output):
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        hidden[:, -1] += push
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    block = running.blocks[max(layer - 1, 0)]
    handle = block.register_forward_hook(post) if layer else block.register_forward_pre_hook(pre, with_kwargs=True)
    try:
        with torch.inference_mode():
            logits = running.model(input_ids=ids, use_cache=False).logits
            return logits[0, -1, : running.n_tokens].float().numpy()
    finally:
        handle.remove()


def unsteered(running) -> np.ndarray:
    return whole_pass(running, 1, np.zeros(WIDTH))


def test_adding_nothing_changes_nothing(running):
    logits, said = steered(running, TEXT, {1: np.zeros((2, WIDTH))}, steps=3)
    np.testing.assert_allclose(logits, np.tile(unsteered(running), (2, 1)), rtol=1e-4, atol=1e-4)
    assert said[0] == said[1] and len(said[0]) == 3
    assert said[0][0] == int(logits[0].argmax())


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_push_is_that_of_a_whole_pass(running, layer):
    vectors = np.random.default_rng(layer).standard_normal((3, WIDTH))
    logits, _ = steered(running, TEXT, {layer: vectors})
    wanted = np.stack([whole_pass(running, layer, v) for v in vectors])
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-3)
    assert np.abs(logits - unsteered(running)).max() > 1e-2


def test_a_push_at_lambda_is_arithmetic_on_gamma(running):
    """Logits are those of λ + v: at this site nothing is left for the model to compute."""
    lam, _ = running.embeddings([TEXT])
    vectors = np.random.default_rng(8).standard_normal((2, lam.shape[1])).astype(np.float32)
    logits, said = steered(running, TEXT, {"λ": vectors, 1: np.zeros((2, WIDTH))}, steps=2)
    wanted = running.logits(lam + vectors, running.unembeddings())
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-3)
    assert [row[0] for row in said] == wanted.argmax(axis=1).tolist()


def test_rows_may_be_pushed_at_different_layers(running):
    a, b = np.random.default_rng(5).standard_normal((2, WIDTH))
    zero = np.zeros(WIDTH)
    logits, _ = steered(running, TEXT, {1: np.stack([a, zero]), 2: np.stack([zero, b])})
    wanted = np.stack([whole_pass(running, 1, a), whole_pass(running, 2, b)])
    np.testing.assert_allclose(logits, wanted, rtol=1e-3, atol=1e-3)


def test_a_push_and_its_opposite_restore(running):
    v = np.random.default_rng(6).standard_normal((1, WIDTH))
    once, _ = steered(running, TEXT, {2: v})
    assert np.abs(once[0] - unsteered(running)).max() > 1e-2
    original = running.model.forward

    from linrep.models.steering import adding

    @functools.wraps(original)
    def and_back(**named):  # the pass of the last token alone, inside the first push
        with adding(running, 2, -v):
            return original(**named)

    running.model.forward = and_back
    try:
        back, _ = steered(running, TEXT, {2: v})
    finally:
        running.model.forward = original
    np.testing.assert_allclose(back[0], unsteered(running), rtol=1e-3, atol=1e-3)


def test_hooks_are_gone_after_an_error(running):
    with pytest.raises(RuntimeError):
        steered(running, TEXT, {1: np.zeros((1, WIDTH)), 2: np.zeros((1, WIDTH + 1))})
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in running.blocks)
    logits, _ = steered(running, TEXT, {1: np.zeros((1, WIDTH))})
    np.testing.assert_allclose(logits[0], unsteered(running), rtol=1e-4, atol=1e-4)


def test_the_lens_of_the_last_block_is_lambda(running):
    lam, hidden = running.embeddings([TEXT], layers=[3])
    np.testing.assert_allclose(running.logit_lens(hidden[3]), lam, rtol=1e-4, atol=1e-4)


def test_the_gain_is_what_the_norm_multiplies_with(running):
    gain = running.final_gain()
    if gain is None:
        pytest.fail("every family here has a final norm and no projection")
    lam, hidden = running.embeddings([TEXT, "the queen of the north"], layers=[3])
    h = hidden[3] - (hidden[3].mean(axis=1, keepdims=True) if running.layout.final_norm.split(".")[-1] in
                     ("ln_f", "final_layer_norm", "final_layernorm") else 0)  # fmt: skip
    # A bias of the norm is in both λ alike.
    size = np.sqrt(np.square(h).mean(axis=1, keepdims=True))
    np.testing.assert_allclose(np.diff(lam, axis=0), np.diff(gain * h / size, axis=0), rtol=1e-3, atol=1e-3)


def test_bad_input_is_one_line(running):
    for additions, steps in (({9: np.zeros((1, WIDTH))}, 1), ({}, 1), ({1: np.zeros((1, WIDTH))}, 0)):
        with pytest.raises(InvalidInputError):
            steered(running, TEXT, additions, steps=steps)
    with pytest.raises(InvalidInputError, match="tokens"):
        steered(running, TEXT, {1: np.zeros((1, WIDTH))}, steps=127)
