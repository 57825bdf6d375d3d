"""How fast mixtures are exported: python -m benchmarks.export_speed [documents]

Documents of 600 tokens (2.4 kB of random words) of two groups, scattered over four shards, to formats of each kind
(ids with an index, ids alone, texts), each in a process that has imported what it needs before the clock starts.
Baseline, in the same run on the same disk: a plain copy of the corpus's Parquet files. All flush what they write.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from automixer_assets.corpus.shards import open_tokenized
from automixer_assets.export import export_mixture, load_format
from automixer_assets.files import sync_tree
from automixer_assets.mixture.manifest import load_manifest
from automixer_assets_tests.export.cases import Wanted, make_case

COPY = "plain copy"
FORMATS = ("megatron", "olmo-core", "hf")
TOKENS, DOCUMENTS, WORDS = 600, 40_000, 50_000


def main() -> None:
    """Print a Markdown table; with a format's name and two folders, do that export and print its numbers."""
    if len(sys.argv) == 4:
        work(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
        return
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS
    with TemporaryDirectory() as name:
        root = Path(name) / "case"
        source = make_corpus(root, documents)
        print(f"{documents:,} documents, {source:.0f} MB of Parquet\n")
        print("| | s | CPU s | MB written | source MB/s | of a plain copy | M tokens/s | peak MiB |")
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        copy = None
        for what in (COPY, *FORMATS):
            out = Path(name) / "out"
            seconds, cpu, written, peak = measured(what, root, out)
            copy = copy or seconds
            tokens = "" if what == COPY else f"{documents * TOKENS / seconds / 1e6:.1f}"
            rate = f"{source / seconds:.0f} | {copy / seconds:.2f}"
            print(
                f"| {what} | {seconds:.2f} | {cpu:.2f} | {written:.0f} | {rate} | {tokens} | {peak:.0f} |", flush=True
            )
            shutil.rmtree(out)


def make_corpus(root: Path, documents: int) -> float:
    """Write a mixture that takes every document but a seventh; megabytes of its source files."""
    generator = np.random.default_rng(0)
    letters = generator.integers(97, 123, (WORDS, 7), dtype=np.uint8)
    words = [bytes(row[: 3 + index % 5]).decode() for index, row in enumerate(letters)]

    def text_of(group: Wanted, number: int) -> str:
        return " ".join(words[index % WORDS] for index in generator.zipf(1.2, TOKENS * 3 // 4).tolist())

    groups = [Wanted("first", 0.4, documents // 2, TOKENS), Wanted("second", 0.6, documents // 2, TOKENS)]
    case = make_case(root, groups, token_budget=documents * TOKENS, text_of=text_of, row_group_size=1000)
    (root / "manifest.json").write_text(case.manifest.model_dump_json())
    return sum(path.stat().st_size for path in case.corpus.rglob("*.parquet")) / 1e6


def measured(what: str, root: Path, out: Path) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, megabytes written and peak memory in MiB of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.export_speed", what, str(root), str(out)]
    numbers = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return float(numbers[0]), float(numbers[1]), written, float(numbers[2])


def work(what: str, root: Path, out: Path) -> None:
    manifest = load_manifest(root / "manifest.json")
    snapshots = {path.name: open_tokenized(path) for path in (root / "tokenized").iterdir()}
    export: Callable[[], object]
    if what == COPY:

        def export() -> None:
            shutil.copytree(root / "corpus", out)
            sync_tree(out)
    else:
        load_format(what)

        def export() -> object:
            return export_mixture(manifest, root, snapshots, what, out, corpus=root / "corpus")

    started, before = time.perf_counter(), os.times()
    export()
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    print(time.perf_counter() - started, cpu, peak_mib())


def peak_mib() -> float:
    """Of this process alone: getrusage would count the parent's memory before exec too (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    main()
