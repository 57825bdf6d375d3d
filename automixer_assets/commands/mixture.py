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
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="intervals of the weights, by what is drawn again")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """The weight manifest of a mixture: groups, weights, exposure; or why these documents, or how sure the weights."""
    from automixer_assets.catalogue import find_characteristics, find_manifest, find_selected, find_uncertainty
    from automixer_assets.errors import ConfigurationError
    from automixer_assets.pages.characteristics import characteristics_json
    from automixer_assets.pages.uncertainty import uncertainty_json
    from automixer_assets.summary import characteristics_panel, manifest_tables, uncertainty_panel

    if why and uncertainty:
        raise ConfigurationError("--why and --uncertainty answer two questions: ask one at a time")
    automixer = open_automixer(config, None)
    lake = automixer.lake()
    with open_instance() as instance:
        manifest = find_manifest(instance, lake, name)
        reasons = find_characteristics(instance, lake, manifest) if why else None
        doubts = find_uncertainty(instance, lake, manifest) if uncertainty else None
    document, parts = manifest.model_dump(mode="json"), manifest_tables(manifest)
    if reasons is not None:
        document, parts = characteristics_json(reasons), characteristics_panel(manifest, reasons)
    if doubts is not None:
        selected = find_selected(lake, manifest)
        document, parts = uncertainty_json(doubts, selected), uncertainty_panel(manifest, doubts, selected)
    if json_:
        named = {"mixture": manifest.mixture, "digest": manifest.digest} if why or uncertainty else {}
        sys.stdout.write(json.dumps({**named, **document}, indent=1) + "\n")
        return
    for part in parts:
        out.print(part)
