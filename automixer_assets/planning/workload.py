"""How much there is to do: what settings, snapshots and benchmark items come to, before anything runs.

Plain numbers in, plain numbers out; where they come from (artefacts, Parquet footers, the command line) is
`sizes.py`'s business. What is not known yet is bounded from above, and said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

from automixer_assets.planning.flops import NOTHING, Shape, Texts
from automixer_assets.planning.pass_probes import ANSWER_TOKENS, ITEM_TOKENS, OPTIONS, SPREAD
from automixer_assets.settings import Proxy, Recipe, Settings

QUANTILES = 64
UNKNOWN_ITEMS = 1000
"""Selection or final items of a task, where the settings set no limit and nothing is materialised."""
OPTIONS_OF = {
    "arc_easy": 4,
    "arc_challenge": 4,
    "boolq": 2,
    "piqa": 2,
    "siqa": 3,
    "social_iqa": 3,
    "hellaswag": 4,
    "openbookqa": 4,
    "winogrande": 2,
}
"""Answers to choose from, by how the task's name ends."""
WORTH_SHARING = 0.75


@dataclass(frozen=True)
class SnapshotSize:
    """One snapshot. `how` says where the numbers come from; `shards` is None where only the documents tell."""

    name: str
    documents: float
    tokens: float
    text_bytes: float
    how: str
    shards: int | None = None

    @property
    def document_tokens(self) -> float:
        return self.tokens / max(self.documents, 1)


@dataclass(frozen=True)
class TaskSize:
    """The items of one task: `gradient` as the query reads them, `item` and `answer` tokens of one on average."""

    gradient: Texts
    answers: Texts
    item: Texts
    selection: int
    final: int


@dataclass(frozen=True)
class Workload:
    """Everything that costs depend on. `assumed` is what had to be guessed, a sentence each."""

    settings: Settings
    snapshots: tuple[SnapshotSize, ...]
    tasks: Mapping[str, TaskSize]
    vocabulary: int
    checkpoints: Mapping[str, tuple[str | None, ...]]
    """Proxy -> keys of the checkpoints that are scored; None for one that is not selected yet."""
    assumed: tuple[str, ...] = ()

    @property
    def token_bytes(self) -> int:
        return 2 if self.vocabulary <= 2**16 else 4

    def snapshot(self, name: str) -> SnapshotSize | None:
        return next((each for each in self.snapshots if each.name == name), None)

    def together(self, names: list[str]) -> SnapshotSize:
        """Several snapshots as one; those whose size is not known are left out."""
        chosen = [each for each in self.snapshots if each.name in names]
        totals = [sum(values) for values in zip(*((e.documents, e.tokens, e.text_bytes) for e in chosen), strict=True)]
        documents, tokens, text_bytes = totals or (0, 0, 0)
        return SnapshotSize("+".join(names), documents, tokens, text_bytes, "sum")

    def shards(self, snapshot: SnapshotSize) -> int:
        if snapshot.shards is not None:
            return snapshot.shards
        return max(1, math.ceil(snapshot.documents / self.settings.corpus.documents_per_shard))

    def trained(self) -> dict[str, Proxy]:
        """The proxies that are trained here and that some recipe scores with."""
        return {
            name: proxy
            for name, proxy in self.settings.proxies.items()
            if isinstance(proxy, Proxy) and self.directions(name)
        }

    def shape(self, proxy: Proxy) -> Shape:
        return Shape.of(proxy.architecture, self.vocabulary)

    def directions(self, proxy: str) -> dict[str, int]:
        """Curvature -> directions fitted with it, over the recipes of the proxy that read checkpoints."""
        asked = {(r.curvature, r.query) for r in self.settings.recipes_of(proxy).values() if r.uses_checkpoints}
        return {curve: len(self.tasks) * len([q for c, q in asked if c == curve]) for curve, _ in sorted(asked)}


def web_texts(size: SnapshotSize, context: int) -> Texts:
    """The windows of a snapshot, its documents' lengths log-normal around their mean with the web's spread."""
    if not size.documents:
        return NOTHING
    middle = math.log(max(size.document_tokens, 2.0)) - SPREAD**2 / 2
    normal = NormalDist(middle, SPREAD)
    lengths = [math.exp(normal.inv_cdf((i + 0.5) / QUANTILES)) for i in range(QUANTILES)]
    scale = size.document_tokens / (sum(lengths) / QUANTILES)  # the tail beyond the last quantile
    texts = Texts.of([window for length in lengths for window in _windows(length * scale, context)])
    return texts.times(size.documents / QUANTILES)


def _windows(tokens: float, context: int) -> list[float]:
    """Inputs per window of a text that is cut at the context, overlapping by one token."""
    inputs = max(tokens - 1, 1.0)
    whole, rest = divmod(inputs, context - 1)
    return [float(context - 1)] * int(whole) + ([rest] if rest else [])


def task_size(
    task: str, lengths: list[int], answers: list[int], *, gradient: int, selection: int, final: int
) -> TaskSize:
    """From the lengths of known items, and of their answers, to all that the settings ask for."""
    options = next((n for name, n in OPTIONS_OF.items() if task.endswith(name)), OPTIONS)
    known = max(len(lengths), 1)
    rows = [_row(length - 1, answer, options) for length, answer in zip(lengths, answers, strict=True)]
    item = Texts.of([n for row in rows for n in row], predicted=options * sum(answers)).times(1 / known)
    sequences = Texts.of([length - 1 for length in lengths]).times(gradient / known)
    only_answers = Texts.of([n - 1 for n in lengths], predicted=sum(answers)).times(gradient / known)
    return TaskSize(sequences, only_answers, item, selection, final)


def assumed_task(task: str, settings: Settings) -> TaskSize:
    """A task of which nothing is known but its name: short items, as in the paper's eight benchmarks."""
    tasks = settings.tasks
    return task_size(
        task,
        [ITEM_TOKENS],
        [ANSWER_TOKENS],
        gradient=tasks.gradient_items,
        selection=tasks.selection_items or UNKNOWN_ITEMS,
        final=tasks.final_items or UNKNOWN_ITEMS,
    )


def _row(inputs: int, answer: int, options: int) -> list[int]:
    """Rows of one item as `likelihood.plan_rows` lays them out: the question once, where that saves a quarter."""
    shared = inputs - answer + options * answer
    return [shared] if shared <= WORTH_SHARING * options * inputs else [inputs] * options


def most_checkpoints(recipe: Recipe, kept: int, tasks: int) -> int:
    """How many checkpoints a recipe can select at most."""
    if not recipe.uses_checkpoints:
        return 0
    kind, _, number = recipe.selection.partition(":")
    chosen = int(number) if kind == "evenly" else {"last": 1, "at": 1, "all": kept, "best_per_task": tasks}[kind]
    if recipe.early_checkpoint:
        chosen += 1
    return min(kept, chosen, recipe.max_checkpoints or chosen)
