"""Settings: one YAML file, one pydantic model, read by Dagster and by the command line alike.

What belongs here: what a user may choose, its defaults, and the refusal of what is impossible; one module per part of
the file. What does not: anything about where or when a run happens (see `resources.py`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from automixer_assets.errors import AutomixerError
from automixer_assets.settings.automation import Alerts, Automation
from automixer_assets.settings.base import KEY_PATTERN, Key, Section, distinct, known, lookup
from automixer_assets.settings.corpus import Arrival, Corpus, ReferenceSample, Tokenizer
from automixer_assets.settings.drift import Drift
from automixer_assets.settings.exports import Export
from automixer_assets.settings.imported import CheckpointSource, ImportedProxy, StepName
from automixer_assets.settings.launchers import Launchers, RayCluster, Torchrun
from automixer_assets.settings.mixture import (
    MIXTURE_PROFILES,
    RECIPE_PROFILES,
    ChanceFallback,
    Curvature,
    GroupCap,
    Limits,
    Mixture,
    Profile,
    QueryText,
    Recipe,
    SelectionMetric,
    differing_options,
    own_defaults,
    profile_differences,
)
from automixer_assets.settings.scoring import Scoring
from automixer_assets.settings.simulation import (
    EXECUTION_OPTIONS,
    AnyProxy,
    Architecture,
    Proxy,
    SnapshotOrder,
    Training,
    checkpoint_steps,
)
from automixer_assets.settings.tasks import TaskData, Tasks, TaskSplits

__all__ = [
    "EXECUTION_OPTIONS",
    "KEY_PATTERN",
    "MIXTURE_PROFILES",
    "RECIPE_PROFILES",
    "Alerts",
    "AnyProxy",
    "Architecture",
    "Arrival",
    "Automation",
    "ChanceFallback",
    "CheckpointSource",
    "Corpus",
    "Curvature",
    "Drift",
    "Export",
    "GroupCap",
    "ImportedProxy",
    "Key",
    "Launchers",
    "Limits",
    "Mixture",
    "Profile",
    "Proxy",
    "QueryText",
    "RayCluster",
    "Recipe",
    "ReferenceSample",
    "Scoring",
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
    "Torchrun",
    "Training",
    "differing_options",
    "own_defaults",
    "profile_differences",
]


class Targets(Section):
    """The models trained to compare mixtures: same architecture, seeds and token budget for every mixture."""

    architecture: Architecture
    training: Training
    seeds: list[int] = Field(min_length=1)
    baseline: Key
    mixtures: list[Key] = Field(min_length=1)
    fewer_seeds: dict[Key, int] = Field(
        default_factory=dict, description="mixture -> trained with so many of the seeds only, the first ones"
    )
    checkpoints: int = Field(
        default=1, gt=0, description="evaluated along training, evenly spaced; the last is the end"
    )
    held_out: str | None = Field(
        default=None, description="Parquet with `text` and `source`: what the mixture costs elsewhere, in bits per byte"
    )
    set_aside: list[Key] = Field(
        default_factory=list, description="tasks that a second mean over tasks leaves out, beside the mean of all"
    )

    @model_validator(mode="after")
    def _seeds_differ(self) -> Targets:
        distinct(self.seeds, "seeds")
        for mixture, count in self.fewer_seeds.items():
            known(mixture, dict.fromkeys(self.mixtures), "targets.fewer_seeds (a mixture of `targets.mixtures`)")
            if not 0 < count <= len(self.seeds):
                raise ValueError(f"fewer_seeds.{mixture} is {count}: there are {len(self.seeds)} seeds")
            if mixture == self.baseline and count < len(self.seeds):
                raise ValueError(f"fewer_seeds.{mixture}: differences to the baseline need its result for every seed")
        if self.checkpoints > self.training.steps:
            raise ValueError(f"checkpoints {self.checkpoints} is more than the {self.training.steps} steps of the run")
        return self

    def seeds_of(self, mixture: str) -> list[int]:
        """The seeds that the targets of a mixture are trained with."""
        return self.seeds[: self.fewer_seeds.get(mixture)]

    @property
    def checkpoint_steps(self) -> list[int]:
        """The steps at which targets are evaluated, ascending; the last one is the end of the run."""
        return checkpoint_steps(self.training.steps, self.checkpoints, "even")


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
    drift: Drift = Drift()
    automation: Automation = Automation()
    launchers: Launchers = Launchers()
    scoring: Scoring = Scoring()

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

    @model_validator(mode="after")
    def _processes_share_batches(self) -> Settings:
        trained = {
            f"proxies.{name}": proxy.training for name, proxy in self.proxies.items() if isinstance(proxy, Proxy)
        }
        if self.targets is not None:
            trained["targets"] = self.targets.training
        self.launchers.require_equal_shares({where: training.batch_size for where, training in trained.items()})
        return self

    def recipe(self, name: str) -> Recipe:
        return lookup(name, self.recipes, "recipe")

    def mixture(self, name: str) -> Mixture:
        return lookup(name, self.mixtures, "mixture")

    def resamples_items(self, mixture: str) -> bool:
        """Whether the intervals of a mixture's weights count the validation items in: only influence has any."""
        chosen = self.mixture(mixture)
        return chosen.uncertainty == "documents_and_items" and self.recipe(chosen.recipe).strategy.linear_in_items

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
