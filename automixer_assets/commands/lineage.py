"""`automixer lineage`: what a mixture was made from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automixer_assets.commands import Config, Json, open_automixer, open_instance, out
from automixer_assets.errors import ConfigurationError
from automixer_assets.resources import Automixer

if TYPE_CHECKING:
    from automixer_assets.lineage_graph import Lineage

app = typer.Typer()


@app.command()
def lineage(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    check: Annotated[
        bool, typer.Option("--check", help="is it all there, as it was? exit code 1 names what is not")
    ] = False,
    digests: Annotated[bool, typer.Option("--digests", help="with --check: read every byte of the lake too")] = False,
    openlineage: Annotated[bool, typer.Option("--openlineage", help="OpenLineage run events, one a line")] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Every materialisation that a mixture was made from, down to the source files."""
    from automixer_assets.lineage_graph import lineage_json, mixture_lineage
    from automixer_assets.openlineage import run_events
    from automixer_assets.pages.lineage import lineage_tree

    if openlineage and (json_ or check):
        raise ConfigurationError("--openlineage goes with neither --json nor --check: run the command twice")
    automixer = open_automixer(config, None)
    with open_instance() as instance:
        found = mixture_lineage(instance, automixer.lake(), name)
    if check:
        _check(found, automixer, digests, json_)
    elif openlineage:
        sys.stdout.writelines(json.dumps(event) + "\n" for event in run_events(found))
    elif json_:
        sys.stdout.write(json.dumps(lineage_json(found), indent=1) + "\n")
    else:
        out.print(lineage_tree(found))


def _check(found: Lineage, automixer: Automixer, digests: bool, json_: bool) -> None:
    from dataclasses import asdict

    from automixer_assets.lineage_check import check_lineage
    from automixer_assets.lineage_graph import UNKNOWN
    from automixer_assets.pages.lineage import faults_panel

    def resolve(path: str) -> Path:
        return automixer.resolve(path.replace(UNKNOWN, automixer.settings().corpus.directory))

    options = automixer.settings().corpus.model_dump().get("storage_options")
    faults = check_lineage(found, automixer.lake(), resolve, digests=digests, storage_options=options)
    if json_:
        document = {"mixture": found.reference, "faults": [asdict(fault) for fault in faults]}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
    else:
        out.print(faults_panel(faults), soft_wrap=True)
    if faults:
        raise typer.Exit(1)
