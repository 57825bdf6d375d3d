from __future__ import annotations

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.exposure import write_exposure
from automixer_assets.mixture.groups import list_selections
from automixer_assets.mixture.ledger import require_document_epochs, write_ledger
from automixer_assets.mixture.regroup import regroup
from automixer_assets.mixture.selected import selected_shards
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
    members = {g: kept(documents, g, (len(documents) + 1) // 2) for g in groups}
    expected = exposures(members, content, passes)
    assert ledger.columns == [
        *("content_hash", "n_tokens", "n_groups", "n_copies", "in_several_snapshots", "expected_exposures")
    ]
    assert ledger["content_hash"].to_list() == sorted(expected)
    for row in ledger.to_dicts():
        holders, total = expected[row["content_hash"]]
        copies = {g: [each for each in members[g] if content[each.place] == row["content_hash"]] for g in groups}
        assert row["n_groups"] == len(holders)
        assert row["n_copies"] == max(len(each) for each in copies.values())
        assert row["in_several_snapshots"] == (len({each.snapshot for g in groups for each in copies[g]}) > 1)
        assert row["expected_exposures"] == pytest.approx(total)
    totals = [total for _, total in expected.values()]
    assert summary.n_contents == len(totals)
    assert summary.max_exposures == pytest.approx(max(totals))
    assert summary.mean_exposures == pytest.approx(sum(totals) / len(totals))
    assert summary.n_unread == sum(total == 0 for total in totals)
    assert summary.n_with_copies == (ledger["n_copies"] > 1).sum()
    assert summary.n_in_several_snapshots == ledger["in_several_snapshots"].sum()
    assert summary.n_in_several_groups == sum(len(holders) > 1 for holders, _ in expected.values())
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
    passes = {group.name: group.passes for group in tiny.manifest.groups}
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


def test_what_samples_leave_out_is_read_by_nobody(tmp_path):
    tiny = tiny_mixture(tmp_path, token_budget=900)
    assert all(group.subsample is not None for group in tiny.manifest.groups)
    summary = write_ledger(tiny.manifest, tmp_path / "grouped_shards" / "abc", tiny.snapshots, tmp_path)
    ledger = pl.read_parquet(tmp_path / "exposure.parquet")
    read: dict[str, float] = {}
    for group in tiny.manifest.groups:
        for part in selected_shards(group, tmp_path, tiny.snapshots):
            hashes = part.shard.documents["content_hash"].gather(part.documents["row"])
            for content in hashes:
                read[content] = read.get(content, 0.0) + group.passes
    found = dict(ledger.select("content_hash", "expected_exposures").iter_rows())
    assert {content: value for content, value in found.items() if value} == pytest.approx(read)
    assert 0 < summary.n_unread == len(found) - len(read)
    most = pl.read_parquet(tmp_path / "most_read.parquet")
    assert most["expected_exposures"].to_list() == sorted(found.values(), reverse=True)[: most.height]
    first = most.row(0, named=True)
    shard = next(each for each in tiny.snapshots[first["snapshot"]].shards if each.name == first["shard"])
    assert shard.documents.row(first["row"], named=True)["content_hash"] == first["content_hash"]
    assert shard.documents.row(first["row"], named=True)["doc_id"] == first["doc_id"]


def test_a_document_in_several_samples_above_its_limit_is_named(tmp_path):
    tiny = tiny_mixture(tmp_path, token_budget=900)
    summary = write_ledger(tiny.manifest, tmp_path / "grouped_shards" / "abc", tiny.snapshots, tmp_path)
    require_document_epochs(summary.max_exposures, tmp_path)
    with pytest.raises(AutomixerError, match=r"document 'd\d\d' .* above `max_document_epochs: 0.9`.*hash_order"):
        require_document_epochs(0.9, tmp_path)
