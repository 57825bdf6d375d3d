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
from string import Template
from typing import Any

import numpy as np

from automixer_assets.errors import AutomixerError
from automixer_assets.export.format import Counts, ExportPlan, Format
from automixer_assets.export.packing import run_sequences, write_packed
from automixer_assets.export.source import ExportPart
from automixer_assets.export.tf_example import encode_examples
from automixer_assets.files import write_atomically

SHARD_BYTES = 2**26
COLUMN = "text"
"""MaxText's own name for its one column, whether it holds text or ids."""
WRITER_OPTIONS = "group_size:1"
"""Every record can be read alone, as a shuffled read needs."""
MIXTURE = "maxtext_mixture.json"
SCRIPT = "load_grain.py"
SEED = 17
SMALLEST = 100


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
        mixture: dict[str, Any] = {
            label: {"path": f"{glob.escape(str(plan.location / label))}/*.array_record", "weight": weight}
            for label, weight in weights.items()
        }
        write_atomically(out / MIXTURE, (json.dumps(mixture, indent=1) + "\n").encode())
        write_atomically(out / SCRIPT, _script(plan, weights).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        repeated = [group.label for group in plan.groups if group.passes > 1]
        what = f"this run repeats {', '.join(repeated)}" if repeated else "this run repeats no group"
        capped = (
            ""
            if plan.manifest.exhaustion_policy == "repeat"
            else " Shares are those of the whole run, and the script ends with the run: by then no group has been read "
            "more often than its cap, give or take Grain's rounding of weights."
        )
        return (
            "Grain itself ends a mixture when one group runs out. The script repeats every group, reshuffled, and "
            f"ends with the run; MaxText reads each group `num_epoch` times before it ends. Counted that way {what}."
            f"{capped}"
        )

    def start(self, plan: ExportPlan) -> str:
        epochs = max(math.ceil(group.passes) for group in plan.groups)
        n_sequences = sum(run_sequences(plan).values())
        return (
            "MaxText:\n```\npython -m MaxText.train src/MaxText/configs/base.yml \\\n"
            "  dataset_type=grain grain_file_type=arrayrecord tokenize_train_data=False packing=False \\\n"
            f"  grain_train_mixture_config_path={plan.location / MIXTURE} \\\n"
            f"  max_target_length={plan.sequence_length} num_epoch={epochs} steps=SEQUENCES_OVER_GLOBAL_BATCH ...\n```\n"
            f"The run has {n_sequences:,} sequences: divide by your global batch for `steps`. Use the JSON, not "
            "`grain_train_files` with `;`, which rounds weights to four decimals. Grain alone:\n"
            f"```python\nfrom load_grain import mixture  # {SCRIPT}, beside this sheet\n\n"
            "dataset = mixture()  # a grain.MapDataset of int32 arrays, as long as the run\n```\n"
            f"Weights are whole numbers over the smallest, {SMALLEST} (and a half): that is how finely Grain mixes. "
            "Every share stays within 0.5 % of the one in the table."
        )


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

    Grain scales the smallest weight to 100 and cuts the others off to whole numbers, which would shift shares by up to
    1 %. Half a unit above the nearest whole number survives the cut, and MaxText's normalisation before it.
    """
    smallest = min(shares.values())
    nearest = {label: round(SMALLEST * share / smallest) for label, share in shares.items()}
    return {label: float(number) if shares[label] == smallest else number + 0.5 for label, number in nearest.items()}


def _script(plan: ExportPlan, weights: Mapping[str, float]) -> str:
    lines = "".join(f"    {json.dumps(label)}: {weight!r},\n" for label, weight in weights.items())
    return SCRIPT_TEMPLATE.substitute(
        groups=lines,
        sequence_length=plan.sequence_length,
        run_sequences=sum(run_sequences(plan).values()),
        seed=SEED,
    )


SCRIPT_TEMPLATE = Template('''"""The mixture as a grain.MapDataset of token ids: `from load_grain import mixture`."""

from pathlib import Path

import grain
import numpy as np

FOLDER = Path(__file__).resolve().parent
SEQUENCE_LENGTH = $sequence_length
RUN_SEQUENCES = $run_sequences
GROUPS = {  # folder: weight
$groups}


def token_ids(record):
    """The ids of a tf.train.Example: its last SEQUENCE_LENGTH varints, seven bits a byte, low ones first."""
    data = np.frombuffer(record, np.uint8)
    ends = np.flatnonzero(data < 128)[-SEQUENCE_LENGTH - 1 :] + 1
    place = np.arange(ends[0], ends[-1]) - np.repeat(ends[:-1], np.diff(ends))
    parts = (data[ends[0] :] & 127).astype(np.int32) << (7 * place).astype(np.int32)
    return np.add.reduceat(parts, ends[:-1] - ends[0])


def mixture(seed=$seed):
    """The run: sequences of all groups in proportion to the weights, each group shuffled and repeated as needed."""
    parts = []
    for number, name in enumerate(GROUPS):
        files = sorted(str(path) for path in (FOLDER / name).glob("*.array_record"))
        source = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files))
        parts.append(source.seed(seed + number).shuffle().repeat())
    return grain.MapDataset.mix(parts, list(GROUPS.values()))[:RUN_SEQUENCES].map(token_ids)
''')
