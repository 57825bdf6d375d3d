"""nanotron: datatrove's `.ds` files (headerless token ids) in a folder per group, and `data_stages`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from automixer_assets.export.flat_tokens import FlatTokens
from automixer_assets.export.format import ExportPlan, caps_note
from automixer_assets.files import write_atomically


class Nanotron(FlatTokens):
    """Weights are shares of sequences of one length, so of tokens."""

    name = "nanotron"
    title = "nanotron"
    unit = "sequences"
    suffix = "ds"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        dataset = {
            "dataset_folder": [str(plan.location / group.label) for group in plan.groups],
            "dataset_weights": [group.weight for group in plan.groups],
            "tokenizer_name": "FOLDER_OF_THE_TOKENIZER",
            "vocab_size": plan.encoding.vocab_size,
            "token_size_in_bytes": np.dtype(plan.encoding.dtype).itemsize,
            "return_positions": False,
        }
        data = {"dataset": dataset, "num_loading_workers": 1, "seed": 0}
        stages = [{"name": "mixture", "start_training_step": 1, "data": data}]
        write_atomically(out / "data_stages.yaml", yaml.safe_dump({"data_stages": stages}, sort_keys=False).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return f"nanotron starts a group again from its beginning: {plan.repeated}.{caps_note(plan)}"

    def start(self, plan: ExportPlan) -> str:
        return (
            f"Put `data_stages` of `{plan.location}/data_stages.yaml` into your configuration in place of its own, the "
            "tokenizer's folder into `tokenizer_name` there and `tokenizer.tokenizer_name_or_path`, and set "
            f"`tokens: {{sequence_length: {plan.sequence_length}, train_steps: {plan.steps}}}` for {plan.batch_size} "
            "sequences per step; then\n"
            "```\ntorchrun --nproc_per_node=8 run_train.py --config-file YOUR_CONFIG.yaml\n```"
        )
