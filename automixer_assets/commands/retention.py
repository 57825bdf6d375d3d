"""`automixer gc`: make room in the lake."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from automixer_assets.commands import Config, Json, open_automixer, open_instance, out

app = typer.Typer()


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="remove what is listed")] = False,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", min=1, help="versions of each mixture to keep; default: all of them")
    ] = None,
    also_current: Annotated[
        bool, typer.Option("--also-current", help="also what is current but in no mixture that is kept")
    ] = False,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="also what killed runs left and would go on from")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """List what no mixture pins and nothing current was made from, with sizes; with --delete, remove it."""
    from automixer_assets.assets import all_assets
    from automixer_assets.gc import Retention, collect, survey
    from automixer_assets.pages.retention import survey_panel

    automixer = open_automixer(config, None)
    retention = Retention(keep_last, keep_current=not also_current, keep_unfinished=not unfinished)
    with open_instance() as instance:
        act = collect if delete else survey
        found = act(instance, automixer.lake(), all_assets(automixer.settings()), retention)
    if json_:
        sys.stdout.write(json.dumps({"deleted": delete, **found.as_json()}, indent=1) + "\n")
    else:
        out.print(survey_panel(found, retention, deleted=delete))
