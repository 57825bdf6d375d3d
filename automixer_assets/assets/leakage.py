"""Assets that say which documents a mixture should not use: those that repeat scored items, those on a removal list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.corpus import restored_sources, tasks_slice
from automixer_assets.code_versions import package_version, source_version
from automixer_assets.corpus.leakage import LEAKAGE_VERSION, write_leakage
from automixer_assets.corpus.removal import read_removal_list, require_removal_list, write_removed
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Written, digest_of, file_sha256
from automixer_assets.lake_asset import Build, LakeAsset, Scope, lake_asset
from automixer_assets.mixture.candidates import Exclusions, LexicalFilter
from automixer_assets.mixture.parquet import count_rows
from automixer_assets.pages.leakage import show_leakage, show_removed_documents, show_scored_items
from automixer_assets.partitions import SNAPSHOTS
from automixer_assets.settings import Mixture

GROUP = "corpus"


def leakage_assets() -> list[LakeAsset]:
    """Scored items, and per snapshot the documents that repeat them and those on the removal list."""
    return [
        lake_asset(
            asset="scored_items",
            group=GROUP,
            kinds={"lm-eval", "parquet"},
            code=source_version("benchmark.scored_items", "benchmark.items", "benchmark.tasks")
            + package_version("lm_eval"),
            plan=plan_scored_items,
            deps=["validation_items"],
        ),
        lake_asset(
            asset="leakage",
            group=GROUP,
            kinds={"polars", "parquet"},
            code=LEAKAGE_VERSION,
            plan=plan_leakage,
            partitions_def=SNAPSHOTS,
            deps=["snapshot_inventory", "scored_items"],
        ),
        lake_asset(
            asset="removed_documents",
            group=GROUP,
            kinds={"polars", "parquet"},
            code=source_version("corpus.removal"),
            plan=plan_removed_documents,
            partitions_def=SNAPSHOTS,
            deps=["snapshot_inventory"],
        ),
    ]


def plan_scored_items(scope: Scope) -> Build:
    """Which benchmark texts should no training document repeat, and which are too short to look for?

    The selection and final items as lm-eval renders them; gradient items are what documents are sought for.
    """
    items = scope.pin("validation_items", settings=scored_slice(scope))
    tasks, seed = scope.settings.tasks, scope.settings.seed

    def write(out: Path) -> None:
        from automixer_assets.benchmark.scored_items import scored_items

        listed = pl.read_parquet(items.path / "item_sets.parquet")
        cache = scope.automixer.resolve("cache/datasets")
        scored = scored_items(tasks, scope.automixer.resolve("."), listed, cache=cache, seed=seed)
        scored.write_parquet(out / "scored_items.parquet")

    return scope.build(write, show_scored_items, settings=scored_slice(scope))


def scored_slice(scope: Scope) -> object:
    """What of the settings determines which items are scored."""
    return [tasks_slice(scope), scope.settings.seed]


def plan_leakage(scope: Scope) -> Build:
    """Which documents of this snapshot repeat a benchmark item that is scored?

    One row per document: how many 13-word sequences it shares with scored items, and which item most.
    """
    inventory = scope.pin("snapshot_inventory", scope.key)
    items = scope.pin("scored_items", settings=scored_slice(scope))

    def write(out: Path) -> None:
        documents = count_rows((inventory.by_file / "documents").glob("*.parquet"))
        with scope.progress(documents, "documents") as progress:
            write_leakage(
                inventory.by_file,
                restored_sources(scope, scope.key, inventory.by_file),
                pl.read_parquet(items.path / "scored_items.parquet"),
                out,
                on_progress=progress.advance,
            )

    return scope.build(write, show_leakage, resumable=True)


def plan_removed_documents(scope: Scope) -> Build:
    """Which documents of this snapshot are on the removal list, and which of its entries name none?

    Mixtures leave them out from then on. Nothing is scored again when the list changes.
    """
    inventory = scope.pin("snapshot_inventory", scope.key)
    made_with = removal_slice(scope)

    def write(out: Path) -> Written:
        entries = read_removal_list(removal_list(scope), scope.settings.corpus.removal_kind)
        documents = sorted((inventory.by_file / "documents").glob("shard-*.parquet"))
        removed = write_removed(documents, entries, out, snapshot=scope.key)
        return Written(content=digest_of(removed))  # which documents: by which entries, mixtures do not care

    return scope.build(write, show_removed_documents, settings=made_with)


def removal_list(scope: Scope) -> Path:
    """The removal list of the settings; raises AutomixerError when there is none."""
    chosen = scope.settings.corpus.removal_list
    if chosen is None:
        raise AutomixerError(f"{scope.name}: the settings name no removal list: set corpus.removal_list")
    path = scope.automixer.resolve(chosen)
    require_removal_list(path)
    return path


def removal_slice(scope: Scope) -> object:
    """What determines the entries: the list's bytes and how they are read."""
    path = removal_list(scope)
    return [file_sha256(path), path.suffix, scope.settings.corpus.removal_kind]


def pin_removed(scope: Scope, snapshots: Sequence[str]) -> dict[str, Path]:
    """The removed documents of snapshots by the list as it is now; none without a list."""
    if scope.settings.corpus.removal_list is None:
        return {}
    made_with = removal_slice(scope)
    return {name: scope.pin("removed_documents", name, settings=made_with).by_file for name in snapshots}


def pin_exclusions(scope: Scope, mixture: Mixture, snapshots: Sequence[str]) -> Exclusions:
    """What the mixture must leave out of its snapshots."""
    leakage = pin_leakage(scope, snapshots) if mixture.leaked_documents == "exclude" else {}
    return Exclusions(leakage, pin_removed(scope, snapshots), _pin_filter(scope, mixture, snapshots))


def _pin_filter(scope: Scope, mixture: Mixture, snapshots: Sequence[str]) -> LexicalFilter | None:
    chosen = mixture.filter
    if chosen is None:
        return None
    reference = scope.pin("lexical_query").file("reference_scores.parquet")
    folders = {name: scope.pin("lexical_scores", name).by_file for name in snapshots}
    return LexicalFilter.fitted(folders, chosen.score, reference, chosen.drop_share)


def pin_leakage(scope: Scope, snapshots: Sequence[str]) -> dict[str, Path]:
    """The flags of snapshots. The items are pinned beside them, so that flags by other items are refused."""
    scope.pin("scored_items", settings=scored_slice(scope))
    return {name: scope.pin("leakage", name).by_file for name in snapshots}


def leakage_deps() -> list[dg.AssetDep]:
    """What `pin_leakage` reads."""
    return [dg.AssetDep("scored_items"), dg.AssetDep("leakage", partition_mapping=dg.AllPartitionMapping())]


def exclusion_deps() -> list[dg.AssetDep]:
    """What `pin_exclusions` reads."""
    per_snapshot = [
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("removed_documents", "lexical_scores")
    ]
    return [*leakage_deps(), *per_snapshot, dg.AssetDep("lexical_query")]
