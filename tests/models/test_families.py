"""For every family of the table of layouts, the files and transformers agree on γ, λ, logits and layers.

torch and transformers are imported inside the tests: the job without them collects this file and deselects it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from linrep.errors import InvalidInputError, ModelFileError
from linrep.models import layouts
from linrep.models.source import AbstractModelSource, open_model

pytestmark = pytest.mark.hf

TEXTS = [
    "the king and the queen",
    "a man and a woman walk to the palace of the king in the year 2024",
    "été 東京",
    "she walked; he walks, they were walking",
    "the queen's voice",
    "in the north it was closed",
    "a king",
]
N_BLOCKS = 3


@dataclasses.dataclass
class Tiny:
    source: AbstractModelSource
    model: Any  # as transformers loads it, independently of linrep
    running: Any  # linrep's forward model


@pytest.fixture(
    scope="module",
    params=[(family, tied) for family in layouts.LAYOUTS for tied in (False, True)],
    ids=lambda p: f"{p[0]}-{'tied' if p[1] else 'untied'}",
)
def tiny(request, tmp_path_factory) -> Tiny:
    import torch
    import transformers

    from tests.fixtures.tiny_models import build_tiny

    torch.set_num_threads(1)  # tiny matrices: threads only wait for each other
    family, tied = request.param
    folder = build_tiny(family, tmp_path_factory.mktemp(family), tied=tied)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    source = open_model(folder)
    return Tiny(source, model.eval(), source.forward(device="cpu"))


def reference(tiny: Tiny, text: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits and hidden states of one unpadded text at its last token, by transformers alone."""
    import torch

    ids = tiny.running.tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        out = tiny.model(ids, output_hidden_states=True)
    return out.logits[0, -1].numpy(), [h[0, -1].numpy() for h in out.hidden_states]


def test_unembeddings_are_the_rows_transformers_multiplies_with(tiny):
    from tests.fixtures.tiny_models import PADDING_ROWS

    weight = tiny.model.get_output_embeddings().weight.detach().numpy()
    gamma = tiny.source.unembeddings()
    assert len(gamma) == len(tiny.running.tokenizer) == len(weight) - PADDING_ROWS
    np.testing.assert_array_equal(gamma, weight[: len(gamma)])
    np.testing.assert_array_equal(tiny.running.unembeddings(), gamma)
    embedding = tiny.model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(tiny.source.input_embeddings(), embedding[: len(gamma)])


def test_lambda_dot_gamma_reproduces_the_logits(tiny):
    embeddings, _ = tiny.running.embeddings(TEXTS, batch_size=3)
    gamma = tiny.source.unembeddings()
    logits = tiny.running.logits(embeddings, gamma)
    expected = np.stack([reference(tiny, text)[0] for text in TEXTS])[:, : len(gamma)]
    np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())


def test_layers_are_block_outputs_before_the_final_norm(tiny):
    import torch

    embeddings, states = tiny.running.embeddings(TEXTS, layers=range(N_BLOCKS + 1))
    norm = tiny.model
    for part in tiny.source.layout.final_norm.split("."):
        norm = getattr(norm, part)
    for i, text in enumerate(TEXTS):
        hidden = reference(tiny, text)[1]
        for k in range(N_BLOCKS):
            np.testing.assert_allclose(states[k][i], hidden[k], atol=1e-4 * np.abs(hidden[k]).max())
        last = states[N_BLOCKS][i]
        # transformers' last "hidden state" is normed already; ours is not, and norming it gives λ.
        assert np.abs(last - hidden[-1]).max() > 0.05 * np.abs(hidden[-1]).max()
        normed = norm(torch.tensor(last)).detach().numpy()
        np.testing.assert_allclose(normed, embeddings[i], atol=2e-4 * np.abs(embeddings[i]).max())
        np.testing.assert_allclose(hidden[-1], embeddings[i], atol=2e-4 * np.abs(embeddings[i]).max())


def test_tying_is_read_from_the_values(tiny, request):
    weights = tiny.model.get_output_embeddings().weight, tiny.model.get_input_embeddings().weight
    same = bool((weights[0] == weights[1]).all())
    assert tiny.source.describe()["tied"] is same
    assert request.node.callspec.id.endswith("-tied") is same


def test_description_matches_the_config(tiny, request):
    family = request.node.callspec.id.split("-")[0]
    told = tiny.source.describe()
    assert told["architecture"] == family
    assert (told["n_layers"], told["dim"], told["vocabulary"]) == (N_BLOCKS, 32, len(tiny.running.tokenizer))
    assert told["logit_scale"] == (0.37 if family == "cohere" else 1.0)
    assert told["logit_cap"] == (3.0 if family in ("gemma2", "gemma3_text") else "none")
    assert told["logit_bias"] is (family == "phi")
    assert told["quantisation"] == "F32"
    assert told["bos_token"] == "<s>"
    assert tiny.running.describe()["bos_added"] == "none"  # this tokenizer has one but does not add it


def test_every_word_found_is_one_token_in_running_text(tiny):
    tokenizer, vocabulary = tiny.running.tokenizer, tiny.source.vocabulary()
    found = 0
    for row, surface in enumerate(vocabulary.surfaces):
        word = surface.removeprefix(" ")
        if not surface.startswith(" ") or (seen := vocabulary.find(word)) is None:
            continue
        found += 1
        assert seen == row
        assert tokenizer("x " + word)["input_ids"][-1] == row
    assert found > 20


@given(order=st.permutations(range(len(TEXTS))), batch_size=st.integers(1, 8), data=st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_embeddings_depend_neither_on_batch_nor_on_order(tiny, order, batch_size, data):
    layers = data.draw(st.lists(st.integers(0, N_BLOCKS), unique=True))
    alone = np.concatenate([tiny.running.embeddings([TEXTS[i]])[0] for i in order])
    together, states = tiny.running.embeddings([TEXTS[i] for i in order], batch_size=batch_size, layers=layers)
    np.testing.assert_allclose(together, alone, atol=2e-4 * np.abs(alone).max())
    assert sorted(states) == sorted(layers)


def test_a_pass_ends_after_the_last_layer_asked_for(tiny):
    """The same states as a whole pass, and no block after them runs."""
    blocks, ran = tiny.running.blocks, []
    handles = [b.register_forward_pre_hook(lambda *_, k=k: ran.append(k)) for k, b in enumerate(blocks, start=1)]
    try:
        for layers in ([0], [2, 1], [N_BLOCKS]):
            whole = tiny.running.embeddings(TEXTS, layers=layers)[1]
            ran.clear()
            found = tiny.running.hidden_states(TEXTS, layers)
            # A pass is ended by the first block (layer 0) or after the last block asked for.
            assert max(ran, default=0) <= max(*layers, 1) and sorted(found) == sorted(layers)
            for k in layers:
                np.testing.assert_array_equal(found[k], whole[k])
    finally:
        for handle in handles:
            handle.remove()


class TestOpt:
    """OPT's smallest relatives differ: a projection between the last block and λ, and no final norm."""

    @pytest.mark.parametrize("before", [False, True])
    @pytest.mark.parametrize("width", [16, 32])
    @pytest.mark.parametrize("tied", [False, True])
    def test_lambda_is_behind_the_projection(self, before, width, tied, tmp_path):
        import torch
        import transformers

        from tests.fixtures.tiny_models import build_tiny

        changes = {"do_layer_norm_before": before, "word_embed_proj_dim": width}
        source = open_model(build_tiny("opt", tmp_path, tied=tied, changes=changes))
        running: Any = source.forward(device="cpu")
        plain: Any = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert (plain.model.decoder.final_layer_norm is None) is not before
        assert (plain.model.decoder.project_out is None) is (width == 32)
        embeddings, states = running.embeddings(TEXTS, layers=[0, N_BLOCKS])
        gamma = source.unembeddings()
        assert gamma.shape[1] == embeddings.shape[1] == source.describe()["dim"] == width
        assert states[0].shape[1] == states[N_BLOCKS].shape[1] == 32
        logits = running.logits(embeddings, gamma)
        expected = np.stack([reference(Tiny(source, plain, running), text)[0] for text in TEXTS])[:, : len(gamma)]
        np.testing.assert_allclose(logits, expected, atol=2e-4 * np.abs(expected).max())


class TestWrongLayout:
    """The check at load refuses a row of the table that is wrong (so it would refuse a new family's)."""

    @pytest.mark.parametrize(
        ("family", "change", "says"),
        [
            ("gemma2", {"cap": None}, "logits differ"),
            ("cohere", {"scale": None}, "logits differ"),
            ("llama", {"output": ("model.embed_tokens.weight",)}, "logits differ"),
            ("llama", {"final_norm": "model.layers.0.input_layernorm"}, "final norm"),
        ],
    )
    def test_is_refused(self, family, change, says, tmp_path, monkeypatch):
        from tests.fixtures.tiny_models import build_tiny

        folder = build_tiny(family, tmp_path, tied=False)
        wrong = dataclasses.replace(layouts.LAYOUTS[family], **change)
        monkeypatch.setitem(layouts.LAYOUTS, family, wrong)
        with pytest.raises(ModelFileError, match=says):
            open_model(folder).forward(device="cpu")

    def test_unknown_family_says_what_to_supply(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
        with pytest.raises(ModelFileError, match=r"no layout for the model_type 'nonesuch'.*LAYOUTS"):
            open_model(tmp_path).unembeddings()


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    from tests.fixtures.tiny_models import build_tiny

    return open_model(build_tiny("llama", tmp_path_factory.mktemp("llama"), tied=False)).forward(device="cpu")


class TestForward:
    def test_untrained_model_depends_on_the_seed_alone(self, llama):
        import torch

        torch.manual_seed(0)
        first = llama.untrained(3)
        before = torch.random.get_rng_state()
        again, other = llama.untrained(3), llama.untrained(4)
        assert torch.equal(torch.random.get_rng_state(), before)  # the caller's random state is kept
        np.testing.assert_array_equal(first.embeddings(TEXTS)[0], again.embeddings(TEXTS)[0])
        assert not np.allclose(first.embeddings(TEXTS)[0], other.embeddings(TEXTS)[0])
        assert first.unembeddings().shape == llama.unembeddings().shape
        assert not np.allclose(first.unembeddings(), llama.unembeddings())

    def test_fingerprint_is_of_the_content(self, llama, tmp_path):
        """Another place, the same model: the same states. Another weight, type or setting: others."""
        import torch

        from tests.fixtures.tiny_models import build_tiny

        same = open_model(build_tiny("llama", tmp_path / "same", tied=False)).forward(device="cpu")
        assert same.fingerprint == llama.fingerprint
        assert llama.untrained(3).fingerprint == llama.untrained(3).fingerprint != llama.untrained(4).fingerprint
        seen = {llama.fingerprint, llama.untrained(3).fingerprint}
        seen.add(open_model(tmp_path / "same").forward(device="cpu", dtype="bfloat16").fingerprint)
        changed = build_tiny("llama", tmp_path / "other", tied=False, changes={"rms_norm_eps": 1e-3})
        seen.add(open_model(changed).forward(device="cpu").fingerprint)
        del same.__dict__["_fingerprint"]
        with torch.no_grad():
            same.blocks[1].mlp.up_proj.weight[3, 4] += 1e-6
        seen.add(same.fingerprint)
        assert len(seen) == 5

    def test_kept_states_are_those_of_the_model(self, llama, tmp_path):
        from linrep.models.states import read_states

        lam, hidden = llama.embeddings(TEXTS, layers=[0, 2])
        for _ in range(2):
            found = read_states(llama, TEXTS, ("λ", 0, 2), cache=tmp_path)
            np.testing.assert_array_equal(found["λ"], lam)
            np.testing.assert_array_equal(found[2], hidden[2])

    def test_progress_reaches_the_end(self, llama):
        seen = []
        llama.embeddings(TEXTS, batch_size=2, progress=lambda *step: seen.append(step))
        assert seen == [("embed", 2, 7), ("embed", 4, 7), ("embed", 6, 7), ("embed", 7, 7)]

    def test_no_texts_give_no_rows(self, llama):
        embeddings, states = llama.embeddings([], layers=[1])
        assert embeddings.shape == states[1].shape == (0, 32)

    @pytest.mark.parametrize(
        ("texts", "options", "says"),
        [
            (["a king"], {"layers": [4]}, "layer 4 does not exist: layers are 0 to 3, and"),
            (["a king"], {"layers": [-1]}, "layer -1 does not exist"),
            (["a king"], {"batch_size": 0}, "batch_size must be at least 1"),
            ([""], {}, "has 0 tokens"),
            (["king"], {}, "has 1 tokens"),
            (["the king " * 200], {}, "between 2 and 128"),
        ],
    )
    def test_bad_input_is_refused(self, llama, texts, options, says):
        with pytest.raises(InvalidInputError, match=says):
            llama.embeddings(texts, **options)

    def test_hooks_are_removed_also_after_an_error(self, llama):
        block = llama.model.model.layers[0]
        llama.embeddings(TEXTS, layers=[0, 1])
        with pytest.raises(KeyError):
            llama._last_states([[1, 2]], [0, "λ", "not a site"])
        assert not block._forward_hooks and not block._forward_pre_hooks

    def test_beginning_of_text_is_added_where_the_tokenizer_adds_it(self, tmp_path):
        from tokenizers import Tokenizer, processors

        from tests.fixtures.tiny_models import build_tiny

        folder = build_tiny("qwen2", tmp_path, tied=True)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        tokenizer.save(str(folder / "tokenizer.json"))
        running = open_model(folder).forward(device="cpu")
        assert running.describe()["bos_added"] == "<s>"
        assert running.encode_one("a king")[0] == 0

    def test_unknown_float_type_is_refused(self, tmp_path):
        from tests.fixtures.tiny_models import build_tiny

        source = open_model(build_tiny("qwen2", tmp_path, tied=True))
        with pytest.raises(InvalidInputError, match="dtype must be one of float32"):
            source.forward(dtype="int8")


class TestStoredTypes:
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    def test_half_precision_widens_exactly(self, dtype, tmp_path):
        import torch

        from tests.fixtures.tiny_models import build_tiny

        source = open_model(build_tiny("llama", tmp_path, tied=False, dtype=getattr(torch, dtype)))
        running = source.forward(device="cpu")
        assert source.unembeddings().dtype == np.float32
        np.testing.assert_array_equal(source.unembeddings(), running.unembeddings())
        assert source.describe()["quantisation"] == {"bfloat16": "BF16", "float16": "F16"}[dtype]

    def test_bfloat16_runs(self, tmp_path):
        from tests.fixtures.tiny_models import build_tiny

        running = open_model(build_tiny("llama", tmp_path, tied=False)).forward(device="cpu", dtype="bfloat16")
        assert np.isfinite(running.embeddings(TEXTS)[0]).all()

    def test_shards_give_the_same_gamma(self, tmp_path):
        from tests.fixtures.tiny_models import build_tiny

        whole = open_model(build_tiny("llama", tmp_path / "whole", tied=False))
        parts = open_model(build_tiny("llama", tmp_path / "parts", tied=False, max_shard_size="40KB"))
        assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
        np.testing.assert_array_equal(whole.unembeddings(), parts.unembeddings())
