"""`linrep lint`: what a list of pairs is worth for a model, before it is measured."""

from __future__ import annotations

from typing import Annotated

import typer

from linrep.cli import common


def lint(
    pairs: Annotated[list[str], typer.Argument(help="Concepts or files of word pairs.")],
    model: Annotated[str, typer.Option(help="Model whose vocabulary decides what is a single token.")],
    contexts: Annotated[list[str] | None, typer.Option(help="Context set or file; may be given again.")] = None,
    as_json: common.Json = False,
) -> None:
    """Report coverage, duplicates, one-to-many and shared words, and every pair that would be dropped.

    Exits with 1 if there is an error-level finding. Example: linrep lint my_pairs.tsv --model smollm2-135m
    """
    from linrep.concepts.lint import lint as check
    from linrep.concepts.load import load_concepts, load_contexts
    from linrep.models.source import open_model

    sets = load_contexts(contexts) if contexts else ()
    found = check(load_concepts(pairs), open_model(model).vocabulary().find, sets)
    if as_json:
        common.finish(found.to_dict(), True)
    else:
        covered = [[c.concept, c.kind, f"{c.measured}/{c.listed}"] for c in found.coverage]
        common.print_table(f"measurable in {model}", ["concept", "kind", "pairs"], covered, err=False)
        remarks = [[f.severity, f.concept, f.message, ", ".join(f.items[:6])] for f in found.findings]
        common.print_table("findings", ["severity", "concept", "what", "for example"], remarks, err=False)
    if found.count("error"):
        raise typer.Exit(1)
