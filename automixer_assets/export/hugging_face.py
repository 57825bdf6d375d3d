"""Hugging Face datasets: Parquet, and a script that interleaves the groups; LLaMA-Factory's files beside it.

`interleave_datasets` draws documents, so its probabilities are w_g / mean tokens of g, normalised.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import yaml

from automixer_assets.export.format import ExportPlan, caps_note
from automixer_assets.export.parquet_texts import ParquetTexts
from automixer_assets.files import write_atomically

SCRIPT = "interleave.py"


class HuggingFace(ParquetTexts):
    """Weights are probabilities of documents."""

    name = "hf"
    title = "Hugging Face datasets and LLaMA-Factory"
    unit = "documents"

    def finish(self, plan: ExportPlan, out: Path, internal: Path) -> None:
        groups = [
            {"name": group.label, "probability": group.weight, "mean_tokens": group.mean_tokens, "files": group.files}
            for group in plan.groups
        ]
        blend = {"groups": groups, "run_tokens": plan.run_tokens}
        write_atomically(out / "interleave.json", (json.dumps(blend, indent=1) + "\n").encode())
        script = resources.files("automixer_assets") / "export" / "templates" / SCRIPT
        write_atomically(out / SCRIPT, script.read_bytes())
        info = {group.label: {"file_name": group.label, "columns": {"prompt": "text"}} for group in plan.groups}
        write_atomically(out / "dataset_info.json", (json.dumps(info, indent=1) + "\n").encode())
        write_atomically(out / "llamafactory.yaml", yaml.safe_dump(_llama_factory(plan), sort_keys=False).encode())

    def exhaustion(self, plan: ExportPlan) -> str:
        return (
            f"{SCRIPT} starts a group again when it runs out, without end, and the trainer stops at its number of "
            f"steps: {plan.repeated}. LLaMA-Factory's `interleave_over` starts groups again too, but ends once every "
            f"group has run out.{caps_note(plan)} Documents are drawn at random, so shares come close to the weights "
            "as documents are counted in thousands."
        )

    def start(self, plan: ExportPlan) -> str:
        return (
            f"```python\nimport sys\nsys.path.insert(0, {str(plan.location)!r})\n"
            "from interleave import load_mixture\n\n"
            "documents = load_mixture(seed=0)  # an endless IterableDataset with the column `text`\n```\n"
            f"Tokenise, pack to sequences of {plan.sequence_length}, and give it to a Trainer with "
            f"`max_steps={plan.steps}` at {plan.batch_size} sequences per step. In several processes: "
            "`datasets.distributed.split_dataset_by_node`.\n\n"
            "LLaMA-Factory, which reads `dataset_info.json`:\n"
            f"```\nllamafactory-cli train {plan.location}/llamafactory.yaml \\\n"
            "  model_name_or_path=YOUR_MODEL output_dir=YOUR_FOLDER\n```"
        )


def _llama_factory(plan: ExportPlan) -> dict[str, object]:
    """Arguments of LLaMA-Factory's pre-training stage that concern data."""
    return {
        "stage": "pt",
        "do_train": True,
        "dataset_dir": str(plan.location),
        "dataset": ",".join(group.label for group in plan.groups),
        "mix_strategy": "interleave_over",
        "interleave_probs": ",".join(f"{group.weight:.12g}" for group in plan.groups),
        "streaming": True,
        "cutoff_len": plan.sequence_length,
        "packing": True,
        "max_steps": plan.steps,
    }
