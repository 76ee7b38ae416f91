"""L5 by the running model: add a direction to its states, and look at what it then predicts and says.

In the middle the direction is the mean difference of hidden states over context pairs of *training* templates, and the
model computes the rest. At λ it is α C⁻¹ḡ, ḡ from *training* word pairs and α the causal norm of the mean difference of
the same contexts: log-odds are arithmetic there, probabilities and text are not. Strength 1 adds it once. Read on texts
of value 0 of *held-out* templates, on *held-out* word pairs, against random directions of equal causal norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from linrep.geometry import clusters, metrics
from linrep.geometry.nulls import p_value
from linrep.geometry.steering import halves, kl_divergence, log_softmax, off_over_on, random_directions_like
from linrep.models.states import LAMBDA, Site
from linrep.studies.experiments.setting import Row, Setting, Weights, against, finite, number
from linrep.studies.experiments.steering_final import ARITHMETIC, training_words
from linrep.studies.result import Progress

if TYPE_CHECKING:
    from linrep.models.transformers_model import TransformersModel

STRENGTHS = (1.0, 2.0, 4.0)
REFERENCE = 2.0  # the strength at which random directions are tried too
COMPUTED = "computed by the model"
_RANDOM = 19  # so that a p-value can reach 1/20
_SHOWN, _TOP, _SAID = 2, 5, 20  # contexts shown a concept, tokens of a rank table, tokens said


@dataclass(frozen=True)
class _Plan:
    """Rows of one intervention: which vector is added at which site, and what each row is."""

    additions: dict[Site, np.ndarray]
    site: tuple[Site | None, ...]  # None for the unsteered row
    strength: np.ndarray
    random: np.ndarray  # 0 for the concept's direction, 1.. for random ones

    def rows(self, site: Site | None, *, most_random: int = _RANDOM) -> np.ndarray:
        """Rows at one site."""
        return np.flatnonzero([s == site and r <= most_random for s, r in zip(self.site, self.random, strict=True)])


def steer_model(
    setting: Setting,
    weights: Weights,
    model: TransformersModel,
    states: Mapping[int, np.ndarray],
    layers: Sequence[int],
    n_contexts: int,
    progress: Progress,
) -> tuple[dict[str, list[Row]], list[Row]]:
    """Tables by name (effects, specificity, top tokens, generated text), and the rows of the tidy table."""
    from linrep.models.steering import steered  # torch

    tables: dict[str, list[Row]] = {n: [] for n in ("steered", "steered_reads", "top_tokens", "generated")}
    rows: list[Row] = []
    for i, (name, concept) in enumerate(setting.partner.items()):
        progress(i / len(setting.partner), f"steering {name}")
        train = halves(setting.pairs.groups_of(name), setting.stream("templates", name))
        if train.all() or not train.any():
            continue
        pushes: dict[Site, np.ndarray] = {
            k: _middle(setting, states[k], setting.pairs.of(name)[train], name, k) for k in layers
        }
        words = training_words(setting, concept)
        read = setting.tokens.of(concept)
        if words is not None:
            pushes |= {LAMBDA: _final(setting, weights, setting.pairs.of(name)[train], read[words], name)}
            read = read[~words]
        plan = _plan(pushes)
        texts, group = _held_out(setting, name, train, n_contexts)
        effects = [_effects(setting, steered(model, setting.texts[t], plan.additions)[0], read) for t in texts]
        facts = {"concept": name, "word_concept": concept, "n_train_pairs": int(train.sum())}
        table, reads, found = _summary(setting, plan, effects, group, facts)
        tables["steered"] += table
        tables["steered_reads"] += reads
        rows += found
        shown: list[Site] = [layers[len(layers) // 2], *([LAMBDA] if LAMBDA in pushes else [])]
        for text in texts[:_SHOWN]:
            for site in shown:
                top, said = _shown(setting, weights, model, text, plan, site)
                tables["top_tokens"] += [facts | row for row in top]
                tables["generated"] += [facts | row for row in said]
    return tables, rows


def _middle(setting: Setting, states: np.ndarray, pairs: np.ndarray, name: str, layer: int) -> np.ndarray:
    """Mean difference of hidden states, and under it random directions of its causal norm."""
    ends = np.asarray(states)[pairs].astype(np.float64)
    push = (ends[:, 1] - ends[:, 0]).mean(axis=0)
    rng = setting.stream("random directions", name, str(layer))
    return np.concatenate([push[None], random_directions_like(np.asarray(states), push, _RANDOM, rng)])


def _final(setting: Setting, weights: Weights, pairs: np.ndarray, words: np.ndarray, name: str) -> np.ndarray:
    """α C⁻¹ḡ with α the causal norm of the mean difference of λ, and random directions of the same causal norm."""
    model = weights.under("causal")
    lam, gamma = model.inner_product.embeddings(weights.lam[pairs]), model.carry(words)
    size = float(np.linalg.norm((lam[:, 1] - lam[:, 0]).mean(axis=0)))
    own = (gamma[:, 1] - gamma[:, 0]).mean(axis=0)
    random = setting.stream("random directions", name, LAMBDA).standard_normal((_RANDOM, len(own)))
    # In the common space a direction is one vector; back on the λ side it is C^−½ times that.
    return size * model.inner_product.unembeddings(metrics.unit(np.concatenate([own[None], random])))


def _held_out(setting: Setting, name: str, train: np.ndarray, count: int) -> tuple[list[int], np.ndarray]:
    """Texts of value 0 of the held-out templates, templates in turn, and the template of each."""
    pairs, group = setting.pairs.of(name)[~train], setting.pairs.groups_of(name)[~train]
    turn = np.array([int(np.sum(group[:i] == group[i])) for i in range(len(group))])
    seen: dict[int, int] = {}
    for i in np.lexsort((group, turn)).tolist():
        seen.setdefault(int(pairs[i, 0]), int(group[i]))
    chosen = list(seen)[:count]
    return chosen, np.array([seen[t] for t in chosen])


def _plan(pushes: Mapping[Site, np.ndarray]) -> _Plan:
    """One unsteered row; then for each site the strengths of the direction, and random ones at the reference."""
    each = [(s, 0) for s in STRENGTHS] + [(REFERENCE, r + 1) for r in range(_RANDOM)]
    site: list[Site | None] = [None, *(k for k in pushes for _ in each)]
    strength = np.array([0.0, *(s for _ in pushes for s, _ in each)])
    random = np.array([0, *(r for _ in pushes for _, r in each)])
    additions = {}
    for i, (k, vectors) in enumerate(pushes.items()):
        at = 1 + i * len(each) + np.arange(len(each))
        additions[k] = np.zeros((len(site), vectors.shape[1]))
        additions[k][at] = strength[at, None] * vectors[random[at]]
    return _Plan(additions, tuple(site), strength, random)


def _effects(setting: Setting, logits: np.ndarray, own: np.ndarray) -> dict[str, np.ndarray]:
    """What each row of one context does to the distribution, against the unsteered row 0; `own` are held-out pairs."""
    log_p = log_softmax(logits)

    def odds(pairs: np.ndarray) -> np.ndarray:
        return (log_p[:, pairs[:, 1]] - log_p[:, pairs[:, 0]]).mean(axis=1)

    sides = [np.exp(log_p[:, np.unique(own[:, side])]).sum(axis=1) for side in (0, 1)]
    reads = np.stack([odds(setting.tokens.of(n)) for n in setting.judged], axis=1)
    return {
        "own": odds(own) - odds(own)[0],
        "reads": reads - reads[:1],
        "probability_negative": sides[0],
        "probability_positive": sides[1],
        "kl": kl_divergence(log_p, log_p[:1]),
        "top1_changed": (log_p.argmax(axis=1) != log_p[0].argmax()).astype(float),
    }


def _site_facts(site: Site | None) -> Row:
    if site is None:
        return {"site": "none", "layer": None, "kind": COMPUTED}
    middle = isinstance(site, int)
    return {"site": f"layer {site}" if middle else site, "layer": site if middle else None,
            "kind": COMPUTED if middle else ARITHMETIC}  # fmt: skip


def _summary(
    setting: Setting, plan: _Plan, effects: list[dict[str, np.ndarray]], group: np.ndarray, facts: Row
) -> tuple[list[Row], list[Row], list[Row]]:
    """Means over contexts with intervals by template; the change of every concept; rows of the tidy table."""
    own = setting.judged.index(facts["word_concept"])
    other = setting.others(facts["word_concept"])
    by = {key: np.stack([e[key] for e in effects]) for key in effects[0]}  # context first
    change = by["own"]
    table: list[Row] = []
    reads: list[Row] = []
    rows: list[Row] = []
    for i in np.flatnonzero(plan.random == 0).tolist():
        site, strength = plan.site[i], float(plan.strength[i])
        low, high = clusters.mean_interval(change[:, i], group)
        line = facts | _site_facts(site) | {"strength": strength, "n_contexts": len(group)}
        line |= {"log_odds_change": float(change[:, i].mean()), "low": finite(low), "high": finite(high)}
        line |= {k: float(by[k][:, i].mean()) for k in by if k not in ("own", "reads")}
        matrix = by["reads"][:, i].mean(axis=0)
        matrix[own] = line["log_odds_change"]  # on held-out pairs
        ratio = off_over_on(matrix[None], np.array([own]), other[None])[0]
        line |= {"off_over_on": finite(float(ratio)) if site is not None else None}
        like = np.array([r for r in plan.rows(site).tolist() if plan.random[r] and plan.strength[r] == strength], int)
        null = change[:, like].mean(axis=0)
        if len(like):
            line |= {"random_change": float(null.mean()), "random_p": p_value(line["log_odds_change"], null)}
            line |= {f"random_{k}": float(by[k][:, like].mean()) for k in ("probability_positive", "kl")}
            about = facts | {"site": line["site"], "layer": line["layer"], "strength": strength}
            reads += [about | {"read": n, "change": c} for n, c in zip(setting.judged, matrix.tolist(), strict=True)]
        table.append(line)
        if site is not None:
            row = number(
                "steered_log_odds", line["log_odds_change"], "nats", low=low, high=high, layer=line["layer"],
                strength=strength, concept=facts["concept"], concept_other=facts["word_concept"], side="embedding",
                split="test", estimator="mean", n_pairs=facts["n_train_pairs"],
            )  # fmt: skip
            rows += [row, against(row, "random directions of equal norm", null)] if len(like) else [row]
    return table, reads, rows


def _shown(
    setting: Setting, weights: Weights, model: TransformersModel, text: int, plan: _Plan, site: Site
) -> tuple[list[Row], list[Row]]:
    """Likeliest tokens and greedy text of one context against strength, and under one random direction."""
    from linrep.models.steering import steered  # torch

    chosen = [0, *plan.rows(site, most_random=1).tolist()]
    logits, said = steered(model, setting.texts[text], {site: plan.additions[site][chosen]}, steps=_SAID)
    log_p = log_softmax(logits)
    tokens = weights.representations.tokens or ()
    top: list[Row] = []
    generated: list[Row] = []
    at = {k: _site_facts(site)[k] for k in ("site", "layer")}
    for r, i in enumerate(chosen):
        facts = {"context": setting.texts[text], **at, "strength": float(plan.strength[i])}
        facts |= {"direction": "random" if plan.random[i] else "concept" if plan.strength[i] else "none"}
        for rank, token in enumerate(np.argsort(-log_p[r])[:_TOP].tolist(), start=1):
            word = tokens[token] if tokens else str(token)
            top.append(facts | {"rank": rank, "token": word, "probability": float(np.exp(log_p[r, token]))})
        generated.append(facts | {"text": model.text_of(said[r])})
    return top, generated
