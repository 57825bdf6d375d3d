"""Claims about shapes, parameter counts and what is refused when a checkpoint is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.checkpoints import (
    checkpoint_key,
    list_checkpoints,
    parse_checkpoint_key,
    write_checkpoint,
)
from automixer_assets.proxy.model import build_model, load_model, replace_weights
from automixer_assets.proxy.tokenizer import train_tokenizer
from automixer_assets.settings import Architecture


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, architecture: Architecture) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_tokenizer(iter(["plain words, plain text"] * 3), 300, folder / "tokenizer")
    return write_checkpoint(build_model(architecture, 280, 32, seed=5), folder, 7, folder / "tokenizer")


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def test_weights_depend_on_the_seed_alone(architecture: Architecture) -> None:
    torch.manual_seed(1)
    one = build_model(architecture, 64, 32, seed=3).state_dict()
    before = torch.get_rng_state()
    two = build_model(architecture, 64, 32, seed=3).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    other = build_model(architecture, 64, 32, seed=4).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], other["lm_head.weight"])


@pytest.mark.parametrize("tied", [False, True])
def test_a_checkpoint_comes_back_as_written(tied: bool, tmp_path: Path, architecture: Architecture) -> None:
    shape = architecture.model_copy(update={"tie_word_embeddings": tied})
    model = build_model(shape, 64, 32, seed=3)
    folder = write_checkpoint(model, tmp_path, 480, None)
    assert folder.name == "step-000480"
    assert list_checkpoints(tmp_path) == {480: folder}
    loaded = load_model(folder)
    ids = torch.arange(10).unsqueeze(0)
    assert torch.equal(model.eval()(ids).logits, loaded(ids).logits)
    other = build_model(shape, 64, 32, seed=4).eval()
    replace_weights(other, folder)
    assert torch.equal(model(ids).logits, other(ids).logits)


def test_a_rewritten_checkpoint_replaces_the_old_one_and_leaves_nothing_else(
    tmp_path: Path, architecture: Architecture
) -> None:
    (tmp_path / "checkpoints" / ".step-000002.tmp").mkdir(parents=True)  # left by a killed run
    first = write_checkpoint(build_model(architecture, 64, 32, seed=3), tmp_path, 2, None)
    before = (first / "model.safetensors").read_bytes()
    write_checkpoint(build_model(architecture, 64, 32, seed=4), tmp_path, 2, None)
    assert (first / "model.safetensors").read_bytes() != before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-000002"]


def test_checkpoint_keys_go_both_ways() -> None:
    assert checkpoint_key("my-step-run", 480) == "my-step-run-step-000480"
    assert parse_checkpoint_key("my-step-run-step-000480") == ("my-step-run", 480)
    assert parse_checkpoint_key(checkpoint_key("p", 12_345_678)) == ("p", 12_345_678)
    with pytest.raises(AutomixerError, match="'demo-480' is not a checkpoint key"):
        parse_checkpoint_key("demo-480")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(AutomixerError, match=f"{name} is missing"):
        load_model(copy)


def test_pickled_weights_are_not_read(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(AutomixerError, match="pickled weights: convert them"):
        load_model(copy)


def test_a_missing_shard_is_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(AutomixerError, match=r"model-00001-of-00002.safetensors is missing although"):
        load_model(copy)


def test_damaged_files_are_refused(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(AutomixerError, match="cannot load the checkpoint"):
        load_model(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(AutomixerError, match=r"config.json is not valid JSON"):
        load_model(copy)


def test_an_absent_tensor_is_not_replaced_by_random_numbers(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AutomixerError, match=r"lacks the tensor 'model.layers.0.mlp.up_proj.weight'"):
        load_model(copy)


def test_a_foreign_tokenizer_is_refused(copy: Path, tmp_path: Path) -> None:
    texts = [f"word{i} other{i * 7} text" for i in range(200)]
    larger = train_tokenizer(iter(texts), 400, tmp_path / "larger")
    assert larger.vocab_size > 280
    with pytest.raises(AutomixerError, match=f"has {larger.vocab_size} ids but the checkpoint .* has 280"):
        load_model(copy, tokenizer_folder=larger.folder)
    load_model(copy)


def test_code_in_a_checkpoint_never_runs(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    with pytest.raises(AutomixerError, match="cannot load the checkpoint"):
        load_model(copy)
    assert not (copy / "ran").exists()


def test_weights_of_another_shape_are_refused(checkpoint: Path, architecture: Architecture) -> None:
    model = build_model(architecture, 64, 32, seed=0)
    with pytest.raises(AutomixerError, match=r"tensor 'model.embed_tokens.weight' is \(280, 16\), expected \(64, 16\)"):
        replace_weights(model, checkpoint)
