"""Simulation assets of a proxy that others trained: the same three keys as for a trained one, with no training."""

from __future__ import annotations

from pathlib import Path

from automixer_assets.assets.corpus import tasks_slice
from automixer_assets.assets.simulation import (
    benchmark_table_asset,
    evaluate_on,
    proxy_checkpoints_asset,
    scored_tasks,
    simulation_group,
)
from automixer_assets.checks import check_imported
from automixer_assets.code_versions import source_version
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import folder_digest
from automixer_assets.lake_asset import Build, Check, LakeAsset, Plan, Scope, lake_asset
from automixer_assets.pages.imported import show_imported_run
from automixer_assets.pages.simulation import show_benchmark_table, show_proxy_checkpoint
from automixer_assets.proxy.checkpoints import checkpoint_key
from automixer_assets.proxy.imported import find_checkpoints, import_checkpoints, wanted_checkpoints
from automixer_assets.proxy.imported_run import ImportedRun
from automixer_assets.proxy.imported_stores import CheckpointStore, open_store
from automixer_assets.settings import CheckpointSource, ImportedProxy


def imported_assets(proxy: str) -> list[LakeAsset]:
    """The simulation chain of one imported proxy, keys prefixed with its name."""
    return [
        lake_asset(
            asset=f"{proxy}/proxy_run",
            group=simulation_group(proxy),
            kinds={"huggingface"},
            code=source_version("proxy.imported", "proxy.imported_inspection", "proxy.imported_stores"),
            plan=_plan_proxy_run(proxy),
            checks=[Check("has_usable_checkpoints", "At least one checkpoint above step 0 is whole.", check_imported)],
        ),
        benchmark_table_asset(proxy, _plan_benchmark_table(proxy), also_reads=["tokenizer"]),
        proxy_checkpoints_asset(proxy, _plan_proxy_checkpoints(proxy), also_reads=["tokenizer"]),
    ]


def open_source(scope: Scope, proxy: str) -> tuple[CheckpointSource, CheckpointStore]:
    """What the settings say about the proxy's checkpoints, and the place where they lie."""
    chosen = scope.settings.proxy(proxy)
    assert isinstance(chosen, ImportedProxy)
    return chosen.checkpoints_from, open_store(chosen.checkpoints_from, scope.automixer.resolve)


def _plan_proxy_run(proxy: str) -> Plan:
    def plan_imported_run(scope: Scope) -> Build:
        """Which of these checkpoints can be used, at which steps, and why not the others?

        Found by name under the declared pattern and looked at without loading; weights stay where they are.
        """
        source, store = open_source(scope, proxy)
        found = find_checkpoints(source, store)
        versions = {name.name: store.version(name.name) for name in wanted_checkpoints(source, found)}
        names = [name.name for name in found]
        tokenizer = None if source.tokenizer is None else scope.automixer.resolve(source.tokenizer)

        def write(out: Path) -> None:
            with scope.progress(len(versions), "checkpoints") as progress:
                import_checkpoints(
                    source, store, out, tokenizer_folder=tokenizer, on_progress=lambda name: progress.advance(1, name)
                )

        chosen = source.model_dump(exclude={"directory", "cache", "tokenizer"})
        given = None if tokenizer is None else folder_digest(tokenizer)
        return scope.build(write, show_imported_run, settings=[chosen, given, names, versions])

    return plan_imported_run


def _plan_benchmark_table(proxy: str) -> Plan:
    def plan_imported_benchmark(scope: Scope) -> Build:
        """At which step of the run is each capability strongest?

        Every usable checkpoint on every task, through lm-eval, on the selection items (paper, section 3).
        """
        run = ImportedRun(scope.pin(f"{proxy}/proxy_run").path)
        items, tokenizer = scope.pin("validation_items"), scope.pin("tokenizer")
        _, store = open_source(scope, proxy)

        def write(out: Path) -> None:
            run.require_encoding_of(tokenizer.path, proxy)
            checkpoints = {checkpoint_key(proxy, step): run.open(step, store) for step in run.steps}
            tasks = scored_tasks(scope, items.path, "selection")
            evaluate_on(scope, tasks, checkpoints, run.total_steps, out, tokenizer_folder=tokenizer.path)

        return scope.build(write, show_benchmark_table, settings=[tasks_slice(scope), scope.settings.seed])

    return plan_imported_benchmark


def _plan_proxy_checkpoints(proxy: str) -> Plan:
    def plan_imported_checkpoint(scope: Scope) -> Build:
        """Which exact weights stand behind the scores made at this checkpoint?

        A copy of what was imported, so that scores can be explained when the source is gone; with the tokenizer asset.
        """
        run, tokenizer = ImportedRun(scope.pin(f"{proxy}/proxy_run").path), scope.pin("tokenizer")
        usable = {checkpoint_key(proxy, step): step for step in run.steps}
        if scope.key not in usable:
            raise AutomixerError(f"proxy {proxy!r} has no usable checkpoint {scope.key!r}; it has: {', '.join(usable)}")
        _, store = open_source(scope, proxy)

        def write(out: Path) -> None:
            run.require_encoding_of(tokenizer.path, proxy)
            run.copy(usable[scope.key], store, tokenizer.path, out)

        return scope.build(write, show_proxy_checkpoint, settings=scope.key)

    return plan_imported_checkpoint
