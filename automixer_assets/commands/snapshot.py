"""`automixer snapshot`: which crawl snapshots exist."""

from __future__ import annotations

import json

import typer

from automixer_assets.commands import Config, Json, Overrides, open_automixer, open_instance, out
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


@app.command("stale")
def snapshot_stale(json_: Json = False, config: Config = None, set_: Overrides = None) -> None:
    """Which scores are missing or stale, and the tokens and time that making them would take; starts nothing."""
    from automixer_assets.assets import all_assets
    from automixer_assets.stale_scores import find_stale_scores

    automixer = open_automixer(config, set_).frozen()
    with open_instance() as instance:
        found = list(find_stale_scores(instance, automixer, all_assets(automixer.settings())))
    if json_:
        out.print_json(json.dumps([finding.as_json() for finding in found]))
        return
    for finding in found:
        out.print(finding.sentence, *(f"  {cell}" for cell in finding.cells), sep="\n", markup=False)


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
