"""Which settings an asset was made under, by name: for those who read its lineage long after the file has changed.

The digest of an artefact covers a slice of values without names (`settings` in the event); this says the same in the
words of the settings file. `test_settings_in_force.py` compares both, so that nothing that counts goes unsaid.
"""

from __future__ import annotations

from typing import Any

from automixer_assets.settings import Settings

MADE_UNDER: dict[str, tuple[str, ...]] = {
    "snapshot_inventory": ("corpus.directory", "corpus.documents_per_shard"),
    "tokenizer": ("tokenizer", "corpus.directory"),
    "tokenized_corpus": ("corpus.directory",),
    "validation_items": ("tasks", "seed"),
    "reference_sample": ("reference_sample", "seed"),
    "scored_items": ("tasks", "seed"),
    "leakage": ("corpus.directory",),
    "removed_documents": ("corpus.removal_list", "corpus.removal_kind"),
    "proxy_run": ("proxies.{proxy}", "launchers.training", "launchers.torchrun"),
    "benchmark_table": ("tasks", "seed"),
    "influence_query": ("recipes",),
    "checkpoint_influence": ("scoring",),
    "selected_checkpoints": ("recipes.{key}",),
    "joint_influence": ("recipes.{key}", "tasks.names", "scoring"),
    "grouped_shards": ("mixtures.{key}", "recipes.{recipe}", "tasks.names", "corpus.removal_list", "scoring"),
    "weight_manifest": ("mixtures.{key}", "recipes.{recipe}"),
    "weight_uncertainty": ("mixtures.{key}", "recipes.{recipe}"),
    "group_characteristics": ("corpus.labels",),
    "item_contributions": (
        "mixtures.{key}",
        "recipes.{recipe}",
        "tasks.names",
        "corpus.removal_list",
        "seed",
        "scoring",
    ),
    "trainer_exports": ("mixtures.{key}", "recipes.{recipe}"),
    "target_runs": ("targets", "tasks", "seed", "launchers.training", "launchers.torchrun"),
    "comparison_table": ("targets", "launchers.training", "launchers.torchrun"),
    "progress_ratio_table": ("recipes",),
}
"""By kind of asset: `{proxy}` prefixes its name, `{key}` is its partition's first key, `{recipe}` the mixture's."""


def settings_in_force(asset: str, partition: str | None, settings: Settings) -> dict[str, Any]:
    """Values by dotted path, as the settings file names them, defaults and profiles filled in."""
    proxy, _, kind = asset.rpartition("/")
    key = (partition or "").split("|")[0]
    mixture = settings.mixtures.get(key)
    names = {"proxy": proxy, "key": key, "recipe": mixture.recipe if mixture else ""}
    document = settings.model_dump(mode="json")
    found = {path: _at(document, path) for path in (each.format(**names) for each in MADE_UNDER.get(kind, ()))}
    return {path: value for path, value in found.items() if value is not None}


def _at(document: Any, path: str) -> Any:
    """Keys may hold dots themselves, so the longest one that is there is taken."""
    if not path:
        return document
    if not isinstance(document, dict):
        return None
    for key in sorted(document, key=len, reverse=True):
        if path == key or path.startswith(f"{key}."):
            return _at(document[key], path[len(key) + 1 :])
    return None
