"""What Ray costs and gains: python -m benchmarks.ray_scaling [--shards 8] [--tokens 4096] [--rounds 3] [--tasks 10000]

Scoring: the local pass, one worker and two, in turn, on the same shards (5M body, vocabulary 4,096, one thread each),
on a Ray cluster started in this machine. A Ray pass is timed by what is done after its last worker has loaded the
model; what that took stands beside it. Efficiency is tokens per second over workers times those of the local pass;
CPU is what the workers used per token over what the local pass used, which a busy machine distorts less.

Scheduling: tasks that do nothing, on two workers and in a loop of this process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import psutil
import torch

from automixer_assets.corpus.shards import TokenShard, shard_name
from automixer_assets.influence import InfluenceQuery, PassOptions, fit_query, model_digest, score_shards
from automixer_assets.launch.cluster import connected
from automixer_assets.launch.job import run_here
from automixer_assets.launch.pool import run_on_ray
from automixer_assets.launch.scoring import ScoringJob, score_shards_on_ray
from automixer_assets.proxy.model import load_model
from automixer_assets.settings import RayCluster
from benchmarks.measuring import documents_of, model_of, validation_of, web_lengths

VOCABULARY = 4096
WORKERS = (1, 2)


def main() -> None:
    """Print two Markdown tables and what else kept the machine busy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per shard")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"load average at the start: {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} processors\n")
    with TemporaryDirectory() as name, connected(RayCluster(workers=max(WORKERS))):
        scoring(Path(name), options)
        scheduling(options.tasks)
    print(f"\nload average at the end: {psutil.getloadavg()[0]:.1f}")


def scoring(root: Path, options: argparse.Namespace) -> None:
    """One row per way, the median of rounds with their range."""
    job, shards = make_case(root, options.shards, options.tokens)
    query = InfluenceQuery.load(job.query, model_digest=job.model_digest, tokenizer_digest=job.tokenizer_digest)
    model = load_model(job.checkpoint)
    passes: dict[str, list[Pass]] = {name: [] for name in ("local", *(f"Ray, {n}" for n in WORKERS))}
    for round_ in range(options.rounds):
        folder = root / f"round-{round_}"
        begun, used = time.monotonic(), time.process_time()
        score_shards(model, shards, query, folder / "local", model_digest=job.model_digest, options=job.options)
        passes["local"].append(Pass(time.monotonic() - begun, time.process_time() - used, 0.0))
        for workers in WORKERS:
            passes[f"Ray, {workers}"].append(on_ray(job, shards, folder / str(workers), workers))
            require_same_files(folder / str(workers), folder / "local")
    print_passes(passes)


def require_same_files(found: Path, expected: Path) -> None:
    """A pass that is fast and wrong is not worth a figure."""
    for path in expected.iterdir():
        if (found / path.name).read_bytes() != path.read_bytes():
            raise SystemExit(f"{found / path.name} is not what the local pass wrote")


def print_passes(passes: dict[str, list[Pass]]) -> None:
    """By way, the local pass first."""
    print("| scoring | s | efficiency | CPU / local | start of the workers, s |")
    print("|---|---:|---:|---:|---:|")
    for name, found in passes.items():
        workers = 1 if name == "local" else int(name.split()[-1])
        rows = list(zip(passes["local"], found, strict=True))
        numbers = [
            spread([each.seconds for each in found]),
            spread([one.seconds / (workers * each.seconds) for one, each in rows]),
            spread([each.cpu / one.cpu for one, each in rows]),
            spread([each.start for each in found]),
        ]
        print(f"| {name} | {' | '.join(numbers)} |", flush=True)


@dataclass(frozen=True)
class Pass:
    """Wall and CPU seconds of a pass, and the wall seconds of the workers' start before it."""

    seconds: float
    cpu: float
    start: float


@dataclass(frozen=True)
class Moment:
    """How far a pass is: monotonic seconds, CPU seconds of its workers, share of the tokens done."""

    time: float
    cpu: float
    done: float


class Watch:
    """Takes moments of a Ray pass; a worker that has ended keeps the CPU seconds that it had."""

    def __init__(self) -> None:
        self.begun, self.done, self.cpu = time.monotonic(), 0.0, dict[int, float]()
        self.ready = self.last = self.now()

    def now(self) -> Moment:
        for process in psutil.Process().children(recursive=True):
            try:
                if process.name().startswith("ray::Worker"):
                    self.cpu[process.pid] = sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return Moment(time.monotonic(), sum(self.cpu.values()), self.done)

    def log(self, line: str) -> None:
        if "is ready" in line:
            self.ready = self.now()

    def progress(self, done: int, total: int) -> None:
        self.done = done / total
        self.last = self.now()

    def whole(self) -> Pass:
        """The whole pass at the speed that it had once all workers were there."""
        share = self.last.done - self.ready.done
        seconds, cpu = self.last.time - self.ready.time, self.last.cpu - self.ready.cpu
        return Pass(seconds / share, cpu / share, self.ready.time - self.begun)


def on_ray(job: ScoringJob, shards: list[TokenShard], folder: Path, workers: int) -> Pass:
    watch = Watch()
    score_shards_on_ray(
        replace(job, folder=folder), shards, RayCluster(workers=workers), on_progress=watch.progress, log=watch.log
    )
    return watch.whole()


@dataclass(frozen=True)
class Nothing:
    """The least job there is."""

    def open(self) -> Callable[[int], None]:
        return lambda task: None


def scheduling(n_tasks: int) -> None:
    """What a shard costs that costs nothing."""
    tasks = {shard_name(index): index for index in range(n_tasks)}
    begun = time.monotonic()
    run_here(Nothing(), tasks, lambda name: None)
    here = time.monotonic() - begun
    ready: list[float] = []
    used = time.process_time()
    run_on_ray(
        Nothing(),
        tasks,
        RayCluster(workers=2),
        on_done=lambda name: None,
        log=lambda line: ready.append(time.monotonic()),
    )
    seconds, cpu = time.monotonic() - ready[0], time.process_time() - used
    print(f"\n| scheduling of {n_tasks:,} tasks | s | ms a task | CPU ms a task, driver |")
    print("|---|---:|---:|---:|")
    print(f"| loop | {here:.3f} | {1000 * here / n_tasks:.4f} | |")
    print(f"| Ray, 2 workers | {seconds:.1f} | {1000 * seconds / n_tasks:.2f} | {1000 * cpu / n_tasks:.2f} |")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def make_case(root: Path, n_shards: int, n_tokens: int) -> tuple[ScoringJob, list[TokenShard]]:
    """A model of random weights, its query, and shards of documents as long as in web text."""
    model, checkpoint = model_of("5M", VOCABULARY), root / "checkpoint"
    model.save_pretrained(checkpoint)
    digest = model_digest(checkpoint)
    query = fit_query(model, validation_of(1, VOCABULARY), [], curvature="identity")
    query.save(root / "query", model_digest=digest, tokenizer_digest="none")
    (root / "tokens").mkdir()
    shards = [make_shard(root / "tokens", index, n_tokens) for index in range(n_shards)]
    job = ScoringJob(checkpoint, root / "query", root, digest, "none", PassOptions(batch_tokens=4096))
    return job, shards


def make_shard(folder: Path, index: int, n_tokens: int) -> TokenShard:
    name, lengths = shard_name(index), web_lengths(n_tokens, seed=index)
    pl.DataFrame(
        {
            "doc_id": [f"{index}-{row}" for row in range(len(lengths))],
            "n_tokens": lengths,
            "offset": [sum(lengths[:row]) for row in range(len(lengths))],
        }
    ).write_parquet(folder / f"{name}.parquet")
    (folder / f"{name}.bin").write_bytes(
        b"".join(ids.astype("<u2").tobytes() for ids in documents_of(lengths, VOCABULARY, seed=index))
    )
    return TokenShard("random", name, folder, "<u2")


if __name__ == "__main__":
    main()
