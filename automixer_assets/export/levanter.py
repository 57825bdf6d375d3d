"""Levanter: Parquet texts and a mixture that may change its weights during the run, as the manifest's phases do."""

from __future__ import annotations

import math
from pathlib import Path

import yaml

from automixer_assets.export.format import ExportPlan, caps_note
from automixer_assets.export.parquet_texts import ParquetTexts
from automixer_assets.files import write_atomically

DATA = "data.yaml"
BLOCK, LARGEST_BLOCK = 2048, 32768
SEQUENCES_PER_BLOCK = 100
"""Levanter gives each group a whole number of sequences per block; so many of the smallest keep it within 1 %."""

Schedule = list[tuple[int, dict[str, float]]]


class Levanter(ParquetTexts):
    """Weights are shares of sequences of one length, so of tokens."""

    name = "levanter"
    title = "Levanter"
    unit = "sequences"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        schedule = weight_schedule(plan)
        data = {
            "tokenizer": "FOLDER_OF_THE_TOKENIZER",
            "cache_dir": f"{plan.location}/cache",
            "configs": {group.label: {"train_urls": plan.files(group)} for group in plan.groups},
            "train_weights": schedule[0][1] if len(schedule) == 1 else [[step, weights] for step, weights in schedule],
            "stop_strategy": "restart",
            "mixture_block_size": block_size(plan),
        }
        trainer = {"train_batch_size": plan.batch_size, "num_train_steps": plan.steps}
        document = {"data": data, "train_seq_len": plan.sequence_length, "trainer": trainer}
        write_atomically(out / DATA, yaml.safe_dump(document, sort_keys=False).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        if len(weight_schedule(plan)) == 1:
            return f"Levanter starts a group again from its beginning: {plan.repeated}.{caps_note(plan)}"
        return (
            f"The schedule in {DATA} follows the mixture's phases at {plan.batch_size} sequences of "
            f"{plan.sequence_length} tokens per step: a group that has reached its cap has weight 0 from then on, to "
            f"within a block of {block_size(plan)} sequences. Levanter itself would start a group again."
        )

    def start(self, plan: ExportPlan) -> str:
        return (
            f"Put the tokenizer's folder into `{plan.location}/{DATA}`, add your `model` and `optimizer` to it, then\n"
            f"```\npython -m levanter.main.train_lm --config_path {plan.location}/{DATA}\n```\n"
            "Steps in `train_weights` hold for the batch size and sequence length there: for others, export again with "
            "`--batch-size` and `--sequence-length`."
        )


def block_size(plan: ExportPlan) -> int:
    """The smallest power of two from Levanter's default on that gives every group enough sequences per block."""
    smallest = min(weight for phase in plan.phases for weight in phase.weights.values() if weight > 0)
    wanted = 2 ** math.ceil(math.log2(SEQUENCES_PER_BLOCK / smallest))
    return min(max(BLOCK, wanted), LARGEST_BLOCK)


def weight_schedule(plan: ExportPlan) -> Schedule:
    """(first step, weights by label) per phase; one entry where phases are shorter than a block.

    Levanter wants phases to begin at whole blocks, and at whole steps.
    """
    grid = math.lcm(block_size(plan), plan.batch_size)
    labels = {group.name: group.label for group in plan.groups}
    schedule: Schedule = []
    for phase in plan.phases:
        sequences = round(phase.from_token / plan.sequence_length / grid) * grid
        schedule.append((sequences // plan.batch_size, {labels[name]: w for name, w in phase.weights.items()}))
    steps = [step for step, _ in schedule]
    if steps != sorted(set(steps)):
        return [(0, {group.label: group.weight for group in plan.groups})]
    return schedule
