"""Evaluation assets: models trained on a mixture, and mixtures compared with the baseline at equal budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets.assets.corpus import tasks_slice
from automixer_assets.assets.simulation import BENCHMARK_VERSION, evaluate_on, scored_tasks
from automixer_assets.benchmark.tasks import LoadedTask
from automixer_assets.checks import check_comparison, check_targets
from automixer_assets.code_versions import package_version, source_version
from automixer_assets.comparison import compare
from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path
from automixer_assets.lake import SCRATCH, Artifact, file_sha256
from automixer_assets.lake_asset import Build, Check, LakeAsset, Metadata, Scope, lake_asset
from automixer_assets.mixture.manifest import Manifest, load_manifest
from automixer_assets.pages.evaluation import show_comparison_table, show_target_runs
from automixer_assets.partitions import MIXTURES
from automixer_assets.proxy.checkpoints import checkpoint_key, list_checkpoints
from automixer_assets.settings import EXECUTION_OPTIONS, Targets

GROUP = "evaluation"
TARGET_VERSION = "2"
"""Raise when the training loop or the order of a mixture's documents changes what comes out."""


def evaluation_assets() -> list[LakeAsset]:
    """Does the mixture help? Trained targets per mixture, and their comparison."""
    return [
        lake_asset(
            asset="target_runs",
            group=GROUP,
            kinds={"torch", "lm-eval"},
            code=f"{TARGET_VERSION}-{BENCHMARK_VERSION}-{package_version('lm_eval')}",
            plan=plan_target_runs,
            partitions_def=MIXTURES,
            deps=[
                "weight_manifest",
                "tokenizer",
                "validation_items",
                dg.AssetDep("tokenized_corpus", partition_mapping=dg.AllPartitionMapping()),
            ],
            checks=[Check("every_seed_finished", "Each seed has finite results on every task.", check_targets)],
            pool="accelerator",
        ),
        lake_asset(
            asset="comparison_table",
            group=GROUP,
            kinds={"polars"},
            code=source_version("comparison"),
            plan=plan_comparison_table,
            deps=[dg.AssetDep("target_runs", partition_mapping=dg.AllPartitionMapping())],
            checks=[Check("same_seeds", "Every mixture was trained with the same seeds.", check_comparison)],
        ),
    ]


def plan_target_runs(scope: Scope) -> Build:
    """What does a model learn when it is trained on this mixture?

    Same architecture, initialisation seeds and token budget for every mixture; judged on the final items.
    """
    targets = _targets(scope)
    mixture, tokenizer = scope.pin("weight_manifest", scope.key), scope.pin("tokenizer")
    items = scope.pin("validation_items")
    manifest = load_manifest(mixture.path / "manifest.json")
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).path) for name in manifest.snapshots}

    def write(out: Path) -> None:
        with scope.progress(targets.training.steps * len(targets.seeds), "steps") as progress:
            for seed in targets.seeds:
                run = out / SCRATCH / f"seed-{seed}"
                begun = progress.done

                def report(step: int, loss: float, rate: float, speed: float, begun: float = begun) -> None:
                    progress.advance(begun + step - progress.done, f"loss {loss:.3f}, {speed:,.0f} tokens/s")

                _train_target(scope, targets, seed, manifest, corpora, tokenizer.path, run, report)
                progress.advance(begun + targets.training.steps - progress.done)
        tasks = scored_tasks(scope, items.path, "final")
        for seed in targets.seeds:
            _evaluate_target(scope, targets, tasks, out / SCRATCH / f"seed-{seed}")
        _gather(targets, out)

    return scope.build(write, show_target_runs, settings=target_slice(scope, targets), resumable=True)


def target_slice(scope: Scope, targets: Targets) -> object:
    """What of the settings every compared target must share: architecture, schedule, seeds, tasks."""
    chosen = targets.model_dump(
        exclude={"baseline": True, "mixtures": True, "set_aside": True, "held_out": True, "training": EXECUTION_OPTIONS}
    )
    return [chosen, tasks_slice(scope), scope.settings.seed, _held_out_digest(scope, targets)]


def _held_out_digest(scope: Scope, targets: Targets) -> str | None:
    path = None if targets.held_out is None else scope.automixer.resolve(targets.held_out)
    return file_sha256(path) if path is not None and path.is_file() else None  # `read_held_out` says what is missing


def _targets(scope: Scope) -> Targets:
    if scope.settings.targets is None:
        raise AutomixerError(f"{scope.name}: the settings have no `targets` section: add one to compare mixtures")
    return scope.settings.targets


def _train_target(
    scope: Scope,
    targets: Targets,
    seed: int,
    manifest: Manifest,
    corpora: dict[str, TokenizedSnapshot],
    tokenizer: Path,
    run: Path,
    report,
) -> None:
    """Train one target into `run`; a finished or interrupted run is continued from what it left."""
    from automixer_assets.mixture.dataset import MixtureDataset
    from automixer_assets.proxy.model import build_model
    from automixer_assets.proxy.train import train

    training = targets.training
    if (run / "training.parquet").exists():
        return
    first = next(iter(corpora.values()))
    train(
        build_model(
            targets.architecture,
            first.vocab_size,
            training.sequence_length,
            seed,
            end_of_document=first.end_of_document,
        ),
        MixtureDataset(manifest, scope.lake.root, corpora, sequence_length=training.sequence_length, seed=seed),
        training,
        out=run,
        checkpoint_steps=targets.checkpoint_steps,
        tokenizer_folder=tokenizer,
        on_progress=report,
    )


def _evaluate_target(scope: Scope, targets: Targets, tasks: Mapping[str, LoadedTask], run: Path) -> None:
    if not (run / "benchmark.parquet").exists():
        checkpoints = {checkpoint_key(scope.key, step): path for step, path in list_checkpoints(run).items()}
        evaluate_on(scope, tasks, checkpoints, targets.training.steps, run)
    if targets.held_out is not None and not (run / "held_out.parquet").exists():
        _evaluate_held_out(scope, targets, list_checkpoints(run)[targets.training.steps], run)


def _evaluate_held_out(scope: Scope, targets: Targets, checkpoint: Path, run: Path) -> None:
    from automixer_assets.benchmark.held_out import bits_per_byte, read_held_out
    from automixer_assets.proxy.model import load_model
    from automixer_assets.proxy.tokenizer import load_tokenizer

    texts = read_held_out(scope.automixer.resolve(str(targets.held_out)))
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    table = bits_per_byte(model, tokenizer, texts, sequence_length=targets.training.sequence_length)
    with atomic_path(run / "held_out.parquet") as temporary:
        table.write_parquet(temporary)


def _gather(targets: Targets, out: Path) -> None:
    """One table over seeds of each kind, with a `seed` column; results at the end apart from those along the way."""
    at_the_end = pl.col("step") == targets.training.steps
    everything = pl.lit(True)
    kinds = [
        ("training", "curves", everything),
        ("benchmark", "benchmark", at_the_end),
        ("items", "items", at_the_end),
        ("benchmark", "trajectory", everything),
    ]
    if targets.held_out is not None:
        kinds.append(("held_out", "held_out", everything))
    for source, name, chosen in kinds:
        tables = [
            pl.read_parquet(out / SCRATCH / f"seed-{seed}" / f"{source}.parquet")
            .filter(chosen)
            .with_columns(pl.lit(seed, dtype=pl.Int64).alias("seed"))
            for seed in targets.seeds
        ]
        with atomic_path(out / f"{name}.parquet") as temporary:
            pl.concat(tables).write_parquet(temporary)


def plan_comparison_table(scope: Scope) -> Build:
    """Is the mixture better than the baseline at the same token budget, and by how much?

    Mean and spread over seeds per task, and the difference to the baseline paired by seed (paper, Table 2).
    """
    targets = _targets(scope)
    names = [targets.baseline, *(name for name in targets.mixtures if name != targets.baseline)]
    shared = target_slice(scope, targets)
    runs: dict[str, Artifact] = {name: scope.pin("target_runs", name, settings=shared) for name in names}

    def write(out: Path) -> None:
        tables = {name: pl.read_parquet(run.path / "benchmark.parquet") for name, run in runs.items()}
        items = {name: pl.read_parquet(run.path / "items.parquet") for name, run in runs.items()}
        compared = compare(tables, targets.baseline, items=items, set_aside=targets.set_aside)
        compared.write_parquet(out / "comparison.parquet")

    def show(artifact: Artifact) -> Metadata:
        return show_comparison_table(artifact, runs, targets.baseline)

    return scope.build(write, show, settings=[targets.baseline, targets.set_aside])
