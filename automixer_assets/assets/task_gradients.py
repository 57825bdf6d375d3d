"""How alike tasks are by their gradients: only for proxies with a recipe that clusters tasks so."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from automixer_assets.assets.imported import open_source
from automixer_assets.assets.influence import BATCH_TOKENS, read_gradient_items
from automixer_assets.benchmark.clustering import Cosines
from automixer_assets.influence import KERNEL_VERSION
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, LakeAsset, Plan, Scope, lake_asset
from automixer_assets.pages.progress_ratios import show_task_gradients
from automixer_assets.proxy.checkpoints import list_checkpoints
from automixer_assets.proxy.imported_run import ImportedRun
from automixer_assets.settings import ImportedProxy, Recipe, Settings


def clusters_by_gradient(recipe: Recipe) -> bool:
    """True where the cosines of task gradients decide which tasks share a checkpoint."""
    return (
        recipe.uses_checkpoints
        and recipe.selection == "best_per_task"
        and recipe.max_checkpoints is not None
        and recipe.task_clustering == "gradient"
    )


def task_gradient_assets(proxy: str, settings: Settings) -> list[LakeAsset]:
    """`PROXY/task_gradients`, if some recipe asks for it."""
    if not any(clusters_by_gradient(recipe) for recipe in settings.recipes_of(proxy).values()):
        return []
    return [
        lake_asset(
            asset=f"{proxy}/task_gradients",
            group=f"{proxy}_simulation".replace("-", "_").replace(".", "_"),
            kinds={"torch", "parquet"},
            code=KERNEL_VERSION,
            plan=_plan_task_gradients(proxy),
            deps=[f"{proxy}/proxy_run", "validation_items"],
            pool="accelerator",
        )
    ]


def pin_cosines(scope: Scope, recipe: Recipe) -> Artifact | None:
    """The pinned cosines that the recipe's selection reads, if any."""
    return scope.pin(f"{recipe.proxy}/task_gradients") if clusters_by_gradient(recipe) else None


def read_cosines(gradients: Artifact | None) -> Cosines | None:
    """(task, task) -> cosine."""
    if gradients is None:
        return None
    return {(task, other): cosine for task, other, cosine in pl.read_parquet(gradients.path / "cosines.parquet").rows()}


def _plan_task_gradients(proxy: str) -> Plan:
    def plan_task_gradients(scope: Scope) -> Build:
        """Which tasks would teach the model the same?

        At the last checkpoint, before any is selected: an influence query exists only for selected checkpoints.
        """
        run, items = scope.pin(f"{proxy}/proxy_run"), scope.pin("validation_items")

        def write(out: Path) -> None:
            from automixer_assets.influence.task_similarity import task_cosines
            from automixer_assets.proxy.model import load_model

            model = load_model(_last_checkpoint(scope, proxy, run))
            cosines = task_cosines(model, read_gradient_items(items.path, "sequence"), batch_tokens=BATCH_TOKENS)
            cosines.write_parquet(out / "cosines.parquet")

        return scope.build(write, show_task_gradients, settings=BATCH_TOKENS)

    return plan_task_gradients


def _last_checkpoint(scope: Scope, proxy: str, run: Artifact) -> Path:
    if isinstance(scope.settings.proxy(proxy), ImportedProxy):
        imported = ImportedRun(run.path)
        return imported.open(max(imported.steps), open_source(scope, proxy)[1])
    checkpoints = list_checkpoints(run.path)
    return checkpoints[max(checkpoints)]
