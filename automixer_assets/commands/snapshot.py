"""`automixer snapshot`: which crawl snapshots exist."""

from __future__ import annotations

import json

import typer

from automixer_assets.commands import Config, Json, open_automixer, open_instance, out
from automixer_assets.errors import ConfigurationError

app = typer.Typer(no_args_is_help=True, help="Tell the project which crawl snapshots exist.")


@app.command("add")
def snapshot_add(keys: list[str], config: Config = None) -> None:
    """Register snapshots: folders below corpus.directory."""
    from automixer_assets.partitions import SNAPSHOTS, register, require_valid_key

    automixer = open_automixer(config, None)
    sources = automixer.sources()
    for key in keys:
        require_valid_key(key)
        sources.list_files(key)
    with open_instance() as instance:
        register(instance, SNAPSHOTS, keys)
    out.print(f"registered: {', '.join(keys)}")


@app.command("list")
def snapshot_list(json_: Json = False, config: Config = None) -> None:
    """The registered snapshots."""
    open_automixer(config, None)
    with open_instance() as instance:
        keys = sorted(instance.get_dynamic_partitions("snapshot"))
    out.print_json(json.dumps(keys)) if json_ else out.print("\n".join(keys) or "no snapshot is registered")


@app.command("remove")
def snapshot_remove(keys: list[str], config: Config = None) -> None:
    """Withdraw snapshots from mixtures that take all of them; what was made from them stays in the lake."""
    open_automixer(config, None)
    with open_instance() as instance:
        registered = set(instance.get_dynamic_partitions("snapshot"))
        if unknown := sorted(set(keys) - registered):
            raise ConfigurationError(
                f"no snapshot {unknown[0]!r} is registered: see `automixer snapshot list` ({len(registered)} are)"
            )
        for key in keys:
            instance.delete_dynamic_partition("snapshot", key)
    out.print(f"withdrawn: {', '.join(keys)}")
