"""torchtitan: Parquet texts and a module that registers them and interleaves the groups (0.3.0)."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from automixer_assets.export.format import ExportPlan, caps_note
from automixer_assets.export.parquet_texts import ParquetTexts, folder_of
from automixer_assets.files import write_atomically

MODULE = "torchtitan_mixture.py"


class Torchtitan(ParquetTexts):
    """Weights are shares of packed sequences, so of tokens."""

    name = "torchtitan"
    title = "torchtitan"
    unit = "sequences"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        sources = [{"dataset_path": folder_of(plan, group), "weight": group.weight} for group in plan.groups]
        write_atomically(out / "sources.json", (json.dumps(sources, indent=1) + "\n").encode())
        module = resources.files("automixer_assets") / "export" / "templates" / MODULE
        write_atomically(out / MODULE, module.read_bytes())

    def exhaustion(self, plan: ExportPlan) -> str:
        return (
            f"Sources are endless: torchtitan starts a group again, reshuffled, and warns: {plan.repeated}."
            f"{caps_note(plan)} Sequences are drawn at random, so shares come close to the weights over a long run."
        )

    def start(self, plan: ExportPlan) -> str:
        return (
            "In a config registry of yours, with this folder on the Python path:\n"
            "```python\nfrom torchtitan.models.llama3.config_registry import llama3_debugmodel\n"
            "from torchtitan_mixture import dataloader\n\n\n"
            "def mixture():\n    config = llama3_debugmodel()  # or any other\n    config.dataloader = dataloader()\n"
            f"    config.training.seq_len = {plan.sequence_length}\n    config.training.steps = {plan.steps}\n"
            f"    config.training.global_batch_size = {plan.batch_size}\n    return config\n```"
        )
