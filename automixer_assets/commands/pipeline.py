"""Making things: the demo, any selection of assets, and the partitions that settings name."""

from __future__ import annotations

from typing import Annotated

import typer

from automixer_assets.commands import Config, Overrides, errors, open_automixer, open_instance, out

app = typer.Typer()


@app.command()
def demo(
    add_snapshot: Annotated[bool, typer.Option("--add-snapshot", help="let the third crawl snapshot arrive")] = False,
    config: Config = None,
    set_: Overrides = None,
) -> None:
    """Run the whole pipeline on the embedded micro-world and print the mixture."""
    from automixer_assets.demo import run_demo

    automixer = open_automixer(config, set_)
    with open_instance() as instance:
        run_demo(automixer, instance, errors, out, add_snapshot=add_snapshot)


@app.command()
def materialize(
    selection: Annotated[
        str, typer.Argument(help="Dagster's asset selection, e.g. weight_manifest or +weight_manifest")
    ],
    partition: Annotated[
        str | None, typer.Option("--partition", help="a partition key, or one of its dimensions")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="record a new materialisation even of what is current (files in the lake are not rewritten)"
        ),
    ] = False,
    config: Config = None,
    set_: Overrides = None,
) -> None:
    """Materialise assets; what is current is skipped."""
    from automixer_assets.materialize import Materializer

    automixer = open_automixer(config, set_)
    with open_instance() as instance:
        materializer = Materializer(instance, automixer, lambda name: errors.print(f"  {name}", markup=False))
        outcomes = materializer.run(selection, partition, force=force)
    ran = sum(outcome.ran for outcome in outcomes)
    out.print(f"{ran} materialised, {len(outcomes) - ran} already current")


@app.command()
def sync(config: Config = None) -> None:
    """Make the recipes and mixtures of the settings known to the UI as partitions."""
    from automixer_assets.assets import all_assets
    from automixer_assets.partitions import register_settings_keys
    from automixer_assets.run_processes import limit_pools

    automixer = open_automixer(config, None)
    with open_instance() as instance:
        register_settings_keys(instance, automixer.settings())
        limit_pools(instance, [item.pool for item in all_assets(automixer.settings()) if item.pool is not None])
