"""How many of the built in pairs SmolLM2's vocabulary holds as single tokens."""

import pytest

from linrep.concepts.load import continuation_rows, load_concepts, load_contexts, token_pairs
from linrep.geometry.verdicts import MIN_PAIRS
from linrep.models.vocabulary import read_vocabulary

pytestmark = pytest.mark.smollm2

# English has 13 pronouns with a possessive; SmolLM2 holds few words of other languages.
FEWER = {"pronoun–possessive", "English–French", "French–German", "French–Spanish", "German–Spanish"}


def test_thirty_pairs_wherever_english_has_them(smollm2_folder):
    pairs = token_pairs(load_concepts(), read_vocabulary(smollm2_folder).find)
    n = dict(zip(pairs.names, pairs.n_pairs.tolist(), strict=True))
    assert {name for name, k in n.items() if k < 30} == FEWER
    assert sum(k >= MIN_PAIRS for k in n.values()) == 23
    assert {d.reason.split("' ")[-1] for d in pairs.dropped} == {"is not a single token", "are not single tokens"}


def test_every_winograd_continuation_is_one_token(smollm2_folder):
    (winograd,) = load_contexts(["winograd"])
    kept, rows, dropped = continuation_rows(winograd, read_vocabulary(smollm2_folder).find)
    assert dropped == () and kept == winograd and len(rows) == len(winograd.pairs)
