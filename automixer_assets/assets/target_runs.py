"""Targets: models trained on a mixture, a seed at a time; a seed that was trained once is not trained again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import polars as pl

from automixer_assets.assets.corpus import tasks_slice
from automixer_assets.assets.simulation import evaluate_on, scored_tasks
from automixer_assets.benchmark.tasks import LoadedTask
from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.files import atomic_path
from automixer_assets.lake import SCRATCH, Artifact, file_sha256
from automixer_assets.lake_asset import Build, Scope, input_digest
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets.pages.evaluation import show_target_runs
from automixer_assets.proxy.checkpoints import checkpoint_key, list_checkpoints
from automixer_assets.settings import EXECUTION_OPTIONS, Targets

SEED_RUN = "target_seed"
"""The lake's kind of one seed's results."""
Report = Callable[[int, float, float, float], None]


def plan_target_runs(scope: Scope) -> Build:
    """What does a model learn when it is trained on this mixture?

    Same architecture, initialisation seeds and token budget for every mixture; judged on the final items.
    """
    targets = targets_of(scope)
    mixture, tokenizer = scope.pin("weight_manifest", scope.key), scope.pin("tokenizer")
    items = scope.pin("validation_items")
    manifest_file = mixture.path / "manifest.json"
    manifest = load_manifest(manifest_file)
    corpora = {name: open_tokenized(scope.pin("tokenized_corpus", name).path) for name in manifest.snapshots}

    def write(out: Path) -> None:
        tasks = scored_tasks(scope, items.path, "final")

        def run(seed: int, report: Report, folder: Path) -> None:
            _train_target(scope, targets, seed, manifest_file, corpora, tokenizer.path, folder, report)
            _evaluate_target(scope, targets, tasks, folder)

        _gather(_run_seeds(scope, targets, run), out)

    return scope.build(write, show_target_runs, settings=[target_slice(scope, targets), targets.seeds_of(scope.key)])


def targets_of(scope: Scope) -> Targets:
    """The settings' targets; AutomixerError where there are none."""
    if scope.settings.targets is None:
        raise AutomixerError(f"{scope.name}: the settings have no `targets` section: add one to compare mixtures")
    return scope.settings.targets


def target_slice(scope: Scope, targets: Targets) -> object:
    """What of the settings every compared target must share: architecture, schedule, tasks."""
    apart = dict.fromkeys(("seeds", "fewer_seeds", "baseline", "mixtures", "set_aside", "held_out"), True)
    chosen = targets.model_dump(exclude={**apart, "training": EXECUTION_OPTIONS})
    launcher = scope.settings.launchers.trained_by
    processes = [launcher.identity] if launcher is not None and launcher.identity is not None else []
    return [chosen, tasks_slice(scope), scope.settings.seed, _held_out_digest(scope, targets), *processes]


def _run_seeds(scope: Scope, targets: Targets, run: Callable[[int, Report, Path], None]) -> dict[int, Artifact]:
    """Every seed's results; AutomixerError says which of them failed once all were tried."""
    seeds, steps = targets.seeds_of(scope.key), targets.training.steps
    runs: dict[int, Artifact] = {}
    failures: list[str] = []
    with scope.progress(steps * len(seeds), "steps") as progress:
        for seed in seeds:
            begun = steps * (len(runs) + len(failures))

            def report(step: int, loss: float, rate: float, speed: float, begun: int = begun) -> None:
                progress.advance(begun + step - progress.done, f"loss {loss:.3f}, {speed:,.0f} tokens/s")

            write = partial(run, seed, report)
            try:
                runs[seed] = scope.lake.publish(SEED_RUN, _seed_digest(scope, targets, seed), write, resumable=True)
            except AutomixerError as error:
                failures.append(f"seed {seed}: {error}")
            progress.advance(begun + steps - progress.done)
    if failures:
        raise AutomixerError(
            f"{scope.name}: {len(failures)} of {len(seeds)} seeds failed, and a mixture is not judged by the others "
            f"alone (they are kept): {'; '.join(failures)}"
        )
    return runs


def _seed_digest(scope: Scope, targets: Targets, seed: int) -> str:
    inputs = [[pin.asset, pin.partition, pin.data_version] for pin in scope.pins]
    return input_digest(SEED_RUN, scope.code, [target_slice(scope, targets), seed], inputs)


def _held_out_digest(scope: Scope, targets: Targets) -> str | None:
    path = None if targets.held_out is None else scope.automixer.resolve(targets.held_out)
    return file_sha256(path) if path is not None and path.is_file() else None  # `read_held_out` says what is missing


def _train_target(
    scope: Scope,
    targets: Targets,
    seed: int,
    mixture: Path,
    corpora: dict[str, TokenizedSnapshot],
    tokenizer: Path,
    folder: Path,
    report: Report,
) -> None:
    """Train one target into the scratch of `folder`; a finished or interrupted run is continued from what it left."""
    from automixer_assets.launch.torchrun import Listener
    from automixer_assets.launch.training import TrainingJob
    from automixer_assets.mixture.target import train_target

    run, manifest = folder / SCRATCH, load_manifest(mixture)
    if (run / "training.parquet").exists():
        return
    root, launcher = scope.lake.root_with(manifest.selection_uris), scope.settings.launchers.trained_by
    if launcher is None:
        train_target(targets, seed, manifest, root, corpora, tokenizer, run, on_progress=report)
        return
    folders, name = [corpus.folder for corpus in corpora.values()], f"{scope.name}, seed {seed}"
    job = TrainingJob(launcher, scope.settings, folders, tokenizer, run, run / "processes", name)
    job.train_target(mixture, root, seed, Listener(report, scope.log))


def _evaluate_target(scope: Scope, targets: Targets, tasks: Mapping[str, LoadedTask], out: Path) -> None:
    """The tables of one seed: loss along training, results at every kept step and on held-out text."""
    run = out / SCRATCH
    kept = list_checkpoints(run)
    checkpoints = {checkpoint_key(scope.key, step): path for step, path in kept.items()}
    evaluate_on(scope, tasks, checkpoints, targets.training.steps, out)
    if targets.held_out is not None:
        _evaluate_held_out(scope, targets, kept[targets.training.steps], out)
    with atomic_path(out / "training.parquet") as temporary:
        shutil.copyfile(run / "training.parquet", temporary)


def _evaluate_held_out(scope: Scope, targets: Targets, checkpoint: Path, out: Path) -> None:
    from automixer_assets.benchmark.held_out import bits_per_byte, read_held_out
    from automixer_assets.proxy.model import load_model
    from automixer_assets.proxy.tokenizer import load_tokenizer

    texts = read_held_out(scope.automixer.resolve(str(targets.held_out)))
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    table = bits_per_byte(model, tokenizer, texts, sequence_length=targets.training.sequence_length)
    with atomic_path(out / "held_out.parquet") as temporary:
        table.write_parquet(temporary)


def _gather(runs: Mapping[int, Artifact], out: Path) -> None:
    """One table over seeds of each kind, with a `seed` column; results at the end apart from those along the way."""
    at_the_end, everything = pl.col("step") == pl.col("step").max(), pl.lit(True)
    kinds = [
        ("training", "curves", everything),
        ("benchmark", "benchmark", at_the_end),
        ("items", "items", at_the_end),
        ("benchmark", "trajectory", everything),
        ("held_out", "held_out", everything),
        ("left_out", "left_out", everything),
    ]
    for source, name, chosen in kinds:
        tables = [
            pl.read_parquet(run.path / f"{source}.parquet")
            .filter(chosen)
            .with_columns(pl.lit(seed, dtype=pl.Int64).alias("seed"))
            for seed, run in runs.items()
            if (run.path / f"{source}.parquet").exists()
        ]
        if tables:
            with atomic_path(out / f"{name}.parquet") as temporary:
                pl.concat(tables).write_parquet(temporary)
