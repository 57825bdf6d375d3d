"""Settings: one YAML file, one pydantic model, read by Dagster and by the command line alike.

What belongs here: what a user may choose, its defaults, and the refusal of what is impossible; one module per part of
the file. What does not: anything about where or when a run happens (see `resources.py`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from automixer_assets.errors import AutomixerError
from automixer_assets.settings.base import KEY_PATTERN, Key, Section, distinct, known, lookup
from automixer_assets.settings.corpus import Corpus, ReferenceSample, Tokenizer
from automixer_assets.settings.exports import Export
from automixer_assets.settings.imported import CheckpointSource, ImportedProxy, StepName
from automixer_assets.settings.mixture import (
    MIXTURE_PROFILES,
    RECIPE_PROFILES,
    ChanceFallback,
    Curvature,
    Mixture,
    Profile,
    QueryText,
    Recipe,
    SelectionMetric,
    profile_differences,
)
from automixer_assets.settings.simulation import (
    EXECUTION_OPTIONS,
    AnyProxy,
    Architecture,
    Proxy,
    SnapshotOrder,
    Training,
)
from automixer_assets.settings.tasks import TaskData, Tasks, TaskSplits

__all__ = [
    "EXECUTION_OPTIONS",
    "KEY_PATTERN",
    "MIXTURE_PROFILES",
    "RECIPE_PROFILES",
    "AnyProxy",
    "Architecture",
    "ChanceFallback",
    "CheckpointSource",
    "Corpus",
    "Curvature",
    "Export",
    "ImportedProxy",
    "Key",
    "Mixture",
    "Profile",
    "Proxy",
    "QueryText",
    "Recipe",
    "ReferenceSample",
    "Section",
    "SelectionMetric",
    "Settings",
    "SnapshotOrder",
    "StepName",
    "Targets",
    "TaskData",
    "TaskSplits",
    "Tasks",
    "Tokenizer",
    "Training",
    "profile_differences",
]


class Targets(Section):
    """The models trained to compare mixtures: same architecture, seeds and token budget for every mixture."""

    architecture: Architecture
    training: Training
    seeds: list[int] = Field(min_length=1)
    baseline: Key
    mixtures: list[Key] = Field(min_length=1)

    @model_validator(mode="after")
    def _seeds_differ(self) -> Targets:
        distinct(self.seeds, "seeds")
        return self


class Settings(Section):
    """Everything a user may choose, as read from one YAML file."""

    seed: int = 0
    corpus: Corpus = Corpus()
    tokenizer: Tokenizer
    tasks: Tasks
    reference_sample: ReferenceSample
    proxies: dict[Key, AnyProxy] = Field(min_length=1)
    recipes: dict[Key, Recipe] = Field(min_length=1)
    mixtures: dict[Key, Mixture] = Field(min_length=1)
    targets: Targets | None = None

    @model_validator(mode="before")
    @classmethod
    def _mixture_profile_is_its_recipes(cls, given: Any) -> Any:
        """A mixture that names no profile takes its recipe's."""
        if not isinstance(given, dict):
            return given
        recipes, mixtures = given.get("recipes"), given.get("mixtures")
        if not isinstance(recipes, dict) or not isinstance(mixtures, dict):
            return given

        def completed(mixture: Any) -> Any:
            recipe = recipes.get(mixture.get("recipe")) if isinstance(mixture, dict) else None
            return (
                {"profile": recipe["profile"], **mixture}
                if isinstance(recipe, dict) and "profile" in recipe
                else mixture
            )

        return {**given, "mixtures": {name: completed(mixture) for name, mixture in mixtures.items()}}

    @model_validator(mode="after")
    def _references_exist(self) -> Settings:
        for name, recipe in self.recipes.items():
            known(recipe.proxy, self.proxies, f"recipes.{name}.proxy")
        for name, mixture in self.mixtures.items():
            known(mixture.recipe, self.recipes, f"mixtures.{name}.recipe")
        imported = {name for name, proxy in self.proxies.items() if isinstance(proxy, ImportedProxy)}
        known(self.tokenizer.proxy, dict.fromkeys(imported), "tokenizer.proxy (an imported proxy)")
        if self.targets is not None:
            known(self.targets.baseline, self.mixtures, "targets.baseline")
            for mixture_name in self.targets.mixtures:
                known(mixture_name, self.mixtures, "targets.mixtures")
        return self

    def recipe(self, name: str) -> Recipe:
        return lookup(name, self.recipes, "recipe")

    def mixture(self, name: str) -> Mixture:
        return lookup(name, self.mixtures, "mixture")

    def proxy(self, name: str) -> Proxy | ImportedProxy:
        return lookup(name, self.proxies, "proxy")

    def trained_proxy(self, name: str) -> Proxy:
        """A proxy that is trained here; AutomixerError for one that is imported."""
        chosen = self.proxy(name)
        if not isinstance(chosen, Proxy):
            raise AutomixerError(f"proxy {name!r} is imported: there is nothing to train, see `checkpoints_from`")
        return chosen

    def recipes_of(self, proxy: str) -> dict[str, Recipe]:
        return {name: recipe for name, recipe in self.recipes.items() if recipe.proxy == proxy}
