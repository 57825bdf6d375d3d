"""What exists: the assets, the resource they share, how runs execute, and what happens by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.automation import automation
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.resources import Automixer, config_path
from automixer_assets.settings import Settings
from automixer_assets.settings_file import load_settings


def build_defs(
    settings: Settings | None = None, assets: Sequence[LakeAsset] = (), **resource_overrides: Any
) -> dg.Definitions:
    """The code location: the assets of the settings, unless given; tests replace a resource by name."""
    settings = settings or load_settings(config_path())
    assets = assets or all_assets(settings)
    return dg.Definitions(
        assets=[item.definition for item in assets],
        resources={"automixer": Automixer(), **resource_overrides},
        executor=dg.in_process_executor,  # every run is a process of its own already; a process per step pays imports
        **automation(settings, assets),
    )


defs = build_defs()
