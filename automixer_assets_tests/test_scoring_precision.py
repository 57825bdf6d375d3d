"""Claims about `scoring.precision`: scores in bfloat16 are of their own, and a mixture never holds both kinds."""

from __future__ import annotations

import polars as pl
import pytest

from automixer_assets.errors import AutomixerError
from automixer_assets.influence.shard import options_of
from automixer_assets.partitions import multi_key
from automixer_assets_tests.world import FIRST_SNAPSHOTS, World

HALF = {"scoring.precision": "bfloat16"}
SCORES = "demo/checkpoint_influence"


def cells(world: World) -> list[str]:
    return [
        multi_key(checkpoint=checkpoint, snapshot=snapshot)
        for checkpoint in world.checkpoints()
        for snapshot in FIRST_SNAPSHOTS
    ]


def scores(world: World, cell: str) -> pl.DataFrame:
    return world.table(SCORES, cell, "shard-*.parquet")


def test_bfloat16_scores_anew_ranks_alike_and_leaves_the_others_where_they_are(world: World) -> None:
    before = {cell: (world.artifact(SCORES, cell).uri, scores(world, cell)) for cell in cells(world)}
    with pytest.raises(AutomixerError, match=r"checkpoint_influence.* was made with other settings than are in force"):
        world.run("joint_influence", overrides=HALF)

    ran = world.run(f"+{SCORES}", overrides=HALF)
    assert {step.split("[")[0] for step in ran} == {SCORES}, "queries stay as they were fitted"
    assert len(ran) == len(before)
    for cell, (uri, exact) in before.items():
        half = scores(world, cell)
        assert world.artifact(SCORES, cell).uri != uri
        assert half["doc_id"].equals(exact["doc_id"])
        for column in [name for name in exact.columns if name.startswith("influence_")]:
            assert not half[column].equals(exact[column])
            pair = pl.DataFrame({"half": half[column], "exact": exact[column]})
            assert pair.select(pl.corr("half", "exact", method="spearman")).item() > 0.99
        shard = next(world.path(SCORES, cell).glob("shard-*.parquet"))
        assert options_of(shard)["backend"]["dtype"] == "bfloat16", "whoever scores again must know"

    assert len(world.run(SCORES)) == len(before)
    assert {cell: world.artifact(SCORES, cell).uri for cell in before} == {
        cell: uri for cell, (uri, _) in before.items()
    }
