"""Settings: one YAML file, one pydantic model, read by Dagster and by the command line alike.

What belongs here: what a user may choose, its defaults, and the refusal of what is impossible.
What does not: anything about where or when a run happens (see `resources.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from automixer_assets.errors import AutomixerError

KEY_PATTERN = r"^[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*$"
Key = Annotated[str, StringConstraints(pattern=KEY_PATTERN)]
"""A snapshot, proxy, recipe, mixture or task name: it becomes a partition key, a column or a file name."""


class Section(BaseModel):
    """Unknown keys are refused; instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Corpus(Section):
    """Where crawl snapshots lie: `directory/<snapshot>/*.parquet` in FineWeb's columns."""

    directory: str = "snapshots"
    documents_per_shard: int = Field(default=50_000, gt=0)


class Tokenizer(Section):
    """A byte-level BPE trained on `snapshots`, or any Hugging Face tokenizer from the local folder `path`."""

    path: str | None = None
    vocab_size: int = Field(default=4096, ge=300)
    snapshots: list[Key] = []
    max_documents: int = Field(default=100_000, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> Tokenizer:
        if (self.path is None) == (not self.snapshots):
            raise ValueError("give either `path` (an existing tokenizer) or `snapshots` (to train one)")
        return self


class TaskSplits(Section):
    """Which split each of the three disjoint item sets comes from; `validation[:50%]` style slices are allowed."""

    gradient: str = "train"
    selection: str = "validation"
    final: str = "test"


class Tasks(Section):
    """lm-eval tasks: `names` found in `directory` (YAML files), or registered in lm-eval itself."""

    names: list[Key] = Field(min_length=1)
    directory: str | None = None
    splits: dict[Key, TaskSplits] = {}
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
        _distinct(self.names, "tasks.names")
        for task in self.splits:
            _known(task, dict.fromkeys(self.names), "tasks.splits")
        for task in self.names:
            splits = self.splits_of(task)
            if len({splits.gradient, splits.selection, splits.final}) < 3:
                raise ValueError(f"task {task!r} takes two of its item sets from the same split; they must be disjoint")
        return self

    def splits_of(self, task: str) -> TaskSplits:
        return self.splits.get(task, self.default_splits)


class ReferenceSample(Section):
    """The frozen documents that fix lambda, r and normalisation constants (DESIGN: curvature)."""

    snapshots: list[Key] = Field(min_length=1)
    documents: int = Field(default=512, gt=0)


class Architecture(Section):
    """A Llama-3-style decoder: grouped-query attention, SwiGLU, RMSNorm, rotary positions."""

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    tie_word_embeddings: bool = False
    rope_theta: float = Field(default=500_000.0, gt=0)

    @model_validator(mode="after")
    def _divisible(self) -> Architecture:
        if self.hidden_size % self.num_attention_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads, and that of num_key_value_heads")
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even: rotary positions turn pairs")
        return self


class Training(Section):
    """One training run: packed sequences, AdamW, warm-up, schedule. Tokens = steps x batch_size x sequence_length."""

    steps: int = Field(gt=0)
    sequence_length: int = Field(gt=1)
    batch_size: int = Field(gt=0, description="sequences per step")
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    minimum_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    precision: Literal["float32", "bfloat16"] = "float32"
    resume_every: int = Field(default=200, gt=0, description="steps between resume checkpoints")

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Training:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be below steps={self.steps}")
        return self

    @property
    def tokens(self) -> int:
        return self.steps * self.batch_size * self.sequence_length


class Proxy(Section):
    """One simulation run (paper, section 3): its data, shape, schedule and kept checkpoints."""

    snapshots: list[Key] = Field(min_length=1)
    architecture: Architecture
    training: Training
    checkpoints: int = Field(default=20, gt=0, description="evenly spaced; the last is the end of the run")
    seed: int = 0

    @model_validator(mode="after")
    def _enough_steps(self) -> Proxy:
        if self.checkpoints > self.training.steps:
            raise ValueError(f"checkpoints={self.checkpoints} exceeds training.steps={self.training.steps}")
        _distinct(self.snapshots, "snapshots")
        return self

    @property
    def checkpoint_steps(self) -> list[int]:
        """Evenly spaced steps, the last of them `training.steps`."""
        return sorted({round(self.training.steps * (i + 1) / self.checkpoints) for i in range(self.checkpoints)})


Curvature = Literal["datainf", "identity", "kfac"]
QueryText = Literal["sequence", "answer"]
SelectionMetric = Literal["acc", "acc_norm", "gold_nll"]
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
    "paper": {"nonpositive_density": "error"},
    "robust": {"nonpositive_density": "softmax"},
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
    max_checkpoints: int | None = Field(default=None, gt=0)
    query: QueryText = "sequence"
    curvature: Curvature = "datainf"
    group_tasks: Literal["assigned", "all"]
    alpha: Literal["steps", "uniform", "tasks"]
    normalisation: Literal["none", "median_mad"]

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return _with_profile(given, RECIPE_PROFILES)

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
    max_epochs: float | None = Field(default=None, gt=0, description="cap: how often a group may be repeated")
    exhaustion_policy: Literal["repeat", "stop_and_raise_others"] = "repeat"

    @model_validator(mode="before")
    @classmethod
    def _profile_defaults(cls, given: Any) -> Any:
        return _with_profile(given, MIXTURE_PROFILES)

    @model_validator(mode="after")
    def _cap_and_policy_agree(self) -> Mixture:
        if (self.max_epochs is not None) != (self.exhaustion_policy == "stop_and_raise_others"):
            raise ValueError("`max_epochs` and `exhaustion_policy: stop_and_raise_others` go together")
        if self.snapshots != "all":
            if not self.snapshots:
                raise ValueError("`snapshots` is empty: name some, or write `all`")
            _distinct(self.snapshots, "snapshots")
        return self


class Targets(Section):
    """The models trained to compare mixtures: same architecture, seeds and token budget for every mixture."""

    architecture: Architecture
    training: Training
    seeds: list[int] = Field(min_length=1)
    baseline: Key
    mixtures: list[Key] = Field(min_length=1)

    @model_validator(mode="after")
    def _seeds_differ(self) -> Targets:
        _distinct(self.seeds, "seeds")
        return self


class Settings(Section):
    """Everything a user may choose, as read from one YAML file."""

    seed: int = 0
    corpus: Corpus = Corpus()
    tokenizer: Tokenizer
    tasks: Tasks
    reference_sample: ReferenceSample
    proxies: dict[Key, Proxy] = Field(min_length=1)
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
            _known(recipe.proxy, self.proxies, f"recipes.{name}.proxy")
        for name, mixture in self.mixtures.items():
            _known(mixture.recipe, self.recipes, f"mixtures.{name}.recipe")
        if self.targets is not None:
            _known(self.targets.baseline, self.mixtures, "targets.baseline")
            for mixture_name in self.targets.mixtures:
                _known(mixture_name, self.mixtures, "targets.mixtures")
        return self

    def recipe(self, name: str) -> Recipe:
        return _lookup(name, self.recipes, "recipe")

    def mixture(self, name: str) -> Mixture:
        return _lookup(name, self.mixtures, "mixture")

    def proxy(self, name: str) -> Proxy:
        return _lookup(name, self.proxies, "proxy")

    def recipes_of(self, proxy: str) -> dict[str, Recipe]:
        return {name: recipe for name, recipe in self.recipes.items() if recipe.proxy == proxy}


def profile_differences(section: Recipe | Mixture) -> dict[str, Any]:
    """The options of a recipe or mixture that differ from its named profile; recorded in every manifest."""
    profiles = RECIPE_PROFILES if isinstance(section, Recipe) else MIXTURE_PROFILES
    return {
        option: getattr(section, option)
        for option, value in profiles[section.profile].items()
        if getattr(section, option) != value
    }


def _with_profile(given: Any, profiles: dict[str, dict[str, Any]]) -> Any:
    if not isinstance(given, dict):
        return given
    return {**profiles.get(given.get("profile", "paper"), {}), **given}


def _distinct(values: Sequence[object], where: str) -> None:
    twice = [value for value in values if list(values).count(value) > 1]
    if twice:
        raise ValueError(f"{where} lists {twice[0]!r} twice; list it once")


def _known(name: str | None, names: dict[str, Any], where: str) -> None:
    if name is not None and name not in names:
        raise ValueError(f"{where} names {name!r}, which is not defined; defined are {', '.join(sorted(names))}")


def _lookup(name: str, sections: dict[str, Any], kind: str) -> Any:
    if name not in sections:
        close = difflib.get_close_matches(name, sections, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise AutomixerError(f"the settings define no {kind} {name!r}{hint} (defined: {', '.join(sorted(sections))})")
    return sections[name]
