"""A tiny world: the demo's settings, a one-layer proxy, 200 documents a snapshot, and its own Dagster instance.

Everything is real: files, events, training, scores. `create_world` writes the inputs; `World.run` materialises.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.storage.defs_state.base import set_defs_state_storage

from automixer_assets.lake import MARKER, Artifact, Lake, file_sha256
from automixer_assets.lineage import Materialized, latest
from automixer_assets.materialize import Materializer
from automixer_assets.microworld import SNAPSHOTS, write_microworld
from automixer_assets.partitions import SNAPSHOTS as SNAPSHOT_KEYS
from automixer_assets.partitions import register
from automixer_assets.resources import PROJECT_ROOT, Automixer

DEMO_SETTINGS = PROJECT_ROOT / "configs" / "demo.yaml"
FIRST_SNAPSHOTS = SNAPSHOTS[:2]
NEW_SNAPSHOT = SNAPSHOTS[2]
DOCUMENTS_PER_SNAPSHOT = 200
N_DOCUMENTS = {"MW-2026-01": DOCUMENTS_PER_SNAPSHOT + 1, "MW-2026-02": DOCUMENTS_PER_SNAPSHOT}
"""One document more than the micro-world has, so that half of the union is no whole number."""
MIXTURES = ("demo", "uniform")
NOT_ASKED_FOR = {"removed_documents", "item_contributions", "lexical_query", "lexical_scores", "trainer_exports"}
"""No removal list, no mixture that resamples validation items or is exported, no recipe that counts words."""
TARGET_STEPS = 20
TOKEN_BUDGET = TARGET_STEPS * 4 * 64
EXTRA_ID = "extra-document"
REJECTED = ["duplicate_id", "empty_text", "missing_id", "null_text", "whitespace_text"]


class World:
    """A folder with `settings.yaml` and `state/`; the environment points to it only while it is `active`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.config = folder / "state", folder / "settings.yaml"
        self.lake = Lake(self.state / "lake")
        self.sources = self.state / "microworld" / "snapshots"
        with self.active():
            self.instance = dg.DagsterInstance.from_config(str(PROJECT_ROOT))

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AUTOMIXER_STATE": str(self.state),
            "AUTOMIXER_CONFIG": str(self.config),
            "DAGSTER_HOME": str(PROJECT_ROOT),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
        }

    @contextmanager
    def active(self) -> Iterator[None]:
        # Dagster keeps the storage of the instance that was entered last; fixtures that end in another order than they
        # began leave that of a closed one.
        with pytest.MonkeyPatch.context() as patch, set_defs_state_storage(None):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def close(self) -> None:
        self.instance.dispose()

    def copy(self, folder: Path) -> World:
        """The same world in another place, modification times included."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("*-shm"))
        return World(folder)

    def run(
        self,
        selection: str = "*",
        partition: str | None = None,
        *,
        force: bool = False,
        overrides: dict[str, Any] | None = None,
    ) -> list[str]:
        """Materialise what is not current; returns the names of the steps that ran."""
        with self.active():
            materializer = Materializer(self.instance, Automixer(overrides=overrides or {}), lambda name: None)
            outcomes = materializer.run(selection, partition, force=force)
        return [outcome.name for outcome in outcomes if outcome.ran]

    def latest(self, asset: str, partition: str | None = None) -> Materialized:
        found = latest(self.instance, asset, partition)
        assert found is not None, f"{asset}[{partition}] was never materialised"
        return found

    def artifact(self, asset: str, partition: str | None = None) -> Artifact:
        return self.lake.open(self.latest(asset, partition).pin.uri)

    def path(self, asset: str, partition: str | None = None) -> Path:
        return self.artifact(asset, partition).path

    def table(self, asset: str, partition: str | None, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.path(asset, partition) / name)

    def checkpoints(self) -> list[str]:
        return self.table("selected_checkpoints", "demo", "selected.parquet")["checkpoint"].to_list()

    def add_snapshot(self) -> None:
        """The third snapshot arrives; its last file holds one document per gradient item, word for word."""
        items = self.table("validation_items", None, "gradient_items.parquet")
        _write_microworld(self.state, SNAPSHOTS)
        rows = [(f"leaked-{i:03d}", text) for i, text in enumerate(items["text"])]
        _add_file(self.sources / NEW_SNAPSHOT, rows)
        register(self.instance, SNAPSHOT_KEYS, [NEW_SNAPSHOT])


def create_world(folder: Path) -> World:
    """Settings, the first two snapshots with some bad rows among them, and their registration; nothing is made yet."""
    return prepare_world(folder, World)


def prepare_world(folder: Path, open_world: Callable[[Path], World]) -> World:
    """The same for a world of another kind."""
    folder.mkdir(parents=True)
    (folder / "settings.yaml").write_text(yaml.safe_dump(tiny_settings()))
    world = open_world(folder)
    _write_microworld(world.state, FIRST_SNAPSHOTS)
    text = "The lighthouse keeper counted the copper lamps before the winter storm came."
    bad = [(EXTRA_ID, "again"), ("null", None), ("empty", ""), ("blank", " \n"), (None, "no id")]
    _add_file(world.sources / FIRST_SNAPSHOTS[0], [(EXTRA_ID, text), *bad])
    register(world.instance, SNAPSHOT_KEYS, list(FIRST_SNAPSHOTS))
    return world


def tiny_settings() -> dict[str, Any]:
    """The demo's settings with everything that costs time made small."""
    settings = yaml.safe_load(DEMO_SETTINGS.read_text())
    settings["mixtures"]["demo"].pop("exports")
    architecture = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    training = {"sequence_length": 64, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 4}
    settings["tokenizer"]["vocab_size"] = 512
    settings["tasks"] |= {"gradient_items": 8, "selection_items": 6, "final_items": 6}
    settings["reference_sample"]["documents"] = 64
    settings["proxies"]["demo"] |= {
        "architecture": architecture,
        "training": {**training, "steps": 60, "resume_every": 20},
        "checkpoints": 4,
    }
    settings["targets"] |= {
        "architecture": architecture,
        "training": {**training, "steps": TARGET_STEPS, "resume_every": 8},
    }
    settings["targets"]["mixtures"] = ["demo"]
    settings["mixtures"] = {name: settings["mixtures"][name] | {"token_budget": TOKEN_BUDGET} for name in MIXTURES}
    settings["recipes"] = {name: settings["recipes"][name] for name in MIXTURES}
    settings["recipes"]["demo"]["early_checkpoint"] = True  # so short a run is best at its end on every task
    return settings


def fingerprints(folder: Path) -> dict[str, tuple[str, int]]:
    """Content digest and modification time of every file below `folder`."""
    return {
        path.relative_to(folder).as_posix(): (file_sha256(path), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, str]:
    """Content digest of every file below `folder`, markers apart: they record how long the work took."""
    return {name: digest for name, (digest, _) in fingerprints(folder).items() if not name.endswith(MARKER)}


def _write_microworld(state: Path, snapshots: tuple[str, ...]) -> None:
    write_microworld(
        state / "microworld",
        documents_per_snapshot=DOCUMENTS_PER_SNAPSHOT,
        facts_per_skill=24,
        snapshots=snapshots,
    )


def _add_file(snapshot: Path, rows: Sequence[tuple[str | None, str | None]]) -> None:
    """One more source file in the snapshot's own columns, after the others in name order."""
    source = pl.read_parquet(max(snapshot.glob("*.parquet")))
    ids, texts = zip(*rows, strict=True)
    table = source.head(1).drop("id", "text").join(pl.DataFrame({"id": ids, "text": texts}), how="cross")
    table.select(source.columns).write_parquet(snapshot / "zz-extra.parquet")
