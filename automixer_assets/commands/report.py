"""`automixer report`: one HTML file about a mixture, to send to somebody."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from automixer_assets.commands import Config, Json, open_automixer, open_instance, out

app = typer.Typer()


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    file: Annotated[Path | None, typer.Option("--out", help="default: NAME.html in the working directory")] = None,
    json_: Json = False,
    config: Config = None,
) -> None:
    """Write a self-contained HTML report: weights, groups, comparisons, curves, as they were recorded."""
    from automixer_assets.assets import all_assets
    from automixer_assets.catalogue import find_version
    from automixer_assets.report import write_report

    automixer = open_automixer(config, None)
    questions = {
        item.asset: item.definition.descriptions_by_key[item.definition.key]
        for item in all_assets(automixer.settings())
    }
    with open_instance() as instance:
        version = find_version(instance, name)
        target = file or Path(f"{version.mixture}.html")
        pages = write_report(instance, version, questions, target)
    if json_:
        sys.stdout.write(json.dumps({"file": str(target), "pages": pages}) + "\n")
    else:
        out.print(f"{target}: {len(pages)} pages ({', '.join(pages)})", soft_wrap=True)
