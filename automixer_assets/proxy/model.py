"""Models: built from scratch with a seed, or loaded from a Hugging Face folder that is already on disk.

Only safetensors are read: a checkpoint never gets to run code here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.quiet import quiet
from automixer_assets.settings import Architecture

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedModel

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PADDING_SHARE, PADDING_IDS = 0.05, 1024
"""A model's vocabulary is often padded to a round number; more surplus than this means another tokenizer."""


def build_model(
    architecture: Architecture,
    vocab_size: int,
    context_length: int,
    seed: int,
    end_of_document: int | None = None,
) -> LlamaForCausalLM:
    """A float32 Llama with random weights that depend on the arguments alone (paper, section 3)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        max_position_embeddings=context_length,
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_hidden_layers,
        num_attention_heads=architecture.num_attention_heads,
        num_key_value_heads=architecture.num_key_value_heads,
        tie_word_embeddings=architecture.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        bos_token_id=end_of_document,
        eos_token_id=end_of_document,
        pad_token_id=None,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):  # leave the caller's generator alone
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def load_model(folder: Path, *, tokenizer_folder: Path | None = None) -> PreTrainedModel:
    """The causal language model in `folder` (Hugging Face layout), float32, evaluation mode, on the CPU.

    Raises:
        AutomixerError: a file is missing or damaged, a tensor is absent, or the tokenizer (of `tokenizer_folder`,
            else the one in `folder`, if any) does not belong to the checkpoint.
    """
    config = read_config(folder)
    weight_files(folder)
    check_vocabulary(folder, config, tokenizer_folder or folder)
    return _from_pretrained(folder).eval()


def outline_model(folder: Path) -> PreTrainedModel:
    """The same model without its numbers (meta device): of the weights only the files' headers are read.

    Raises:
        AutomixerError: a file is missing or cut short, or a tensor is absent or of another shape.
    """
    read_config(folder)
    weight_files(folder)
    return _from_pretrained(folder, device_map="meta")


def _from_pretrained(folder: Path, **options: Any) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype="float32",
                output_loading_info=True,
                **options,
            )
    except Exception as error:  # transformers raises many kinds here; every one means an unusable folder
        raise AutomixerError(
            f"cannot load the checkpoint {folder}: {_one_line(error)}; write or copy it again"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would quietly fill these with random numbers
        raise AutomixerError(
            f"checkpoint {folder} lacks the tensor {missing[0]!r} and {len(missing) - 1} more; copy it again"
        )
    return model


def replace_weights(model: PreTrainedModel, folder: Path) -> None:
    """Copy the weights of the checkpoint in `folder` into `model`, in place.

    Raises:
        AutomixerError: the checkpoint has other tensors or other shapes than the model.
    """
    import torch

    parameters = dict(model.named_parameters())  # a tied matrix appears once, under its first name
    weights = _stored_weights(folder)
    if not parameters.keys() <= weights.keys():  # files may use older names, which transformers translates
        weights = dict(load_model(folder).named_parameters())
    for name, parameter in parameters.items():
        if name not in weights or weights[name].shape != parameter.shape:
            found = tuple(weights[name].shape) if name in weights else "absent"
            raise AutomixerError(
                f"checkpoint {folder}: tensor {name!r} is {found}, expected {tuple(parameter.shape)}; "
                "evaluate checkpoints of different shapes in separate runs"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def _stored_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        try:
            weights.update(load_file(path))
        except Exception as error:
            raise AutomixerError(f"{path} is damaged ({_one_line(error)}); write or copy it again") from error
    return weights


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a checkpoint folder; AutomixerError when absent or not JSON."""
    path = folder / "config.json"
    if not path.is_file():
        raise AutomixerError(f"{path} is missing: {folder} is not a checkpoint in Hugging Face layout")
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise AutomixerError(f"{path} is not valid JSON ({error}); write or copy it again") from None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint, one or sharded; AutomixerError names what is missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        other = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        hint = "it holds pickled weights: convert them with `save_pretrained`" if other else "copy the checkpoint again"
        raise AutomixerError(f"{folder / WEIGHTS} is missing; {hint}")
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise AutomixerError(
                f"{folder / name} is missing although {index.name} lists it; copy the checkpoint again"
            )
    return [folder / name for name in names]


def check_vocabulary(folder: Path, config: dict[str, Any], tokenizer_folder: Path) -> None:
    """Refuse a tokenizer that has more ids than the embedding has rows, or far fewer."""
    if not (tokenizer_folder / "tokenizer.json").is_file():
        return
    from automixer_assets.proxy.tokenizer import load_tokenizer

    rows, ids = int(config.get("vocab_size", 0)), len(load_tokenizer(tokenizer_folder))
    surplus = rows - ids
    if rows and not 0 <= surplus < max(1, min(PADDING_IDS, PADDING_SHARE * rows)):
        raise AutomixerError(
            f"the tokenizer in {tokenizer_folder} has {ids} ids but the checkpoint {folder} has {rows} embedding rows; "
            "use the tokenizer that the checkpoint was trained with"
        )


def automatic_device() -> torch.device:
    """The first CUDA device if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
