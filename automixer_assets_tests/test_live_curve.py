"""While a proxy trains, its asset's page shows the curve; the points are no materialisations and make nothing stale."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from automixer_assets.progress import Pace
from automixer_assets_tests.world import create_world


def test_points_are_due_by_share_and_by_time_but_never_at_once() -> None:
    now = 0.0
    pace = Pace(1000, clock=lambda: now)
    assert not pace.due(500), "within two seconds"
    now = 2.0
    assert pace.due(5), "a 200th of the work"
    assert not pace.due(6)
    now = 10.0
    assert not pace.due(9), "less than a 200th since"
    now = 62.0
    assert pace.due(9), "a minute since"


def test_a_proxy_under_way_is_observed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pace, "SHORTEST", 0.0)
    monkeypatch.setattr(Pace, "POINTS", 6)
    world = create_world(tmp_path / "world")
    try:
        assert "demo/proxy_run" in world.run("+demo/proxy_run")
        records = world.instance.fetch_observations(dg.AssetKey(["demo", "proxy_run"]), limit=100).records
        points = [record.asset_observation for record in reversed(records)]
        numbers = [{name: value.value for name, value in point.metadata.items()} for point in points if point]
        assert [point["training step"] for point in numbers] == [10, 20, 30, 40, 50, 60]
        losses = world.table("demo/proxy_run", None, "training.parquet")["loss"]
        for number, point in enumerate(numbers):
            assert point["training loss"] == pytest.approx(losses[10 * number : 10 * number + 10].mean())
        assert world.run("+demo/proxy_run") == []
    finally:
        world.close()
