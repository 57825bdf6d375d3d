from __future__ import annotations

import json

import polars as pl
import pytest

from automixer_assets.answers.diff import MixtureDiff, diff, pass_length
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.tables import sentence
from automixer_assets.progress import progress
from automixer_assets_tests.answers.conftest import Answers
from automixer_assets_tests.world import NEW_SNAPSHOT


def _diff(answers: Answers, before: str, after: str) -> MixtureDiff:
    sides = answers.inputs(before), answers.inputs(after)
    with progress("diff", pass_length(*sides), "shards", print) as watched:
        return diff(*sides, watched)


def _members(inputs: PinnedInputs, group: str) -> set[tuple[str, str, int]]:
    """(snapshot, shard, row) of a group, straight from its files."""
    folder = inputs.grouped / "groups" / group
    return {
        (path.parent.name, path.stem, row)
        for path in folder.glob("*/*.parquet")
        for row in pl.read_parquet(path)["row"].to_list()
    }


@pytest.mark.parametrize(
    ("before", "after", "factors"),
    [
        ("paper", "grown", {"documents", "threshold"}),
        ("grown", "paper", {"documents", "threshold"}),
        ("paper", "smaller", {"threshold"}),
        ("paper", "uniform alpha", {"alpha"}),
        ("paper", "scaled", {"scores"}),
        ("smaller", "grown", {"documents", "threshold"}),
        ("scaled", "ranked", {"scores", "weight rule"}),
        ("uniform", "paper", {"checkpoints"}),
    ],
)
def test_parts_add_up_to_the_change_and_only_what_differs_has_one(
    answers: Answers, before: str, after: str, factors: set[str]
):
    found = _diff(answers, before, after)
    a, b = answers.inputs(before).manifest, answers.inputs(after).manifest
    weights = [{group.name: group.weight for group in manifest.groups} for manifest in (a, b)]
    moved = set()
    for group in found.groups:
        change = weights[1].get(group.name, 0.0) - weights[0].get(group.name, 0.0)
        assert group.change == change
        assert sum(group.parts.values()) + group.remainder == pytest.approx(change, abs=1e-15)
        assert abs(group.remainder) < 1e-12
        moved |= {factor for factor, part in group.parts.items() if abs(part) > 1e-12}
    assert moved == factors


def test_who_came_and_went_is_who_the_files_say(answers: Answers):
    found, before, after = _diff(answers, "paper", "grown"), answers.inputs("paper"), answers.inputs("grown")
    for group in found.groups:
        was, is_ = _members(before, group.name), _members(after, group.name)
        new = {place for place in is_ if place[0] == NEW_SNAPSHOT}
        moves = group.moves
        assert moves.entered_new.n_documents == len(new) > 0
        assert set(moves.entered_new.by_snapshot) == {NEW_SNAPSHOT}
        assert moves.entered_known.n_documents == len(is_ - was - new)
        assert moves.left_known.n_documents == len(was - is_) > 0
        assert moves.left_gone.n_documents == 0
        assert moves.stayed.n_documents == len(was & is_)
        assert group.after is not None
        arrived = moves.entered_new.n_tokens + moves.entered_known.n_tokens + moves.stayed.n_tokens
        assert arrived == group.after.n_tokens
    assert set(found.settings) == {"snapshots"}


def test_documents_alone_are_what_the_new_ones_do_under_the_old_thresholds(answers: Answers):
    """The first order, new documents and then thresholds, from the files with polars alone."""
    before, after = answers.inputs("paper"), answers.inputs("grown")
    files = [path for name in after.snapshots for path in sorted(after.joint(name).glob("shard-*.parquet"))]
    corpus = pl.concat([pl.read_parquet(path) for path in files])
    densities = {}
    for group in before.manifest.groups:
        kept = corpus.filter(pl.col(f"utility__{group.name}") >= group.threshold)  # no tie at either threshold
        densities[group.name] = _density(kept)
    name = before.manifest.groups[0].name
    weights = [{group.name: group.weight for group in side.manifest.groups} for side in (before, after)]
    first = densities[name] / sum(densities.values()) - weights[0][name]
    # The other order needs the old documents under the new thresholds; Shapley is the mean of both.
    old = corpus.head(sum(pl.read_parquet(p).height for p in files if NEW_SNAPSHOT not in _snapshot(p, after)))
    densities = {}
    for group in after.manifest.groups:
        kept = old.filter(pl.col(f"utility__{group.name}") >= group.threshold)
        densities[group.name] = _density(kept)
    second = weights[1][name] - densities[name] / sum(densities.values())
    found = next(group for group in _diff(answers, "paper", "grown").groups if group.name == name)
    assert found.parts["documents"] == pytest.approx((first + second) / 2, rel=1e-9)


def _density(kept: pl.DataFrame) -> float:
    tokens = kept["n_tokens"].to_numpy()
    return float(kept["joint_utility"].to_numpy() @ tokens / tokens.sum())


def _snapshot(path, inputs: PinnedInputs) -> str:
    return next(name for name in inputs.snapshots if inputs.joint(name) == path.parent)


def test_a_mixture_is_equal_to_itself_and_nothing_is_read(answers: Answers):
    found = _diff(answers, "paper", "paper")
    assert found.equal
    assert found.groups == ()
    assert pass_length(answers.inputs("paper"), answers.inputs("paper")) == 0


def test_equal_weights_under_another_budget_are_no_equal_mixture(answers: Answers):
    found = _diff(answers, "paper", "capped")
    assert not found.equal
    assert all(group.change == 0 for group in found.groups)
    assert set(found.settings) == {"exhaustion_policy", "mixture.max_epochs"}


def test_a_sentence_says_what_moved_a_weight_most(answers: Answers):
    found = _diff(answers, "paper", "grown")
    for group in found.groups:
        text = sentence(group)
        largest = max(group.parts, key=lambda factor: abs(group.parts[factor]))
        assert text.startswith(f"{group.name}: weight ")
        assert text.partition("): ")[2].startswith(largest)
        assert NEW_SNAPSHOT in text
    gone = _diff(answers, "uniform", "paper")
    assert sentence(gone.groups[0]).startswith("corpus is gone")


def test_it_can_be_written_as_json(answers: Answers):
    document = json.loads(json.dumps(_diff(answers, "paper", "grown").as_json()))
    assert document["equal"] is False
    assert {group["group"] for group in document["groups"]} == {
        group.name for group in answers.inputs("paper").manifest.groups
    }
