"""Measures this machine in a minute or two: the passes at the shapes of the settings, and the work without a model."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from automixer_assets.planning.clock import Clock
from automixer_assets.planning.constants import Constants, Machine, PassSpeed
from automixer_assets.planning.pass_probes import Probe, load_seconds, matrix_product_speed, pass_speeds
from automixer_assets.planning.work_probes import WorkProbe

PACKAGES = ("automixer_assets", "torch", "transformers", "tokenizers", "duckdb", "polars", "pyarrow", "lm_eval")
SAMPLE_DOCUMENTS, SAMPLE_WORDS, DISTINCT_WORDS = 2000, 400, 20_000
EXPECTED_SHARE = 0.5
"""Of a large matrix product's speed that a pass reaches at most: to guess what a round will take."""


def calibrate(
    probes: Sequence[Probe], texts: Sequence[str], vocab_size: int, folder: Path, report: Callable[[str], None]
) -> Constants:
    """Measure everything.

    Args:
        texts: sample documents; `invented_texts` where there is no corpus yet.
        folder: where to write what is measured; removed again. Its disk is the one that is measured.
    """
    from automixer_assets.proxy.model import automatic_device

    device = automatic_device()
    clock = Clock(accelerator=device.type == "cuda")
    report("matrix products")
    affordable = EXPECTED_SHARE * matrix_product_speed(clock, device)
    room = _device_memory(device) or psutil.virtual_memory().total
    shrunk = [probe.shrunk(affordable, room) for probe in probes]
    passes: list[PassSpeed] = []
    for probe in {each.shape: each for each in shrunk}.values():
        passes += pass_speeds(probe, clock, device, report)
    loading = load_seconds(shrunk[0], clock)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".calibration-") as name:
        work = list(WorkProbe(Path(name), texts, vocab_size, Clock()).speeds(report))
    return Constants(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(device),
        packages={name: importlib.metadata.version(name) for name in PACKAGES},
        passes=passes,
        work=work,
        load_seconds=loading,
        free_share=round(clock.free_share, 3),
    )


def invented_texts(documents: int = SAMPLE_DOCUMENTS, seed: int = 0) -> list[str]:
    """Random words by Zipf's law, in the lengths of words and documents."""
    generator = np.random.default_rng(seed)
    letters = generator.integers(97, 123, (DISTINCT_WORDS, 10), dtype=np.uint8)
    words = [bytes(row[: 2 + index % 9]).decode() for index, row in enumerate(letters)]
    return [
        " ".join(words[(index - 1) % DISTINCT_WORDS] for index in generator.zipf(1.2, SAMPLE_WORDS).tolist())
        for _ in range(documents)
    ]


def sample_texts(paths: Sequence[Path], documents: int = SAMPLE_DOCUMENTS) -> list[str]:
    """The first texts of Parquet files."""
    import pyarrow.parquet as pq

    def texts() -> Any:
        for path in paths:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=256, columns=["text"]):
                yield from (text for text in batch.column(0).to_pylist() if text)

    return list(islice(texts(), documents))


def _machine(device: Any) -> Machine:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return Machine(
        device=name,
        processor=_processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_bytes=psutil.virtual_memory().total,
        device_memory_bytes=_device_memory(device),
    )


def _device_memory(device: Any) -> int | None:
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _processor() -> str:
    """The processor's name where Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
