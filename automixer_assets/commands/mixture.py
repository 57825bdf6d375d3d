"""`automixer mixture`: what was made, and why."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from automixer_assets.commands import Config, Json, open_automixer, open_instance, out

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
    from automixer_assets.catalogue import find_characteristics, find_mixture
    from automixer_assets.mixture.manifest import load_manifest
    from automixer_assets.pages.characteristics import characteristics_json
    from automixer_assets.summary import characteristics_panel, exposure_tables, manifest_tables

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        made = find_mixture(instance, automixer.lake(), name)
        manifest = load_manifest(made / "manifest.json")
        folder = find_characteristics(instance, automixer.lake(), manifest) if why else None
    if json_:
        document = manifest.model_dump(mode="json")
        if folder is not None:
            document = {"mixture": manifest.mixture, "digest": manifest.digest, **characteristics_json(folder)}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    shown = [*manifest_tables(manifest), *exposure_tables(made)]
    for part in shown if folder is None else characteristics_panel(manifest, folder):
        out.print(part)
