"""When an asset is made by itself: joint influence, once some input has new content and all of them fit together."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import dagster as dg

JOINT_INFLUENCE_SENSOR = "joint_influence_follows"
CanBeMade = Callable[[dg.DagsterInstance, str], bool]
"""Whether a partition could be made now: its inputs are there, sound, and of one version."""


class InputsFit(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions whose plan finds all its inputs.

    Dagster's `any_deps_missing` also asks for what a recipe does not read, and nothing in Dagster knows that scores and
    selection come from two versions of a proxy: a run that starts meanwhile could only fail.
    """

    def __init__(self, can_be_made: CanBeMade) -> None:
        self._can_be_made = can_be_made

    @property
    def name(self) -> str:
        return "all inputs are there and fit together"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        instance = context.asset_graph_view.instance
        candidates = context.candidate_subset.expensively_compute_partition_keys()
        fitting = {key for key in candidates if self._can_be_made(instance, key)}
        return dg.AutomationResult(
            context=context, true_subset=context.candidate_subset.compute_intersection_with_partition_keys(fitting)
        )


def when_inputs_change(can_be_made: CanBeMade) -> dg.AutomationCondition[dg.AssetKey]:
    """New content, not new events: an input that was made again with the same bytes asks for nothing.

    Never on anything that costs an accelerator. `AutomationCondition.eager()` would blend every old snapshot again when
    a checkpoint appears, and whenever an input is materialised with identical content.
    """
    condition = dg.AutomationCondition
    inputs_changed = condition.any_deps_match(condition.data_version_changed())
    return (
        (condition.newly_missing() | inputs_changed).since_last_handled()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
        & InputsFit(can_be_made)
    ).with_label("when inputs have new content")


def joint_influence_sensor() -> dg.AutomationConditionSensorDefinition:
    """Evaluates the condition of `joint_influence`; a sensor of its own has a switch of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # tried out with the pinned version
        return dg.AutomationConditionSensorDefinition(
            JOINT_INFLUENCE_SENSOR,
            target=dg.AssetSelection.assets("joint_influence"),
            use_user_code_server=True,  # the daemon's own process knows no conditions but Dagster's
            description="Blends a snapshot's scores when all of them are there and some are new. No accelerator.",
        )
