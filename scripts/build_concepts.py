"""Write the built in concept and context sets from the sources in ``concept_sources/``.

    python scripts/build_concepts.py            write src/linrep/concepts/data
    python scripts/build_concepts.py --check    write nothing; exit 1 if a file differs from its sources

Needs the optional part ``linrep[data]`` for the generated lists. Which pairs are listed never depends on what a model
says: lists are chosen by meaning and word frequency only, the words of the Winograd pairs also for being single tokens
in common vocabularies. The words of all files are checked here: every word in one family wherever English allows it,
and once in its concept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

from linrep.concepts.load import file_stem, list_concepts, list_contexts

SOURCES = Path(__file__).parent / "concept_sources"
DATA = Path(__file__).parents[1] / "src" / "linrep" / "concepts" / "data"
LICENCE = "Apache-2.0"
VERB_FORMS = {
    "verb–3pSg": ("VB", "VBZ"), "verb–Ving": ("VB", "VBG"), "verb–Ved": ("VB", "VBD"),
    "Ving–3pSg": ("VBG", "VBZ"), "Ving–Ved": ("VBG", "VBD"), "3pSg–Ved": ("VBZ", "VBD"),
}  # fmt: skip
LANGUAGES = {"English": "en", "French": "fr", "German": "de", "Spanish": "es"}  # in the columns' order
FURTHER = ("English–German", "English–Spanish")  # built in, loaded by name only
MAY_REPEAT = {"thing–color"}  # words that stand in several pairs of one concept
# A frequent word is at least three times as frequent as its infrequent partner: 0.5 on the Zipf scale.
MIN_ZIPF_GAP = 0.5

Pairs = list[tuple[str, str]]
Entry = tuple[str, str, str, Pairs]  # family, source, how it was made, pairs
Record = dict[str, str | list[str]]  # one line of a JSONL file


def read_toml(name: str) -> dict:
    return tomllib.loads((SOURCES / name).read_text(encoding="utf-8"))


def handwritten() -> dict[str, Entry]:
    return {
        name: (c["family"], c["source"], c["made"], [tuple(p.split("/")) for p in c["pairs"].split()])
        for name, c in read_toml("pairs.toml").items()
    }


def lower_upper(words: dict) -> Entry:
    pairs = [(w, w.capitalize()) for w in words["lower_words"].split()]
    return (
        "letter case",
        "written for linrep",
        "by hand: words that are nobody's name, and the same with a capital",
        pairs,
    )


def adverbs(words: dict) -> Entry:
    def adverb(adjective: str) -> str:
        for ending, becomes in (("ic", "ically"), ("le", "ly"), ("y", "ily")):
            if adjective.endswith(ending) and adjective != "sole":
                return adjective.removesuffix(ending) + becomes
        return adjective + "ly"

    irregular = {"public": "publicly"}
    pairs = [(w, irregular.get(w) or adverb(w)) for w in words["ly_adjectives"].split()]
    return "derivation -ly", "written for linrep", "adjectives by hand, adverbs by spelling rule", pairs


def inflected(words: dict, key: str, tag: str, family: str) -> Entry:
    from lemminflect import getInflection

    pairs = [(w, getInflection(w, tag)[0]) for w in words[key].split()]
    return family, "words written for linrep, inflected by lemminflect 0.2.3 (MIT)", f"{key}, Penn tag {tag}", pairs


def verb_forms(words: dict, used: set[str]) -> dict[str, Entry]:
    """Verbs in order of frequency, dealt out in turn: no verb is in two concepts, and frequencies are alike."""
    from lemminflect import getInflection
    from wordfreq import zipf_frequency

    forms = {
        v: {"VB": v} | {tag: getInflection(v, tag)[0] for tag in ("VBZ", "VBG", "VBD")} for v in words["verbs"].split()
    }
    fresh = [v for v, f in forms.items() if not used & set(f.values()) and len(set(f.values())) == 4]
    fresh.sort(key=lambda v: (-zipf_frequency(v, "en"), v))
    deal = {name: fresh[i :: len(VERB_FORMS)] for i, name in enumerate(VERB_FORMS)}
    source = "verbs written for linrep, inflected by lemminflect 0.2.3 (MIT), ordered by wordfreq 3.1 (Apache-2.0 code)"
    made = "the verbs in order of frequency, dealt out in turn over the six concepts of verb forms"
    return {
        name: ("verb form", source, made, [(forms[v][a], forms[v][b]) for v in deal[name]])
        for name, (a, b) in VERB_FORMS.items()
    }


def countries(words: dict) -> Entry:
    from babel import Locale
    from countryinfo import all_countries

    territories = Locale("en").territories
    capital = {}
    for country in all_countries():
        facts = country.info()
        seat = facts.get("capital")
        capital.setdefault(facts["ISO"]["alpha2"], seat[0] if isinstance(seat, list) and seat else seat)
    pairs = []
    for code in words["country_codes"].split():
        name, seat = words["country_corrections"].get(code) or (territories[code], capital[code])
        if seat and " " not in name + seat and name != seat:
            pairs.append((name, seat))
    source = (
        "codes chosen for linrep; names from Unicode CLDR through babel (Unicode-3.0), capitals from countryinfo (MIT)"
    )
    return "capital", source, "countries whose name and capital are one word each", pairs


def languages(used: set[str]) -> dict[str, Entry]:
    lines = (SOURCES / "languages.tsv").read_text(encoding="utf-8").splitlines()
    table = [line.split("\t") for line in lines if line and not line.startswith("#")]
    made = (
        "by hand: one meaning a line in four languages; words that are (nearly) as frequent in another of the four, "
        "such as French main, are left out"
    )
    entries = {}
    for name in (*list_concepts(), *FURTHER):
        first, _, second = name.partition("–")
        if not {first, second} <= LANGUAGES.keys():
            continue
        a, b = (list(LANGUAGES).index(language) for language in (first, second))
        pairs = [(row[a], row[b]) for row in table if belongs(row[a], first) and belongs(row[b], second)]
        if first == "English":
            pairs = [p for p in pairs if p[0] not in used]
        entries[name] = ("language", "written for linrep; homographs found with wordfreq 3.1", made, pairs)
    return entries


def belongs(word: str, language: str) -> bool:
    """Whether a token of that spelling would mostly stand for this language's word.

    The vocabulary of a model has one token for French "main" and English "main".
    """
    from wordfreq import zipf_frequency

    own = zipf_frequency(word, LANGUAGES[language])
    return all(zipf_frequency(word, code) < own - MIN_ZIPF_GAP for name, code in LANGUAGES.items() if name != language)


def all_concepts() -> dict[str, Entry]:
    words = read_toml("words.toml")
    entries = handwritten()
    entries["lower–upper"] = lower_upper(words)
    entries["adj–adj+ly"] = adverbs(words)
    entries["adj–comparative"] = inflected(words, "comparative_adjectives", "JJR", "degree")
    entries["adj–superlative"] = inflected(words, "superlative_adjectives", "JJS", "degree")
    entries["noun–plural"] = inflected(words, "nouns", "NNS", "number")
    entries["country–capital"] = countries(words)

    def used() -> set[str]:
        return {w for e in entries.values() for pair in e[3] for w in pair}

    entries |= verb_forms(words, used())
    entries |= languages(used())
    check(entries)
    return {name: entries[name] for name in (*list_concepts(), *FURTHER)}


def check(entries: dict[str, Entry]) -> None:
    """Stop on a list that breaks the rules; print the words that stand in two families."""
    from wordfreq import zipf_frequency

    if wrong := set(entries) ^ {*list_concepts(), *FURTHER}:
        sys.exit(f"not the built in concepts: {wrong}")
    families: dict[str, set[str]] = defaultdict(set)
    for name, (family, _, _, pairs) in entries.items():
        repeated = [w for w, n in Counter(w for p in pairs for w in p).items() if n > 1]
        if repeated and name not in MAY_REPEAT:
            sys.exit(f"{name}: words in several pairs: {', '.join(repeated)}")
        for w in itertools.chain.from_iterable(pairs):
            families[w].add(family)
    for a, b in entries["frequent–infrequent"][3]:
        if zipf_frequency(a, "en") - zipf_frequency(b, "en") < MIN_ZIPF_GAP:
            sys.exit(f"frequent–infrequent: {a} is not clearly more frequent than {b}")
    for w, fs in families.items():
        if len(fs) > 1:
            print(f"in {len(fs)} families: {w} ({', '.join(sorted(fs))})", file=sys.stderr)


def context_records(name: str) -> list[Record]:
    """Header and pairs of one context set, from the source that holds it."""
    contexts, translations = read_toml("contexts.toml"), read_toml("translations.toml")
    if name == "winograd":
        return [context_header(name, "winograd.toml"), *minimal_pairs(read_toml("winograd.toml"))]
    if name in translations["sets"]["names"]:
        header = context_header(name, "translations.toml", unembedding_concept=name)
        return [header, *translated_pairs(name, translations)]
    header = context_header(name, "contexts.toml", unembedding_concept=contexts["sets"][name]["unembedding_concept"])
    return [header, *marked_pairs(contexts["sets"][name], contexts["lexicons"])]


def context_header(name: str, file: str, **more: str) -> Record:
    source = f"written for linrep: templates and lexicons in scripts/concept_sources/{file}"
    return {"name": name, **more, "source": source, "licence": LICENCE}


def dealt(lexicon: list, t: int, k: int, n: int, shift: int = 0):
    """Word of pair k of template t, n pairs a template: each template takes its own stretch of every lexicon.

    Lexicons are at least n long, so the pairs of a template differ.
    """
    return lexicon[(n * t + k + shift) % len(lexicon)]


def sides(text: str) -> tuple[str, str]:
    """The negative and the positive text of one with marks ``[negative|positive]``."""
    negative, positive = (re.sub(r"\[([^|\]]*)\|([^|\]]*)\]", rf"\{side}", text) for side in (1, 2))
    return negative, positive


def marked_pairs(spec: dict, lexicons: dict) -> list[Record]:
    records = []
    n = spec["pairs_per_template"]
    for t, template in enumerate(spec["templates"]):
        for k in range(n):
            text = template
            for s, slot in enumerate(re.findall(r"\{(\w+)\}", template)):
                # The shift by slot mixes the slots.
                text = text.replace(f"{{{slot}}}", dealt(lexicons[slot], t, k, n, s * t), 1)
            negative, positive = sides(text)
            records.append({"negative": negative, "positive": positive, "template": template})
    return records


def translated_pairs(name: str, source: dict) -> list[Record]:
    languages = name.split("–")
    records = []
    n = source["sets"]["pairs_per_template"]
    for t, template in enumerate(source["templates"]):
        for k in range(n):
            texts = [template[language] for language in languages]
            for slot in re.findall(r"\{(\w+)\}", texts[0]):
                words = dealt(source["lexicons"][slot], t, k, n)
                texts = [
                    text.replace(f"{{{slot}}}", words[list(LANGUAGES).index(language)])
                    for text, language in zip(texts, languages, strict=True)
                ]
            negative, positive = (text[0].upper() + text[1:] for text in texts)
            records.append({"negative": negative, "positive": positive, "template": template["English"]})
    return records


def minimal_pairs(source: dict) -> list[Record]:
    """Pairs with continuations: {a} is right after the negative text, {b} after the positive one."""
    records = []
    n = source["pairs_per_template"]
    for t, template in enumerate(source["templates"]):
        first, second = (source["lexicons"][lexicon] for lexicon in template["lexicons"])
        # Of one lexicon, another shift in each template makes other couples and never a word with itself.
        shift = 1 + t % (len(first) - 1) if first is second else 0
        for k in range(n):
            a, b = dealt(first, t, k, n), dealt(second, t, k, n, shift)
            negative, positive = sides(template["text"].replace("{a}", a).replace("{b}", b))
            pair: Record = {"negative": negative, "positive": positive, "template": template["text"]}
            records.append(pair | {"continuations": [a, b]})
    return records


def all_files() -> dict[Path, str]:
    files = {}
    for name, (family, source, made, pairs) in all_concepts().items():
        header = {"name": name, "family": family, "source": source, "licence": LICENCE, "made": made}
        lines = [f"# {key}: {value}" for key, value in header.items()] + ["\t".join(p) for p in pairs]
        files[DATA / "pairs" / f"{file_stem(name)}.tsv"] = "\n".join(lines) + "\n"
    for name in list_contexts():
        lines = [json.dumps(record, ensure_ascii=False) for record in context_records(name)]
        files[DATA / "contexts" / f"{file_stem(name)}.jsonl"] = "\n".join(lines) + "\n"
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    arguments = parser.parse_args()
    files = all_files()
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments.check:
        sys.exit(f"differ from their sources: {', '.join(p.name for p in stale)}" if stale else 0)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(files[path], encoding="utf-8", newline="\n")
        temporary.replace(path)
    print(f"{len(stale)} of {len(files)} files written")


if __name__ == "__main__":
    main()
