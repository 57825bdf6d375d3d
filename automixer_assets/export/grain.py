"""Grain and MaxText: ArrayRecord files of packed sequences per group, MaxText's mixture JSON, and a loading script.

Records are `tf.train.Example`s, which is what MaxText parses. ArrayRecord is written with its own library, a small
wheel (`pip install "automixer-assets[export]"`): the format below it, Riegeli, is not one to write twice.
"""

from __future__ import annotations

import glob
import json
import math
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, ExportPlan, Format, caps_note
from automixer_assets.export.packing import write_packed, write_script
from automixer_assets.export.source import ExportPart
from automixer_assets.export.tf_example import encode_examples
from automixer_assets.files import write_atomically

SHARD_BYTES = 2**26
COLUMN = "text"
"""MaxText's own name for its one column, whether it holds text or ids."""
WRITER_OPTIONS = "group_size:1"
"""Every record can be read alone, as a shuffled read needs."""
MAXTEXT = "maxtext_mixture.json"
SCRIPT = "load_grain.py"
SMALLEST = 100
FRACTIONS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.45, 0.55, 0.35, 0.65)


class Grain(Format):
    """Weights are shares of elements; as every element has the same length, of tokens."""

    name = "grain"
    title = "Grain and MaxText"
    reads = "tokens"
    unit = "sequences"
    packs = True

    def __init__(self) -> None:
        require_array_record()

    def write_part(self, part: ExportPart, folder: Path) -> Counts:
        return write_packed(part, folder, ".array_record", SHARD_BYTES, write_records)

    def part_path(self, part: ExportPart, name: str) -> str:
        return f"{part.label}/{part.snapshot}.{part.shard}.{name}"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        weights = mixing_weights({group.label: group.weight for group in plan.groups})
        write_script(plan, out, SCRIPT, [{"name": label, "weight": weight} for label, weight in weights.items()])
        mixture = {
            label: {"path": f"{glob.escape(str(plan.location / label))}/*.array_record", "weight": weight}
            for label, weight in weights.items()
        }
        write_atomically(out / MAXTEXT, (json.dumps(mixture, indent=1) + "\n").encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return (
            f"Grain itself ends a mixture when a group runs out. {SCRIPT} starts that group again, reshuffled, and "
            f"ends with the run; MaxText reads every group `num_epoch` times and stops at its number of steps: "
            f"{plan.repeated}.{caps_note(plan)}"
        )

    def start(self, plan: ExportPlan) -> str:
        epochs = max(math.ceil(group.passes) for group in plan.groups)
        return f"""MaxText:
```
python -m MaxText.train src/MaxText/configs/base.yml dataset_type=grain grain_file_type=arrayrecord \\
  grain_train_mixture_config_path={plan.location}/{MAXTEXT} tokenize_train_data=False packing=False \\
  max_target_length={plan.sequence_length} num_epoch={epochs} steps={plan.steps} ...
```
at {plan.batch_size} sequences per step. Do not put the groups into `grain_train_files`, which rounds weights to four
decimals. Grain alone:
```python
import sys
sys.path.insert(0, {str(plan.location)!r})
from load_grain import load_mixture

dataset = load_mixture(seed=0)  # a grain.MapDataset of int32 arrays [{plan.sequence_length}], as long as the run
```
Grain mixes by whole numbers, the smallest weight being {SMALLEST}: the configuration has those numbers and a fraction
more, which Grain cuts off. Every share is within 0.5 % of the one in the table."""


def require_array_record() -> Any:
    """array_record's module; raises AutomixerError where it is not installed."""
    try:
        return import_module("array_record.python.array_record_module")
    except ImportError:
        raise AutomixerError(
            "exporting to grain needs the package array_record, which is not installed: "
            'pip install "automixer-assets[export]" (Linux and macOS)'
        ) from None


def write_records(path: Path, sequences: np.ndarray) -> None:
    """Write an ArrayRecord file, a record per sequence of ids, [records, sequence_length]."""
    writer = require_array_record().ArrayRecordWriter(str(path), WRITER_OPTIONS)
    for record in encode_examples(sequences, COLUMN):
        writer.write(record)
    writer.close()


def mixing_weights(shares: Mapping[str, float]) -> dict[str, float]:
    """Weights from which Grain makes the whole numbers that come closest to the shares.

    Grain scales the smallest weight to 100 and cuts all of them off to whole numbers, which would shift shares by up to
    1 %. A fraction above the nearest whole number survives the cut; which one also leaves the smallest weight at 100
    after MaxText has divided by the sum is a matter of floating point.
    """
    smallest = min(shares.values())
    nearest = {label: round(SMALLEST * share / smallest) for label, share in shares.items()}
    candidates = [
        {label: number + fraction * (number > SMALLEST) for label, number in nearest.items()} for fraction in FRACTIONS
    ]
    return next((each for each in candidates if _cut_off(each) == nearest), candidates[0])


def _cut_off(weights: Mapping[str, float]) -> dict[str, int]:
    """The whole numbers that Grain makes of the weights once MaxText has normalised them."""
    total = sum(weights.values())
    normalised = {label: weight / total for label, weight in weights.items()}
    scale = SMALLEST / min(normalised.values())
    return {label: int(weight * scale) for label, weight in normalised.items()}
