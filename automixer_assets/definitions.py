"""What exists: the assets, the resource they share, and how runs execute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.lake_asset import LakeAsset
from automixer_assets.resources import Automixer, config_path
from automixer_assets.settings import Settings
from automixer_assets.settings_file import load_settings


def build_defs(
    settings: Settings | None = None, assets: Sequence[LakeAsset] = (), **resource_overrides: Any
) -> dg.Definitions:
    """The code location: the assets of the settings, unless given; tests replace a resource by name."""
    settings = settings or load_settings(config_path())
    return dg.Definitions(
        assets=[item.definition for item in assets or all_assets(settings)],
        resources={"automixer": Automixer(), **resource_overrides},
        executor=dg.in_process_executor,  # every run is a process of its own already; a process per step pays imports
    )


defs = build_defs()
