"""A cluster that is not there, or no longer: one sentence, soon."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.launch import cluster
from automixer_assets.launch.cluster import Head, connected, require_versions, versions
from automixer_assets.settings.launchers import RayCluster
from automixer_assets_tests.launch.nodes import require_ray


def test_versions_name_every_package_that_differs() -> None:
    require_versions(versions(), "node")
    with pytest.raises(AutomixerError, match=r"on node has numpy \S+ where the driver has 0: install"):
        require_versions({**versions(), "numpy": "0"}, "node")


def test_a_checkout_that_was_edited_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(cluster.automixer_assets, "__file__", str(tmp_path / "__init__.py"))
    before = versions()["automixer-assets"]
    (tmp_path / "__init__.py").write_text("changed = True")
    assert versions()["automixer-assets"] != before


def test_a_head_that_is_silent_for_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    head = Head("127.0.0.1:1")
    for now[0] in (6.0, 12.0, 18.0):
        head.require_answer()
    now[0] = 24.0
    with pytest.raises(AutomixerError, match=r"Ray cluster at 127.0.0.1:1 has not answered for 20 s: start the"):
        head.require_answer()


def test_an_address_without_a_cluster_is_refused_at_once() -> None:
    require_ray()
    with (
        pytest.raises(AutomixerError, match=r"no Ray cluster answers at launchers.ray.address '127.0.0.1:1'"),
        connected(RayCluster(address="127.0.0.1:1")),
    ):
        pass


def test_a_head_that_dies_during_a_pass_ends_the_driver_with_a_sentence(tmp_path: Path) -> None:
    require_ray()
    driver = subprocess.run(
        [sys.executable, "-m", "automixer_assets_tests.launch.drivers", "lose_head", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert "has not answered for 20 s: start the cluster and run again" in driver.stdout, driver.stderr[-2000:]
    assert driver.returncode == 3
