"""Two small worlds: documents of known kind, and tasks whose loss they change.

micro: the embedded micro-world with its eight tasks; its own shuffled, false and spam documents are the noise.
real: documents of twelve known sources from the folder AUTOMIXER_TEST_DATA, some of them corrupted here. Two groups of
tasks: held-out text of each source, and the items of the paper's eight benchmarks. Models of this size learn next to
nothing of the latter beyond their style: they are here because they are what users score for.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from automixer_assets.errors import AutomixerError
from automixer_assets.microworld.documents import snapshot_documents
from automixer_assets.microworld.facts import build_world
from automixer_assets.microworld.files import FACTS_PER_SKILL, SNAPSHOTS
from automixer_assets.microworld.items import split_items
from automixer_assets.microworld.skills import SKILLS
from automixer_assets.proxy.tokenizer import encode_batch, load_tokenizer, train_tokenizer
from benchmarks.influence_quality.real_items import benchmark_texts
from benchmarks.influence_quality.settings import StudySettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SOURCES = (
    "abc_science_news", "code_python_stdlib", "loghub_logs", "movie_reviews", "openstax_biology", "openstax_physics",
    "recipes_based_cooking", "reuters21578", "storybooks_en", "us_presidential_speeches", "wikipedia_en",
    "wordnet_glosses",
)  # fmt: skip
SHUFFLED_SHARE, RANDOM_WORDS_SHARE = 0.1, 0.05
CHARACTERS_PER_TOKEN = 8
"""More than any text has here, so that a text cut at so many characters fills its sequence."""


@dataclass(frozen=True)
class Text:
    """A text as the models see it: cut to the sequence length, and decoded again for the lexical scores."""

    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Task:
    """Items whose mean loss is scored for and measured; `group` is what tables average over."""

    name: str
    group: str
    items: list[Text]


@dataclass(frozen=True)
class World:
    """Documents with their kinds; noise is every kind in `noise`, against the kinds in `clean`."""

    documents: list[Text]
    kinds: list[str]
    clean: tuple[str, ...]
    noise: tuple[str, ...]
    tasks: list[Task]
    vocabulary: int


Labelled = list[tuple[str, str]]
"""(kind, text) of each document"""


def build(settings: StudySettings) -> World:
    """The world of a study; the same settings give the same world."""
    if settings.world == "micro":
        labelled, queries = _micro(settings)
        clean, noise = ("skill",), ("shuffled", "wrong", "spam")
    else:
        labelled, queries = _real(settings, data_folder())
        clean, noise = SOURCES, ("shuffled", "random words")
    tokenizer = _tokenizer((text for _, text in labelled), settings.vocabulary)
    length = settings.sequence_length
    documents = _cut(tokenizer, [text for _, text in labelled], length)
    tasks = [Task(name, group, _cut(tokenizer, texts, length, end=True)) for (group, name), texts in queries.items()]
    return World(documents, [kind for kind, _ in labelled], clean, noise, tasks, len(tokenizer))


def data_folder() -> Path:
    """The folder of real text; AutomixerError when the environment names none."""
    folder = os.environ.get("AUTOMIXER_TEST_DATA")
    if not folder:
        raise AutomixerError(
            "the real world needs texts: set AUTOMIXER_TEST_DATA to a folder with corpora/<source>.parquet and "
            "benchmarks/<task>/train.jsonl, or take --world micro"
        )
    return Path(folder)


Queries = dict[tuple[str, str], list[str]]
"""(group, task) -> texts of its items"""


def _micro(settings: StudySettings) -> tuple[Labelled, Queries]:
    world = build_world(settings.seed, FACTS_PER_SKILL)
    documents = snapshot_documents(world, SNAPSHOTS[0], settings.documents)
    queries: Queries = {}
    for skill in SKILLS:
        items = split_items(world, skill, "train")[: settings.items_per_task]
        queries["micro-world tasks", skill.name] = [f"{item.query} {item.choices[item.gold]}" for item in items]
    return [(document.kind, document.text) for document in documents], queries


def _real(settings: StudySettings, data: Path) -> tuple[Labelled, Queries]:
    rng = random.Random(f"real text {settings.seed}")
    per_source, held_out = settings.documents // len(SOURCES), settings.items_per_task
    characters = CHARACTERS_PER_TOKEN * settings.sequence_length
    labelled: Labelled = []
    queries: Queries = {}
    for source in SOURCES:
        texts = pl.read_parquet(data / "corpora" / f"{source}.parquet", columns=["text"])["text"].to_list()
        chosen = [text[:characters] for text in rng.sample(texts, per_source + held_out)]
        labelled += [(source, text) for text in chosen[:per_source]]
        queries["held-out text", source] = chosen[per_source:]
    for task, texts in benchmark_texts(data, settings.items_per_task, settings.seed).items():
        queries["benchmark items", task] = texts
    return _corrupted(labelled, rng), queries


def _corrupted(labelled: Labelled, rng: random.Random) -> Labelled:
    """Some documents with their words shuffled, some with each word replaced by one of the whole corpus."""
    stock = sorted({word for _, text in labelled for word in text.split()})
    order = rng.sample(range(len(labelled)), len(labelled))
    shuffled = set(order[: round(SHUFFLED_SHARE * len(labelled))])
    replaced = set(order[len(shuffled) :][: round(RANDOM_WORDS_SHARE * len(labelled))])
    result: Labelled = []
    for index, (kind, text) in enumerate(labelled):
        words = text.split()
        if index in shuffled:
            result.append(("shuffled", " ".join(rng.sample(words, len(words)))))
        elif index in replaced:
            result.append(("random words", " ".join(rng.choices(stock, k=len(words)))))
        else:
            result.append((kind, text))
    return result


def _tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerBase:
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(iter(texts), vocabulary, Path(folder))
        return load_tokenizer(Path(folder))


def _cut(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int, end: bool = False) -> list[Text]:
    """The first `length` tokens of each text, or its last: an item's answer stands at its end."""
    cut = [ids[-length:] if end else ids[:length] for ids in encode_batch(tokenizer, texts)]
    return [Text(str(tokenizer.decode(ids)), ids) for ids in cut]
