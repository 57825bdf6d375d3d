"""Simulation assets, one chain per proxy: the run, its benchmark table, and the checkpoints that were selected."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.corpus import tasks_slice
from automixer_assets.benchmark.runner import RESULT_VERSION
from automixer_assets.benchmark.tasks import ItemSet, LoadedTask
from automixer_assets.checks import ALL_ASKED, check_loss, check_results
from automixer_assets.code_versions import package_version
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import SCRATCH
from automixer_assets.lake_asset import Build, Check, LakeAsset, Plan, Scope, lake_asset
from automixer_assets.pages.simulation import show_benchmark_table, show_proxy_checkpoint, show_proxy_run
from automixer_assets.partitions import checkpoints_of
from automixer_assets.progress import Pace
from automixer_assets.proxy.checkpoints import checkpoint_key, list_checkpoints
from automixer_assets.settings import Proxy, Settings, Training

TRAINING_VERSION = "1"
"""Raise when the training loop or the data order changes what comes out: every proxy is then trained again."""
BENCHMARK_VERSION = str(RESULT_VERSION)


def simulation_assets(proxy: str, settings: Settings) -> list[LakeAsset]:
    """The simulation chain of one trained proxy, keys prefixed with its name (`imported.py`: of an imported one)."""
    snapshots = dg.SpecificPartitionsPartitionMapping(list(settings.trained_proxy(proxy).snapshots))
    return [
        lake_asset(
            asset=f"{proxy}/proxy_run",
            group=simulation_group(proxy),
            kinds={"torch", "huggingface"},
            code=TRAINING_VERSION,
            plan=_plan_proxy_run(proxy),
            deps=[dg.AssetDep("tokenized_corpus", partition_mapping=snapshots), "tokenizer"],
            checks=[Check("loss_is_finite_and_fell", "Training ended well below where it began.", check_loss)],
            pool="accelerator",
        ),
        benchmark_table_asset(proxy, _plan_benchmark_table(proxy), also_reads=[]),
        proxy_checkpoints_asset(proxy, _plan_proxy_checkpoints(proxy), also_reads=[]),
    ]


def simulation_group(proxy: str) -> str:
    """Dagster's group of a proxy's chain."""
    return f"{proxy}_simulation".replace("-", "_").replace(".", "_")


def benchmark_table_asset(proxy: str, plan: Plan, *, also_reads: Sequence[str]) -> LakeAsset:
    """The evaluation of a trained or imported proxy's checkpoints."""
    return lake_asset(
        asset=f"{proxy}/benchmark_table",
        group=simulation_group(proxy),
        kinds={"lm-eval", "torch"},
        code=f"{BENCHMARK_VERSION}-{package_version('lm_eval')}",
        plan=plan,
        deps=[f"{proxy}/proxy_run", "validation_items", *also_reads],
        checks=[Check("no_missing_results", "Every checkpoint has finite results on every task.", check_results)],
        comparisons=[ALL_ASKED],
        pool="accelerator",
    )


def proxy_checkpoints_asset(proxy: str, plan: Plan, *, also_reads: Sequence[str]) -> LakeAsset:
    """The selected checkpoints of a trained or imported proxy."""
    return lake_asset(
        asset=f"{proxy}/proxy_checkpoints",
        group=simulation_group(proxy),
        kinds={"huggingface"},
        code="1",
        plan=plan,
        partitions_def=checkpoints_of(proxy),
        deps=[f"{proxy}/proxy_run", *also_reads],
    )


def _plan_proxy_run(proxy: str) -> Plan:
    def plan_proxy_run(scope: Scope) -> Build:
        """Did the proxy train well, and which checkpoints did it leave behind?

        The simulation run (paper, section 3): a small Llama-3-style model trained once, its checkpoints kept.
        """
        chosen = scope.settings.trained_proxy(proxy)
        tokenizer = scope.pin("tokenizer")
        corpora = [scope.pin("tokenized_corpus", snapshot) for snapshot in chosen.snapshots]

        def write(out: Path) -> None:
            _train_proxy(scope, proxy, [corpus.path for corpus in corpora], tokenizer.path, out)

        return scope.build(write, show_proxy_run, settings=_identity(scope, chosen), resumable=True)

    return plan_proxy_run


def _identity(scope: Scope, chosen: Proxy) -> object:
    """What determines the run's bytes: its settings, and how many processes of this machine share its batches."""
    launcher = None if chosen.trained_in is not None else scope.settings.launchers.trained_by
    if launcher is None or launcher.identity is None:
        return chosen.identity
    return [chosen.identity, launcher.identity]


def _train_proxy(scope: Scope, proxy: str, corpora: list[Path], tokenizer: Path, out: Path) -> None:
    from automixer_assets.launch.torchrun import Listener
    from automixer_assets.launch.training import TrainingJob
    from automixer_assets.proxy.simulation import adopt_run, reporter, simulate

    chosen, launcher = scope.settings.trained_proxy(proxy), scope.settings.launchers.trained_by
    if chosen.trained_in is not None:
        adopt_run(chosen, corpora, tokenizer, scope.automixer.resolve(chosen.trained_in), out)
        return
    with scope.progress(chosen.training.steps, "steps") as progress:
        report, curve = reporter(progress), LiveCurve(scope, chosen.training)

        def on_progress(step: int, loss: float, learning_rate: float, tokens_per_second: float) -> None:
            report(step, loss, learning_rate, tokens_per_second)
            curve.add(step, loss, learning_rate, tokens_per_second)

        if launcher is None:
            simulate(chosen, corpora, tokenizer, out, on_progress=on_progress, log=scope.log)
        else:
            job = TrainingJob(launcher, scope.settings, corpora, tokenizer, out, out / SCRATCH, scope.name)
            job.train_proxy(proxy, Listener(on_progress, scope.log))


class LiveCurve:
    """Shows a run that is under way on the asset's page, as observations: Dagster plots their numbers over time."""

    def __init__(self, scope: Scope, training: Training) -> None:
        self._scope, self._training = scope, training
        self._pace = Pace(training.steps)
        self._losses: list[float] = []

    def add(self, step: int, loss: float, learning_rate: float, tokens_per_second: float) -> None:
        """A step; most are gathered into the next point, the mean of their losses."""
        self._losses.append(loss)
        if not self._pace.due(step):
            return
        self._scope.observe(
            {
                "training loss": statistics.fmean(self._losses),
                "training step": step,
                "learning rate": learning_rate,
                "tokens per second": round(tokens_per_second),
            }
        )
        self._losses.clear()


def _plan_benchmark_table(proxy: str) -> Plan:
    def plan_benchmark_table(scope: Scope) -> Build:
        """At which step of the run is each capability strongest?

        Every kept checkpoint on every task, through lm-eval, on the selection items (paper, section 3).
        """
        run, items = scope.pin(f"{proxy}/proxy_run"), scope.pin("validation_items")

        def write(out: Path) -> None:
            checkpoints = {checkpoint_key(proxy, step): path for step, path in list_checkpoints(run.path).items()}
            total_steps = pl.scan_parquet(run.path / "training.parquet").select(pl.len()).collect().item()
            evaluate_on(scope, scored_tasks(scope, items.path, "selection"), checkpoints, total_steps, out)

        return scope.build(write, show_benchmark_table, settings=[tasks_slice(scope), scope.settings.seed])

    return plan_benchmark_table


def scored_tasks(scope: Scope, items: Path, item_set: ItemSet) -> dict[str, LoadedTask]:
    """The tasks over the items that `validation_items` (the folder `items`) lists in that set."""
    from automixer_assets.benchmark.items import only_listed
    from automixer_assets.benchmark.tasks import load_tasks

    loaded = load_tasks(
        scope.settings.tasks,
        scope.automixer.resolve("."),
        item_set,
        cache=scope.automixer.resolve("cache/datasets"),
        seed=scope.settings.seed,
    )
    return only_listed(loaded, pl.read_parquet(items / "item_sets.parquet"))


def evaluate_on(
    scope: Scope,
    tasks: Mapping[str, LoadedTask],
    checkpoints: Mapping[str, Path],
    total_steps: int,
    out: Path,
    *,
    tokenizer_folder: Path | None = None,
) -> None:
    """Write `benchmark.parquet` and `items.parquet` of the checkpoints into `out`; the lake keeps every evaluation.

    `tokenizer_folder` replaces the tokenizer that the checkpoints' folders hold.
    """
    from automixer_assets.benchmark.runner import evaluate_checkpoints

    with scope.progress(len(checkpoints) * len(tasks), "evaluations") as progress:
        tables = evaluate_checkpoints(
            checkpoints,
            tasks,
            total_steps=total_steps,
            lake=scope.lake,
            tokenizer_folder=tokenizer_folder,
            batch_size=scope.settings.tasks.batch_size,
            on_progress=lambda name, done, total: progress.advance(done - progress.done, name),
        )
    tables.write(out)


def _plan_proxy_checkpoints(proxy: str) -> Plan:
    def plan_proxy_checkpoints(scope: Scope) -> Build:
        """Which exact weights stand behind the scores made at this checkpoint?

        Versioned by the digest of its files, so retraining makes exactly the changed checkpoints' scores stale.
        """
        run = scope.pin(f"{proxy}/proxy_run")
        kept = {checkpoint_key(proxy, step): path for step, path in list_checkpoints(run.path).items()}
        if scope.key not in kept:
            raise AutomixerError(f"proxy {proxy!r} kept no checkpoint {scope.key!r}; it kept: {', '.join(kept)}")
        source = kept[scope.key]
        return scope.build(lambda out: _copy_folder(source, out), show_proxy_checkpoint, settings=scope.key)

    return plan_proxy_checkpoints


def _copy_folder(source: Path, out: Path) -> None:
    shutil.copytree(source, out, dirs_exist_ok=True)
