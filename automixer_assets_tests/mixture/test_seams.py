from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from automixer_assets.corpus.shards import TokenShard
from automixer_assets.errors import AutomixerError
from automixer_assets.mixture.build import build_manifest
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.joint import write_joint_shard
from automixer_assets.mixture.manifest import CreatedBy
from automixer_assets.mixture.passes import JointShard
from automixer_assets.mixture.regroup import regroup
from automixer_assets.scorers import write_scored_shard
from automixer_assets.scorers._corpus import CorpusScorer
from automixer_assets.scorers.influence import InfluenceScorer
from automixer_assets.settings import Mixture, Recipe
from automixer_assets_tests.mixture.builders import write_tokenized
from automixer_assets_tests.mixture.test_joint import COLUMNS, write_scores


def uniform_scorer() -> CorpusScorer:
    return CorpusScorer(lambda shard, documents: np.ones(documents.num_rows))


@pytest.fixture
def snapshot(tmp_path):
    documents = [(f"doc{row}", f"h{row}", [7] * row + [0]) for row in range(4)]
    return write_tokenized(tmp_path, "A", {"shard-00000": documents})


def test_the_uniform_scorer_makes_one_group_of_the_whole_corpus(snapshot, tmp_path):
    scorer = uniform_scorer()
    write_scored_shard(scorer, snapshot.shards[0], tmp_path / "joint.parquet")
    assert pl.read_parquet(tmp_path / "joint.parquet").to_dicts()[0] == {
        "doc_id": "doc0",
        "n_tokens": 1,
        "utility__corpus": 1.0,
        "joint_utility": 1.0,
        "joint_influence": -1.0,
    }
    joint = [JointShard("A", "shard-00000", tmp_path / "joint.parquet")]
    regroup(joint=joint, top_share=1.0, out=tmp_path / "grouped")
    manifest = build_manifest(
        name="uniform",
        mixture=Mixture.model_validate({"recipe": "uniform", "token_budget": 40, "top_share": 1.0}),
        recipe=Recipe.model_validate({"scorer": "uniform"}),
        origins=scorer.groups,
        grouped=tmp_path / "grouped",
        lake_root=tmp_path,
        tokenizer_digest="tok",
        pins=[],
        created_by=CreatedBy(version="0", git_commit=None),
    )
    (group,) = manifest.groups
    assert (group.name, group.checkpoint, group.step, group.tasks, group.alpha) == ("corpus", None, 0, [], 1.0)
    assert (group.weight, group.weight_appendix_b, group.density, group.threshold) == (1.0, 1.0, 1.0, 1.0)
    assert (group.n_documents, group.n_tokens, group.exposure) == (4, 10, 4.0)
    assert manifest.options == {"mixture.top_share": 1.0, "recipe.scorer": "uniform"}


def test_the_influence_scorer_writes_what_write_joint_shard_writes(snapshot, tmp_path):
    folders = {}
    for group in ("a", "b"):
        (tmp_path / group).mkdir()
        write_scores(tmp_path / group / "shard-00000.parquet", {COLUMNS[0]: [1.0, -2.0, 3.0, 0.5]})
        folders[group] = {"A": tmp_path / group}
    columns = dict.fromkeys(folders, COLUMNS[:1])
    scorer = InfluenceScorer((GroupOrigin("a", alpha=0.25), GroupOrigin("b", alpha=0.75)), folders, columns)
    write_scored_shard(scorer, snapshot.shards[0], tmp_path / "scored.parquet")
    write_joint_shard(
        scores={group: folders[group]["A"] / "shard-00000.parquet" for group in folders},
        columns=columns,
        alphas={"a": 0.25, "b": 0.75},
        constants=None,
        out=tmp_path / "joint.parquet",
    )
    assert (tmp_path / "scored.parquet").read_bytes() == (tmp_path / "joint.parquet").read_bytes()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["doc0", "doc1", "doc3", "doc2"], "row 2 has doc_id 'doc3' instead of 'doc2'"),
        (["doc0", "doc1", "doc2"], r"has 3 rows .* has 4 \(first differing row: 3\)"),
    ],
)
def test_influence_of_other_documents_than_the_corpus_shards_is_refused(snapshot, tmp_path, ids, message):
    write_scores(tmp_path / "shard-00000.parquet", {COLUMNS[0]: [1.0] * len(ids)}, ids)
    scorer = InfluenceScorer((GroupOrigin("a"),), {"a": {"A": tmp_path}}, {"a": COLUMNS[:1]})
    with pytest.raises(AutomixerError, match=message):
        write_scored_shard(scorer, snapshot.shards[0], tmp_path / "joint.parquet")


def test_a_snapshot_that_is_not_scored_is_named(snapshot):
    scorer = InfluenceScorer((GroupOrigin("a"),), {"a": {}}, {"a": COLUMNS})
    with pytest.raises(AutomixerError, match="snapshot A is not scored at a"):
        scorer.utilities(snapshot.shards[0])


def test_scores_of_other_documents_than_the_shards_are_refused(snapshot, tmp_path):
    class Reversed(CorpusScorer):
        def utilities(self, shard: TokenShard) -> pa.Table:
            return super().utilities(shard).take([3, 2, 1, 0])

    with pytest.raises(AutomixerError, match="row 0 has doc_id 'doc3' instead of 'doc0'"):
        write_scored_shard(Reversed(uniform_scorer().score), snapshot.shards[0], tmp_path / "joint.parquet")
