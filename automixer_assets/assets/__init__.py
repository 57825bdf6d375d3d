"""The assets, thin: each pins what it reads, names the work, and says what its page shows."""

from __future__ import annotations

from automixer_assets.assets import (
    characteristics,
    corpus,
    evaluation,
    exports,
    imported,
    influence,
    leakage,
    mixture,
    progress_ratios,
    recipes,
    simulation,
    task_gradients,
)
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.settings import ImportedProxy, Settings


def all_assets(settings: Settings) -> list[LakeAsset]:
    """Every asset of the graph; one chain of simulation and influence assets per proxy."""
    proxies = list(settings.proxies)
    chains = [
        item
        for proxy in proxies
        for item in (
            *_simulation(proxy, settings),
            *task_gradients.task_gradient_assets(proxy, settings),
            *influence.influence_assets(proxy),
        )
    ]
    return [
        *corpus.corpus_assets(settings),
        *leakage.leakage_assets(),
        *chains,
        progress_ratios.progress_ratio_asset(settings),
        *recipes.recipe_assets(settings),
        *mixture.mixture_assets(),
        *characteristics.characteristics_assets(),
        *exports.exports_assets(settings),
        *evaluation.evaluation_assets(),
    ]


def _simulation(proxy: str, settings: Settings) -> list[LakeAsset]:
    if isinstance(settings.proxy(proxy), ImportedProxy):
        return imported.imported_assets(proxy)
    return simulation.simulation_assets(proxy, settings)
