from __future__ import annotations

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.exposure import write_exposure
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.regroup import regroup
from automixer_assets_tests.mixture.builders import folder, joint_tables, write_joint, write_tokenized
from automixer_assets_tests.mixture.reference import exposures, kept
from automixer_assets_tests.mixture.tiny import tiny_mixture


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=joint_tables(), hashes=st.lists(st.sampled_from("xyz"), min_size=24, max_size=24), data=st.data())
def test_the_ledger_counts_copies_and_groups(table, hashes, data):
    groups, documents = table
    passes = {group: data.draw(st.sampled_from([0.0, 0.25, 1.5, 20.0])) for group in groups}
    content = {each.place: hashes[index] for index, each in enumerate(documents)}
    with folder() as root:
        snapshots = {}
        for snapshot in {each.snapshot for each in documents}:
            shards: dict[str, list] = {}
            for each in (each for each in documents if each.snapshot == snapshot):
                shards.setdefault(each.shard, []).append((each.doc_id, content[each.place], [0] * each.n_tokens))
            snapshots[snapshot] = write_tokenized(root, snapshot, shards)
        regroup(joint=write_joint(root, documents, groups), top_share=0.5, out=root / "grouped")
        out = root / "exposure.parquet"
        summary = write_exposure(
            selections=list_selections(root / "grouped"), snapshots=snapshots, passes=passes, out=out
        )
        ledger = pl.read_parquet(out)
    expected = exposures({g: kept(documents, g, (len(documents) + 1) // 2) for g in groups}, content, passes)
    assert ledger.columns == ["content_hash", "n_tokens", "n_groups", "expected_exposures"]
    assert ledger["content_hash"].to_list() == sorted(expected)
    for row in ledger.to_dicts():
        members, total = expected[row["content_hash"]]
        assert row["n_groups"] == len(members)
        assert row["expected_exposures"] == pytest.approx(total)
    totals = [total for _, total in expected.values()]
    assert summary.n_contents == len(totals)
    assert summary.max_exposures == pytest.approx(max(totals))
    assert summary.mean_exposures == pytest.approx(sum(totals) / len(totals))
    assert summary.n_in_several_groups == sum(len(members) > 1 for members, _ in expected.values())
    for bin_ in summary.histogram:
        upper = float("inf") if bin_.upper is None else bin_.upper
        assert (
            bin_.n_contents
            == ledger.filter(
                pl.col("expected_exposures").ge(bin_.lower) & (pl.col("expected_exposures") < upper)
            ).height
        )
    assert sum(bin_.n_tokens for bin_ in summary.histogram) == ledger["n_tokens"].sum()


def test_expected_exposures_times_tokens_are_the_budget(tmp_path):
    tiny = tiny_mixture(tmp_path)
    passes = {group.name: group.exposure for group in tiny.manifest.groups}
    selections = list_selections(tmp_path / "grouped_shards" / "abc")
    write_exposure(selections=selections, snapshots=tiny.snapshots, passes=passes, out=tmp_path / "e.parquet")
    expected = sum(sum(pl.read_parquet(each.path)["n_tokens"]) * passes[each.group] for each in selections)
    assert expected == pytest.approx(tiny.manifest.token_budget)
    assert pl.read_parquet(tmp_path / "e.parquet")["content_hash"].is_unique().all()


def test_a_selection_into_an_unknown_shard_is_named(tmp_path):
    tiny = tiny_mixture(tmp_path)
    with pytest.raises(AutomixerError, match="points into A/shard-00000"):
        write_exposure(
            selections=list_selections(tmp_path / "grouped_shards" / "abc"),
            snapshots={"B": tiny.snapshots["B"]},
            passes={},
            out=tmp_path / "e.parquet",
        )
