"""Context pairs that mean nothing, and how often the p-values of alignment call them something.

Contexts stay the model's own; what is redrawn is which end is positive, who is paired with whom inside a template, or
which word concept they are held against. Every test is the one that a measurement uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from linrep.errors import UnknownNameError
from linrep.geometry import alignment, clusters, matched, nulls
from linrep.geometry.pairs import ConceptPairs

REAL = "real contexts, own concept"
JOINT = "labels permuted, all sets at once"
FLIPS = "template flips"

# What the calibration study found on SmolLM2-135M (LOG.md), named wherever these p-values are printed.
KNOWN_LIMIT = (
    "on SmolLM2-135M, contexts whose labels mean nothing are called aligned in 37–47 % of cases by the p against "
    "random words, in 19–24 % by that against mismatched concepts, in 6–8 % by flips of templates; real contexts held "
    "against another concept in 25–29 % by flips. Flips say that λ moves along the direction; permuted labels, top-1 "
    "and the mismatched cosine say whether more than along others"
)

Redraw = Callable[[ConceptPairs, np.random.Generator], ConceptPairs]


def shuffled_labels(contexts: ConceptPairs, rng: np.random.Generator) -> ConceptPairs:
    """Every pair as it is, its two ends exchanged with probability one half."""
    return _remade(contexts, lambda pairs, _groups: (_flipped(pairs, rng), None))


def paired_within_templates(contexts: ConceptPairs, rng: np.random.Generator) -> ConceptPairs:
    """The texts of each template paired anew at random, whatever their labels."""

    def remake(pairs: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        made, units = [], []
        for g in np.unique(groups):
            texts = rng.permutation(np.unique(pairs[groups == g]))
            made.append(texts[: len(texts) // 2 * 2].reshape(-1, 2))
            units.append(np.full(len(made[-1]), g))
        return np.concatenate(made), np.concatenate(units)

    return _remade(contexts, remake)


def _flipped(pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])


def _remade(
    contexts: ConceptPairs, remake: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
) -> ConceptPairs:
    lists, groups = {}, {}
    for name in contexts.names:
        own = contexts.groups_of(name)
        pairs, units = remake(contexts.of(name), own)
        lists[name] = [(int(a), int(b)) for a, b in pairs]
        groups[name] = (own if units is None else units).tolist()
    return ConceptPairs.from_lists(lists, groups=groups, side="embedding")


def other_partners(tokens: ConceptPairs, partner: Mapping[str, str], rng: np.random.Generator) -> dict[str, str]:
    """For each context set a word concept of another family than its own."""
    family = dict(zip(tokens.names, tokens.families, strict=True))
    return {
        name: str(rng.choice([t for t in tokens.names if family[t] != family[own]])) for name, own in partner.items()
    }


CONTEXT_NONSENSE: dict[str, Redraw] = {
    "labels shuffled": shuffled_labels,
    "paired at random within templates": paired_within_templates,
}
OTHER_CONCEPT = "real contexts, another concept"


def alignment_tests(
    sources: alignment.Sources,
    tokens: ConceptPairs,
    contexts: ConceptPairs,
    partner: Mapping[str, str],
    draws: int,
    seed: int,
) -> list[dict[str, Any]]:
    """p-values of every test of alignment for every context set: columns test, concept, concept_other, value, p_value.

    ``mismatched`` and ``random word pairs`` are those of `alignment.rows`; ``template flips`` exchanges the ends of
    whole templates; the joint test permutes the families of all sets at once.

    Raises
    ------
    UnknownNameError
        If a context set has no partner, or one that is not among the tokens.
    """
    for name in contexts.names:
        if partner.get(name) not in tokens.names:
            raise UnknownNameError("token concept", str(partner.get(name)), tokens.names)
    found = []
    for row in alignment.rows(sources, tokens, contexts, partner, draws, seed):
        if row.get("p_value") is not None:
            found.append({"test": row["null"], **{k: row[k] for k in ("concept", "concept_other", "value", "p_value")}})
    rng = np.random.default_rng([seed, 1])
    cosines = alignment.matrix(sources.representations, sources.model, tokens, contexts)
    own = np.array([tokens.index(partner[name]) for name in contexts.names])
    for i, name in enumerate(contexts.names):
        drawn = _flips(sources, tokens, contexts, (name, int(own[i])), draws, rng)
        value = float(cosines[i, own[i]])
        found.append({"test": FLIPS, "concept": name, "concept_other": partner[name], "value": value,
                      "p_value": nulls.p_value(value, drawn)})  # fmt: skip
    labels = np.unique(np.array(tokens.families), return_inverse=True)[1]
    joint = matched.label_permutation(matched.family_matrix(cosines, own, labels), draws, rng)
    if joint is not None:
        found.append({"test": JOINT, "concept": None, "concept_other": None, "value": joint.matched,
                      "p_value": joint.p_value})  # fmt: skip
    return found


def _flips(
    sources: alignment.Sources,
    tokens: ConceptPairs,
    contexts: ConceptPairs,
    cell: tuple[str, int],
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    name, j = cell
    embeddings = sources.representations.embeddings
    assert embeddings is not None  # noqa: S101 - alignment.rows has used them
    ends = sources.model.inner_product.embeddings(embeddings[contexts.of(name)])
    words = sources.model.carry(tokens.of(tokens.names[j]))
    direction = (words[:, 1] - words[:, 0]).mean(axis=0)
    return clusters.alignment_flips(ends[:, 1] - ends[:, 0], contexts.groups_of(name), direction, draws, rng)
