"""L5 in the middle: add a direction to the residual stream, and let the model compute the rest.

The direction at a layer is the mean difference of hidden states over context pairs of *training* templates; strength 1
adds it once. It is read on texts of value 0 of *held-out* templates, at the last position, on word pairs that had no
part in it, and held against random directions of equal causal norm under the covariance of that layer's states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linrep.geometry import clusters
from linrep.geometry.nulls import p_value
from linrep.geometry.steering import halves, kl_divergence, log_softmax, off_over_on, random_directions_like
from linrep.studies.experiments.setting import Row, Setting, Weights, against, finite, number
from linrep.studies.result import Progress

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

STRENGTHS = (1.0, 2.0, 4.0)
REFERENCE = 2.0  # the strength at which random directions are tried too
_RANDOM = 19  # so that a p-value can reach 1/20
_SHOWN, _TOP, _SAID = 2, 5, 20  # contexts shown a concept, tokens of a rank table, tokens said


@dataclass(frozen=True)
class _Plan:
    """Rows of one intervention: which vector is added at which layer, and what each row is."""

    additions: dict[int, np.ndarray]
    layer: np.ndarray  # 0 for the unsteered row
    strength: np.ndarray
    random: np.ndarray  # 0 for the concept's direction, 1.. for random ones


def steer_middle(
    setting: Setting,
    weights: Weights,
    model: TransformersModel,
    states: Mapping[int, np.ndarray],
    layers: Sequence[int],
    n_contexts: int,
    progress: Progress,
) -> tuple[dict[str, list[Row]], list[Row]]:
    """Tables by name (effects, specificity, top tokens, generated text), and the rows of the tidy table."""
    tables: dict[str, list[Row]] = {n: [] for n in ("steering_middle", "steered_reads", "top_tokens", "generated")}
    rows: list[Row] = []
    for i, (name, concept) in enumerate(setting.partner.items()):
        progress(i / len(setting.partner), f"steering {name}")
        train = halves(setting.pairs.groups_of(name), setting.stream("templates", name))
        if train.all() or not train.any():
            continue
        pairs = setting.pairs.of(name)
        directions = {k: _direction(states[k], pairs[train]) for k in layers}
        plan = _plan(setting, states, directions, name)
        texts, group = _held_out(setting, name, train, n_contexts)
        effects = [_effects(setting, model.steered(setting.texts[t], plan.additions)[0], concept) for t in texts]
        facts = {"concept": name, "word_concept": concept, "n_train_pairs": int(train.sum())}
        table, reads, found = _summary(setting, plan, effects, group, facts)
        tables["steering_middle"] += table
        tables["steered_reads"] += reads
        rows += found
        for text in texts[:_SHOWN]:
            top, said = _shown(setting, weights, model, text, plan, layers[len(layers) // 2])
            tables["top_tokens"] += [facts | row for row in top]
            tables["generated"] += [facts | row for row in said]
    return tables, rows


def _direction(states: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    ends = np.asarray(states)[pairs].astype(np.float64)
    return (ends[:, 1] - ends[:, 0]).mean(axis=0)


def _held_out(setting: Setting, name: str, train: np.ndarray, count: int) -> tuple[list[int], np.ndarray]:
    """Texts of value 0 of the held-out templates, templates in turn, and the template of each."""
    pairs, group = setting.pairs.of(name)[~train], setting.pairs.groups_of(name)[~train]
    turn = np.array([int(np.sum(group[:i] == group[i])) for i in range(len(group))])
    seen: dict[int, int] = {}
    for i in np.lexsort((group, turn)).tolist():
        seen.setdefault(int(pairs[i, 0]), int(group[i]))
    chosen = list(seen)[:count]
    return chosen, np.array([seen[t] for t in chosen])


def _plan(setting: Setting, states: Mapping[int, np.ndarray], directions: Mapping[int, np.ndarray], name: str) -> _Plan:
    """One unsteered row; then for each layer the strengths of the direction, and random ones at the reference."""
    each = [(s, 0) for s in STRENGTHS] + [(REFERENCE, r + 1) for r in range(_RANDOM)]
    count = 1 + len(each) * len(directions)
    layer, strength, random = np.zeros(count, dtype=int), np.zeros(count), np.zeros(count, dtype=int)
    additions = {}
    for i, (k, v) in enumerate(directions.items()):
        rng = setting.stream("random directions", name, str(k))
        vectors = np.concatenate([v[None], random_directions_like(np.asarray(states[k]), v, _RANDOM, rng)])
        at = 1 + i * len(each) + np.arange(len(each))
        layer[at], strength[at], random[at] = k, [s for s, _ in each], [r for _, r in each]
        additions[k] = np.zeros((count, len(v)))
        additions[k][at] = strength[at, None] * vectors[random[at]]
    return _Plan(additions, layer, strength, random)


def _effects(setting: Setting, logits: np.ndarray, concept: str) -> dict[str, np.ndarray]:
    """What each row of one context does to the distribution, against the unsteered row 0."""
    log_p = log_softmax(logits)
    pairs = setting.tokens.of(concept)
    sides = [np.exp(log_p[:, np.unique(pairs[:, side])]).sum(axis=1) for side in (0, 1)]
    reads = np.stack([(log_p[:, p[:, 1]] - log_p[:, p[:, 0]]).mean(axis=1)
                      for p in (setting.tokens.of(n) for n in setting.judged)], axis=1)  # fmt: skip
    return {
        "reads": reads - reads[:1],
        "probability_negative": sides[0],
        "probability_positive": sides[1],
        "kl": kl_divergence(log_p, log_p[:1]),
        "top1_changed": (log_p.argmax(axis=1) != log_p[0].argmax()).astype(float),
    }


def _summary(
    setting: Setting, plan: _Plan, effects: list[dict[str, np.ndarray]], group: np.ndarray, facts: Row
) -> tuple[list[Row], list[Row], list[Row]]:
    """Means over contexts with intervals by template; the change of every concept; rows of the tidy table."""
    own = setting.judged.index(facts["word_concept"])
    other = setting.others(facts["word_concept"])
    by = {key: np.stack([e[key] for e in effects]) for key in effects[0]}  # context first
    change = by["reads"][:, :, own]
    table: list[Row] = []
    reads: list[Row] = []
    rows: list[Row] = []
    for i in np.flatnonzero(plan.random == 0).tolist():
        layer, strength = int(plan.layer[i]), float(plan.strength[i])
        low, high = clusters.mean_interval(change[:, i], group)
        line = facts | {"layer": layer or None, "strength": strength, "n_contexts": len(group)}
        line |= {"log_odds_change": float(change[:, i].mean()), "low": finite(low), "high": finite(high)}
        line |= {k: float(by[k][:, i].mean()) for k in by if k != "reads"}
        matrix = by["reads"][:, i].mean(axis=0)
        ratio = off_over_on(matrix[None], np.array([own]), other[None])[0]
        line |= {"off_over_on": finite(float(ratio)) if layer else None}
        like = np.flatnonzero((plan.random > 0) & (plan.layer == layer) & (plan.strength == strength))
        null = change[:, like].mean(axis=0)
        if len(like):
            line |= {"random_change": float(null.mean()), "random_p": p_value(line["log_odds_change"], null)}
            line |= {f"random_{k}": float(by[k][:, like].mean()) for k in ("probability_positive", "kl")}
            for name, value in zip(setting.judged, matrix.tolist(), strict=True):
                reads.append(facts | {"layer": layer, "strength": strength, "read": name, "change": value})
        table.append(line)
        if layer:
            row = number(
                "steered_log_odds", line["log_odds_change"], "nats", low=low, high=high, layer=layer, strength=strength,
                concept=facts["concept"], concept_other=facts["word_concept"], side="embedding", split="test",
                estimator="mean", n_pairs=facts["n_train_pairs"],
            )  # fmt: skip
            rows += [row, against(row, "random directions of equal norm", null)] if len(like) else [row]
    return table, reads, rows


def _shown(
    setting: Setting, weights: Weights, model: TransformersModel, text: int, plan: _Plan, layer: int
) -> tuple[list[Row], list[Row]]:
    """Likeliest tokens and greedy text of one context against strength, and under one random direction."""
    chosen = [0, *np.flatnonzero((plan.layer == layer) & (plan.random <= 1)).tolist()]
    logits, said = model.steered(setting.texts[text], {layer: plan.additions[layer][chosen]}, steps=_SAID)
    log_p = log_softmax(logits)
    tokens = weights.representations.tokens or ()
    top: list[Row] = []
    generated: list[Row] = []
    for r, i in enumerate(chosen):
        facts = {"context": setting.texts[text], "layer": layer, "strength": float(plan.strength[i])}
        facts |= {"direction": "random" if plan.random[i] else "concept" if plan.strength[i] else "none"}
        for rank, token in enumerate(np.argsort(-log_p[r])[:_TOP].tolist(), start=1):
            word = tokens[token] if tokens else str(token)
            top.append(facts | {"rank": rank, "token": word, "probability": float(np.exp(log_p[r, token]))})
        generated.append(facts | {"text": model.text_of(said[r])})
    return top, generated
