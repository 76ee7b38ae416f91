"""Contexts as sentences: each context of a world written in several ways, as a sequence of words.

A sentence says exactly what its context knows, so every probability is that of the world; only what a predictor reads
is different. This file must not know how predictors are trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64

from linrep.errors import InvalidInputError
from linrep.geometry.pairs import ConceptPairs
from linrep.worlds.checks import check_memory, generator
from linrep.worlds.contexts import UNKNOWN, ContextLaw
from linrep.worlds.graph import Graph
from linrep.worlds.world import World

PAD, QUERY = "·", "?"  # words 0 and 1


@dataclass(frozen=True, eq=False)
class SentenceWorld:
    """The contexts of a world as sequences of words; one sequence is one context here.

    A sentence has a word for each concept that is known and none for the others, in a shuffled order with fillers
    between, padded *on the left* to one length. The last position is always the query ``?``, where the next token is
    predicted. What is known can be read off the sentence, so with R renderings

        p(y | sentence of d) = p(y | d),   p(sentence) = p(d) / R.

    The R renderings of a context follow each other, the contexts in the order of the world. Two that happen to be the
    same are kept as two rows with their share each, so that the number of rows does not depend on the draw and worlds
    of one kind can be trained together.

    The layout of a rendering (order, fillers, which paraphrases) is drawn once for all contexts that know the *same
    concepts*. The k-th sentences of d and d_(i→b) then differ in the word for concept i only, as counterfactual
    sentences should, and in the words of mentioned tokens, which must agree with the context.

    Words are numbered: the pad, the query, the fillers, the words of each concept and value, and at the end, if tokens
    are mentioned, all tokens of the world in their order.

    Parameters
    ----------
    world
        The contexts and their law.
    renderings
        Sentences R of each context.
    fillers
        Words without meaning in each sentence.
    filler_words
        Number of different such words.
    paraphrases
        Different words that say the same (concept, value).
    mentions
        Tokens that occur in each sentence, drawn evenly from those that agree with its context. They say nothing that
        the other words do not. With them inputs and outputs have words in common, which tied predictors need.
    seed
        Of the layouts.

    Raises
    ------
    InvalidInputError
        On a number outside its range.

    Examples
    --------
    >>> from linrep import ConceptGraph, World
    >>> sentences = SentenceWorld(World(ConceptGraph.chain(2), ContextLaw.complete()), paraphrases=1)
    >>> sentences.context_names[2:6]
    ('filler3 C2=1 C1=0 ?', 'C1=0 C2=1 filler4 ?', 'filler3 C1=0 ?', 'filler4 C1=0 ?')
    """

    world: World
    renderings: int = 2
    fillers: int = 1
    filler_words: int = 4
    paraphrases: int = 2
    mentions: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"renderings": 1, "fillers": 0, "filler_words": 1, "paraphrases": 1, "mentions": 0}
        for name, bound in least.items():
            if (value := getattr(self, name)) < bound:
                raise InvalidInputError(f"{name} is {value}: it must be at least {bound}")
        generator(self.seed)  # refuses a negative one

    # --- the same as in the world ------------------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The concepts and their joint p(c)."""
        return self.world.graph

    @property
    def law(self) -> ContextLaw:
        """Which concepts sentences know, and how often."""
        return self.world.law

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.world.n_tokens

    @property
    def token_concepts(self) -> Int8[np.ndarray, "token concept"]:
        """c(y), see `World.token_concepts`."""
        return self.world.token_concepts

    @property
    def token_names(self) -> tuple[str, ...]:
        """Readable label of each token."""
        return self.world.token_names

    def entropy_floor(self) -> float:
        """H(Y|X) in nats: that of the world, as a sentence says what its context knows and nothing more."""
        return self.world.entropy_floor()

    def p_token(self) -> Float64[np.ndarray, "token"]:
        """p(y), sums to 1."""
        return self.world.p_token()

    def token_pairs(self) -> ConceptPairs:
        """Counterfactual steps as rows of γ, see `World.token_pairs`."""
        return self.world.token_pairs()

    def token_pair_log_odds(self) -> Float64[np.ndarray, "concept pair"]:
        """ℓ of every pair of `token_pairs`, in nats, see `World.token_pair_log_odds`."""
        return self.world.token_pair_log_odds()

    # --- each row of the world R times -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Short label: that of the world, and how it is rendered."""
        mentions = f" mentions={self.mentions}" if self.mentions else ""
        return (
            f"{self.world.name} sentences={self.renderings} fillers={self.fillers}/{self.filler_words} "
            f"paraphrases={self.paraphrases}{mentions}"
        )

    @property
    def n_contexts(self) -> int:
        """Number of sentences, R a context of the world."""
        return self.renderings * self.world.n_contexts

    @property
    def context_concepts(self) -> Int8[np.ndarray, "context concept"]:
        """D of each sentence, −1 where it is unknown (⋄)."""
        return np.repeat(self.world.context_concepts, self.renderings, axis=0)

    @property
    def p_context(self) -> Float64[np.ndarray, "context"]:
        """p(sentence) = p(d)/R, sums to 1."""
        return np.repeat(self.world.p_context / self.renderings, self.renderings)

    def p_token_given_context(self) -> Float64[np.ndarray, "context token"]:
        """p(y | sentence) = p(y|d), rows sum to 1.

        Raises
        ------
        InvalidInputError
            If the table exceeds 1 GiB.
        """
        check_memory(
            f"p(token | context) of {self.n_contexts} sentences and {self.n_tokens} tokens",
            8 * self.n_contexts * self.n_tokens,
            "use p_token_given_context_blocks, or fewer renderings, concepts or contexts",
        )
        return np.repeat(self.world.p_token_given_context(), self.renderings, axis=0)

    def p_token_given_context_blocks(self, block: int | None = None) -> Iterator[Float64[np.ndarray, "block token"]]:
        """The rows of `p_token_given_context`, those of `block` contexts of the *world* at a time.

        Raises
        ------
        InvalidInputError
            On a block of less than one row.
        """
        rows = self.world.p_token_given_context_blocks(block)
        return (np.repeat(part, self.renderings, axis=0) for part in rows)

    def context_pairs(self) -> ConceptPairs:
        """Pairs of sentences: the k-th rendering of d with the k-th of d_(i→b), k = 1..R.

        The R pairs of one (d, d_(i→b)) are one group: what is resampled is the pair of contexts, not its renderings.
        """
        pairs, r = self.world.context_pairs(), self.renderings
        mask = np.repeat(pairs.mask, r, axis=1)
        place = np.tile(np.arange(r), pairs.mask.shape[1])
        negative, positive = (
            (np.repeat(rows, r, axis=1) * r + place[None]) * mask for rows in (pairs.negative, pairs.positive)
        )
        group = np.repeat(pairs.group, r, axis=1)
        return ConceptPairs(
            names=pairs.names, negative=negative, positive=positive, mask=mask, group=group, side=pairs.side
        )

    # --- the sentences -----------------------------------------------------------------------------------------

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word by number."""
        many = self.paraphrases > 1
        symbols = [
            f"{name}={v}" + (f"/{s + 1}" if many else "")
            for name, k in zip(self.graph.names, self.graph.cardinalities, strict=True)
            for v in range(k)
            for s in range(self.paraphrases)
        ]
        fillers = [f"filler{w + 1}" for w in range(self.filler_words)]
        return (PAD, QUERY, *fillers, *symbols, *(self.token_names if self.mentions else ()))

    @property
    def length(self) -> int:
        """Positions L of a sequence: a word a concept, the fillers, the mentions and the query."""
        return self.graph.n_concepts + self.fillers + self.mentions + 1

    @cached_property
    def sequences(self) -> Int64[np.ndarray, "context position"]:
        """Number of the word at each position of each sentence."""
        d, r, length = self.world.context_concepts, self.renderings, self.length
        check_memory(f"{self.n_contexts} sequences", 8 * self.n_contexts * length, "use fewer renderings or contexts")
        sequences = np.zeros((len(d), r, length), dtype=np.int64)
        sequences[:, :, -1] = 1
        masks, of = np.unique(d != UNKNOWN, axis=0, return_inverse=True)
        for number, mask in enumerate(masks):
            rows = np.flatnonzero(of == number)
            code = int((mask * (1 << np.arange(len(mask)))).sum())
            rng = np.random.default_rng([self.seed, code])  # a layout does not depend on the context law
            for k in range(r):
                sentence = self._sentence(d[rows], mask, rng)
                sequences[rows, k, length - 1 - sentence.shape[1] : length - 1] = sentence
        sequences = sequences.reshape(-1, length)
        sequences.setflags(write=False)  # every caller gets the same array
        return sequences

    def _sentence(
        self, d: Int8[np.ndarray, "row concept"], mask: np.ndarray, rng: np.random.Generator
    ) -> Int64[np.ndarray, "row word"]:
        """One rendering of contexts that know the same concepts, all with one layout; no pads, no query."""
        s, values = self.paraphrases, np.array(self.graph.cardinalities)
        first = 2 + self.filler_words + s * np.concatenate([[0], np.cumsum(values)[:-1]])
        known = np.flatnonzero(mask)
        symbols = first[known] + s * d[:, known].astype(np.int64) + rng.integers(s, size=len(known))
        fillers = np.broadcast_to(2 + rng.integers(self.filler_words, size=self.fillers), (len(d), self.fillers))
        mentioned = self._mentioned(d[:, known], known, rng.random(self.mentions))
        sentence = np.concatenate([symbols, fillers, mentioned], axis=1)
        return sentence[:, rng.permutation(sentence.shape[1])]

    def _mentioned(
        self, values: Int8[np.ndarray, "row known"], known: np.ndarray, where: Float64[np.ndarray, "mention"]
    ) -> Int64[np.ndarray, "row mention"]:
        """Words of the tokens that stand at the places `where` (0 to 1) among those that agree with each context."""
        if not len(where):
            return np.zeros((len(values), 0), dtype=np.int64)
        c = self.token_concepts
        agrees = (c[None][:, :, known] == values[:, None]).all(axis=2) & np.all(c >= 0, axis=1)[None]
        place = np.floor(where[None] * agrees.sum(axis=1)[:, None]).astype(np.int64)
        upto = agrees.cumsum(axis=1)
        tokens = (upto[:, None] == place[:, :, None] + 1).argmax(axis=2)
        return len(self.words) - self.n_tokens + tokens

    def context_features(self) -> Float32[np.ndarray, "context position word"]:
        """One-hots of the words of each sentence.

        One-hots and not numbers: looking a row up in a table is then a matrix product, whose gradient is one too; the
        scatter that a gather has as its gradient is slow on CPUs. 4 R 3^m L V bytes, 0.4 MB at the defaults and m = 5.

        Raises
        ------
        InvalidInputError
            If they exceed 1 GiB.
        """
        shape = (self.n_contexts, self.length, len(self.words))
        check_memory(
            f"the one-hots of {shape[0]} sentences with {shape[1]} positions and {shape[2]} words",
            4 * shape[0] * shape[1] * shape[2],
            "use fewer renderings, concepts or contexts",
        )
        return np.eye(shape[2], dtype=np.float32)[self.sequences]

    @cached_property
    def context_names(self) -> tuple[str, ...]:
        """The sentences, without pads; those of identical renderings are the same."""
        words = self.words
        return tuple(" ".join(words[w] for w in row if w) for row in self.sequences.tolist())


# What is trained on and measured. Both are final and have the same names for the same things; a third kind of world
# is one more class here.
AnyWorld = World | SentenceWorld
