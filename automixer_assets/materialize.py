"""Materialise assets in this process, in topological order, skipping what is current.

The same assets, runs and events as from the UI; only the process differs: one for everything, so imports are paid once.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter

import dagster as dg

from automixer_assets.assets import all_assets
from automixer_assets.definitions import build_defs
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.lake_asset import LakeAsset, by_name
from automixer_assets.lineage import asset_name
from automixer_assets.needed import LEXICAL, MADE_PER_MIXTURE, MADE_PER_RECIPE, Needs, needs_of
from automixer_assets.partitions import register_settings_keys
from automixer_assets.resources import Automixer
from automixer_assets.run_processes import PROCESS_TAG, limit_pools, process_name, report_dead_runs, waiting_for

Report = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One asset partition to look at."""

    asset: LakeAsset
    partition: str | None

    @property
    def name(self) -> str:
        return asset_name(self.asset.asset, self.partition)


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    name: str
    ran: bool
    seconds: float


class Materializer:
    """Runs steps against one Dagster instance with one set of settings overrides."""

    def __init__(self, instance: dg.DagsterInstance, automixer: Automixer, report: Report) -> None:
        self.instance, self.report = instance, report
        self.automixer = automixer = automixer.frozen()
        settings = automixer.settings()
        report_dead_runs(instance)
        register_settings_keys(instance, settings)
        assets = all_assets(settings)
        limit_pools(instance, [item.pool for item in assets if item.pool is not None])
        self.assets = by_name(assets)
        self.definitions = build_defs(settings, assets, automixer=automixer)
        self._ordered = self._topological_order()
        self._job = self.definitions.resolve_implicit_global_asset_job_def()

    def run(self, selection: str, partition: str | None = None, *, force: bool = False) -> list[Outcome]:
        """Materialise a selection (Dagster's syntax, e.g. `+weight_manifest`), upstream first.

        `partition` is a key, or one dimension of one; it limits the assets that have it: `+weight_manifest` with
        `demo` makes every snapshot's inputs, but no other mixture, and no proxy that the recipe of `demo` does not use.

        Raises:
            ConfigurationError: unknown selection or partition.
            AutomixerError: the first step that failed, in its own words.
        """
        names = self._select(selection)
        if partition is not None and not any(self._limited(self.assets[name], partition) for name in names):
            raise ConfigurationError(
                f"no selected asset has a partition {partition!r}: see `automixer snapshot add`, or the settings"
            )
        settings = self.automixer.settings()
        needs, outcomes = needs_of(settings, partition, names), []
        for name in names:
            steps = list(self._steps(self.assets[name], partition, needs))
            proxy, _, kind = name.rpartition("/")
            wanted = settings.recipes_of(proxy) and (needs is None or needs.cover(name, None))
            if not steps and kind == "checkpoint_influence" and wanted:
                raise ConfigurationError(
                    f"{name} has nothing to score at: no checkpoint is selected or no snapshot registered yet; "
                    "run `automixer materialize '+selected_checkpoints'`, and see `automixer snapshot add`"
                )
            outcomes.extend(self._run_step(step, force) for step in steps)
        if not outcomes:
            raise ConfigurationError(
                f"nothing to materialise: {selection!r} has no registered partition; "
                "register snapshots with `automixer snapshot add KEY`, name recipes and mixtures in the settings"
            )
        return outcomes

    def _topological_order(self) -> list[str]:
        """Upstream first; and the asset that registers checkpoint partitions before those that have them."""
        graph = self.definitions.resolve_asset_graph()
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for name in self.assets:
            parents = [key.to_user_string() for key in graph.get(dg.AssetKey.from_user_string(name)).parent_keys]
            registers = ["selected_checkpoints"] if name.endswith("/proxy_checkpoints") else []
            sorter.add(name, *sorted(parents), *registers)
        return list(sorter.static_order())

    def _select(self, selection: str) -> list[str]:
        """Names in topological order."""
        graph = self.definitions.resolve_asset_graph()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", dg.BetaWarning)
                chosen = dg.AssetSelection.from_string(_spelled_out(selection)).resolve(graph)
        except Exception:
            raise ConfigurationError(
                f"selection {selection!r} is not understood: name an asset, +NAME with all that it needs, NAME+ with "
                "all that needs it, or use Dagster's selection syntax (key:NAME or group:NAME, and, or, not)"
            ) from None
        ordered = [name for name in self._ordered if dg.AssetKey.from_user_string(name) in chosen]
        if not ordered:
            raise ConfigurationError(f"selection {selection!r} matches no asset; there are: {', '.join(self.assets)}")
        return ordered

    def _steps(self, asset: LakeAsset, partition: str | None, needs: Needs | None) -> Iterator[Step]:
        """The partitions of an asset that are registered now; upstream assets may have added some a moment ago."""
        keys = [None] if asset.partitions_def is None else self._chosen(asset, partition, needs)
        for key in keys:
            if applies(asset.asset, key or "", self.automixer) and (needs is None or needs.cover(asset.asset, key)):
                yield Step(asset, key)

    def _chosen(self, asset: LakeAsset, partition: str | None, needs: Needs | None) -> list[str]:
        """The keys that `partition` leaves; a mixture's name says nothing about recipes, which may have the same."""
        if needs is not None and asset.asset in MADE_PER_RECIPE:
            return self._keys(asset)
        return self._limited(asset, partition) or self._keys(asset)

    def _keys(self, asset: LakeAsset) -> list[str]:
        if asset.partitions_def is None:
            return []
        return sorted(map(str, asset.partitions_def.get_partition_keys(dynamic_partitions_store=self.instance)))

    def _limited(self, asset: LakeAsset, partition: str | None) -> list[str]:
        """The asset's keys that are `partition` or have it as one dimension."""
        return [key for key in self._keys(asset) if partition in (key, *key.split("|"))]

    def _run_step(self, step: Step, force: bool) -> Outcome:
        started = time.monotonic()
        if not force and step.asset.is_current(step.partition, self.automixer, self.instance):
            return Outcome(step.name, ran=False, seconds=time.monotonic() - started)
        self.report(step.name)
        if reason := waiting_for(self.instance, step.asset.pool):
            self.report(f"{step.name}: {reason}")
        result = self._job.execute_in_process(
            asset_selection=[dg.AssetKey.from_user_string(step.asset.asset)],
            partition_key=step.partition,
            instance=self.instance,
            raise_on_error=False,
            tags={PROCESS_TAG: process_name(), "dagster/max_retries": "0"},  # the daemon cannot start it again
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        if not result.success:
            raise AutomixerError(_failure(step, result))
        return Outcome(step.name, ran=True, seconds=time.monotonic() - started)


def _spelled_out(selection: str) -> str:
    """`+NAME` as Dagster's UI reads it, all upstream; its parser would take the plain form for one layer only."""
    plain = re.fullmatch(r"(\+?)([\w./-]+)(\+?)", selection.strip())
    return f'{plain[1]}key:"{plain[2]}"{plain[3]}' if plain else selection


def applies(asset: str, partition: str, automixer: Automixer) -> bool:
    """False for partitions that the settings no longer define, and for what no recipe or mixture of theirs needs."""
    settings = automixer.settings()
    keys = partition.split("|")
    if asset == "removed_documents":
        return settings.corpus.removal_list is not None
    if asset in LEXICAL:
        filtered = any(mixture.filter is not None for mixture in settings.mixtures.values())
        return filtered or any(recipe.strategy.lexical for recipe in settings.recipes.values())
    if asset in MADE_PER_RECIPE:
        recipe = settings.recipes.get(keys[0])
        return recipe is not None and (asset == "joint_influence" or recipe.uses_checkpoints)
    if asset in MADE_PER_MIXTURE:
        if keys[0] not in settings.mixtures:
            return False
        if asset == "item_contributions":
            return settings.resamples_items(keys[0])
        compared = settings.targets is not None and keys[0] in (settings.targets.baseline, *settings.targets.mixtures)
        return asset != "target_runs" or compared
    return True


def _failure(step: Step, result: dg.ExecuteInProcessResult) -> str:
    checks = [each for each in result.get_asset_check_evaluations() if not each.passed and each.blocking]
    if checks:
        found = "; ".join(f"{each.check_name}: {each.description}" for each in checks)
        return f"{step.name} is made but does not pass its checks, so nothing goes on from it ({found})"
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            if described:
                return described
            error = data.error.cause or data.error if data.error else None
            return f"{step.name} failed: {error.message.strip() if error else event.message} (run {result.run_id})"
    return f"{step.name} failed (run {result.run_id})"
