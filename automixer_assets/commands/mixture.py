"""`automixer mixture`: what was made, why, and whether it is what it says."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from automixer_assets.commands import Config, Json, errors, open_automixer, open_instance, out

app = typer.Typer(no_args_is_help=True, help="Ask about mixtures.")


@app.command("list")
def mixture_list(json_: Json = False, config: Config = None) -> None:
    """The mixtures that were made, latest first."""
    from automixer_assets.catalogue import list_mixtures
    from automixer_assets.summary import mixtures_table

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        rows = list_mixtures(instance, automixer.lake())
    out.print_json(json.dumps(rows)) if json_ else out.print(mixtures_table(rows))


@app.command("show")
def mixture_show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    why: Annotated[
        bool, typer.Option("--why", help="what sets each group apart from the corpus, and some documents")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """The weight manifest of a mixture: groups, weights, tokens, exposure; or why these documents."""
    from automixer_assets.catalogue import find_characteristics, find_manifest
    from automixer_assets.pages.characteristics import characteristics_json
    from automixer_assets.summary import characteristics_panel, manifest_tables

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        manifest = find_manifest(instance, automixer.lake(), name)
        folder = find_characteristics(instance, automixer.lake(), manifest) if why else None
    if json_:
        document = manifest.model_dump(mode="json")
        if folder is not None:
            document = {"mixture": manifest.mixture, "digest": manifest.digest, **characteristics_json(folder)}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    for part in characteristics_panel(manifest, folder) if folder is not None else manifest_tables(manifest):
        out.print(part)


@app.command("verify")
def mixture_verify(
    name: Annotated[str, typer.Argument(help="NAME, NAME@digest, or a manifest.json, wherever it was copied")],
    json_: Json = False,
    config: Config = None,
) -> None:
    """Recompute a mixture from its pinned inputs and say which number differs; exit code 1 if one does."""
    from automixer_assets.answers.find import find_inputs
    from automixer_assets.answers.tables import verification_tables
    from automixer_assets.answers.verify import verify
    from automixer_assets.progress import progress

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        inputs = find_inputs(instance, automixer.lake(), name)
    found = verify(inputs, lambda label, total, unit: progress(label, total, unit, errors.print))
    if json_:
        sys.stdout.write(json.dumps(found.as_json(), indent=1) + "\n")
    else:
        for part in verification_tables(found):
            out.print(part)
    if not found.passed:
        raise typer.Exit(1)
