"""The mixture for torchtitan: groups of Parquet texts, interleaved by share of packed sequences."""

from __future__ import annotations

import json
from pathlib import Path

from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import DATASETS, HFDataSource, InterleavedHuggingFaceTextDataLoader

NAME = "automixer_group"
SOURCES = json.loads((Path(__file__).parent / "sources.json").read_text())


def _load(path: str):
    """Shuffled, as torchtitan reads a first epoch in the files' order."""
    return load_dataset("parquet", data_files=f"{path}/*.parquet", split="train").shuffle(seed=0)


DATASETS[NAME] = DatasetConfig(path="", loader=_load, sample_processor=lambda document: document["text"])


def dataloader(seed: int = 0) -> InterleavedHuggingFaceTextDataLoader.Config:
    """The `dataloader` of a torchtitan config; sources start again when they run out."""
    sources = [HFDataSource(dataset=NAME, infinite=True, **source) for source in SOURCES]
    return InterleavedHuggingFaceTextDataLoader.Config(sources=sources, seed=seed)
