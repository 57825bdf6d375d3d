"""Does it work? Studies that compare strategies, as settings in configs/study-*.yaml: python -m benchmarks.study ...

`world --seed N` writes a micro-world and which of its documents teach, below AUTOMIXER_STATE. `run --config FILE`
materialises everything up to the comparison, the targets in `--processes` processes; killed, it goes on where it
stopped. `table --config FILE` prints the comparison as Markdown, held-out text, and what each strategy's scores took;
`sources --config FILE --recipe NAME` which sources a recipe's influence prefers, task by task.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean

import dagster as dg
import polars as pl

from automixer_assets.assets.target_runs import SEED_RUN
from automixer_assets.commands import open_automixer, open_instance
from automixer_assets.comparison import MEAN_TASK, compare
from automixer_assets.errors import AutomixerError
from automixer_assets.events import ancestors, events_of
from automixer_assets.files import atomic_path
from automixer_assets.lake import Lake
from automixer_assets.microworld import SNAPSHOTS, write_microworld
from automixer_assets.microworld.truth import read_truth
from automixer_assets.mixture.score_columns import influence_column, selected_origins, selection_tasks
from automixer_assets.pages.evaluation import comparison_grid, mean_grid
from automixer_assets.partitions import SNAPSHOTS as SNAPSHOT_KEYS
from automixer_assets.resources import Automixer, state_folder
from automixer_assets.settings import Targets

KINDS = {
    "proxy_run": "proxy",
    "benchmark_table": "evaluation",
    "influence_query": "queries",
    "checkpoint_influence": "scoring",
    "lexical_scores": "word counts",
}


def main() -> None:
    """Write a world, run a study, or print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    world = commands.add_parser("world", help="a micro-world and its oracle")
    world.add_argument("--seed", type=int, required=True)
    world.set_defaults(run=lambda options: write_world(state_folder() / "microworld", options.seed))
    run = commands.add_parser("run", help="everything up to the comparison")
    run.add_argument("--processes", type=int, default=2, help="targets trained at a time")
    run.set_defaults(run=lambda options: run_study(options.config, options.set, options.processes))
    table = commands.add_parser("table", help="the comparison as Markdown")
    table.add_argument("--against", metavar="MIXTURE", help="only the means, and differences to this one")
    table.set_defaults(run=lambda options: print_tables(options.config, options.set, options.against))
    sources = commands.add_parser("sources", help="which sources each task's influence prefers, as Markdown")
    sources.add_argument("--recipe", required=True, help="of a scorer that reads influence")
    sources.add_argument("--column", default="file_path", help="of the inventory's documents: what tells sources")
    sources.set_defaults(run=lambda options: print_sources(options.config, options.set, options.recipe, options.column))
    for command in (run, table, sources):
        command.add_argument("--config", type=Path, required=True)
        command.add_argument("--set", action="append", default=[], metavar="PATH=VALUE")
    options = parser.parse_args()
    try:
        options.run(options)
    except AutomixerError as error:
        sys.exit(f"error: {error}")


def write_world(folder: Path, seed: int) -> None:
    """The first two snapshots of a world, and `oracle.parquet`: doc_id, and whether the document teaches a skill."""
    write_microworld(folder, seed=seed, snapshots=SNAPSHOTS[:2])
    oracle = read_truth(folder).select("doc_id", teaches=pl.col("kind") == "skill")
    with atomic_path(folder / "oracle.parquet") as temporary:
        oracle.write_parquet(temporary)


def run_study(config: Path, overrides: list[str], processes: int) -> None:
    """One process makes the mixtures, several train targets, one compares them."""
    automixer = open_automixer(config, overrides)
    targets = automixer.settings().targets
    if targets is None:
        raise AutomixerError(f"{config} has no `targets`: name the mixtures to compare")
    _automixer(config, overrides, "materialize", "+weight_manifest")
    with open_instance() as instance:
        instance.event_log_storage.set_concurrency_slots("accelerator", processes)
    mixtures = [targets.baseline, *(name for name in targets.mixtures if name != targets.baseline)]

    def train(mixture: str) -> None:
        _automixer(config, overrides, "materialize", "target_runs", "--partition", mixture)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(train, mixtures))
    _automixer(config, overrides, "materialize", "comparison_table")


def _automixer(config: Path, overrides: list[str], *arguments: str) -> None:
    settings = ["--config", str(config), *(word for each in overrides for word in ("--set", each))]
    done = subprocess.run([sys.executable, "-m", "automixer_assets.cli", *arguments, *settings], check=False)
    if done.returncode:
        raise AutomixerError(f"`automixer {' '.join(arguments)}` failed: see above, mend it and run the study again")


def print_tables(config: Path, overrides: list[str], against: str | None = None) -> None:
    """Means over tasks, results per task, held-out text per source, and the work behind each mixture.

    With `against`, the means alone, and differences to that mixture.
    """
    automixer = open_automixer(config, overrides)
    targets = automixer.settings().targets
    if targets is None:
        raise AutomixerError(f"{config} has no `targets`: name the mixtures to compare")
    with open_instance() as instance:
        if against is not None:
            _print_markdown([_means_against(automixer, instance, targets, against)])
            return
        comparison = pl.read_parquet(_made(automixer, instance, "comparison_table", None) / "comparison.parquet")
        by_task = comparison.filter(~pl.col("task").str.starts_with(MEAN_TASK))
        tables = [mean_grid(comparison, targets.baseline)]
        tables += [comparison_grid(by_task, metric, targets.baseline) for metric in ("gold_bits_per_byte", "acc")]
        mixtures = [targets.baseline, *(name for name in targets.mixtures if name != targets.baseline)]
        if targets.held_out is not None:
            runs = {name: _made(automixer, instance, "target_runs", name) for name in mixtures}
            tables.append(
                held_out_grid({name: pl.read_parquet(run / "held_out.parquet") for name, run in runs.items()})
            )
        tables.append(pl.DataFrame([work_behind(instance, automixer.lake(), name) for name in mixtures]))
    _print_markdown(tables)


def _means_against(automixer: Automixer, instance: dg.DagsterInstance, targets: Targets, baseline: str) -> pl.DataFrame:
    """Means over tasks, and their differences to another baseline than the study's."""
    names = [baseline, *(name for name in dict.fromkeys((targets.baseline, *targets.mixtures)) if name != baseline)]
    runs = {name: _made(automixer, instance, "target_runs", name) for name in names}
    compared = compare(
        {name: pl.read_parquet(run / "benchmark.parquet") for name, run in runs.items()},
        baseline,
        items={name: pl.read_parquet(run / "items.parquet") for name, run in runs.items()},
        set_aside=targets.set_aside,
    )
    return mean_grid(compared, baseline)


def _print_markdown(tables: Sequence[pl.DataFrame]) -> None:
    with pl.Config(tbl_formatting="MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
                   tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=100, tbl_width_chars=10_000):  # fmt: skip
        for table in tables:
            print(table, end="\n\n")


def print_sources(config: Path, overrides: list[str], name: str, column: str) -> None:
    """For each checkpoint that a recipe selected: how over-represented each source is in the top half of each task."""
    automixer = open_automixer(config, overrides)
    recipe = automixer.settings().recipe(name)
    with open_instance() as instance:
        snapshots = sorted(SNAPSHOT_KEYS.get_partition_keys(dynamic_partitions_store=instance))
        documents = pl.concat(
            pl.read_parquet(_made(automixer, instance, "snapshot_inventory", snapshot) / "documents" / "*.parquet")
            for snapshot in snapshots
        ).select("doc_id", pl.col(column).alias("source"))
        selected = _made(automixer, instance, "selected_checkpoints", name)
        tasks = selection_tasks(selected)
        for origin in selected_origins(selected):
            folders = [
                _made(automixer, instance, f"{recipe.proxy}/checkpoint_influence", f"{origin.checkpoint}|{snapshot}")
                for snapshot in snapshots
            ]
            scores = pl.concat(pl.read_parquet(folder / "shard-*.parquet") for folder in folders)
            columns = {task: influence_column(recipe.curvature, recipe.query, task) for task in tasks}
            print(f"{origin.checkpoint}: share of a source in the top half by utility / in the corpus\n")
            _print_markdown([source_lifts(scores.join(documents, on="doc_id"), columns)])


def source_lifts(scores: pl.DataFrame, columns: Mapping[str, str]) -> pl.DataFrame:
    """Share of every source among the half of the documents with the lowest influence, over its share of all.

    1 is no preference, 2 that the half holds all of it. Ties are broken by id.

    Args:
        scores: doc_id, source, and a column of influences (negative helps) per task.
        columns: task -> its column.
    """
    whole = scores.group_by("source").len("documents")
    for task, column in columns.items():
        half = scores.sort(column, "doc_id").head(scores.height // 2).group_by("source").len(task)
        lift = (pl.col(task).fill_null(0) / pl.col("documents") * scores.height / (scores.height // 2)).round(2)
        whole = whole.join(half, on="source", how="left").with_columns(lift)
    mean = pl.mean_horizontal(*columns).round(2).alias("mean")
    return whole.with_columns(mean).sort("mean", "source", descending=[True, False])


def held_out_grid(runs: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Bits per byte of held-out text, sources x mixtures, mean over seeds; the last row is the mean over sources."""
    columns = [
        table.group_by("source").agg(pl.col("bits_per_byte").mean().round(3).alias(name)).sort("source")
        for name, table in runs.items()
    ]
    grid = pl.concat([columns[0], *(column.drop("source") for column in columns[1:])], how="horizontal")
    mean = grid.select(pl.lit("mean over sources").alias("source"), pl.exclude("source").mean().round(3))
    return pl.concat([grid, mean])


def work_behind(instance: dg.DagsterInstance, lake: Lake, mixture: str) -> dict[str, str | float]:
    """Seconds of work in everything that a mixture was made from, by kind, beside the mean of its target runs."""
    manifest = next(events_of(instance, "weight_manifest", mixture))
    seconds = dict.fromkeys((*KINDS.values(), "rest"), 0.0)
    for event in ancestors(instance, manifest.pins).values():
        seconds[KINDS.get(event.asset.rpartition("/")[2], "rest")] += lake.open(event.uri).seconds
    runs = lake.open(next(events_of(instance, "target_runs", mixture)).uri)
    seeds = [lake.open(uri).seconds for uri in runs.uses or () if uri.startswith(SEED_RUN)]
    return {
        "mixture": mixture,
        **{name: round(value, 1) for name, value in seconds.items()},
        "all": round(sum(seconds.values()), 1),
        "one target run": round(fmean(seeds), 1),
    }


def _made(automixer: Automixer, instance: dg.DagsterInstance, asset: str, partition: str | None) -> Path:
    event = next(events_of(instance, asset, partition), None)
    if event is None:
        raise AutomixerError(f"{asset} is not materialised: `python -m benchmarks.study run` makes it")
    return automixer.lake().open(event.uri).path


if __name__ == "__main__":
    main()
