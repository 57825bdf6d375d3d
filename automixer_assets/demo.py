"""The embedded demo: write the micro-world, let its snapshots arrive, materialise everything, say what came out."""

from __future__ import annotations

import time
from collections.abc import Sequence

import dagster as dg
import polars as pl
from rich.console import Console, RenderableType

from automixer_assets import summary
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lineage import latest
from automixer_assets.materialize import Materializer, Outcome
from automixer_assets.microworld import SNAPSHOTS, write_microworld
from automixer_assets.microworld.files import DOCUMENTS_PER_SNAPSHOT
from automixer_assets.microworld.truth import planted_auc, teaching_share
from automixer_assets.mixture.manifest import Manifest, load_manifest
from automixer_assets.partitions import SNAPSHOTS as SNAPSHOT_KEYS
from automixer_assets.partitions import multi_key, register
from automixer_assets.resources import Automixer

FIRST_SNAPSHOTS = SNAPSHOTS[:2]
FOLDER = "microworld"
MIXTURE = "demo"


def run_demo(
    automixer: Automixer,
    instance: dg.DagsterInstance,
    progress: Console,
    out: Console,
    *,
    add_snapshot: bool = False,
    documents_per_snapshot: int = DOCUMENTS_PER_SNAPSHOT,
) -> None:
    """Run the pipeline on the micro-world and print the mixture; what is current is not made again."""
    started = time.monotonic()
    if MIXTURE not in automixer.settings().mixtures:
        raise AutomixerError(f"the demo needs a mixture named {MIXTURE!r} in the settings: use configs/demo.yaml")
    arrived = set(instance.get_dynamic_partitions("snapshot")) & set(SNAPSHOTS)
    snapshots = [key for key in SNAPSHOTS if key in arrived or key in FIRST_SNAPSHOTS or add_snapshot]
    write_microworld(
        automixer.resolve(FOLDER),
        seed=automixer.settings().seed,
        documents_per_snapshot=documents_per_snapshot,
        snapshots=snapshots,
    )
    register(instance, SNAPSHOT_KEYS, snapshots)
    materializer = Materializer(
        instance, automixer, lambda name: progress.print(f"  {name}", style="dim", markup=False)
    )
    outcomes = materializer.run("*")
    print_results(automixer, instance, out)
    _print_closing(out, outcomes, time.monotonic() - started, add_snapshot or len(snapshots) == len(SNAPSHOTS))


def print_results(automixer: Automixer, instance: dg.DagsterInstance, out: Console) -> None:
    """The mixtures and how they came about, for a person to read."""
    settings = automixer.settings()
    proxy = settings.recipe(settings.mixture(MIXTURE).recipe).proxy
    benchmark = _artifact(automixer, instance, f"{proxy}/benchmark_table", None).path / "benchmark.parquet"
    out.print(summary.benchmark_panel(pl.read_parquet(benchmark)))
    influential = [
        name for name, mixture in settings.mixtures.items() if settings.recipe(mixture.recipe).uses_checkpoints
    ]
    for name in influential:
        selected = _artifact(automixer, instance, "selected_checkpoints", settings.mixture(name).recipe).path
        tables = [pl.read_parquet(selected / f"{table}.parquet") for table in ("selected", "assignments")]
        out.print(summary.selected_panel(settings.mixture(name).recipe, *tables))
    for name in influential:
        for part in summary.manifest_tables(_manifest(automixer, instance, name)):
            out.print(part)
    out.print(_recovery(automixer, instance, influential))
    if settings.targets is not None:
        comparison = _artifact(automixer, instance, "comparison_table", None).path / "comparison.parquet"
        out.print(summary.comparison_panel(pl.read_parquet(comparison), settings.targets.baseline))


def _recovery(automixer: Automixer, instance: dg.DagsterInstance, mixtures: Sequence[str]) -> RenderableType:
    """How well utility finds the planted documents; the truth is read here and by pages, never by a score."""
    truth = pl.read_parquet(automixer.resolve(FOLDER) / "truth" / "documents.parquet")
    known = truth.filter(pl.col("snapshot").is_in(_manifest(automixer, instance, mixtures[0]).snapshots))
    aucs = {name: planted_auc(known, _joint_utilities(automixer, instance, name)) for name in mixtures}
    kept = {
        name: teaching_share(known, _doc_ids(_artifact(automixer, instance, "grouped_shards", name))).documents
        for name in mixtures
    }
    return summary.recovery_panel(
        aucs, corpus_share=teaching_share(known, known["doc_id"].to_list()).documents, kept_shares=kept
    )


def _joint_utilities(automixer: Automixer, instance: dg.DagsterInstance, mixture: str) -> pl.DataFrame:
    """snapshot, doc_id, utility of every document that the mixture chose from."""
    recipe = automixer.settings().mixture(mixture).recipe
    folders = {
        snapshot: _artifact(automixer, instance, "joint_influence", multi_key(recipe=recipe, snapshot=snapshot)).path
        for snapshot in _manifest(automixer, instance, mixture).snapshots
    }
    return pl.concat(
        pl.read_parquet(folder / "shard-*.parquet", columns=["doc_id", "joint_utility"]).select(
            pl.lit(snapshot).alias("snapshot"), "doc_id", utility="joint_utility"
        )
        for snapshot, folder in folders.items()
    )


def _doc_ids(grouped: Artifact) -> list[str]:
    """The documents of all groups; one that stands in several groups is listed as often."""
    selections = grouped.path / "groups" / "*" / "*" / "*.parquet"
    return pl.scan_parquet(selections).select("doc_id").collect()["doc_id"].to_list()


def _manifest(automixer: Automixer, instance: dg.DagsterInstance, mixture: str) -> Manifest:
    return load_manifest(_artifact(automixer, instance, "weight_manifest", mixture).path / "manifest.json")


def _artifact(automixer: Automixer, instance: dg.DagsterInstance, asset: str, partition: str | None) -> Artifact:
    found = latest(instance, asset, partition)
    if found is None:
        raise AutomixerError(f"{asset} was not materialised: run `automixer demo` again")
    return automixer.lake().open(found.pin.uri)


def _print_closing(out: Console, outcomes: Sequence[Outcome], seconds: float, all_arrived: bool) -> None:
    ran = [outcome for outcome in outcomes if outcome.ran]
    slowest = sorted(ran, key=lambda outcome: -outcome.seconds)[:4]
    where = "; slowest: " + ", ".join(f"{outcome.name} {outcome.seconds:.0f} s" for outcome in slowest) if ran else ""
    out.print(f"\n{len(ran)} materialised, {len(outcomes) - len(ran)} already current, {seconds:.0f} s{where}")
    out.print("\nLook at it:                  [bold]make dev[/bold], then http://localhost:3000/assets/weight_manifest")
    out.print("The mixture again:           [bold].venv/bin/automixer mixture show demo[/bold]   (--json for machines)")
    if not all_arrived:
        out.print("Let a new snapshot arrive:   [bold].venv/bin/automixer demo --add-snapshot[/bold]")
