"""Claims about importing checkpoints: what is found, what is refused and why, and that files are never trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from automixer_assets.errors import AutomixerError
from automixer_assets.lake import digest_of, file_sha256
from automixer_assets.proxy.imported import CHECKPOINTS_SCHEMA, FILES_SCHEMA, import_checkpoints
from automixer_assets.proxy.imported_run import ImportedRun
from automixer_assets.proxy.imported_stores import NEEDED, DirectoryStore, HubStore, open_store
from automixer_assets.proxy.model import load_model, replace_weights
from automixer_assets.proxy.tokenizer import load_tokenizer
from automixer_assets.settings import CheckpointSource
from automixer_assets_tests.proxy.repositories import (
    KINDS,
    random_model,
    write_checkpoint,
    write_repository,
    write_tokenizer,
)

STEPS = (0, 500, 1000)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "own")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, tokenizer: Path) -> Path:
    return write_repository(tmp_path_factory.mktemp("published") / "neox", "gpt_neox", STEPS, tokenizer)


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A copy, to damage."""
    return shutil.copytree(published, tmp_path / "repository")


def source_of(folder: Path, pattern: str = "step{step}", **options: Any) -> CheckpointSource:
    return CheckpointSource(directory=str(folder), pattern=pattern, **options)


def imported(
    folder: Path, out: Path, pattern: str = "step{step}", tokenizer: Path | None = None, **options: Any
) -> ImportedRun:
    out.mkdir(parents=True, exist_ok=True)
    source = source_of(folder, pattern, **options)
    import_checkpoints(source, DirectoryStore(folder), out, tokenizer_folder=tokenizer)
    return ImportedRun(out)


def checkpoints_of(run: ImportedRun) -> pl.DataFrame:
    return pl.read_parquet(run.folder / "checkpoints.parquet")


def reasons(run: ImportedRun) -> dict[str, str]:
    table = checkpoints_of(run).filter(pl.col("status") != "usable")
    return dict(table.select("name", "reason").iter_rows())


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_is_imported_and_opened_as_it_was_saved(kind: str, tmp_path: Path, tokenizer: Path) -> None:
    folder = write_repository(tmp_path / "published", kind, STEPS, tokenizer)
    run = imported(folder, tmp_path / "run")
    assert list(run.steps) == list(STEPS)
    assert reasons(run) == {}
    vocabulary = len(load_tokenizer(tokenizer))
    for step in STEPS:
        model, opened = random_model(kind, step, vocabulary), load_model(run.open(step, DirectoryStore(folder)))
        ids = torch.arange(10)[None]
        assert torch.equal(model(ids).logits, opened(ids).logits)
    assert run.document["parameters"] == sum(
        parameter.numel() for parameter in random_model(kind, 0, vocabulary).parameters()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_can_be_exchanged_between_checkpoints_of_any_naming(kind: str, tmp_path: Path, tokenizer: Path) -> None:
    """Old files name tensors without the body's prefix (`h.0...` for `transformer.h.0...`); transformers translates."""
    folder = write_repository(tmp_path / "published", kind, (1, 2), tokenizer)
    prefix = load_model(folder / "step1").base_model_prefix + "."
    tensors = load_file(folder / "step2" / "model.safetensors")
    renamed = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, folder / "step2" / "model.safetensors", metadata={"format": "pt"})
    model, ids = load_model(folder / "step1"), torch.arange(10)[None]
    replace_weights(model, folder / "step2")
    assert torch.equal(model(ids).logits, random_model(kind, 2, len(load_tokenizer(tokenizer)))(ids).logits)


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [
        ("step{step}", ["step1000", "step2000", "main", "step-3000", "xstep1"], {1000: None, 2000: None}),
        ("step-{step}", ["step-000100"], {100: None}),
        ("step{step}-tokens{tokens}", ["step1000-tokens4B", "step5000-tokens20.5B"],
         {1000: 4_000_000_000, 5000: 20_500_000_000}),
        ("global_step{step}", ["global_step1000"], {1000: None}),
        ("checkpoint-{step}", ["checkpoint-500", "checkpoint-1500"], {500: None, 1500: None}),
        ("stage1-step{step}-tokens{tokens}", ["stage1-step10-tokens1048576", "stage2-step10-tokens1B"],
         {10: 1_048_576}),
        ("a.b(c)-{step}", ["a.b(c)-7", "aXb(c)-8"], {7: None}),
    ],
)  # fmt: skip
def test_steps_are_read_from_names_by_the_declared_pattern(
    pattern: str, names: list[str], expected: dict[int, int | None]
) -> None:
    source = CheckpointSource(directory="x", pattern=pattern)
    found = [match for name in names if (match := source.match(name)) is not None]
    assert {match.step: match.tokens for match in found} == expected


def test_a_pattern_that_matches_nothing_says_what_there_is(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(AutomixerError) as error:
        imported(repository, tmp_path / "run", "checkpoint-{step}")
    assert str(error.value) == (
        f"no name in {repository} fits checkpoints_from.pattern 'checkpoint-{{step}}' "
        "(there are: step0, step1000, step500): mend the pattern"
    )
    with pytest.raises(AutomixerError, match=r"there are: none at all"):
        imported(tmp_path / "run", tmp_path / "run")
    with pytest.raises(AutomixerError, match=r"nowhere does not exist: mend checkpoints_from.directory"):
        imported(tmp_path / "nowhere", tmp_path / "run")


def without_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def with_other_shape(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["gpt_neox.final_layer_norm.weight"] = torch.ones(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-10])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"embed_out.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")


def of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rotary_emb_base": 7, "layer_norm_eps": 0.5}))


def with_another_tokenizer(folder: Path) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(document))


def with_a_larger_tokenizer(folder: Path) -> None:
    write_tokenizer(folder, 400, [f"word{i} other{i * 7} text" for i in range(200)])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (without_tensor, r"^checkpoint step500 lacks the tensor 'gpt_neox.layers.0.mlp.dense_h_to_4h.weight' and 0"),
        (with_other_shape, r"^cannot load the checkpoint step500: "),
        (cut_short, r"^cannot load the checkpoint step500: .*incomplete"),
        (pickled, r"^step500 has pickled weights only, which are never read: load it once .* `save_pretrained`"),
        (without_shard, r"^step500/model-00001-of-00002.safetensors is missing although .* lists it"),
        (with_code, r"^cannot load the checkpoint step500: "),
        (of_another_shape, r"^another architecture than 'step1000' \(layer_norm_eps: 0.5, there 1e-05\): import"),
        (with_another_tokenizer, r"^its tokenizer turns text into other ids than that of 'step1000': put the"),
        (with_a_larger_tokenizer, r"^the tokenizer in step500 has \d+ ids but the checkpoint step500 has \d+ emb"),
        (lambda folder: (folder / "config.json").write_text("{"), r"^step500/config.json is not valid JSON"),
        (lambda folder: (folder / "config.json").unlink(), r"^step500/config.json is missing"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"^step500 has no tokenizer.json: name a folder"),
    ],
)  # fmt: skip
def test_an_unusable_checkpoint_is_quarantined_with_its_reason(
    damage: Callable[[Path], object], reason: str, repository: Path, tmp_path: Path
) -> None:
    damage(repository / "step500")
    run = imported(repository, tmp_path / "run")
    assert list(run.steps) == [0, 1000]
    (said,) = reasons(run).values()
    assert pl.Series([said]).str.contains(reason).item(), said
    assert str(repository) not in said
    assert not (repository / "step500" / "ran").exists()
    assert set(pl.read_parquet(run.folder / "files.parquet")["name"]) == {"step0", "step1000"}


def test_the_tables_say_what_was_found_with_digests(repository: Path, tmp_path: Path) -> None:
    (repository / "step1000-copy").mkdir()
    shutil.copytree(repository / "step1000", repository / "step01000")
    run = imported(repository, tmp_path / "run", steps=[500, 1000, 3000])
    table, files = checkpoints_of(run), pl.read_parquet(run.folder / "files.parquet")
    assert (table.schema, files.schema) == (pl.Schema(CHECKPOINTS_SCHEMA), pl.Schema(FILES_SCHEMA))
    assert table.select("step", "name", "status", "reason").rows() == [
        (500, "step500", "usable", None),
        (1000, "step01000", "usable", None),
        (1000, "step1000", "quarantined", "step 1000 is already taken by 'step01000'"),
        (3000, "step3000", "missing", "declared in checkpoints_from.steps only"),
    ]
    assert run.document["other_names"] == ["step1000-copy"]
    assert run.total_steps == 1000, "the last step that the source names"
    weights = repository / "step500" / "model.safetensors"
    row = files.row(by_predicate=(pl.col("name") == "step500") & (pl.col("file") == "model.safetensors"), named=True)
    assert (row["bytes"], row["sha256"]) == (weights.stat().st_size, file_sha256(weights))
    shas = {name: file_sha256(repository / "step500" / name) for name in ("config.json", "model.safetensors")}
    assert table["sha256"][0] == digest_of(shas)


def test_the_same_checkpoints_elsewhere_make_the_same_tables(repository: Path, tmp_path: Path) -> None:
    cut_short(repository / "step500")
    other = shutil.copytree(repository, tmp_path / "elsewhere")
    first, second = imported(repository, tmp_path / "a"), imported(other, tmp_path / "b")
    names = sorted(path.relative_to(first.folder) for path in first.folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second.folder) for path in second.folder.rglob("*") if path.is_file())
    assert all((first.folder / name).read_bytes() == (second.folder / name).read_bytes() for name in names)


def test_the_most_frequent_tokenizer_counts_and_among_equals_the_latest(repository: Path, tmp_path: Path) -> None:
    with_another_tokenizer(repository / "step1000")
    assert list(imported(repository, tmp_path / "a").steps) == [0, 500]
    assert list(imported(repository, tmp_path / "b", steps=[500, 1000]).steps) == [1000]


def test_a_tokenizer_written_by_another_release_is_the_same_tokenizer(repository: Path, tmp_path: Path) -> None:
    path = repository / "step500" / "tokenizer.json"
    document = json.loads(path.read_text())
    document["model"]["merges"] = [" ".join(merge) for merge in document["model"]["merges"]]  # as older ones do
    path.write_text(json.dumps(document, indent=3))
    assert list(imported(repository, tmp_path / "run").steps) == list(STEPS)


def test_checkpoints_without_a_tokenizer_use_the_one_that_is_named(
    repository: Path, tokenizer: Path, tmp_path: Path
) -> None:
    for step in STEPS:
        (repository / f"step{step}" / "tokenizer.json").unlink()
    run = imported(repository, tmp_path / "run", tokenizer=tokenizer)
    assert list(run.steps) == list(STEPS)
    assert (run.tokenizer / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()
    run.require_encoding_of(tokenizer, "p")


def test_a_sharded_checkpoint_is_imported_and_copied_whole(tokenizer: Path, tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "published", "llama", (7,), tokenizer, max_shard_size="10KB")
    assert len(list((folder / "step7").glob("model-*.safetensors"))) > 1
    run = imported(folder, tmp_path / "run")
    (tmp_path / "copy").mkdir()
    run.copy(7, DirectoryStore(folder), tokenizer, tmp_path / "copy")
    ids = torch.arange(10)[None]
    assert torch.equal(load_model(tmp_path / "copy")(ids).logits, load_model(folder / "step7")(ids).logits)
    assert (tmp_path / "copy" / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()


def test_what_changed_or_went_since_the_import_is_not_used(repository: Path, tokenizer: Path, tmp_path: Path) -> None:
    run, store = imported(repository, tmp_path / "run"), DirectoryStore(repository)
    shutil.copy(repository / "step0" / "model.safetensors", repository / "step500" / "model.safetensors")
    with pytest.raises(
        AutomixerError, match=r"model\.safetensors of checkpoint 'step500' changed since it was imported"
    ):
        run.open(500, store)
    (repository / "step500" / "model.safetensors").unlink()
    (tmp_path / "copy").mkdir()
    with pytest.raises(AutomixerError, match=r"model\.safetensors of checkpoint 'step500' is gone: restore it"):
        run.copy(500, store, tokenizer, tmp_path / "copy")
    shutil.rmtree(repository / "step1000")
    with pytest.raises(AutomixerError, match=r"checkpoint 'step1000' is gone from .*: restore it"):
        run.open(1000, store)


def test_a_folder_has_a_new_version_whenever_a_file_of_it_changed(repository: Path) -> None:
    store = DirectoryStore(repository)
    before = {name: store.version(name) for name in store.names()}
    assert before == {name: DirectoryStore(repository).version(name) for name in store.names()}
    (repository / "step500" / "config.json").write_text("{}")
    assert [name for name in store.names() if store.version(name) != before[name]] == ["step500"]


ANSWER: Any = SimpleNamespace(headers={}, request=None)


class Hub:
    """A Hub of one repository in a local folder: as many of its two calls as are used."""

    def __init__(self, revisions: dict[str, Path], cache: Path) -> None:
        self.revisions, self.cache, self.online = revisions, cache, True
        self.asked: list[str] = []

    def list_repo_refs(self, repository: str) -> SimpleNamespace:
        if not self.online:
            raise ConnectionError("no route to host")
        named = [SimpleNamespace(name=name, target_commit=commit_of(name)) for name in self.revisions]
        return SimpleNamespace(branches=named[1:], tags=named[:1])

    def download(self, *, repo_id: str, revision: str, cache_dir: Path | None, allow_patterns: list[str]) -> str:
        from huggingface_hub.errors import RevisionNotFoundError

        self.asked.append(revision)
        name = next((name for name in self.revisions if revision in (name, commit_of(name))), None)
        if name is None:
            raise RevisionNotFoundError(f"no revision {revision}", response=ANSWER)
        target = self.cache / commit_of(name)
        target.mkdir(parents=True, exist_ok=True)
        for path in self.revisions[name].iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, target)
        return str(target)


def commit_of(name: str) -> str:
    return f"{sum(name.encode()):040x}"


def test_a_hub_repository_is_imported_from_its_step_revisions(repository: Path, tmp_path: Path) -> None:
    pickled(repository / "step500")
    hub = Hub(
        {path.name: path for path in sorted(repository.iterdir())} | {"main": repository / "step1000"}, tmp_path / "hub"
    )
    source = CheckpointSource(repository="someone/neox", pattern="step{step}", steps=[0, 500, 1000, 9])
    store = HubStore("someone/neox", None, api=hub, download=hub.download)
    (tmp_path / "run").mkdir()
    import_checkpoints(source, store, tmp_path / "run")
    run = ImportedRun(tmp_path / "run")
    table = checkpoints_of(run)
    assert table.select("step", "status").rows() == [
        (0, "usable"), (9, "missing"), (500, "quarantined"), (1000, "usable")
    ]  # fmt: skip
    assert dict(table.drop_nulls("revision").select("name", "revision").iter_rows()) == {
        name: commit_of(name) for name in ("step0", "step500", "step1000")
    }
    assert hub.asked == ["step0", "step500", "step1000"], "asked for by name, so that the cache knows the names"
    assert not list((tmp_path / "hub").rglob("*.bin"))
    opened = run.open(1000, store)
    assert hub.asked[-1] == commit_of("step1000"), "read again at exactly that commit"
    assert file_sha256(opened / "model.safetensors") == file_sha256(repository / "step1000" / "model.safetensors")
    assert run.document["other_names"] == ["main"]


def test_a_revision_that_went_is_missing_and_a_failed_download_is_an_error(repository: Path, tmp_path: Path) -> None:
    hub = Hub({path.name: path for path in sorted(repository.iterdir())}, tmp_path / "hub")
    store = HubStore("someone/neox", None, api=hub, download=hub.download)
    assert store.names() == ["step0", "step1000", "step500"]
    del hub.revisions["step500"]
    source = CheckpointSource(repository="someone/neox", pattern="step{step}")
    (tmp_path / "run").mkdir()
    import_checkpoints(source, store, tmp_path / "run")
    assert reasons(ImportedRun(tmp_path / "run")) == {"step500": "gone since it was listed"}

    def broken(**asked: Any) -> str:
        raise TimeoutError("timed out")

    failing = HubStore("someone/neox", None, api=hub, download=broken)
    with pytest.raises(AutomixerError, match=r"cannot download revision 'step0' of someone/neox \(timed out\): run"):
        failing.fetch("step0")


def test_without_a_connection_the_cache_is_read_by_the_real_client(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    cached = tmp_path / "cache" / "models--someone--neox"
    for path in repository.iterdir():
        shutil.copytree(path, cached / "snapshots" / commit_of(path.name))
        (cached / "refs").mkdir(exist_ok=True)
        (cached / "refs" / path.name).write_text(commit_of(path.name))
    source = CheckpointSource(repository="someone/neox", pattern="step{step}", cache="cache")
    store = open_store(source, lambda path: tmp_path / path)
    (tmp_path / "run").mkdir()
    import_checkpoints(source, store, tmp_path / "run")
    run = ImportedRun(tmp_path / "run")
    assert list(run.steps) == list(STEPS)
    assert run.open(500, store) == cached / "snapshots" / commit_of("step500")
    empty = HubStore("someone/other", tmp_path / "cache")
    with pytest.raises(AutomixerError, match=r"cannot list the revisions of Hub repository someone/other \(.*and none"):
        empty.names()


def test_an_unknown_repository_is_named(tmp_path: Path) -> None:
    from huggingface_hub.errors import RepositoryNotFoundError

    class Nobody:
        def list_repo_refs(self, repository: str) -> None:
            raise RepositoryNotFoundError("404", response=ANSWER)

    with pytest.raises(AutomixerError, match="Hub repository someone/typo does not exist or is not public: mend"):
        HubStore("someone/typo", tmp_path, api=Nobody()).names()


def test_pickled_weights_are_not_even_asked_for() -> None:
    from fnmatch import fnmatch

    for name in (
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "training_args.bin",
        "modeling.py",
        "model.pt",
    ):
        assert not any(fnmatch(name, pattern) for pattern in NEEDED), name


def test_a_model_of_another_kind_is_refused(repository: Path, tokenizer: Path, tmp_path: Path) -> None:
    shutil.rmtree(repository / "step500")
    loaded: Any = load_tokenizer(tokenizer)
    write_checkpoint(repository / "step500", random_model("llama", 1, len(loaded)), loaded)
    run = imported(repository, tmp_path / "run")
    assert list(run.steps) == [0, 1000]
    assert reasons(run)["step500"].startswith("another architecture than 'step1000' (")
