"""What a machine was measured to do, in a small file: the constants that turn operations and bytes into time."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from automixer_assets.errors import AutomixerError
from automixer_assets.files import write_atomically
from automixer_assets.planning.flops import Shape
from automixer_assets.settings.base import Section

SCHEMA_VERSION = 1
CONSTANTS_FILE = "constants.json"
PassKind = Literal["training", "evaluation", "fitting", "scoring"]
WorkKind = Literal[
    "inventory", "tokenizer", "tokenizing", "leakage", "lexical", "joint", "grouping", "weighing", "export", "disk"
]
UNITS: dict[str, str] = {
    "inventory": "bytes of text",
    "tokenizer": "bytes of text",
    "tokenizing": "bytes of text",
    "leakage": "bytes of text",
    "lexical": "bytes of text",
    "joint": "rows x checkpoints",
    "grouping": "rows x groups",
    "weighing": "rows x groups",
    "export": "tokens",
    "disk": "bytes",
}


class Machine(Section):
    """Where the constants hold."""

    device: str = Field(description="cpu, or the accelerator's name")
    processor: str
    cores: int = Field(gt=0)
    threads: int = Field(gt=0, description="of a matrix product")
    memory_bytes: int = Field(gt=0)
    device_memory_bytes: int | None = Field(default=None, gt=0, description="None on a CPU")


class PassSpeed(Section):
    """How fast one kind of pass runs at one shape of model."""

    kind: PassKind
    hidden: int = Field(gt=0)
    layers: int = Field(gt=0)
    vocabulary: int = Field(gt=0)
    parameters: int = Field(gt=0)
    flops_per_token: float = Field(gt=0, description="of one forward pass: body and output layer")
    flops_per_second: float = Field(gt=0, description="operations as `planning.flops` counts them, per second")
    source: str = Field(description="`measured`, or what was assumed")

    @classmethod
    def at(cls, shape: Shape, kind: PassKind, flops_per_second: float, source: str = "measured") -> PassSpeed:
        """The speed of a pass at this shape."""
        return cls(
            kind=kind,
            hidden=shape.hidden,
            layers=shape.layers,
            vocabulary=shape.vocabulary,
            parameters=shape.parameters,
            flops_per_token=flops_per_token(shape),
            flops_per_second=flops_per_second,
            source=source,
        )


class WorkSpeed(Section):
    """How fast work without a model goes: seconds = fixed + shards x per shard + amount / per second."""

    kind: WorkKind
    per_second: float = Field(gt=0)
    fixed_seconds: float = Field(default=0, ge=0, description="paid once per artefact, however small")
    shard_seconds: float = Field(default=0, ge=0, description="paid once per shard, however small")
    source: str = "measured"


class Constants(Section):
    """Everything that a plan knows about a machine.

    `free_share`: how much of a processor the measuring process got; below .9 another program was running. Times are
    processor times, so the speeds are those of a machine left alone.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    made: str = Field(description="ISO date and time, UTC")
    machine: Machine
    packages: dict[str, str]
    passes: list[PassSpeed] = Field(min_length=1)
    work: list[WorkSpeed] = Field(min_length=1)
    load_seconds: float = Field(default=0, ge=0, description="to open a checkpoint and look at it, once per artefact")
    free_share: float | None = Field(default=None, gt=0)

    def pass_speed(self, kind: PassKind, shape: Shape) -> PassSpeed:
        """The measured shape that is nearest in work per token.

        Raises:
            AutomixerError: no pass of that kind was measured.
        """
        known = [each for each in self.passes if each.kind == kind]
        if not known:
            raise AutomixerError(f"the constants say nothing about {kind}: run `automixer calibrate`, or add it")
        wanted = math.log(flops_per_token(shape))
        return min(known, key=lambda each: abs(math.log(each.flops_per_token) - wanted))

    def work_speed(self, kind: WorkKind) -> WorkSpeed:
        """Raises AutomixerError when that work was not measured."""
        for each in self.work:
            if each.kind == kind:
                return each
        raise AutomixerError(f"the constants say nothing about {kind}: run `automixer calibrate`, or add it")

    def work_seconds(self, kind: WorkKind, amount: float, shards: float = 1) -> float:
        """For one artefact with so much work, spread over so many shards."""
        speed = self.work_speed(kind)
        return speed.fixed_seconds + speed.shard_seconds * shards + amount / speed.per_second


def flops_per_token(shape: Shape) -> float:
    """Of a forward pass without attention: by this shapes are near or far."""
    return 2 * (shape.body_weights + shape.head_weights)


def save_constants(constants: Constants, path: Path) -> None:
    write_atomically(path, constants.model_dump_json(indent=1).encode() + b"\n")


def load_constants(path: Path) -> Constants:
    """Constants from a JSON or YAML file.

    Raises:
        AutomixerError: there is none, it is of another schema, or a field is missing or impossible.
    """
    if not path.is_file():
        raise AutomixerError(
            f"{path} is missing: run `automixer calibrate` on this machine, or name a file with --constants"
        )
    try:
        document: Any = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
        version = document.get("schema_version", SCHEMA_VERSION) if isinstance(document, dict) else None
        if version != SCHEMA_VERSION:
            raise AutomixerError(
                f"{path} has schema_version {version!r}, this version reads {SCHEMA_VERSION}: run `automixer calibrate`"
            )
        return Constants.model_validate(document)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise AutomixerError(f"{path} cannot be read ({str(error).splitlines()[0]}): calibrate again") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise AutomixerError(f"{path}: {where}: {first['msg']}; mend it, or run `automixer calibrate`") from None
