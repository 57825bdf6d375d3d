"""Is a mixture what it says it is? Everything that can be recomputed from its pinned inputs, recomputed.

Two passes over the joint influence (thresholds, then scores, members and sums), one over the files for their digests,
one over the exposure ledger; memory is bounded by a shard. The formulas are those of `formulas`, not the SQL that made
the mixture.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from automixer_assets.answers.artifacts import check_artifacts, check_document, check_shards, pinned_bytes
from automixer_assets.answers.findings import Check, Verification
from automixer_assets.answers.groups import Counted, check_members, check_tables, check_thresholds, empty_count
from automixer_assets.answers.inputs import PinnedInputs
from automixer_assets.answers.manifest_numbers import check_budget, check_exposure, check_weights
from automixer_assets.answers.rescore import rescore
from automixer_assets.answers.samples import check_samples
from automixer_assets.answers.scores import check_checkpoints, check_joint_shard, check_normalisation
from automixer_assets.answers.shards import MixtureShard, MixtureShards
from automixer_assets.errors import AutomixerError
from automixer_assets.progress import Progress

Report = Callable[[str, float, str], AbstractContextManager[Progress]]
"""Opens a progress: label, total, unit."""

NOT_RECOMPUTED = (
    "influence scores at the checkpoints (by digest, and those of N documents by `--rescore N`)",
    "training of the proxy, its evaluation, tokenisation and the flags of leaked documents (by digest)",
    "percentile_ranges.parquet, which describes the mixture and decides nothing (by digest)",
)


def verify(inputs: PinnedInputs, report: Report, *, n_rescored: int = 0) -> Verification:
    """All checks, from the manifest's own text to its last number. A check that cannot be made fails and says why.

    Args:
        n_rescored: how many documents to score again at the pinned checkpoints.
    """
    checks = [check_document(inputs)]
    with report("digests", pinned_bytes(inputs), "bytes") as progress:
        checks += [check_artifacts(inputs, progress), check_shards(inputs)]
    scaling, constants = check_normalisation(inputs)
    checks += [check_checkpoints(inputs), scaling]
    unread = Check("pinned inputs", "Can the mixture be recomputed from them?")
    with unread.reading("pinned inputs"):
        checks += _recomputed(inputs, MixtureShards(inputs), constants, report)
    if n_rescored:
        with unread.reading("selected_checkpoints"), report("scoring", len(inputs.score_columns), "checkpoints") as at:
            checks.append(rescore(inputs, n_rescored, at))
    return Verification(inputs.manifest.reference, (*checks, *([] if unread.passed else [unread])), NOT_RECOMPUTED)


def _recomputed(inputs: PinnedInputs, shards: MixtureShards, constants: dict, report: Report) -> list[Check]:
    if not len(shards):
        raise AutomixerError("the pins lead to no joint influence, so nothing can be recomputed from the scores")
    thresholds, at = check_thresholds(inputs, shards)
    joint = Check("joint influence", "Is every row the blend of its scores at the checkpoints?")
    members = Check("members", "Does every selection file hold the documents above the threshold, and no other?")
    counted: Counted | None = empty_count([group.name for group in inputs.manifest.groups])
    with report("rows", len(shards), "shards") as progress:
        for number, shard in enumerate(shards):
            with joint.reading(str(shard.joint_path)):
                check_joint_shard(joint, shard, constants)
            counted = _members(members, shard, number, at, counted)
            progress.advance(1)
    checks = [joint, thresholds, members]
    if counted is None:
        return [*checks, _impossible("weights", "the members of some shard could not be read")]
    weights, used = check_weights(inputs, counted)
    checks += [check_tables(inputs, counted, shards), weights, check_budget(inputs, used)]
    return [*checks, check_samples(inputs, shards), check_exposure(inputs, shards)]


def _members(
    check: Check, shard: MixtureShard, number: int, thresholds: dict[str, float], counted: Counted | None
) -> Counted | None:
    """The sums so far; None once a shard could not be read."""
    before = check.n_differences
    completed = False
    with check.reading(f"{shard.inputs.grouped}: {shard.place}"):
        check_members(check, shard, number, thresholds, counted or empty_count(shard.groups))
        completed = True
    return counted if completed or check.n_differences == before else None


def _impossible(name: str, why: str) -> Check:
    check = Check(name, "Can it be recomputed?")
    check.differ(name, why, "readable inputs")
    return check
