"""How much the settings ask for, from what is materialised, the sources' footers and the command line, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from automixer_assets.errors import ConfigurationError
from automixer_assets.lineage import latest
from automixer_assets.partitions import checkpoints_of
from automixer_assets.planning.constants import CONSTANTS_FILE
from automixer_assets.planning.sizes import (
    BYTES_PER_TOKEN,
    DOCUMENT_TOKENS,
    footer_size,
    given_size,
    inventoried_size,
    task_sizes,
    tokenized_size,
)
from automixer_assets.planning.workload import SnapshotSize, TaskSize, Workload, assumed_task, most_checkpoints
from automixer_assets.resources import Automixer, state_folder
from automixer_assets.settings import ImportedProxy, Settings


def constants_path() -> Path:
    """Where `automixer calibrate` writes unless told otherwise."""
    return state_folder() / CONSTANTS_FILE


@dataclass(frozen=True)
class Given:
    """What the command line says about sizes that nothing else tells."""

    tokens: Sequence[str] = ()
    added: str | None = None
    vocabulary: int | None = None
    document_tokens: float | None = None


def measure(instance: dg.DagsterInstance, automixer: Automixer, given: Given) -> Workload:
    """The workload of the settings, with whatever sizes are known.

    Raises:
        ConfigurationError: no snapshot has a size, or the vocabulary is not known.
    """
    sizes = _Sizes(instance, automixer, given)
    settings = automixer.settings()
    snapshots = sizes.snapshots()
    tasks, vocabulary = sizes.tasks(), sizes.vocabulary()
    checkpoints = {proxy: sizes.checkpoints(proxy, len(tasks)) for proxy in settings.proxies}
    return Workload(settings, snapshots, tasks, vocabulary, checkpoints, tuple(sizes.assumed))


class _Sizes:
    """Looks sizes up, best source first, and remembers what it had to assume."""

    def __init__(self, instance: dg.DagsterInstance, automixer: Automixer, given: Given) -> None:
        self.instance, self.automixer, self.given = instance, automixer, given
        self.settings: Settings = automixer.settings()
        self.assumed: list[str] = []

    def snapshots(self) -> tuple[SnapshotSize, ...]:
        registered = self.instance.get_dynamic_partitions("snapshot")
        names = sorted({*registered, *_named_snapshots(self.settings)})
        exact = [tokenized_size(name, path) for name in names if (path := self._artifact("tokenized_corpus", name))]
        known = [size for size in exact if size.tokens]
        ratio = sum(s.text_bytes for s in known) / sum(s.tokens for s in known) if known else BYTES_PER_TOKEN
        found = {size.name: size for size in exact}
        for name in names:
            if name not in found and (size := self._untokenized(name, ratio)):
                found[name] = size
        lengths = self._document_tokens(list(found.values()))
        stated = [given_size(text, ratio, lengths) for text in self.given.tokens]
        found |= {size.name: size for size in stated}
        missing = [name for name in names if name not in found]
        if not found or (missing and not stated):
            first = (missing or ["SNAPSHOT"])[0]
            raise ConfigurationError(
                f"nothing says how large snapshot {first} is: put its files into corpus.directory, or give "
                f"--tokens {first}=10B"
            )
        if missing:
            self.assumed.append(f"no size is known of {', '.join(missing)}: left out")
        if not known:
            self.assumed.append(f"{ratio:g} bytes per token, as nothing is tokenised yet")
        return tuple(found[name] for name in sorted(found))

    def tasks(self) -> dict[str, TaskSize]:
        folder = self._artifact("validation_items", None)
        if folder is not None:
            return task_sizes(folder)
        self.assumed.append("benchmark items are short (60 tokens, answers of 6), as none are materialised")
        return {task: assumed_task(task, self.settings) for task in self.settings.tasks.names}

    def vocabulary(self) -> int:
        if self.given.vocabulary is not None:
            return self.given.vocabulary
        chosen = self.settings.tokenizer
        if chosen.snapshots:
            return chosen.vocab_size
        if chosen.path is not None and (folder := self.automixer.resolve(chosen.path)).exists():
            from automixer_assets.proxy.tokenizer import load_tokenizer

            return len(load_tokenizer(folder))
        raise ConfigurationError("the tokenizer is not here, so its size is not known: give --vocabulary 128256")

    def checkpoints(self, proxy: str, tasks: int) -> tuple[str | None, ...]:
        """The selected ones, else as many as the recipes could select at most."""
        selected = sorted(self.instance.get_dynamic_partitions(str(checkpoints_of(proxy).name)))
        if selected:
            return tuple(selected)
        chosen = self.settings.proxy(proxy)
        if isinstance(chosen, ImportedProxy):
            self.assumed.append(f"{proxy} is imported: its passes are not in the plan")
            return ()
        recipes = self.settings.recipes_of(proxy).values()
        most = min(chosen.checkpoints, sum(most_checkpoints(recipe, chosen.checkpoints, tasks) for recipe in recipes))
        if most:
            self.assumed.append(f"{proxy}: {most} checkpoints will be selected, the most that its recipes can")
        return (None,) * most

    def _untokenized(self, name: str, ratio: float) -> SnapshotSize | None:
        if folder := self._artifact("snapshot_inventory", name):
            return inventoried_size(name, folder, ratio)
        corpus = self.settings.corpus
        folder = None if "://" in corpus.directory else self.automixer.resolve(corpus.directory) / name
        files = sorted(folder.rglob("*.parquet")) if folder is not None and folder.is_dir() else []
        return footer_size(name, files, ratio) if files else None

    def _document_tokens(self, known: Sequence[SnapshotSize]) -> float:
        if self.given.document_tokens is not None:
            return self.given.document_tokens
        documents = sum(size.documents for size in known)
        if documents:
            return sum(size.tokens for size in known) / documents
        if self.given.tokens:
            self.assumed.append(f"{DOCUMENT_TOKENS:g} tokens per document, as no snapshot tells")
        return DOCUMENT_TOKENS

    def _artifact(self, asset: str, partition: str | None) -> Path | None:
        found = latest(self.instance, asset, partition)
        artifact = None if found is None else self.automixer.lake().find_uri(found.pin.uri)
        return None if artifact is None else artifact.path


def _named_snapshots(settings: Settings) -> set[str]:
    names = {*settings.tokenizer.snapshots, *settings.reference_sample.snapshots}
    for proxy in settings.proxies.values():
        names |= set() if isinstance(proxy, ImportedProxy) else set(proxy.snapshots)
    for mixture in settings.mixtures.values():
        names |= set() if mixture.snapshots == "all" else set(mixture.snapshots)
    return names
