"""Settings of an imported proxy: someone's checkpoints instead of a training run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from pydantic import Field, field_validator, model_validator

from automixer_assets.settings.base import Section, distinct

PLACEHOLDERS = {"step": r"(?P<step>\d+)", "tokens": r"(?P<tokens>\d+(?:\.\d+)?[KMBT]?)"}
REPOSITORY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
TOKEN_UNITS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class StepName:
    """What the name of a folder or revision says: the training step, and the tokens read by then where it tells."""

    name: str
    step: int
    tokens: int | None


class CheckpointSource(Section):
    """A local `directory` of checkpoint folders, or a Hub `repository` with a revision per step."""

    directory: str | None = None
    repository: str | None = Field(default=None, pattern=REPOSITORY_PATTERN)
    pattern: str = Field(description="of folder or revision names, e.g. `step{step}` or `step{step}-tokens{tokens}`")
    steps: list[int] | None = Field(default=None, min_length=1, description="take these only; default: every match")
    tokenizer: str | None = Field(default=None, description="local folder, where checkpoints hold no tokenizer.json")
    cache: str | None = Field(default=None, description="folder of downloads; default: Hugging Face's own cache")

    @field_validator("pattern")
    @classmethod
    def _placeholders(cls, pattern: str) -> str:
        found = re.findall(r"\{(.*?)\}", pattern)
        unknown = [name for name in found if name not in PLACEHOLDERS]
        if unknown or found.count("step") != 1 or found.count("tokens") > 1:
            raise ValueError(
                "give the step's place once as {step}, and that of a token count, if any, as {tokens}: "
                "`step{step}`, `checkpoint-{step}`, `step{step}-tokens{tokens}`"
            )
        return pattern

    @field_validator("steps")
    @classmethod
    def _distinct_steps(cls, steps: list[int] | None) -> list[int] | None:
        distinct(steps or [], "steps")
        if steps is not None and min(steps) < 0:
            raise ValueError(f"step {min(steps)} is negative; steps count from 0")
        return steps

    @model_validator(mode="after")
    def _one_place(self) -> CheckpointSource:
        if (self.directory is None) == (self.repository is None):
            raise ValueError("give either `directory` (local checkpoint folders) or `repository` (on the Hub)")
        if self.cache is not None and self.repository is None:
            raise ValueError("`cache` is for a `repository`; a `directory` is read where it lies")
        return self

    def match(self, name: str) -> StepName | None:
        """What the name says under the declared pattern; None where it does not fit as a whole."""
        match = _expression(self.pattern).fullmatch(name)
        if match is None:
            return None
        return StepName(name, int(match["step"]), _tokens(match.groupdict().get("tokens")))

    def expected_name(self, step: int) -> str:
        """The name under which a declared step was looked for."""
        return self.pattern.replace("{step}", str(step))


class ImportedProxy(Section):
    """A proxy that is not trained here: architecture and tokenizer come with its checkpoints."""

    checkpoints_from: CheckpointSource


@lru_cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(step|tokens)\}", pattern)  # text and placeholders in turn
    return re.compile("".join(PLACEHOLDERS[p] if i % 2 else re.escape(p) for i, p in enumerate(parts)), re.ASCII)


def _tokens(text: str | None) -> int | None:
    if text is None:
        return None
    unit = TOKEN_UNITS.get(text[-1], 1)
    whole, _, fraction = text.rstrip("KMBT").partition(".")
    return int(whole) * unit + int(fraction or 0) * unit // 10 ** len(fraction)
