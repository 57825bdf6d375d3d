"""Cost of a mixture against the number of documents: python -m benchmarks.mixture_scale --out DIR

Six checkpoints with one pooled score each (`--tasks 8`: with eight). Every engine and size runs in a process of its
own; CPU seconds (user and system, children included) and the highest resident memory are the operating system's.
Engines must agree: counts exactly, doubles to 1e-9. The corpus of a size is made before and deleted after its runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.mixture_data import ScoredSet
from benchmarks.mixture_engines import ENGINES, Figures

TOLERANCE = 1e-9
GIB = 2**30
STAGES = ("joint", "thresholds and groups", "densities and weights")
COUNTS = ("documents", "tokens", "documents in both")


@dataclass(frozen=True)
class Run:
    """One engine at one size; `failed` says why there are no figures."""

    engine: str
    n_documents: int
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0
    peak_disk: int = 0
    stages: dict[str, float] | None = None
    figures: Figures | None = None
    failed: str | None = None


def main() -> None:
    """Print the tables: cost, ratios to ours, stages, growth."""
    options = _options()
    if options.engine:
        print(json.dumps(asdict(run_engine(options.engine, _set(options, options.documents), options.out))))
        return
    runs: list[Run] = []
    for n_documents in sorted({*options.sizes, *options.only_ours}):
        engines = options.engines if n_documents in options.sizes else ["ours"]
        runs += measure_size(options, n_documents, engines)
        verify([run for run in runs if run.n_documents == n_documents and run.figures])
    print_report(runs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for corpora and results; needs room")
    parser.add_argument("--sizes", type=_count, nargs="*", default=[10**6, 5 * 10**6, 2 * 10**7], help="all engines")
    parser.add_argument("--only-ours", type=_count, nargs="*", default=[], help="sizes for this package alone")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--tasks", type=int, default=1, help="score columns per checkpoint")
    parser.add_argument("--memory-cap", type=float, default=12.0, help="GiB of data at which a process is stopped")
    parser.add_argument("--keep", action="store_true", help="leave corpora and results in --out")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--documents", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _count(text: str) -> int:
    return int(float(text))


def _set(options: argparse.Namespace, n_documents: int) -> ScoredSet:
    tasks = ("pooled",) if options.tasks == 1 else tuple(f"task_{number}" for number in range(options.tasks))
    return ScoredSet(options.out / f"corpus-{n_documents}", n_documents, tasks)


def run_engine(engine: str, data: ScoredSet, out: Path) -> Run:
    """Run in this process; called in a fresh one."""
    stages: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        begun = _cpu_seconds()
        yield
        stages[name] = _cpu_seconds() - begun

    folder = out / f"{engine}-{data.n_documents}"
    folder.mkdir(parents=True)
    begun = time.monotonic()
    figures = ENGINES[engine](data, folder, stage)
    return Run(
        engine,
        data.n_documents,
        cpu_seconds=_cpu_seconds(),
        wall_seconds=time.monotonic() - begun,
        peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        stages=stages,
        figures=figures,
    )


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure_size(options: argparse.Namespace, n_documents: int, engines: list[str]) -> list[Run]:
    """Make the corpus of a size, run the engines on it one after the other, clean up."""
    data = _set(options, n_documents)
    try:
        if not data.root.exists():
            _say(f"{n_documents:,} documents: writing the corpus")
            data.write()
        return [_run_apart(options, data, engine) for engine in engines]
    finally:
        if not options.keep:
            shutil.rmtree(data.root, ignore_errors=True)


def _run_apart(options: argparse.Namespace, data: ScoredSet, engine: str) -> Run:
    folder, spill = options.out / f"{engine}-{data.n_documents}", options.out / "spill"
    shutil.rmtree(folder, ignore_errors=True)
    spill.mkdir(parents=True, exist_ok=True)
    process = _start(options, data, engine, spill)
    peak_disk = 0
    while process.poll() is None:
        peak_disk = max(peak_disk, sum(map(_bytes_below, (data.root, folder, spill))))
        time.sleep(1)
    output, errors = process.communicate()
    for left in [spill] if options.keep else [spill, folder]:
        shutil.rmtree(left, ignore_errors=True)
    if process.returncode:
        reason = (errors.strip() or f"stopped with {process.returncode}").splitlines()[-1]
        run = Run(engine, data.n_documents, peak_disk=peak_disk, failed=reason[:120])
    else:
        run = Run(**{**json.loads(output.splitlines()[-1]), "peak_disk": peak_disk})
    measured = f"{run.cpu_seconds:.1f} CPU-s, {run.wall_seconds:.0f} s, {run.peak_memory / GIB:.2f} GiB"
    _say(f"{engine} {data.n_documents:,}: {run.failed or measured}")
    return run


def _start(options: argparse.Namespace, data: ScoredSet, engine: str, spill: Path) -> subprocess.Popen[str]:
    """This module again, for one engine, with its temporary files in `spill` and its memory capped."""
    command = [sys.executable, "-m", "benchmarks.mixture_scale", "--engine", engine, "--out", str(options.out)]
    command += ["--documents", str(data.n_documents), "--tasks", str(options.tasks)]
    cap = int(options.memory_cap * GIB)
    return subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(spill), "POLARS_MAX_THREADS": "2", "POLARS_TEMP_DIR": str(spill)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (cap, cap)),
    )


def _bytes_below(folder: Path) -> int:
    total = 0
    for name, _, files in os.walk(folder):
        for file in files:
            try:
                total += (Path(name) / file).stat().st_size
            except FileNotFoundError:  # a temporary file that has just been renamed or removed
                continue
    return total


def verify(runs: list[Run]) -> None:
    """Raise where engines do not agree on a figure."""
    for run in runs[1:]:
        assert run.figures is not None and runs[0].figures is not None
        for kind, expected in runs[0].figures.items():
            tolerance = 0.0 if kind in COUNTS else TOLERANCE
            for key, value in expected.items():
                found = run.figures[kind][key]
                if not math.isclose(found, value, rel_tol=tolerance, abs_tol=0.0):
                    raise SystemExit(f"{run.engine}: {kind} of {key} is {found!r}, {runs[0].engine} has {value!r}")


def print_report(runs: list[Run]) -> None:
    """Markdown tables: cost and ratios, cost by stage, growth."""
    done = [run for run in runs if not run.failed]
    print("\n| documents | engine | CPU-s | x ours | wall s | peak memory GiB | x ours | peak disk GiB |")
    print("|---|---|---|---|---|---|---|---|")
    ours = {run.n_documents: run for run in done if run.engine == "ours"}
    for run in runs:
        print(f"| {run.n_documents:,} | {run.engine} | {_cost(run, ours.get(run.n_documents, run))} |")
    print(f"\n| documents | engine | {' | '.join(f'{stage}, CPU-s' for stage in STAGES)} |\n|---|---|---|---|---|")
    for run in done:
        cells = " | ".join(f"{(run.stages or {})[stage]:.2f}" for stage in STAGES)
        print(f"| {run.n_documents:,} | {run.engine} | {cells} |")
    print("\n| engine | from | to | CPU grows with documents to the power of |\n|---|---|---|---|")
    for engine in ENGINES:
        for first, second in pairwise(run for run in done if run.engine == engine):
            growth = math.log(second.cpu_seconds / first.cpu_seconds)
            power = growth / math.log(second.n_documents / first.n_documents)
            print(f"| {engine} | {first.n_documents:,} | {second.n_documents:,} | {power:.2f} |")


def _cost(run: Run, base: Run) -> str:
    if run.failed:
        return f"{run.failed} | | | | | {run.peak_disk / GIB:.1f}"
    return (
        f"{run.cpu_seconds:.1f} | {run.cpu_seconds / base.cpu_seconds:.2f} | {run.wall_seconds:.0f} "
        f"| {run.peak_memory / GIB:.2f} | {run.peak_memory / base.peak_memory:.2f} | {run.peak_disk / GIB:.1f}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
