"""Settings of the benchmark tasks and their three disjoint sets of items."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from automixer_assets.settings.base import Key, Section, distinct, known


class TaskSplits(Section):
    """Which split each of the three disjoint item sets comes from; `validation[:50%]` style slices are allowed."""

    gradient: str = "train"
    selection: str = "validation"
    final: str = "test"


class Tasks(Section):
    """lm-eval tasks: `names` found in `directory` (YAML files), or registered in lm-eval itself."""

    names: list[Key] = Field(min_length=1)
    directory: str | None = None
    splits: dict[Key, TaskSplits] = Field(default_factory=dict)
    default_splits: TaskSplits = TaskSplits()
    shared_items: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="an item that stands in two sets: refuse to go on, or drop it from the set that matters less",
    )
    num_fewshot: int = Field(default=0, ge=0)
    gradient_items: int = Field(default=200, gt=0)
    selection_items: int | None = Field(default=None, gt=0)
    final_items: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=16, gt=0)

    @model_validator(mode="after")
    def _three_sets_per_task(self) -> Tasks:
        distinct(self.names, "tasks.names")
        for task in self.splits:
            known(task, dict.fromkeys(self.names), "tasks.splits")
        for task in self.names:
            splits = self.splits_of(task)
            if len({splits.gradient, splits.selection, splits.final}) < 3:
                raise ValueError(f"task {task!r} takes two of its item sets from the same split; they must be disjoint")
        return self

    def splits_of(self, task: str) -> TaskSplits:
        return self.splits.get(task, self.default_splits)
