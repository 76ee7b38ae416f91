"""What a trained predictor is held against, computed from the world or from λ alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64

from linrep.geometry import metrics
from linrep.geometry.interchange import Interchange, interchange, log_odds_residual, share_in_span
from linrep.worlds.sentences import AnyWorld

_INTERCHANGES = 200  # of each concept


def dual_basis(
    directions: Float[np.ndarray, "concept dim"], offset: Float[np.ndarray, "dim"] | None = None
) -> Float64[np.ndarray, "concept dim"]:
    """Vectors w_i in span{a_j, λ0} with w_i·a_i = 1 and w_i·a_j = w_i·λ0 = 0: where descent drives Δ_{c,i} (P2).

    Of a set that is not independent it is the least-squares solution, which means nothing.
    """
    rows = directions if offset is None else np.vstack([directions, offset])
    return np.linalg.pinv(np.asarray(rows, dtype=np.float64)).T[: len(directions)]


def max_margin_is_dual(directions: Float[np.ndarray, "concept dim"]) -> Bool[np.ndarray, "concept"]:
    """Whether the hard-margin direction of each concept, with bias, is its dual-basis vector (λ0 = 0).

    It is if the coefficients of a_i's projection on the other a_j all lie in [−1, 1], where the other concepts are
    known in every combination. Over contexts with but one known concept the direction is a_i itself.
    """
    ok = []
    for i in range(len(directions)):
        others = np.delete(directions, i, axis=0)
        ok.append(bool((np.abs(np.linalg.lstsq(others.T, directions[i], rcond=None)[0]) <= 1).all()))
    return np.array(ok)


def projected_parallelism(
    world: AnyWorld, embeddings: Float[np.ndarray, "context dim"], differences_of: Float[np.ndarray, "token dim"]
) -> float:
    """Mean cosine of the projections of Δ_{c,i} and Δ_{c',i} on the contexts that speak of both (P1), in [−1, 1].

    c and c' differ in one concept j that is no neighbour of i, so that ℓ_i(c) = ℓ_i(c'); the contexts are those with i
    and j unknown that agree with both. NaN if there are no such concepts. Binary worlds with the plain vocabulary.
    """
    cosines = [float(metrics.cosine(a, b)) for a, b, _ in _projections(world, embeddings, differences_of)]
    return float(np.mean(cosines)) if cosines else float("nan")


def projected_residual(
    world: AnyWorld, embeddings: Float[np.ndarray, "context dim"], differences_of: Float[np.ndarray, "token dim"]
) -> float:
    """How far the premise of P1 is from true, where it counts: root mean square of ‖P Δ − R⁺ℓ‖ / ‖R⁺ℓ‖.

    R are the contexts of `projected_parallelism`, P the projection on them and R⁺ℓ the vector of their span with the
    true log-odds in all of them. A residual of the log-odds in nats says less: along what the contexts hardly differ
    in, a small one moves the projection far. 0 if the log-odds match; infinite where ℓ = 0, of which nothing is left
    to be parallel; NaN as there.
    """
    shares = []
    for a, b, wanted in _projections(world, embeddings, differences_of):
        norm = float(np.linalg.norm(wanted))
        shares += [float(np.linalg.norm(x - wanted)) / norm if norm > 0 else float("inf") for x in (a, b)]
    return float(np.sqrt(np.mean(np.square(shares)))) if shares else float("nan")


def _projections(
    world: AnyWorld, embeddings: Float[np.ndarray, "context dim"], differences_of: Float[np.ndarray, "token dim"]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Coordinates in the span of the contexts: of Δ_{c,i}, of Δ_{c',i}, and of the vector with the true log-odds."""
    c, d, m = world.token_concepts, world.context_concepts, world.graph.n_concepts
    apart, logs = ~world.graph.moral_adjacency(), np.log(world.graph.joint().ravel())
    weight = 1 << np.arange(m)[::-1]
    gamma = np.asarray(differences_of, dtype=np.float64)
    for i, j in np.argwhere(apart & ~np.eye(m, dtype=bool)).tolist():
        others = np.delete(np.arange(m), [i, j])
        for token in np.flatnonzero((c[:, i] == 0) & (c[:, j] == 0)).tolist():
            agrees = ((d[:, others] == -1) | (d[:, others] == c[token, others])).all(axis=1)
            rows = np.asarray(embeddings[agrees & (d[:, i] == -1) & (d[:, j] == -1)], dtype=np.float64)
            if not len(rows):
                continue
            left, singular, basis = np.linalg.svd(rows, full_matrices=False)
            kept = singular > 1e-3 * max(float(singular[0]), 1e-300)
            odds = logs[token + weight[i]] - logs[token]
            wanted = odds * left[:, kept].sum(axis=0) / singular[kept]
            first = gamma[token + weight[i]] - gamma[token]
            second = gamma[token + weight[i] + weight[j]] - gamma[token + weight[j]]
            yield basis[kept] @ first, basis[kept] @ second, wanted


def log_odds_match(
    world: AnyWorld, embeddings: Float[np.ndarray, "context dim"], unembeddings: Float[np.ndarray, "token dim"]
) -> tuple[float, float]:
    """Log-odds residual in nats (root mean square over concepts) and mean share of Δ in the span of the contexts."""
    pairs, odds = world.token_pairs(), world.token_pair_log_odds()
    d, c = world.context_concepts, world.token_concepts
    squares, shares = [], []
    for k, name in enumerate(pairs.names):
        of = pairs.of(name)
        i = world.graph.names.index(name.split(":")[0])
        unknown = d[:, i] == -1
        differences = (unembeddings[of[:, 1]] - unembeddings[of[:, 0]]).astype(np.float64)
        known, values = np.delete(d[unknown], i, axis=1), np.delete(c[of[:, 0]], i, axis=1)
        consistent = ((known[:, None] == -1) | (known[:, None] == values[None])).all(axis=2)
        rows = embeddings[unknown].astype(np.float64)
        squares.append(log_odds_residual(rows, differences, odds[k][pairs.mask[k]], consistent) ** 2)
        shares.append(share_in_span(rows, differences))
    return float(np.sqrt(_mean(squares))), _mean(shares)


def _mean(values: list[float]) -> float:
    """Mean of those that are not NaN; NaN if all are, as those of a seed that diverged."""
    there = [value for value in values if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def interchanges(
    world: AnyWorld,
    embeddings: Float[np.ndarray, "context dim"],
    unembeddings: Float[np.ndarray, "token dim"],
    *,
    seed: int = 0,
) -> tuple[Interchange, Interchange]:
    """Interchange of every concept of a binary world, mean over concepts, and the same along random directions.

    Base contexts are those with a counterpart in the law; sources are drawn among the contexts with the other value.
    """
    lam, gamma = embeddings.astype(np.float64), unembeddings.astype(np.float64)
    d, p = world.context_concepts, world.p_token_given_context()
    pairs, rng = world.context_pairs(), np.random.default_rng(seed)
    ends = [pairs.of(name) for name in pairs.names]
    directions = np.stack([(lam[of[:, 1]] - lam[of[:, 0]]).mean(axis=0) for of in ends])
    found: list[list[Interchange]] = [[], []]
    for i, of in enumerate(ends):
        both = np.concatenate([of, of[:, ::-1]])
        both = both[rng.permutation(len(both))[:_INTERCHANGES]]
        pools = [np.flatnonzero(d[:, i] == v) for v in (0, 1)]
        source = np.array([rng.choice(pools[d[row, i]]) for row in both[:, 1]])
        for k, random_seed in enumerate((None, seed + i)):
            found[k].append(
                interchange(lam, gamma, directions, i, both[:, 0], source, p[both[:, 1]], d[both[:, 1]],
                            world.token_concepts, random_seed=random_seed)
            )  # fmt: skip
    swapped, control = (Interchange(*map(float, np.mean(kind, axis=0))) for kind in found)
    return swapped, control
