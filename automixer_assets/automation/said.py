"""What a person should know of a snapshot: an observation on the inventory's page, once for every new sentence."""

from __future__ import annotations

import dagster as dg

from automixer_assets.lineage import latest


def say(instance: dg.DagsterInstance, snapshot: str, sentence: str) -> None:
    """Put `sentence` on the page of the snapshot's inventory, unless it stands there already as the newest."""
    key = dg.AssetKey("snapshot_inventory")
    observed = instance.fetch_observations(dg.AssetRecordsFilter(key, asset_partitions=[snapshot]), limit=1).records
    made = latest(instance, "snapshot_inventory", snapshot)
    for record in observed:
        observation = record.asset_observation
        newer = made is None or record.storage_id > made.pin.storage_id
        if observation is not None and newer and observation.description == sentence:
            return
    instance.report_runless_asset_event(
        dg.AssetObservation(key, partition=snapshot, description=sentence, metadata={"snapshot": sentence})
    )
