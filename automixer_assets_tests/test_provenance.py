"""A result claims only what its inputs were made with: other settings, other items or retired keys are refused."""

from __future__ import annotations

import re
import shutil
from typing import Any

import dagster as dg
import psutil
import pytest

from automixer_assets import code_versions
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.partitions import checkpoints_of, register
from automixer_assets.run_processes import PROCESS_TAG, process_name, report_dead_runs
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World


def _checkpoint_keys(world: World) -> list[str]:
    return sorted(world.instance.get_dynamic_partitions("checkpoint_demo"))


@pytest.mark.parametrize(
    ("overrides", "stale"),
    [
        ({"mixtures.demo.top_share": 0.3}, "grouped_shards[demo]"),
        ({"mixtures.demo.snapshots": [FIRST_SNAPSHOTS[0]]}, "grouped_shards[demo]"),
        ({"recipes.demo.curvature": "identity"}, "grouped_shards[demo]"),
        ({"recipes.demo.alpha": "uniform"}, "grouped_shards[demo]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_manifest_is_not_made_from_groups_of_other_settings(world: World, overrides: dict[str, Any], stale: str):
    with pytest.raises(AutomixerError, match=re.escape(f"needs {stale}, which was made with other settings")):
        world.run("weight_manifest", "demo", overrides=overrides)


def test_targets_of_other_settings_are_not_compared(world: World):
    with pytest.raises(AutomixerError, match=r"needs target_runs\[\w+\], which was made with other settings"):
        world.run("comparison_table", overrides={"targets.seeds": [7, 8, 9]})


def test_items_that_changed_since_they_were_listed_are_not_scored(world: World):
    folder = world.state / "microworld" / "tasks" / "microworld_piqa"
    shutil.copyfile(folder / "train.jsonl", folder / "validation.jsonl")
    with pytest.raises(AutomixerError, match="changed since validation_items was made"):
        world.run("demo/benchmark_table")


def test_what_python_leaves_beside_task_files_changes_nothing(world: World):
    cache = world.state / "microworld" / "tasks" / "__pycache__"
    cache.mkdir()
    (cache / "utils.cpython-311.pyc").write_bytes(b"compiled")
    assert world.run("validation_items") == world.run("demo/benchmark_table") == []


def test_checkpoint_keys_are_those_that_live_recipes_selected(world: World):
    selected = world.checkpoints()
    world.run("selected_checkpoints", overrides={"recipes.demo.selection": "all"})
    assert len(_checkpoint_keys(world)) == 4
    register(world.instance, checkpoints_of("demo"), ["demo-step-000001"])  # of an earlier, longer run

    world.run("selected_checkpoints")
    assert _checkpoint_keys(world) == sorted(selected)
    assert world.run() == []


def test_scoring_without_a_selection_says_what_is_missing(world: World):
    for key in _checkpoint_keys(world):
        world.instance.delete_dynamic_partition("checkpoint_demo", key)
    with pytest.raises(ConfigurationError, match="no checkpoint is selected"):
        world.run("demo/checkpoint_influence")


def test_settings_are_read_once_per_command(world: World):
    with world.active():
        from automixer_assets.resources import Automixer

        frozen = Automixer(overrides={"recipes.demo.alpha": "uniform"}).frozen()
        world.config.write_text("seed: not read again")
        assert frozen.settings().recipes["demo"].alpha == "uniform"


def test_a_run_whose_process_is_gone_is_reported_as_failed():
    gone = f"{process_name().split(':')[0]}:{max(psutil.pids()) + 100_000}:1"
    with dg.instance_for_test() as instance:
        runs = {
            name: instance.create_run_for_job(_job, tags={PROCESS_TAG: tag}, status=dg.DagsterRunStatus.STARTED).run_id
            for name, tag in (("gone", gone), ("alive", process_name()), ("elsewhere", f"other-host-{gone}"))
        }
        report_dead_runs(instance)
        found = {name: run.status for name, run_id in runs.items() if (run := instance.get_run_by_id(run_id))}
    started = dg.DagsterRunStatus.STARTED
    assert found == {"gone": dg.DagsterRunStatus.FAILURE, "alive": started, "elsewhere": started}


@dg.op
def _nothing() -> None: ...


@dg.job
def _job() -> None:
    _nothing()


def test_a_docstring_changes_no_code_version_and_a_statement_does(tmp_path, monkeypatch: pytest.MonkeyPatch):
    from automixer_assets import comparison

    before = code_versions.source_version("comparison")
    text = (code_versions.Path(str(comparison.__file__))).read_text()
    copy = tmp_path / "comparison.py"
    monkeypatch.setattr(comparison, "__file__", str(copy))

    copy.write_text(text.replace('"""Comparing mixtures:', '"""Weighing up mixtures:') + "\n# a remark\n")
    assert code_versions.source_version("comparison") == before
    copy.write_text(text.replace(".mean()", ".median()"))
    assert code_versions.source_version("comparison") != before
