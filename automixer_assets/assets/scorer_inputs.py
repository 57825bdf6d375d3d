"""What a scorer may read, as pins: asking for something makes it an input of joint_influence."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from automixer_assets.assets.influence import scores_slice
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Artifact
from automixer_assets.lake_asset import Scope
from automixer_assets.mixture.groups import GroupOrigin
from automixer_assets.mixture.score_columns import score_columns, selected_origins, selection_tasks
from automixer_assets.partitions import multi_key
from automixer_assets.settings import Recipe


class PinnedInputs:
    """`scorers.Inputs` of one recipe and snapshot."""

    def __init__(self, scope: Scope, name: str, snapshot: str) -> None:
        self.scope, self.name, self.snapshot = scope, name, snapshot
        self.recipe: Recipe = scope.settings.recipe(name)

    @cached_property
    def _selected(self) -> Artifact:
        return self.scope.pin("selected_checkpoints", self.name, settings=selection_slice(self.recipe))

    def checkpoints(self) -> tuple[GroupOrigin, ...]:
        return selected_origins(self._selected.path)

    def columns(self, checkpoint: GroupOrigin) -> list[str]:
        return score_columns(checkpoint, self.recipe, selection_tasks(self._selected.path))

    def influence(self, checkpoint: GroupOrigin) -> Path:
        key = multi_key(checkpoint=checkpoint.name, snapshot=self.snapshot)
        made_with = scores_slice(self.scope.settings)  # else half of a mixture might be scored in another precision
        return self.scope.pin(f"{self.recipe.proxy}/checkpoint_influence", key, settings=made_with).by_file

    def reference_influence(self, checkpoint: GroupOrigin) -> Path:
        query = self.scope.pin(f"{self.recipe.proxy}/influence_query", checkpoint.name)
        return query.file("reference_scores.parquet")

    def lexical(self) -> Path:
        return self.scope.pin("lexical_scores", self.snapshot).by_file

    def reference_lexical(self) -> Path:
        return self.scope.pin("lexical_query").file("reference_scores.parquet")

    def file(self, path: str) -> Path:
        return required_file(self.scope.automixer.resolve(path), f"recipes.{self.name}.options")


def required_file(path: Path, where: str) -> Path:
    """Raise AutomixerError where a file that the settings name is not there."""
    if not path.is_file():
        raise AutomixerError(f"{where} names {path}, which does not exist: correct the path, or write the file")
    return path


def selection_slice(recipe: Recipe) -> object:
    """What of a recipe determines its selected checkpoints."""
    options = (
        "selection",
        "selection_metric",
        "chance_fallback",
        "early_checkpoint",
        "max_checkpoints",
        "task_clustering",
        "alpha",
    )
    return {option: getattr(recipe, option) for option in options}
