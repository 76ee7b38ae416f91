"""A simulated world as a real model: a transformer trained on its sentences, and the lists that measure it.

STEPS=2048 OUT=tiny python examples/tiny_transformer.py  # two minutes; with neither, seconds and a temporary folder
"""

import json
import os
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from linrep import ConceptGraph, ContextLaw, SentenceWorld, World

world = SentenceWorld(World(ConceptGraph.random(6), ContextLaw.at_most(3)), renderings=2, paraphrases=1)
first = len(world.words)  # words by number: the pad, those of sentences, and "nyynny" (no, yes, ...) for c = 011001
words = [*world.words, *(c.translate({ord("0"): "n", ord("1"): "y"}) for c in world.token_names)]


def train(p_next, folder, steps, seed=1):
    """Adam on the word after sampled sentences; keeps step 0, the powers of two (as Pythia does) and the last."""
    ids = {"Ġ" + w if i else "<pad>": i for i, w in enumerate(words)}
    coder = Tokenizer(models.BPE(ids, [], unk_token="<pad>", ignore_merges=True))  # each word is a single token
    parts = [pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(use_regex=False)]
    coder.pre_tokenizer, coder.decoder = pre_tokenizers.Sequence(parts), decoders.ByteLevel()
    size = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=len(ids), max_position_embeddings=64, **size))
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    slower = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, total_iters=steps)
    p_context, p_next, sentences = map(torch.tensor, (world.p_context, p_next, world.sequences))
    for step in range(steps + 1):
        if step & (step - 1) == 0 or step == steps:
            for part in (model, PreTrainedTokenizerFast(tokenizer_object=coder, pad_token="<pad>")):
                part.save_pretrained(folder / f"step{step}")
        rows = torch.multinomial(p_context, 128, replacement=True)
        text = torch.cat([sentences[rows], first + torch.multinomial(p_next[rows], 1)], dim=1)
        labels = torch.where(text < first, -100, text)  # -100: the words of the sentence itself are not predicted
        model(text, attention_mask=(text > 0).long(), labels=labels).loss.backward()
        adam.step(), adam.zero_grad(), slower.step()


steps, out = int(os.environ.get("STEPS", "256")), Path(os.environ.get("OUT") or tempfile.mkdtemp())
train(world.p_token_given_context(), out / "trained", steps)
lists = ""
for name in world.graph.names:  # its counterfactual words c_(i→0), c_(i→1), and sentences of d_(i→0), d_(i→1)
    pairs = ["\t".join(words[first + y] for y in pair) for pair in world.token_pairs().of(name)]
    (out / f"{name}.tsv").write_text("\n".join([f"# name: {name}", *pairs]))
    records = [{"name": f"{name} in context", "unembedding_concept": name}]
    for a, b in world.sequences[world.context_pairs().of(name)]:
        texts = [" ".join(words[w] for w in row if w) for row in (a, b)]
        frame = " ".join(words[v] if v == w else "_" for v, w in zip(a, b, strict=True) if v)
        records.append({"negative": texts[0], "positive": texts[1], "template": frame})
    (out / f"{name}.jsonl").write_text("\n".join(dict.fromkeys(map(json.dumps, records))))  # each pair once
    lists += f" --pairs {out / name}.tsv --contexts {out / name}.jsonl"
for subject in (f"{out}/trained --revisions step0,step{steps // 16},step{steps}", f"{out}/trained/step{steps}"):
    print(f"linrep study real-model {subject}{lists}")
