"""Settings of recipes and mixtures, and the two profiles that name their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from automixer_assets.errors import AutomixerError
from automixer_assets.settings.base import Key, Section, distinct, with_profile
from automixer_assets.settings.exports import Export

if TYPE_CHECKING:
    from automixer_assets.scorers import Strategy

Curvature = Literal["datainf", "identity", "kfac"]
QueryText = Literal["sequence", "answer"]
SelectionMetric = Literal["acc", "acc_norm", "gold_nll"]
ChanceFallback = Literal["gold_nll", "none"]
WEIGHT_RULE_PATTERN = r"^(equation|appendix_b|size:(0|1|0?\.[0-9]+))$"
SELECTION_PATTERN = r"^(best_per_task|last|all|evenly:[1-9][0-9]*|at:(0?\.[0-9]+|1))$"

RECIPE_PROFILES: dict[str, dict[str, Any]] = {
    # The paper as written, read with the sign that its own formula gives (DESIGN, decisions).
    "paper": {
        "selection": "best_per_task",
        "selection_metric": "acc",
        "early_checkpoint": False,
        "curvature": "datainf",
        "group_tasks": "assigned",
        "alpha": "steps",
        "normalisation": "none",
    },
    # What was measured to work better on a micro-world and on real text (DESIGN, decisions).
    "robust": {
        "selection": "at:.2",
        "selection_metric": "gold_nll",
        "early_checkpoint": False,
        "curvature": "kfac",
        "group_tasks": "all",
        "alpha": "steps",
        "normalisation": "median_mad",
    },
}
MIXTURE_PROFILES: dict[str, dict[str, Any]] = {
    "paper": {"nonpositive_density": "error", "leaked_documents": "keep", "uncertainty": "documents"},
    "robust": {
        "nonpositive_density": "softmax",
        "leaked_documents": "exclude",
        "uncertainty": "documents_and_items",
        "filter": {"score": "bm25", "drop_share": 0.3},
    },
}
Profile = Literal["paper", "robust"]


class Recipe(Section):
    """How scores are made and blended: proxy, checkpoint selection, query, curvature, alpha, normalisation."""

    profile: Profile = "paper"
    scorer: str = Field(default="influence", description="a strategy: a module of automixer_assets.scorers")
    options: dict[str, Any] = Field(default={}, description="the scorer's own")
    proxy: Key | None = None
    selection: Annotated[str, StringConstraints(pattern=SELECTION_PATTERN)] = Field(
        description="best_per_task, last, all, evenly:N, or at:SHARE of the run (at:.25)"
    )
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
    normalisation: Literal["none", "z", "median_mad", "rank", "task_rank"]

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return with_profile(given, RECIPE_PROFILES)

    @model_validator(mode="after")
    def _scorer_and_its_options_exist(self) -> Recipe:
        try:
            strategy = self.strategy
        except AutomixerError as error:
            raise ValueError(str(error)) from None
        strategy.options.model_validate(self.options)
        if self.uses_checkpoints and self.proxy is None:
            raise ValueError(f"scorer {self.scorer!r} needs a `proxy`")
        return self

    @property
    def strategy(self) -> Strategy:
        from automixer_assets.scorers import strategy_named  # it imports settings

        return strategy_named(self.scorer)

    @property
    def uses_checkpoints(self) -> bool:
        """Whether documents are scored at the checkpoints that the recipe selects, which are then its groups."""
        return self.strategy.uses_checkpoints


class CheapFilter(Section):
    """What is left out before documents are ranked, by counting words (DESIGN: filter first)."""

    score: Literal["ngram_rate", "bm25"] = "ngram_rate"
    drop_share: float = Field(default=0.3, gt=0, lt=1, description="of the reference sample; its score is the floor")


class GroupCap(Section):
    """Where a group stops; of both, whichever comes first. It replaces `max_epochs` for that group."""

    epochs: float | None = Field(default=None, gt=0, description="passes over the group's tokens")
    tokens: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _something_given(self) -> GroupCap:
        if self.epochs is None and self.tokens is None:
            raise ValueError("a cap needs `epochs`, `tokens` or both")
        return self


class Limits(Section):
    """What a mixture must keep to: blocking checks of its manifest. They change nothing, caps do."""

    max_document_exposure: float | None = Field(default=None, gt=0, description="expected reads of any text")
    max_group_epochs: float | None = Field(default=None, gt=0, description="tokens given by a group / its tokens")
    max_shortfall: float | None = Field(default=None, ge=0, lt=1, description="share of the budget that caps may leave")
    min_group_documents: int | None = Field(default=None, gt=0, description="documents that any group has to read")
    min_group_tokens: int | None = Field(default=None, gt=0, description="tokens that any group has to read")


class Mixture(Section):
    """A recipe applied to snapshots under a token budget. Versioned by content: NAME@digest."""

    recipe: Key
    profile: Profile = "paper"
    snapshots: list[Key] | Literal["all"] = "all"
    token_budget: int = Field(gt=0)
    top_share: float = Field(default=0.5, gt=0, le=1)
    weight_rule: Annotated[str, StringConstraints(pattern=WEIGHT_RULE_PATTERN)] = Field(
        default="equation", description="equation, appendix_b, or size:POWER (0: equal shares, 1: as the tokens lie)"
    )
    nonpositive_density: Literal["error", "softmax"]
    leaked_documents: Literal["keep", "exclude"] = Field(
        description="documents that repeat a scored benchmark item; excluded ones take no part in the top share"
    )
    filter: CheapFilter | None = Field(default=None, description="a cheap score that documents must reach first")
    copies: Literal["keep", "first"] = Field(
        default="keep", description="documents with the same text: all, or the first by snapshot, shard and row"
    )
    max_epochs: float | None = Field(default=None, gt=0, description="cap: how often a group may be repeated")
    group_caps: dict[str, GroupCap] = Field(default={}, description="group -> its own cap")
    max_document_epochs: float | None = Field(
        default=None, gt=0, description="no text is expected to be read more often, over its groups and copies"
    )
    over_budget: Literal["utility", "hash_order"] = Field(
        default="utility", description="what is read of a group above its budget: a sample by utility, or any part"
    )
    sample_seed: int = 0
    limits: Limits = Limits()
    exhaustion_policy: Literal["repeat", "stop_and_raise_others"] = "repeat"
    uncertainty: Literal["documents", "documents_and_items"] = Field(
        description="what is resampled for the weights' intervals; items take a short pass on the accelerator"
    )
    exports: list[Export] = Field(
        default=[], description="trainers' files to write; they change nothing in the mixture"
    )

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return with_profile(given, MIXTURE_PROFILES)

    @model_validator(mode="after")
    def _cap_and_policy_agree(self) -> Mixture:
        capped = self.max_epochs is not None or self.group_caps or self.max_document_epochs is not None
        if bool(capped) != (self.exhaustion_policy == "stop_and_raise_others"):
            raise ValueError(
                "`exhaustion_policy: stop_and_raise_others` and a cap (`max_epochs`, `group_caps` or "
                "`max_document_epochs`) go together"
            )
        if self.snapshots != "all":
            if not self.snapshots:
                raise ValueError("`snapshots` is empty: name some, or write `all`")
            distinct(self.snapshots, "snapshots")
        distinct([export.format for export in self.exports], "exports")
        return self

    @model_validator(mode="after")
    def _items_shift_densities(self) -> Mixture:
        if self.uncertainty == "documents_and_items" and self.weight_rule == "appendix_b":
            raise ValueError(
                "what other items do to Appendix B's minimum and maximum is not known: "
                "`weight_rule: appendix_b` needs `uncertainty: documents`"
            )
        return self


def profile_differences(section: Recipe | Mixture) -> dict[str, Any]:
    """The options of a recipe or mixture that differ from its named profile; recorded in every manifest."""
    profiles = RECIPE_PROFILES if isinstance(section, Recipe) else MIXTURE_PROFILES
    chosen = section.model_dump(mode="json")
    return {option: chosen[option] for option, value in profiles[section.profile].items() if chosen[option] != value}


def own_defaults(section: type[Recipe] | type[Mixture], profile: str) -> dict[str, Any]:
    """Options that a profile sets although they have a default: what a manifest means that does not record them."""
    profiles = RECIPE_PROFILES if section is Recipe else MIXTURE_PROFILES
    fields = section.model_fields
    return {option: fields[option].default for option in profiles.get(profile, {}) if not fields[option].is_required()}


def differing_options(profile: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Of a manifest's options (`recipe.X`, `mixture.X`) those that its profile does not have as they are.

    A manifest records whatever is not an option's own default, so that a profile may change after it was written.
    """
    profiles = {"recipe": RECIPE_PROFILES, "mixture": MIXTURE_PROFILES}
    usual = {
        f"{section}.{option}": value for section, each in profiles.items() for option, value in each[profile].items()
    }
    return {name: value for name, value in recorded.items() if name not in usual or usual[name] != value}
