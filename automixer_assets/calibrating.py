"""Calibrating for given settings: which shapes to measure, and which texts to measure with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from automixer_assets.errors import ConfigurationError
from automixer_assets.plan_sizes import Given, measure
from automixer_assets.planning.calibration import calibrate, invented_texts, sample_texts
from automixer_assets.planning.constants import Constants
from automixer_assets.planning.pass_probes import Probe
from automixer_assets.planning.sizes import DOCUMENT_TOKENS
from automixer_assets.resources import Automixer
from automixer_assets.settings import Proxy, Settings

VOCABULARY = 32_000
"""Where nothing tells how many ids the tokenizer has."""


def calibrate_for(
    instance: dg.DagsterInstance, automixer: Automixer, given: Given, folder: Path, report: Callable[[str], None]
) -> Constants:
    """Measure at the shapes of the settings' proxies and targets, with texts of their first snapshot if it is here."""
    automixer = automixer.frozen()
    settings = automixer.settings()
    try:
        workload = measure(instance, automixer, given)
        vocabulary = workload.vocabulary
        documents = sum(size.documents for size in workload.snapshots)
        length = sum(size.tokens for size in workload.snapshots) / max(documents, 1)
    except ConfigurationError as error:
        vocabulary, length = given.vocabulary or VOCABULARY, DOCUMENT_TOKENS
        report(f"{error}; meanwhile {vocabulary} ids and {length:g} tokens per document")
    texts = sample_texts(list(_files(automixer))) or invented_texts()
    return calibrate(list(_probes(settings, vocabulary, length)), texts, settings.tokenizer.vocab_size, folder, report)


def _probes(settings: Settings, vocabulary: int, document_tokens: float) -> Iterator[Probe]:
    tasks = len(settings.tasks.names)
    runs = [(name, proxy) for name, proxy in settings.proxies.items() if isinstance(proxy, Proxy)]
    for name, proxy in runs:
        asked = {(r.curvature, r.query) for r in settings.recipes_of(name).values() if r.uses_checkpoints}
        yield Probe(
            proxy.architecture,
            vocabulary,
            proxy.training,
            max(1, tasks * len(asked)),
            document_tokens,
            settings.tasks.batch_size,
            scoring_half=settings.scoring.half,
        )
    if settings.targets is not None or not runs:
        yield _target_probe(settings, vocabulary, document_tokens)


def _target_probe(settings: Settings, vocabulary: int, document_tokens: float) -> Probe:
    targets = settings.targets
    if targets is None:
        raise ConfigurationError("the settings train no proxy and no targets, so there is nothing to measure")
    tasks = len(settings.tasks.names)
    return Probe(targets.architecture, vocabulary, targets.training, tasks, document_tokens, settings.tasks.batch_size)


def _files(automixer: Automixer) -> Iterator[Path]:
    """Parquet files of the snapshots that lie in a local folder."""
    directory = automixer.settings().corpus.directory
    folder = automixer.resolve(directory)
    if "://" not in directory and folder.is_dir():
        yield from sorted(folder.glob("*/**/*.parquet"))
