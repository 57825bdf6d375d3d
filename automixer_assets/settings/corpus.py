"""Settings of the corpus: crawl snapshots, the tokenizer, the frozen reference sample."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from automixer_assets.settings.base import Key, Section


class Arrival(Section):
    """Which folders the snapshot sensor takes for snapshots, and when it takes one for complete."""

    names: list[str] = Field(default=["*"], min_length=1, description="shell patterns, e.g. `CC-MAIN-2026-*`")
    complete: Literal["marker", "settled"] = Field(
        default="marker",
        description="`marker`: its folder holds `_SUCCESS`; `settled`: no file changed for `settled_minutes`",
    )
    settled_minutes: float = Field(default=60, ge=0)
    at_most: int = Field(
        default=3,
        ge=0,
        description="more new snapshots than these at once are left to be registered and scored by hand: a new address "
        "may hold a hundred",
    )


class Labels(Section):
    """What is known of documents from outside. Pages show where those of each label rank; nothing else reads it."""

    file: str = Field(description="Parquet, a row per document; relative to AUTOMIXER_STATE")
    column: str = Field(default="label", description="text, a number or a boolean")
    id_column: str = "doc_id"
    planted: list[str] = Field(
        default_factory=list, description="labels of documents that a good mixture finds: retrieval is reported"
    )


class Corpus(Section):
    """Where crawl snapshots lie: `directory/<snapshot>/*.parquet` in FineWeb's columns.

    `directory` is a path or a URL that fsspec reads: `s3://bucket/crawl`, `hf://datasets/HuggingFaceFW/fineweb-edu/data`.
    Credentials come from the environment; `storage_options` are for what is no secret, such as an endpoint's address.
    """

    directory: str = "snapshots"
    storage_options: dict[str, Any] = Field(default_factory=dict)
    arrival: Arrival = Arrival()
    documents_per_shard: int = Field(default=50_000, gt=0)
    removal_list: str | None = Field(
        default=None,
        description="a text, CSV or Parquet file of ids, URLs or content hashes that no mixture may use from now on",
    )
    removal_kind: Literal["detect", "id", "url", "content_hash"] = Field(
        default="detect",
        description="what the lines of a text file are; a table has columns `id`, `url` or `content_hash`",
    )
    labels: Labels | None = None


class Tokenizer(Section):
    """A byte-level BPE trained on `snapshots`, a Hugging Face tokenizer from the local folder `path`, or the one that
    comes with the imported `proxy`."""

    path: str | None = None
    proxy: Key | None = None
    vocab_size: int = Field(default=4096, ge=300)
    snapshots: list[Key] = Field(default_factory=list)
    max_documents: int = Field(default=100_000, gt=0)

    @model_validator(mode="after")
    def _one_source(self) -> Tokenizer:
        if [self.path is not None, self.proxy is not None, bool(self.snapshots)].count(True) != 1:
            raise ValueError(
                "give either `path` (an existing tokenizer), `proxy` (that of an imported proxy) "
                "or `snapshots` (to train one)"
            )
        return self


class ReferenceSample(Section):
    """The frozen documents that fix lambda, r and normalisation constants (DESIGN: curvature)."""

    snapshots: list[Key] = Field(min_length=1)
    documents: int = Field(default=512, gt=0)
