"""Settings of recipes and mixtures, and the two profiles that name their defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from automixer_assets.settings.base import Key, Section, distinct, with_profile
from automixer_assets.settings.exports import Export

Curvature = Literal["datainf", "identity", "kfac"]
QueryText = Literal["sequence", "answer"]
SelectionMetric = Literal["acc", "acc_norm", "gold_nll"]
ChanceFallback = Literal["gold_nll", "none"]
SELECTION_PATTERN = r"^(best_per_task|last|all|evenly:[1-9][0-9]*)$"

RECIPE_PROFILES: dict[str, dict[str, Any]] = {
    # The paper as written, read with the sign that its own formula gives (DESIGN, decisions).
    "paper": {
        "selection": "best_per_task",
        "selection_metric": "acc",
        "early_checkpoint": False,
        "group_tasks": "assigned",
        "alpha": "steps",
        "normalisation": "none",
    },
    # What was measured to work better on a micro-world and on real text (DESIGN, decisions).
    "robust": {
        "selection": "best_per_task",
        "selection_metric": "gold_nll",
        "early_checkpoint": True,
        "group_tasks": "all",
        "alpha": "steps",
        "normalisation": "median_mad",
    },
}
MIXTURE_PROFILES: dict[str, dict[str, Any]] = {
    "paper": {"nonpositive_density": "error", "leaked_documents": "keep"},
    "robust": {"nonpositive_density": "softmax", "leaked_documents": "exclude"},
}
Profile = Literal["paper", "robust"]


class Recipe(Section):
    """How scores are made and blended: proxy, checkpoint selection, query, curvature, alpha, normalisation."""

    profile: Profile = "paper"
    scorer: Literal["influence", "uniform"] = "influence"
    proxy: Key | None = None
    selection: Annotated[str, StringConstraints(pattern=SELECTION_PATTERN)]
    selection_metric: SelectionMetric
    early_checkpoint: bool = Field(description="add the kept checkpoint nearest to a quarter of the run")
    chance_fallback: ChanceFallback = Field(
        default="gold_nll", description="what judges a task that is never above chance + 2 stderr"
    )
    max_checkpoints: int | None = Field(default=None, gt=0)
    task_clustering: Literal["trajectory", "gradient"] = Field(
        default="trajectory", description="which tasks are alike, where `max_checkpoints` makes some share a checkpoint"
    )
    query: QueryText = "sequence"
    curvature: Curvature = "datainf"
    group_tasks: Literal["assigned", "all"]
    alpha: Literal["steps", "uniform", "tasks"]
    normalisation: Literal["none", "z", "median_mad", "rank"]

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return with_profile(given, RECIPE_PROFILES)

    @model_validator(mode="after")
    def _proxy_given(self) -> Recipe:
        if self.scorer == "influence" and self.proxy is None:
            raise ValueError("scorer 'influence' needs a `proxy`")
        return self


class Mixture(Section):
    """A recipe applied to snapshots under a token budget. Versioned by content: NAME@digest."""

    recipe: Key
    profile: Profile = "paper"
    snapshots: list[Key] | Literal["all"] = "all"
    token_budget: int = Field(gt=0)
    top_share: float = Field(default=0.5, gt=0, le=1)
    weight_rule: Literal["equation", "appendix_b"] = "equation"
    nonpositive_density: Literal["error", "softmax"]
    leaked_documents: Literal["keep", "exclude"] = Field(
        description="documents that repeat a scored benchmark item; excluded ones take no part in the top share"
    )
    max_epochs: float | None = Field(default=None, gt=0, description="cap: how often a group may be repeated")
    exhaustion_policy: Literal["repeat", "stop_and_raise_others"] = "repeat"
    exports: list[Export] = Field(
        default=[], description="trainers' files to write; they change nothing in the mixture"
    )

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return with_profile(given, MIXTURE_PROFILES)

    @model_validator(mode="after")
    def _cap_and_policy_agree(self) -> Mixture:
        if (self.max_epochs is not None) != (self.exhaustion_policy == "stop_and_raise_others"):
            raise ValueError("`max_epochs` and `exhaustion_policy: stop_and_raise_others` go together")
        if self.snapshots != "all":
            if not self.snapshots:
                raise ValueError("`snapshots` is empty: name some, or write `all`")
            distinct(self.snapshots, "snapshots")
        distinct([export.format for export in self.exports], "exports")
        return self


def profile_differences(section: Recipe | Mixture) -> dict[str, Any]:
    """The options of a recipe or mixture that differ from its named profile; recorded in every manifest."""
    profiles = RECIPE_PROFILES if isinstance(section, Recipe) else MIXTURE_PROFILES
    return {
        option: getattr(section, option)
        for option, value in profiles[section.profile].items()
        if getattr(section, option) != value
    }
