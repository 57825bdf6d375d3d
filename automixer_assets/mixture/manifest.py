"""The weight manifest: what a trainer needs to sample a mixture, and enough to say where each number comes from.

`manifest.schema.json` beside this file is generated from the models: `python -m automixer_assets.mixture.manifest`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from automixer_assets.errors import AutomixerError

SCHEMA_VERSION = 1
WEIGHT_TOLERANCE = 1e-9
DOUBTFUL_RATIO = 2.0
LATER_FIELDS = ("subsample", "stopped_by")
"""Of a group, newer than schema version 1: left out of the digest where null, so that old manifests keep theirs."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Unknown keys are refused; instances are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ManifestShard(Record):
    """A selection file: documents of one shard that the group keeps."""

    uri: str = Field(description="relative to the lake's root; ends in groups/GROUP/SNAPSHOT/SHARD.parquet")
    sha256: str
    n_documents: Count
    n_tokens: Count

    @property
    def snapshot(self) -> str:
        return self.uri.split("/")[-2]

    @property
    def shard(self) -> str:
        return self.uri.split("/")[-1].removesuffix(".parquet")


def is_doubtful(interval: tuple[float, float] | None) -> bool:
    """Whether the ends of a weight's interval differ by a factor of two, or it has none."""
    return interval is None or interval[1] >= DOUBTFUL_RATIO * interval[0]


class Subsample(Record):
    """What is read of a group above its budget: documents whose key does not exceed the cutoff (sample_keys.sql)."""

    cutoff: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    seed: int
    scale: list[tuple[Finite, Share]] = Field(description="(joint utility, rank): the weight of a document is its rank")
    n_documents: Count
    n_tokens: Count


class ManifestGroup(Record):
    """A group of documents and its sampling weight."""

    name: str
    checkpoint: str | None = Field(description="null where no checkpoint ranks the group")
    step: Count
    tasks: list[str]
    alpha: Finite
    threshold: Finite = Field(description="lowest utility kept")
    n_documents: Count
    n_tokens: Count
    density: Finite = Field(description="rho_g: mean joint utility per token")
    density_scaled: Finite = Field(description="mean min-max scaled total influence per token (Appendix B)")
    weight: Share = Field(description="share of the run's tokens, before any cap")
    weight_interval: tuple[float, float] | None = Field(
        description="95 % interval, documents resampled within the groups, and validation items within their tasks "
        "where the mixture's `uncertainty` says so; null where a resample has no weights"
    )
    weight_appendix_b: Share
    exposure: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        description="tokens allocated to the group / n_tokens: how often it is read"
    )
    shards: list[ManifestShard]
    subsample: Subsample | None = Field(default=None, description="null: all documents of the shards are read")
    stopped_by: str | None = Field(default=None, description="what the group stops at before the budget is spent")

    @property
    def doubtful(self) -> bool:
        """Whether the weight could as well be half or twice as large."""
        return is_doubtful(self.weight_interval)

    @property
    def allocated_tokens(self) -> int:
        return round(self.exposure * self.n_tokens)

    @property
    def read_documents(self) -> int:
        """Documents that are ever read: those of the sample where there is one."""
        return self.n_documents if self.subsample is None else self.subsample.n_documents

    @property
    def read_tokens(self) -> int:
        """Tokens of one pass over what is read."""
        return self.n_tokens if self.subsample is None else self.subsample.n_tokens

    @property
    def passes(self) -> float:
        """How often a document that is read is expected to be read; `exposure` is the mean over all documents."""
        return self.allocated_tokens / self.read_tokens if self.read_tokens else 0.0


class ManifestPhase(Record):
    """From that token of the run on, groups are sampled at these weights."""

    from_token: Count
    weights: dict[str, Share]


class Pin(Record):
    """One upstream artefact that was read: which one, and its content. Where it lay and who made it are for lineage."""

    asset: str
    partition: str | None
    data_version: str | None
    run_id: str | None
    storage_id: int | None
    uri: str | None
    sha256: str | None


class CreatedBy(Record):
    """The program that wrote the manifest."""

    version: str
    git_commit: str | None


class Manifest(Record):
    """A mixture, ready for a trainer. Thresholds and densities are in utility."""

    schema_version: Literal[1]
    mixture: str
    digest: str
    proxy: str | None
    recipe: str
    profile: str
    options: dict[str, Any] = Field(description="every option that differs from the profile and its defaults")
    snapshots: list[str]
    tokenizer_digest: str
    token_budget: Annotated[int, Field(gt=0)]
    exhaustion_policy: Literal["repeat", "stop_and_raise_others"]
    groups: list[ManifestGroup] = Field(min_length=1)
    weight_contrast: Finite | None = Field(description="largest over smallest weight; null where the smallest is 0")
    shortfall: Count = Field(description="tokens of the budget that the caps leave unfilled")
    phases: list[ManifestPhase] = Field(min_length=1)
    pins: list[Pin]
    created_by: CreatedBy

    @property
    def reference(self) -> str:
        """NAME@digest."""
        return f"{self.mixture}@{self.digest}"

    @property
    def selection_uris(self) -> list[str]:
        """Of every selection file."""
        return [shard.uri for group in self.groups for shard in group.shards]

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Manifest:
        names = {group.name for group in self.groups}
        if len(names) < len(self.groups):
            raise ValueError("group names are not distinct")
        _require_sum("weight", [group.weight for group in self.groups])
        _require_sum("weight_appendix_b", [group.weight_appendix_b for group in self.groups])
        for phase in self.phases:
            _require_sum(f"phases from token {phase.from_token}", phase.weights.values())
            if set(phase.weights) != names:
                raise ValueError(f"phases from token {phase.from_token}: weights name other groups than `groups`")
        starts = [phase.from_token for phase in self.phases]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError("phases must start at token 0 and ascend")
        return self


def _require_sum(what: str, weights: Any) -> None:
    total = sum(weights)
    if abs(total - 1) > WEIGHT_TOLERANCE:
        raise ValueError(f"{what}: weights sum to {total:.12g}, not to 1")


def manifest_digest(manifest: Manifest | Mapping[str, Any]) -> str:
    """sha256 over what determines the result, and nothing about when or where it ran.

    Left out: the digest itself, created_by, and of each pin its run, storage id and uri.
    """
    document = manifest.model_dump(mode="json") if isinstance(manifest, Manifest) else dict(manifest)
    content = {key: value for key, value in document.items() if key not in ("digest", "created_by")}
    kept = ("asset", "partition", "data_version", "sha256")
    pins = [{key: pin[key] for key in kept} for pin in document["pins"]]
    content["pins"] = sorted(pins, key=canonical_json)
    content["groups"] = [
        {key: value for key, value in group.items() if key not in LATER_FIELDS or value is not None}
        for group in document["groups"]
    ]
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def canonical_json(document: Any) -> str:
    """Keys sorted, no spaces, no NaN: the same content gives the same text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_manifest(manifest: Manifest, out: Path) -> None:
    """Write `manifest.json`."""
    text = json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    out.write_text(text + "\n", encoding="utf-8")


def load_manifest(path: Path) -> Manifest:
    """Read and validate a manifest; the digest is not recomputed (see `manifest_digest`).

    Raises:
        AutomixerError: no such file, not JSON, another schema version, or a field that is wrong.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AutomixerError(
            f"manifest {path} does not exist; materialise weight_manifest or correct the path"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise AutomixerError(f"manifest {path} is not valid JSON ({error}); export it again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise AutomixerError(
            f"manifest {path} has schema_version {version!r} but this program reads {SCHEMA_VERSION}; "
            "use the version of automixer-assets that wrote it"
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        issues = "; ".join(_sentence(issue) for issue in error.errors())
        raise AutomixerError(f"manifest {path} is not valid: {issues}; materialise weight_manifest again") from None


def validate_manifest_json(document: Any) -> None:
    """Check a document against the shipped JSON Schema, as another tool would; raises AutomixerError."""
    import jsonschema

    try:
        jsonschema.validate(document, shipped_schema(), cls=jsonschema.Draft202012Validator)
    except jsonschema.ValidationError as error:
        raise AutomixerError(
            f"the manifest does not follow its schema at {error.json_path}: {error.message}; materialise it again"
        ) from None


def shipped_schema() -> dict[str, Any]:
    """The JSON Schema that ships with the package."""
    return json.loads(
        (resources.files("automixer_assets") / "mixture" / "manifest.schema.json").read_text(encoding="utf-8")
    )


def model_schema() -> dict[str, Any]:
    """The JSON Schema of the models as they are now."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()}


def _sentence(issue: Any) -> str:
    where = ".".join(str(part) for part in issue["loc"]) or "top level"
    return f"{where}: {issue['msg'].removeprefix('Value error, ')}"


if __name__ == "__main__":
    Path(__file__).with_name("manifest.schema.json").write_text(json.dumps(model_schema(), indent=1) + "\n")
