"""Weights under redrawn selections, how reliable a sample is, and what a sample of documents is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from automixer_assets.mixers.influence_density import InfluenceDensity
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.item_contributions import (
    contribution_table,
    draw_sample,
    group_densities,
    pools_of,
    sampled_utilities,
)
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.weight_uncertainty import (
    Halves,
    redrawn_weights,
    reliabilities,
    selection_intervals,
)
from automixer_assets.mixture.weights import GroupTable
from automixer_assets_tests.mixture.builders import Document, folder, joint_tables, write_joint
from automixer_assets_tests.mixture.test_item_uncertainty import flat_sums

GROUPS = ("a", "b", "c")
DENSITIES = {("a", "a"): 3.0, ("a", "b"): 1.0, ("a", "c"): 1.0, ("b", "a"): 1.0, ("b", "b"): 2.0, ("b", "c"): 1.0}
DENSITIES |= {("c", "a"): 1.0, ("c", "b"): 1.0, ("c", "c"): 4.0}
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def redrawn(*selections: tuple[float, dict[str, float]]) -> pl.DataFrame:
    rows = [
        {"selection": number, "share": share, "chosen": number == 0, "checkpoint": checkpoint, "alpha": alpha}
        for number, (share, alphas) in enumerate(selections)
        for checkpoint, alpha in alphas.items()
    ]
    return pl.DataFrame(rows)


def densities() -> pl.DataFrame:
    return pl.DataFrame([{"group": g, "checkpoint": k, "density": value} for (g, k), value in DENSITIES.items()])


def tables() -> list[GroupTable]:
    return [GroupTable(name, 1, 1, 0.0, 1.0, 1.0) for name in GROUPS]


def test_redrawn_alphas_give_the_weights_of_the_equation_and_missing_scores_are_named() -> None:
    found = redrawn_weights(
        redrawn((0.5, {"a": 0.25, "b": 0.75}), (0.3, {"c": 1.0}), (0.2, {"a": 0.5, "z": 0.5})),
        densities(),
        tables(),
        InfluenceDensity(),
    )
    a, b = 0.25 * 3 + 0.75 * 1, 0.25 * 1 + 0.75 * 2
    assert found.weights.tolist() == [pytest.approx([a / (a + b), b / (a + b), 0.0]), [0.0, 0.0, 1.0]]
    assert (found.shares.tolist(), found.covered_share) == ([0.5, 0.3], 0.8)
    assert found.unscored == {"z": 0.2}
    intervals = selection_intervals(found, GROUPS, [0.4, 0.4, 0.2])
    assert intervals.select("low", "high", "covered_share").rows()[2] == (0.0, 1.0, 0.8)


def test_without_a_scored_selection_or_with_undefined_weights_there_is_no_interval() -> None:
    nothing = redrawn_weights(redrawn((1.0, {"z": 1.0})), densities(), tables(), InfluenceDensity())
    assert selection_intervals(nothing, GROUPS, [0.4, 0.4, 0.2])["low"].null_count() == 3
    negative = densities().with_columns(-pl.col("density"))
    undefined = redrawn_weights(redrawn((1.0, {"a": 0.5, "b": 0.5})), negative, tables(), InfluenceDensity())
    assert selection_intervals(undefined, GROUPS, [0.4, 0.4, 0.2])["n_undefined"].to_list() == [1, 1, 1]


@quick
@given(table=joint_tables(zero_tokens=False))
def test_densities_at_every_checkpoint_are_plain_means_and_a_whole_sample_has_the_same(table):
    groups, documents = table
    with folder() as root:
        joint = write_joint(root, documents, groups)
        regroup(joint=joint, top_share=0.5, out=root / "grouped")
        selections = list_selections(root / "grouped")
        kept = {
            group: [
                tuple(row)
                for row in pl.concat(
                    pl.read_parquet(each.path).select(pl.lit(each.snapshot), pl.lit(each.shard).alias("shard"), "row")
                    for each in selections
                    if each.group == group
                ).rows()
            ]
            for group in groups
        }
        found = group_densities(selections, joint)
        sample = draw_sample(selections)
        sampled = sampled_utilities(sample, joint)
    by_place = {each.place: each for each in documents}
    for group, checkpoint, density in found.iter_rows():
        own = [by_place[place] for place in kept[group]]
        total = sum(each.n_tokens for each in own)
        if total:
            expected = sum(each.n_tokens * each.utilities[checkpoint] for each in own) / total
            assert density == pytest.approx(expected, rel=1e-9, abs=1e-6)
            again = sampled.filter((pl.col("group") == group) & (pl.col("checkpoint") == checkpoint))["utility"][0]
            assert again == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert sample.documents.select("snapshot", "shard", "row").is_unique().all()


def corpus(n: int) -> list[Document]:
    random = np.random.default_rng(1)
    return [
        Document(
            "A", "shard-00000", row, f"d{row}", int(random.integers(1, 9)), {"a": float(row), "b": float(-row)}, 0.0
        )
        for row in range(n)
    ]


def test_a_sample_is_seeded_halved_by_document_and_hardly_changed_by_others(tmp_path):
    def drawn(n: int, seed: int = 0, size: int = 40):
        out = tmp_path / f"{n}-{seed}-{size}"
        regroup(joint=write_joint(out, corpus(n), ["a", "b"]), top_share=0.75, out=out / "grouped")
        return draw_sample(list_selections(out / "grouped"), n=size, seed=seed)

    def ids(sample, group: str) -> set[int]:
        rows = sample.documents["row"].to_list()
        return {rows[number] for number in sample.of_group(group)["number"]}

    first, again, other, more = drawn(200), drawn(200), drawn(200, seed=1), drawn(210)
    assert first.members.equals(again.members)
    assert ids(first, "a") != ids(other, "a")
    assert len(ids(first, "b") - ids(more, "b")) <= 6
    assert first.members["n_members"].unique().to_list() == [150]
    halves = first.members.group_by("number").agg(pl.col("half").n_unique())
    assert halves["half"].max() == 1, "a document of both groups is in the same half of each"
    assert 10 < first.of_group("a")["half"].sum() < 30
    for (_,), rows in first.members.group_by("group"):
        assert rows["weight"].sum() == pytest.approx(1)


def test_pools_leave_out_what_predicts_nothing_and_the_table_adds_halves_up(tmp_path):
    documents = corpus(30)
    regroup(joint=write_joint(tmp_path, documents, ["a", "b"]), top_share=0.5, out=tmp_path / "grouped")
    sample = draw_sample(list_selections(tmp_path / "grouped"))
    pools = pools_of(sample, None)
    lengths = sample.documents["n_tokens"].to_list()
    assert set(pools) == {"a|0", "a|1", "b|0", "b|1"}
    assert all(lengths[number] > 1 for pool in pools.values() for number in pool)
    scores = {"x": np.arange(12.0).reshape(3, 4)}
    table = contribution_table("k", pools, scores)
    places = {name: place for place, name in enumerate(pools)}
    assert table["group__b"].to_list() == (scores["x"][:, places["b|0"]] + scores["x"][:, places["b|1"]]).tolist()
    assert table["half__a"].to_list() == scores["x"][:, places["a|0"]].tolist()
    assert table["item"].to_list() == [0, 1, 2]


def test_halves_that_agree_are_reliable_and_noise_is_not_unless_all_documents_are_sampled():
    random = np.random.default_rng(2)
    signal, noise = random.normal(0, 0.05, (400, 3)), random.normal(0, 0.05, (2, 400, 3))
    sums, mixer = flat_sums(np.array([1.0, 1.0, 1.0])), InfluenceDensity()

    def of(first: np.ndarray, second: np.ndarray, sampled: float) -> list[float | None]:
        return reliabilities(sums, mixer, Halves(first, second, np.full(3, sampled)))

    assert of(signal, signal, 0.0) == pytest.approx([1.0] * 3)
    assert max(of(noise[0], noise[1], 0.0)) < 0.3  # pyright: ignore[reportArgumentType]
    assert of(noise[0], noise[1], 1.0) == pytest.approx([1.0] * 3)
    assert of(signal + noise[0], signal + noise[1], 0.0) == pytest.approx([2 / 3] * 3, abs=0.12)
    assert of(0 * signal, 0 * signal, 0.5) == [None] * 3
