"""The snapshot sensor: notices snapshots, registers them, and asks for their corpus and their first scores.

It compares what is there with what is wanted and asks for the difference, so a tick that was missed, or that failed
halfway, is made up for by the next one; a run key keeps it from asking twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

import dagster as dg

from automixer_assets.automation.content import is_scored, latest_ids
from automixer_assets.automation.jobs import CORPUS_ASSETS, CORPUS_JOB, Job, scores_job
from automixer_assets.automation.said import say
from automixer_assets.corpus.sources import MARKER, SnapshotSources, fingerprint
from automixer_assets.errors import AutomixerError, ConfigurationError
from automixer_assets.lake import digest_of
from automixer_assets.lake_asset import LakeAsset, by_name
from automixer_assets.lineage import latest
from automixer_assets.partitions import SNAPSHOTS, checkpoints_of, multi_key, require_valid_key
from automixer_assets.resources import Automixer
from automixer_assets.settings import Arrival, Settings

SNAPSHOT_SENSOR = "snapshot_arrivals"
SNAPSHOT_TAG = "automixer/snapshot"
READ_BY = {"tokenized_corpus": "tokenizer", "leakage": "scored_items"}
"""Assets that every snapshot needs before it can be asked for."""


UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Memory:
    """What the sensor keeps between ticks: listings that may still change, and tokenised snapshots known as scored."""

    listings: dict[str, tuple[str, float]] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, cursor: str | None) -> Memory:
        document = json.loads(cursor) if cursor else {}
        listings = {name: (str(digest), float(since)) for name, (digest, since) in document.get("listings", {}).items()}
        return cls(listings, document.get("scored", {}))

    def cursor(self) -> str:
        return json.dumps({"listings": self.listings, "scored": self.scored}, sort_keys=True)


def snapshot_sensor(settings: Settings, assets: Sequence[LakeAsset], jobs: Sequence[Job]) -> dg.SensorDefinition:
    """Off by default: the first scores of a snapshot use the accelerator."""
    asked = {CORPUS_JOB, *(scores_job(proxy) for proxy in settings.proxies)}

    @dg.sensor(
        name=SNAPSHOT_SENSOR,
        jobs=[job for job in jobs if job.name in asked],
        minimum_interval_seconds=settings.automation.sensor_seconds,
        description="Registers complete snapshots, inventories and tokenises them, and scores each new content once, "
        "at the checkpoints that are selected now. Old snapshots are not scored again.",
    )
    def snapshot_arrivals(context: dg.SensorEvaluationContext, automixer: Automixer) -> dg.SensorResult:
        memory = Memory.read(context.cursor)
        tick = Tick(context.instance, automixer, assets, memory)
        tick.look(time.time())
        for sentence in tick.sentences:
            context.log.info(sentence)
        return dg.SensorResult(
            run_requests=tick.requests,
            skip_reason=None if tick.requests else "; ".join(tick.sentences) or "nothing new",
            dynamic_partitions_requests=[SNAPSHOTS.build_add_request(tick.arrived)] if tick.arrived else None,
            cursor=memory.cursor(),
        )

    return snapshot_arrivals


class Tick:
    """One look: what has arrived, what to ask for, and what to say."""

    def __init__(
        self, instance: dg.DagsterInstance, automixer: Automixer, assets: Sequence[LakeAsset], memory: Memory
    ) -> None:
        self.instance, self.automixer, self.memory = instance, automixer.frozen(), memory
        self.assets = by_name(assets)
        self.settings, self.sources = self.automixer.settings(), self.automixer.sources()
        self.arrived: list[str] = []
        self.requests: list[dg.RunRequest] = []
        self.sentences: list[str] = []

    def look(self, now: float) -> None:
        present = self.sources.snapshots()
        registered = sorted(self.instance.get_dynamic_partitions("snapshot"))
        for name in sorted(set(registered) - set(present)):
            self._say(
                name,
                f"{self.sources.location(name)} is gone: mixtures go on with what was read from it; put it back, or "
                f"withdraw it (`automixer snapshot remove {name}`)",
            )
        arrived = [name for name in present if name not in registered and self._has_arrived(name, now)]
        self.arrived = self._not_too_many(arrived, "arrived at once", "register them (`automixer snapshot add`)")
        here = [name for name in registered if name in present]
        self.memory.listings = {name: seen for name, seen in self.memory.listings.items() if name not in registered}
        self._ask_for_corpora([*here, *self.arrived])
        self._ask_for_scores(here)

    def _has_arrived(self, name: str, now: float) -> bool:
        arrival = self.settings.corpus.arrival
        if not any(fnmatch(name, pattern) for pattern in arrival.names):
            return False
        try:
            require_valid_key(name)
            return is_complete(self.sources, name, arrival, self.memory, now)
        except ConfigurationError as error:
            self.sentences.append(str(error))
        except AutomixerError as error:
            self.sentences.append(f"not registered yet: {error}")
        return False

    def _not_too_many(self, names: list[str], what: str, remedy: str) -> list[str]:
        limit = self.settings.corpus.arrival.at_most
        if len(names) <= limit:
            return names
        self.sentences.append(
            f"{len(names)} snapshots {what} ({', '.join(names[:3])}, ...), more than corpus.arrival.at_most ({limit}): "
            f"{remedy}, or raise the limit"
        )
        return []

    def _ask_for_corpora(self, snapshots: list[str]) -> None:
        """Inventory and what follows from it, as far as it is missing and its inputs are there."""
        wanted = [name for name in CORPUS_ASSETS if self._possible(name)]
        made = {name: latest_ids(self.instance, name) for name in wanted}
        under_way = self._under_way()
        for snapshot in snapshots:
            if snapshot in under_way:
                continue
            missing = [name for name in wanted if snapshot not in made[name]]
            content = self._content(snapshot) if missing else None
            if content is None:
                continue
            self.requests.append(
                dg.RunRequest(
                    run_key=f"{snapshot} {content} {' '.join(missing)}",
                    job_name=CORPUS_JOB,
                    partition_key=snapshot,
                    asset_selection=[dg.AssetKey(name) for name in missing],
                    tags={SNAPSHOT_TAG: snapshot},
                )
            )

    def _under_way(self) -> set[str]:
        """Snapshots whose corpus is being made: what is missing of them shrinks meanwhile."""
        unfinished = dg.RunsFilter(job_name=CORPUS_JOB, statuses=UNFINISHED)
        return {run.tags.get("dagster/partition", "") for run in self.instance.get_runs(unfinished)}

    def _content(self, snapshot: str) -> str | None:
        """Digest of the files as listed; None for a registered snapshot that is not whole at the moment."""
        try:
            if self.settings.corpus.arrival.complete == "marker":
                require_marker(self.sources, snapshot)
            return digest_of(fingerprint(self.sources.list_files(snapshot)))
        except AutomixerError as error:
            self._say(snapshot, f"not inventoried: {error}")
            return None

    def _possible(self, asset: str) -> bool:
        if asset == "removed_documents":
            return self.settings.corpus.removal_list is not None
        needed = READ_BY.get(asset)
        return needed is None or latest(self.instance, needed, None) is not None

    def _ask_for_scores(self, snapshots: list[str]) -> None:
        """Each content once: where no checkpoint of any proxy has scored it, by all that are selected now."""
        tokenized = latest_ids(self.instance, "tokenized_corpus")
        unscored: list[str] = []
        for snapshot in snapshots:
            known = self.memory.scored.get(snapshot)
            if snapshot not in tokenized or known == tokenized[snapshot]:
                continue
            found = latest(self.instance, "tokenized_corpus", snapshot)
            if found is None or found.failed_checks:
                continue
            if is_scored(self.instance, self.automixer, snapshot, found.pin):
                self.memory.scored[snapshot] = found.pin.storage_id
            else:
                unscored.append(snapshot)
        for snapshot in self._not_too_many(unscored, "are not scored", "score them (`automixer materialize`)"):
            self._ask_for_cells(snapshot)

    def _ask_for_cells(self, snapshot: str) -> None:
        found = latest(self.instance, "tokenized_corpus", snapshot)
        assert found is not None
        for proxy in self.settings.proxies:
            keys = sorted(self.instance.get_dynamic_partitions(str(checkpoints_of(proxy).name)))
            query = self.assets[f"{proxy}/influence_query"]
            stale = [key for key in keys if not query.is_current(key, self.automixer, self.instance)]
            if stale:
                self.sentences.append(
                    f"{snapshot} is not scored by {proxy}: its query at {stale[0]} is missing or stale; fit it "
                    f"(`automixer materialize +{proxy}/influence_query`)"
                )
                continue
            self.requests.extend(
                dg.RunRequest(
                    run_key=f"{proxy} {key} {snapshot} {found.pin.data_version}",
                    job_name=scores_job(proxy),
                    partition_key=multi_key(checkpoint=key, snapshot=snapshot),
                    tags={SNAPSHOT_TAG: snapshot},
                )
                for key in keys
            )

    def _say(self, snapshot: str, sentence: str) -> None:
        self.sentences.append(sentence)
        say(self.instance, snapshot, sentence)


def require_marker(sources: SnapshotSources, snapshot: str) -> None:
    """Raise AutomixerError for a snapshot that whoever writes it has not called complete."""
    if not sources.has_marker(snapshot):
        raise AutomixerError(
            f"{sources.location(snapshot)} has no {MARKER} yet: create it when all files are there, or set "
            "corpus.arrival.complete to settled"
        )


def is_complete(sources: SnapshotSources, snapshot: str, arrival: Arrival, memory: Memory, now: float) -> bool:
    """Whether a folder is a whole snapshot by now.

    Raises:
        AutomixerError: it has no marker and needs one, or it holds no Parquet file.
    """
    if arrival.complete == "marker":
        require_marker(sources, snapshot)
    listing = digest_of(fingerprint(sources.list_files(snapshot)))
    if arrival.complete == "marker":
        return True
    before, since = memory.listings.get(snapshot, ("", now))
    memory.listings[snapshot] = (listing, since if before == listing else now)
    return before == listing and now - since >= arrival.settled_minutes * 60
