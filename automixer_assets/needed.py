"""What a run is about: all that the settings define, or one mixture or recipe and what it is made from.

`+weight_manifest` for a mixture of a uniform recipe must train no proxy, though the asset graph, which knows no
partitions, has every proxy upstream of every mixture.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from automixer_assets.settings import Settings

MADE_PER_MIXTURE = (
    "grouped_shards",
    "item_contributions",
    "weight_manifest",
    "weight_uncertainty",
    "group_characteristics",
    "target_runs",
    "trainer_exports",
)
MADE_PER_RECIPE = ("selected_checkpoints", "joint_influence")
LEXICAL = ("lexical_query", "lexical_scores")


@dataclass(frozen=True)
class Needs:
    """The mixtures, recipes and proxies that count, and whether anything counts words."""

    mixtures: frozenset[str]
    recipes: frozenset[str]
    proxies: frozenset[str]
    lexical: bool

    def cover(self, asset: str, partition: str | None) -> bool:
        """Whether an asset, at a partition of its own if it has any, is among what is needed."""
        proxy, _, kind = asset.rpartition("/")
        if proxy:
            return proxy in self.proxies
        key = (partition or "").split("|")[0]
        if kind in MADE_PER_RECIPE:
            return key in self.recipes
        if kind in MADE_PER_MIXTURE:
            return key in self.mixtures
        return self.lexical or kind not in LEXICAL


def needs_of(settings: Settings, partition: str | None, selected: Collection[str]) -> Needs | None:
    """What the partition needs, if it names a mixture or a recipe of the selected assets; None: nothing is left out.

    A name of both counts as the mixture's when an asset that is made per mixture is selected.
    """
    if partition in settings.mixtures and not set(MADE_PER_MIXTURE).isdisjoint(selected):
        chosen = settings.mixture(partition)
        return _needs(settings, [partition], chosen.recipe, filtered=chosen.filter is not None)
    if partition in settings.recipes and not set(MADE_PER_RECIPE).isdisjoint(selected):
        return _needs(settings, [], partition, filtered=False)
    return None


def _needs(settings: Settings, mixtures: list[str], recipe: str, *, filtered: bool) -> Needs:
    chosen = settings.recipe(recipe)
    proxies = {chosen.proxy if chosen.uses_checkpoints else None, settings.tokenizer.proxy} - {None}
    return Needs(
        frozenset(mixtures), frozenset([recipe]), frozenset(map(str, proxies)), filtered or chosen.strategy.lexical
    )
