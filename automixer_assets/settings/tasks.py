"""Settings of the benchmark tasks and their three disjoint sets of items."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from automixer_assets.settings.base import Key, Section, distinct


class TaskSplits(Section):
    """Which split each of the three disjoint item sets comes from; `validation[:50%]` style slices are allowed."""

    gradient: str = "train"
    selection: str = "validation"
    final: str = "test"


class TaskData(Section):
    """Where tasks that are registered in lm-eval take their items from; tasks of one's own say so in their YAML.

    `hub`: the Hugging Face Hub. `cache`: what `datasets` has cached already, in `directory` or its usual place; no
    network. `files`: `directory/TASK/SPLIT.jsonl` (or `.parquet`) in the task's own field names; no network.
    """

    source: Literal["hub", "cache", "files"] = "hub"
    directory: str | None = None

    @model_validator(mode="after")
    def _files_have_a_folder(self) -> TaskData:
        if self.source == "files" and self.directory is None:
            raise ValueError("`source: files` needs `directory`, the folder that holds TASK/SPLIT.jsonl")
        if self.source == "hub" and self.directory is not None:
            raise ValueError("`directory` goes with `source: files` or `source: cache`")
        return self


class Tasks(Section):
    """lm-eval tasks, groups or tags: `names` found in `directory` (YAML files), or registered in lm-eval itself.

    `splits` is by task, or by a group or tag of `names` for all of its members.
    """

    names: list[Key] = Field(min_length=1)
    directory: str | None = None
    data: TaskData = TaskData()
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
    batch_size: int = Field(default=16, gt=0, description="options of items per forward pass")

    @model_validator(mode="after")
    def _three_sets_per_task(self) -> Tasks:
        distinct(self.names, "tasks.names")
        for task in [*self.names, *self.splits]:
            splits = self.splits_of(task)
            if len({splits.gradient, splits.selection, splits.final}) < 3:
                raise ValueError(f"task {task!r} takes two of its item sets from the same split; they must be disjoint")
        return self

    def splits_of(self, task: str, named: str | None = None) -> TaskSplits:
        """The splits of a task; `named` is the group or tag of `names` that it came from, if any."""
        return self.splits.get(task) or self.splits.get(named or task) or self.default_splits
