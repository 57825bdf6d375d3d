"""`automixer lake`: the lake as a whole."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated

import typer

from automixer_assets.commands import Json, errors, out
from automixer_assets.resources import state_folder

app = typer.Typer(help="The lake as a whole.", no_args_is_help=True)


@app.callback()
def _family() -> None:
    """Keeps `copy` a command of its own while it is the only one."""


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="a folder, or a URL such as s3://BUCKET/PREFIX")],
    target: Annotated[str, typer.Argument(metavar="TO", help="likewise")],
    json_: Json = False,
) -> None:
    """Copy a lake between disk and object store, verified; run again, it goes on where it was interrupted."""
    from automixer_assets.lake_address import lake_at
    from automixer_assets.lake_copy import copy_lake

    places = [lake_at(address, os.environ, state_folder()) for address in (source, target)]
    copied = copy_lake(places[0], places[1], lambda artifact: errors.print(artifact.uri))
    if json_:
        sys.stdout.write(json.dumps({"from": source, "to": target, **copied.as_json()}, indent=1) + "\n")
    else:
        out.print(f"{copied.copied} artefacts copied ({copied.copied_bytes:,} bytes), {copied.present} were there")
        for uri in copied.differing:
            out.print(f"{uri} differs between the two: keep the one whose mixtures you use, remove the other by hand")
    if copied.differing:
        raise typer.Exit(1)
