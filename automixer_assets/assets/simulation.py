"""Simulation assets, one chain per proxy: the run, its benchmark table, and the checkpoints that were selected."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import polars as pl

from automixer_assets import metadata
from automixer_assets.assets.corpus import tasks_slice
from automixer_assets.benchmark.selection import step_of
from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Build, Check, CheckOutcome, LakeAsset, Metadata, Plan, Scope, lake_asset
from automixer_assets.partitions import checkpoints_of
from automixer_assets.settings import Proxy, Settings

TRAINING_VERSION = "1"
BENCHMARK_VERSION = "1"


def simulation_assets(proxy: str, settings: Settings) -> list[LakeAsset]:
    """The simulation chain of one proxy, keys prefixed with its name."""
    snapshots = dg.SpecificPartitionsPartitionMapping(list(settings.proxy(proxy).snapshots))
    group = f"{proxy}_simulation".replace("-", "_").replace(".", "_")
    return [
        lake_asset(
            asset=f"{proxy}/proxy_run",
            group=group,
            kinds={"torch", "huggingface"},
            code=TRAINING_VERSION,
            plan=_plan_proxy_run(proxy),
            deps=[dg.AssetDep("tokenized_corpus", partition_mapping=snapshots), "tokenizer"],
            checks=[Check("loss_is_finite_and_fell", "Training ended well below where it began.", check_loss)],
            pool="accelerator",
        ),
        lake_asset(
            asset=f"{proxy}/benchmark_table",
            group=group,
            kinds={"lm-eval", "torch"},
            code=BENCHMARK_VERSION,
            plan=_plan_benchmark_table(proxy),
            deps=[f"{proxy}/proxy_run"],
            checks=[Check("no_missing_results", "Every checkpoint has finite results on every task.", check_results)],
            pool="accelerator",
        ),
        lake_asset(
            asset=f"{proxy}/proxy_checkpoints",
            group=group,
            kinds={"huggingface"},
            code="1",
            plan=_plan_proxy_checkpoints(proxy),
            partitions_def=checkpoints_of(proxy),
            deps=[f"{proxy}/proxy_run"],
        ),
    ]


def _plan_proxy_run(proxy: str) -> Plan:
    def plan_proxy_run(scope: Scope) -> Build:
        """Did the proxy train well, and which checkpoints did it leave behind?

        The simulation run (paper, section 3): a small Llama-3-style model trained once, its checkpoints kept.
        """
        chosen = scope.settings.proxy(proxy)
        tokenizer = scope.pin("tokenizer")
        corpora = [scope.pin("tokenized_corpus", snapshot) for snapshot in chosen.snapshots]

        def write(out: Path) -> None:
            _train_proxy(scope, chosen, [corpus.path for corpus in corpora], tokenizer.path, out)

        return scope.build(write, show_proxy_run, settings=chosen.model_dump(), resumable=True)

    return plan_proxy_run


def _train_proxy(scope: Scope, chosen: Proxy, corpora: list[Path], tokenizer: Path, out: Path) -> None:
    from automixer_assets.proxy.data import PackedTokens
    from automixer_assets.proxy.model import build_model
    from automixer_assets.proxy.train import train

    snapshots = [open_tokenized(corpus) for corpus in corpora]
    training = chosen.training
    batches = PackedTokens(
        snapshots, sequence_length=training.sequence_length, batch_size=training.batch_size, seed=chosen.seed
    )
    model = build_model(chosen.architecture, snapshots[0].vocab_size, training.sequence_length, chosen.seed)
    with scope.progress(training.steps, "steps") as progress:

        def on_progress(step: int, loss: float, learning_rate: float, tokens_per_second: float) -> None:
            note = f"loss {loss:.3f}, lr {learning_rate:.1e}, {tokens_per_second:,.0f} tokens/s"
            progress.advance(step - progress.done, note)

        train(
            model,
            batches,
            training,
            out=out,
            checkpoint_steps=chosen.checkpoint_steps,
            tokenizer_folder=tokenizer,
            on_progress=on_progress,
        )


def show_proxy_run(artifact: Artifact) -> Metadata:
    training = pl.read_parquet(artifact.path / "training.parquet")
    checkpoints = sorted(folder.name for folder in (artifact.path / "checkpoints").iterdir())
    smooth = training["loss"].rolling_mean(max(1, training.height // 60), min_samples=1)

    def draw(axes) -> None:
        axes.plot(training["tokens"], training["loss"], color=metadata.PALETTE[0], alpha=0.25, linewidth=0.6)
        axes.plot(training["tokens"], smooth, color=metadata.PALETTE[0])
        for name in checkpoints:
            axes.axvline(training["tokens"][step_of(name) - 1], color="#999999", linewidth=0.5)
        axes.set_xlabel("tokens (grey lines: kept checkpoints)")
        axes.set_ylabel("training loss, nats per token")

    return {
        "training curve": metadata.plot(draw),
        "final loss (mean of last 50 steps)": float(training["loss"].tail(50).mean()),  # pyright: ignore[reportArgumentType]
        "steps": training.height,
        "tokens": int(training["tokens"][-1]),
        "tokens per second": round(int(training["tokens"][-1]) / max(artifact.seconds, 1e-9)),
        "checkpoints": len(checkpoints),
        "kept": ", ".join(checkpoints),
    }


def check_loss(artifact: Artifact) -> CheckOutcome:
    loss = pl.read_parquet(artifact.path / "training.parquet")["loss"]
    first, last = float(loss[0]), float(loss.tail(max(1, loss.len() // 20)).mean())  # pyright: ignore[reportArgumentType]
    finite = bool(loss.is_finite().all())
    return CheckOutcome(finite and last < first, f"loss went from {first:.3f} to {last:.3f}")


def _plan_benchmark_table(proxy: str) -> Plan:
    def plan_benchmark_table(scope: Scope) -> Build:
        """At which step of the run is each capability strongest?

        Every kept checkpoint on every task, through lm-eval, on the selection items (paper, section 3).
        """
        run = scope.pin(f"{proxy}/proxy_run")
        tasks = scope.settings.tasks
        folder = scope.automixer.resolve(tasks.directory) if tasks.directory else None

        def write(out: Path) -> None:
            from automixer_assets.benchmark.runner import evaluate_checkpoints
            from automixer_assets.lake import SCRATCH

            checkpoints = {f"{proxy}-{path.name}": path for path in sorted((run.path / "checkpoints").iterdir())}
            with scope.progress(len(checkpoints), "checkpoints") as progress:
                evaluate_checkpoints(
                    checkpoints,
                    tasks,
                    folder=folder,
                    item_set="selection",
                    seed=scope.settings.seed,
                    cache=out / SCRATCH,
                    out=out,
                    on_progress=lambda name, done, total: progress.advance(done - progress.done, name),
                )

        return scope.build(
            write, show_benchmark_table, settings=[tasks_slice(tasks, folder), scope.settings.seed], resumable=True
        )

    return plan_benchmark_table


def show_benchmark_table(artifact: Artifact) -> Metadata:
    table = pl.read_parquet(artifact.path / "benchmark.parquet")
    return {
        "dagster/row_count": table.height,
        "accuracy": metadata.table(benchmark_grid(table, "acc", best="max")),
        "gold-answer NLL": metadata.table(benchmark_grid(table, "gold_nll", best="min")),
        "accuracy trajectories (ring: best step)": metadata.plot(
            lambda axes: _draw_trajectories(axes, table, "acc", "max"), height=4.2
        ),
        "gold-answer NLL trajectories (ring: best step)": metadata.plot(
            lambda axes: _draw_trajectories(axes, table, "gold_nll", "min"), height=4.2
        ),
    }


def benchmark_grid(table: pl.DataFrame, metric: str, best: str) -> pl.DataFrame:
    """Tasks x checkpoints with the best step of each task marked `*` (ties to the earliest)."""
    rows = []
    for (task,), group in table.sort("step").group_by("task", maintain_order=True):
        values = group[metric].to_list()
        marked = values.index(max(values) if best == "max" else min(values))
        cells = [f"{value:.3f}{'*' if index == marked else ''}" for index, value in enumerate(values)]
        chance = group["chance"][0]
        rows.append({"task": task, "chance": f"{chance:.2f}", **dict(zip(map(str, group["step"]), cells, strict=True))})
    return pl.DataFrame(rows)


def _draw_trajectories(axes, table: pl.DataFrame, metric: str, best: str) -> None:
    for index, ((task,), group) in enumerate(table.sort("step").group_by("task", maintain_order=True)):
        color = metadata.PALETTE[index % len(metadata.PALETTE)]
        values = group[metric]
        marked = values.arg_max() if best == "max" else values.arg_min()
        assert marked is not None
        axes.plot(group["step"], values, color=color, label=str(task), linewidth=1.2)
        axes.plot([group["step"][marked]], [values[marked]], "o", color=color, markersize=9, fillstyle="none")
    axes.set_xlabel("training step")
    axes.set_ylabel(metric)
    axes.legend(fontsize=7, ncols=2)


def check_results(artifact: Artifact) -> CheckOutcome:
    table = pl.read_parquet(artifact.path / "benchmark.parquet")
    complete = table.height == table["checkpoint"].n_unique() * table["task"].n_unique()
    finite = bool(table.select(pl.col("acc", "gold_nll").is_finite().all()).to_series().all())
    return CheckOutcome(complete and finite, f"{table.height} results, all finite: {finite}")


def _plan_proxy_checkpoints(proxy: str) -> Plan:
    def plan_proxy_checkpoints(scope: Scope) -> Build:
        """Which exact weights stand behind the scores made at this checkpoint?

        Versioned by the digest of its files, so retraining makes exactly the changed checkpoints' scores stale.
        """
        run = scope.pin(f"{proxy}/proxy_run")
        source = run.path / "checkpoints" / f"step-{step_of(scope.key):06d}"
        if not source.is_dir():
            kept = ", ".join(sorted(folder.name for folder in source.parent.iterdir()))
            raise AutomixerError(f"proxy {proxy!r} kept no checkpoint {scope.key!r}; it kept: {kept}")
        return scope.build(lambda out: _copy_folder(source, out), show_proxy_checkpoint, settings=scope.key)

    return plan_proxy_checkpoints


def show_proxy_checkpoint(artifact: Artifact) -> Metadata:
    files = pl.DataFrame({"file": list(artifact.files), "sha256": [sha[:16] for sha in artifact.files.values()]})
    return {"files": metadata.table(files), "bytes": sum((artifact.path / name).stat().st_size for name in artifact.files)}


def _copy_folder(source: Path, out: Path) -> None:
    shutil.copytree(source, out, dirs_exist_ok=True)
