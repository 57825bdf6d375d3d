"""What a manifest was made from: pinned folders, and its settings as it records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from automixer_assets.corpus.shards import TokenizedSnapshot, open_tokenized
from automixer_assets.errors import AutomixerError
from automixer_assets.lake import Lake
from automixer_assets.mixture.candidates import Exclusions, LexicalFilter, without_copies
from automixer_assets.mixture.manifest import Manifest, Pin
from automixer_assets.mixture.score_columns import score_columns, selected_origins, selection_tasks
from automixer_assets.settings import Mixture, Recipe, own_defaults

Key = tuple[str, str | None]
"""(asset, partition)."""


@dataclass(frozen=True)
class UnknownPin:
    """A pin that no event agrees with: which of its fields, as pinned and as the event has it."""

    pin: Pin
    field: str
    pinned: object
    found: object


@dataclass(frozen=True)
class PinnedInputs:
    """A manifest with everything upstream of it.

    Attributes:
        pins: (asset, partition) -> pin, of direct inputs and of theirs down to the sources; one version of each.
        unknown: what of the pins the events do not confirm.
        published: the manifest's own materialisation; None for a file of a digest that no event knows.
    """

    manifest: Manifest
    lake: Lake
    pins: Mapping[Key, Pin]
    unknown: tuple[UnknownPin, ...] = ()
    published: Pin | None = None

    def folder(self, asset: str, partition: str | None = None) -> Path:
        """The lake folder of a pinned artefact.

        Raises:
            AutomixerError: it is not among the pins, or not in the lake.
        """
        pin = self.pins.get((asset, partition))
        name = asset if partition is None else f"{asset}[{partition}]"
        if pin is None or pin.uri is None:
            raise AutomixerError(
                f"{self.manifest.reference} pins no {name} that the event log knows: "
                "use the state (AUTOMIXER_STATE) that the mixture was made in"
            )
        folder = self.lake.local(pin.uri)
        if not folder.is_dir():
            raise AutomixerError(
                f"{self.lake.location(pin.uri)} ({name}) is missing: restore it from a copy of the lake"
            )
        return folder

    @property
    def ledger(self) -> Path | None:
        """The exposure ledger beside the published manifest."""
        if self.published is None or self.published.uri is None:
            return None
        return self.lake.local(f"{self.published.uri}/exposure.parquet")

    @cached_property
    def settings(self) -> tuple[Mixture, Recipe]:
        return recorded_settings(self.manifest)

    @property
    def mixture(self) -> Mixture:
        return self.settings[0]

    @property
    def recipe(self) -> Recipe:
        return self.settings[1]

    @property
    def snapshots(self) -> list[str]:
        """The mixture's snapshots, also those that no group keeps a document of."""
        return sorted(
            partition.partition("|")[2] for asset, partition in self.pins if asset == "joint_influence" and partition
        )

    @cached_property
    def grouped(self) -> Path:
        return self.folder("grouped_shards", self.manifest.mixture)

    def joint(self, snapshot: str) -> Path:
        return self.folder("joint_influence", f"{self.manifest.recipe}|{snapshot}")

    def corpus(self, snapshot: str) -> TokenizedSnapshot:
        return open_tokenized(self.folder("tokenized_corpus", snapshot))

    def influence(self, checkpoint: str, snapshot: str) -> Path:
        return self.folder(f"{self.manifest.proxy}/checkpoint_influence", f"{checkpoint}|{snapshot}")

    def query(self, checkpoint: str) -> Path:
        return self.folder(f"{self.manifest.proxy}/influence_query", checkpoint)

    @cached_property
    def exclusions(self) -> Exclusions:
        """Which documents took no part: by pinned flags, removal lists and scores, and copies of a text."""
        pinned = {
            asset: {
                partition: self.folder(asset, partition)
                for each, partition in self.pins
                if each == asset and partition is not None
            }
            for asset in ("leakage", "removed_documents")
        }
        leakage = pinned["leakage"] if self.mixture.leaked_documents == "exclude" else {}
        found = Exclusions(leakage, pinned["removed_documents"], self._filter())
        if self.mixture.copies == "keep":
            return found
        shards = [shard for name in self.snapshots for shard in self.corpus(name).shards]
        documents = {(shard.snapshot, shard.name): shard.documents_path for shard in shards}
        return without_copies(found, documents, Path(self._scratch.name))

    @cached_property
    def _scratch(self) -> TemporaryDirectory[str]:
        """Where copies are listed, as long as these inputs are in use."""
        return TemporaryDirectory(prefix="automixer-copies-")

    def _filter(self) -> LexicalFilter | None:
        chosen = self.mixture.filter
        if chosen is None:
            return None
        reference = self.folder("lexical_query") / "reference_scores.parquet"
        folders = {name: self.folder("lexical_scores", name) for name in self.snapshots}
        return LexicalFilter.fitted(folders, chosen.score, reference, chosen.drop_share)

    @cached_property
    def score_columns(self) -> dict[str, list[str]]:
        """group -> the influence columns of its tasks; empty for a strategy without checkpoints."""
        if not self.recipe.uses_checkpoints:
            return {}
        selected = self.folder("selected_checkpoints", self.manifest.recipe)
        tasks = selection_tasks(selected)
        return {origin.name: score_columns(origin, self.recipe, tasks) for origin in selected_origins(selected)}


def recorded_settings(manifest: Manifest) -> tuple[Mixture, Recipe]:
    """Mixture and recipe as the manifest records them: fields of its own, the profile, and the options that differ.

    Raises:
        AutomixerError: an option that this program does not know.
    """
    options = {"recipe": own_defaults(Recipe, manifest.profile), "mixture": own_defaults(Mixture, manifest.profile)}
    for name, value in manifest.options.items():
        section, _, option = name.partition(".")
        options.get(section, {})[option] = value
    fields = {"recipe": manifest.recipe, "profile": manifest.profile, "token_budget": manifest.token_budget}
    try:
        recipe = Recipe.model_validate({"profile": manifest.profile, "proxy": manifest.proxy, **options["recipe"]})
        mixture = Mixture.model_validate(
            {**fields, "exhaustion_policy": manifest.exhaustion_policy, **options["mixture"]}
        )
    except ValidationError as error:
        issue = error.errors()[0]
        raise AutomixerError(
            f"the options of {manifest.reference} are not valid: {'.'.join(map(str, issue['loc']))}: {issue['msg']}; "
            "use the version of automixer-assets that wrote it"
        ) from None
    return mixture, recipe
