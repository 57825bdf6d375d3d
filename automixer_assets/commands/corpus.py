"""`automixer corpus`: questions about documents."""

from __future__ import annotations

import json
import sys

import typer

from automixer_assets.commands import Config, Json, Overrides, open_automixer, open_instance, out

app = typer.Typer(no_args_is_help=True, help="Ask about documents.")


@app.command("removals")
def corpus_removals(json_: Json = False, config: Config = None, set_: Overrides = None) -> None:
    """Name the mixtures that contain documents of the removal list; exit code 1 if there are any."""
    from automixer_assets.removals import report_removals
    from automixer_assets.summary import removal_panel

    automixer = open_automixer(config, set_)
    with open_instance() as instance:
        report = report_removals(instance, automixer)
    if json_:
        sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    else:
        out.print(removal_panel(report))
    if report.mixtures:
        raise typer.Exit(1)
