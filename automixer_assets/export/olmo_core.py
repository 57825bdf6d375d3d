"""OLMo-core: headerless `.npy` files of token ids, and a source mixture."""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from automixer_assets.export.flat_tokens import FlatTokens
from automixer_assets.export.format import ExportGroup, ExportPlan, caps_note
from automixer_assets.files import write_atomically

MIXTURE = "source_mixture.yaml"
SPARE = 1.01
"""Repetitions are allowed for this much more than planned, as whole sequences and batches are rounded up."""
TYPES = {"<u2": "uint16", "<u4": "uint32"}


class OlmoCore(FlatTokens):
    """Weights are target ratios of tokens."""

    name = "olmo-core"
    title = "OLMo-core"
    unit = "tokens"
    suffix = "npy"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        sources = [
            {
                "source_name": group.label,
                "target_ratio": group.weight,
                "paths": plan.files(group),
                "max_repetition_ratio": repetitions(group),
                "max_source_fraction": 1.0,
            }
            for group in plan.groups
        ]
        write_atomically(out / MIXTURE, yaml.safe_dump({"sources": sources}, sort_keys=False).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return (
            "OLMo-core refuses to start when a group is smaller than its share, unless `max_repetition_ratio` covers "
            f"it; the ratios in {MIXTURE} cover this run and hardly more: {plan.repeated}.{caps_note(plan)}"
        )

    def start(self, plan: ExportPlan) -> str:
        batch = min(plan.batch_size, max(1, plan.run_tokens // plan.sequence_length)) * plan.sequence_length
        requested = max(batch, plan.run_tokens // batch * batch)
        end = plan.encoding.end_of_document
        return f"""```python
from olmo_core.data import NumpyDatasetDType, NumpyFSLDatasetConfig, TokenizerConfig
from olmo_core.data.source_mixture import SourceMixtureDatasetConfig, SourceMixtureList

mixture = SourceMixtureDatasetConfig(
    source_list=SourceMixtureList.from_yaml("{plan.location}/{MIXTURE}"),
    requested_tokens={requested},  # whole batches: what is missing to one would be spread evenly over files
    global_batch_size={batch},
    processes=16,
    seed=0,
)
dataset = NumpyFSLDatasetConfig.from_src_mix(
    mixture,
    tokenizer=TokenizerConfig(vocab_size={plan.encoding.vocab_size}, eos_token_id={end}, pad_token_id={end}),
    dtype=NumpyDatasetDType.{TYPES[plan.encoding.dtype]},
    sequence_length={plan.sequence_length},
    work_dir="YOUR_WORK_FOLDER",
).build()
```
In a training script of OLMo-core's, this takes the place of the dataset that `from_data_mix` builds."""


def repetitions(group: ExportGroup) -> float:
    """OLMo-core's max_repetition_ratio: 1 for a group that is read once at most."""
    return 1.0 if group.passes <= 1 else math.ceil(group.passes * SPARE * 1000) / 1000
