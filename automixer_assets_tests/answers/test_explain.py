from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from automixer_assets.answers.explain import Explanation, explain
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.errors import ConfigurationError
from automixer_assets.proxy.tokenizer import load_tokenizer
from automixer_assets_tests.answers.conftest import Answers, changed
from automixer_assets_tests.world import EXTRA_ID, NEW_SNAPSHOT

SNAPSHOT = "MW-2026-02"


@cache
def _tokenizer(folder):
    return load_tokenizer(folder)


def _explain(inputs: PinnedInputs, doc_id: str, *, full: bool = False) -> list[Explanation]:
    def decode(ids: Sequence[int]) -> str:
        return _tokenizer(inputs.folder("tokenizer")).batch_decode([list(ids)], clean_up_tokenization_spaces=False)[0]

    return explain(inputs, doc_id, decode, full=full)


def _document(answers: Answers, row: int = 5) -> dict:
    inputs = answers.inputs("scaled")
    shard = inputs.corpus(SNAPSHOT).shards[0]
    return shard.documents.row(row, named=True)


def test_the_text_is_the_sources(answers: Answers):
    document = _document(answers)
    (found,) = _explain(answers.inputs("scaled"), document["doc_id"], full=True)
    source = pl.read_parquet(answers.world.sources / SNAPSHOT / document["file"])
    assert found.text == source["text"][document["row"]]
    assert found.n_characters == document["n_characters"]
    assert found.source["url"] == document["url"]
    (short,) = _explain(answers.inputs("scaled"), document["doc_id"])
    assert found.text.startswith(short.text)


@pytest.mark.parametrize("variant", ["paper", "scaled"])
def test_scores_percentiles_and_groups_are_those_of_the_files(answers: Answers, variant: str):
    inputs, document = answers.inputs(variant), _document(answers)
    (found,) = _explain(inputs, document["doc_id"])
    joint = {name: pl.read_parquet(inputs.joint(name) / "shard-*.parquet") for name in inputs.snapshots}
    everything = pl.concat(joint.values())
    own = everything.row(by_predicate=pl.col("doc_id") == document["doc_id"], named=True)
    assert found.joint_utility == own["joint_utility"]
    assert found.joint_percentile == pytest.approx(100 * (everything["joint_utility"] < own["joint_utility"]).mean())
    for group, stored in zip(found.groups, inputs.manifest.groups, strict=True):
        column = f"utility__{group.group}"
        assert group.utility == own[column]
        assert group.percentile == pytest.approx(100 * (everything[column] < own[column]).mean())
        assert group.snapshot_percentile == pytest.approx(100 * (joint[SNAPSHOT][column] < own[column]).mean())
        assert group.margin == pytest.approx(own[column] - stored.threshold)
        assert group.margin is not None and group.kept == (group.margin >= 0)
        scores = pl.read_parquet(inputs.influence(group.group, SNAPSHOT) / "shard-*.parquet")
        influence = scores.filter(pl.col("doc_id") == document["doc_id"])
        for task in group.tasks:
            name = f"influence_datainf_sequence_{task.task}"
            assert task.utility == -influence[name][0]
            assert task.percentile == pytest.approx(100 * (scores[name] > influence[name][0]).mean())
    read = sum(group.times_read for group in found.groups)
    assert found.times_read == pytest.approx(read)
    assert all(group.kept for group in found.groups if group.times_read)
    assert found.share_of_run == pytest.approx(read * document["n_tokens"] / inputs.manifest.token_budget)


def test_times_read_of_every_group_member_are_the_ledgers(answers: Answers):
    inputs = answers.inputs("grown")
    assert inputs.ledger is not None
    ledger = pl.read_parquet(inputs.ledger).sort("expected_exposures", "content_hash")
    for content, expected in ledger.tail(3).select("content_hash", "expected_exposures").iter_rows():
        hashes = [shard.documents.filter(pl.col("content_hash") == content) for shard in inputs.corpus(SNAPSHOT).shards]
        for doc_id in pl.concat(hashes)["doc_id"].head(1):
            (found,) = _explain(inputs, doc_id)
            assert found.times_read == pytest.approx(expected)
            assert found.content_hash == content


def test_copies_are_the_other_documents_with_its_text_and_count_with_it(answers: Answers):
    inputs, ids = answers.inputs("paper"), [_document(answers, row)["doc_id"] for row in (5, 6)]
    alone = [_explain(inputs, doc_id)[0] for doc_id in ids]
    assert [each.copies for each in alone] == [(), ()]

    def with_one_hash(path: Path) -> None:
        documents = pl.read_parquet(path)
        hashes = documents["content_hash"].to_list()
        hashes[6] = hashes[5]
        documents.with_columns(content_hash=pl.Series(hashes)).write_parquet(path)

    with changed(inputs.corpus(SNAPSHOT).shards[0].documents_path, with_one_hash):
        (found,) = _explain(inputs, ids[0])
    assert [(copy.doc_id, copy.row) for copy in found.copies] == [(ids[1], 6)]
    assert found.times_read == pytest.approx(sum(each.times_read for each in alone))


def test_an_unknown_id_names_near_ones_and_a_rejected_one_says_why(answers: Answers):
    inputs, document = answers.inputs("paper"), _document(answers)
    with pytest.raises(ConfigurationError, match=re.escape(document["doc_id"])):
        _explain(inputs, document["doc_id"][1:-1])
    with pytest.raises(ConfigurationError, match=r"rejected when MW-2026-01 was read .*: empty_text"):
        _explain(inputs, "empty")
    with pytest.raises(ConfigurationError, match="no id looks like it"):
        _explain(inputs, "§§§§")


def test_an_id_that_was_also_given_twice_is_the_first_one(answers: Answers):
    (found,) = _explain(answers.inputs("paper"), EXTRA_ID)
    assert found.text.startswith("The lighthouse keeper")


def test_a_document_of_a_snapshot_that_the_mixture_has_not_is_unknown(answers: Answers):
    new = answers.inputs("grown").corpus(NEW_SNAPSHOT).shards[0].documents["doc_id"][0]
    assert len(_explain(answers.inputs("grown"), new)) == 1
    with pytest.raises(ConfigurationError, match="the snapshots of demo"):
        _explain(answers.inputs("paper"), new)


def test_it_can_be_written_as_json(answers: Answers):
    (found,) = _explain(answers.inputs("uniform"), _document(answers)["doc_id"])
    document = json.loads(json.dumps(found.as_json()))
    assert document["groups"][0]["tasks"] == []
    assert document["place"]["snapshot"] == SNAPSHOT
