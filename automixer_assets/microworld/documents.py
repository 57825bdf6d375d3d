"""The documents of one crawl snapshot: which kinds, about which skills, in which words.

A snapshot depends on the seed, its own name and the sizes asked for, never on other snapshots.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from automixer_assets.microworld.facts import Fact, World
from automixer_assets.microworld.prose import boilerplate_text, filler_text
from automixer_assets.microworld.skills import SKILLS, Skill

KIND_SHARES: dict[str, float] = {
    "skill": 0.42,
    "wrong": 0.04,
    "spam": 0.13,
    "boilerplate": 0.13,
    "shuffled": 0.10,
    "filler": 0.18,
}
EMPHASIS = (1.5, 1.3, 1.2, 1.0, 0.9, 0.8, 0.7, 0.6)
EMPHASIS_TURN = 5
"""Each snapshot turns the wheel of emphasis by that many skills: no two in a row favour the same ones."""

FACTS_PER_DOCUMENT = (4, 7)
OPENING_SHARE = 0.6
SPAM_WORDS = (24, 36)


@dataclass(frozen=True)
class Document:
    """One document with its ground truth; `skill` is empty for kinds that are about none."""

    kind: str
    skill: str
    facts: tuple[str, ...]
    text: str


class FactDecks:
    """Deals the facts of a skill in shuffled rounds, so that all are mentioned about equally often."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._decks = {name: _endless(facts, rng) for name, facts in world.facts.items()}

    def deal(self, skill: Skill, count: int) -> list[Fact]:
        return [next(self._decks[skill.name]) for _ in range(count)]


def snapshot_documents(world: World, snapshot: str, count: int) -> list[Document]:
    """`count` documents in the order of the snapshot's files."""
    rng = random.Random(f"microworld documents {world.seed} {snapshot}")
    decks = FactDecks(world, rng)
    kinds = _spread(KIND_SHARES, count)
    emphasis = snapshot_emphasis(snapshot)
    documents = [
        WRITERS[kind](skill, decks, rng)
        for kind, n_documents in kinds.items()
        for skill, n_of_skill in zip(SKILLS, _spread(emphasis, n_documents).values(), strict=True)
        for _ in range(n_of_skill)
    ]
    rng.shuffle(documents)
    return documents


def snapshot_emphasis(snapshot: str) -> dict[str, float]:
    """Relative frequency of each skill in a snapshot named `MW-<year>-<number>`."""
    turn = EMPHASIS_TURN * int(snapshot.rsplit("-", 1)[1])
    return {skill.name: EMPHASIS[(place + turn) % len(EMPHASIS)] for place, skill in enumerate(SKILLS)}


def _spread(shares: dict[str, float], count: int) -> dict[str, int]:
    """Whole numbers in proportion to the shares that sum to `count` (largest remainder)."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_remainder[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def _endless(facts: tuple[Fact, ...], rng: random.Random) -> Iterator[Fact]:
    while True:
        yield from rng.sample(facts, len(facts))


def _skill(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    facts = decks.deal(skill, rng.randint(*FACTS_PER_DOCUMENT))
    text = _told(skill, [(fact, fact.answer) for fact in facts], rng)
    return Document("skill", skill.name, tuple(fact.fact_id for fact in facts), text)


def _wrong(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    """Reads like a skill document, and every claim in it is false."""
    facts = decks.deal(skill, rng.randint(*FACTS_PER_DOCUMENT))
    text = _told(skill, [(fact, rng.choice(fact.wrong_answers)) for fact in facts], rng)
    return Document("wrong", skill.name, tuple(fact.fact_id for fact in facts), text)


def _spam(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    """Keywords of a skill without a statement: close to the items for an n-gram filter, and empty."""
    facts = decks.deal(skill, 4)
    names = [name for fact in facts for name in fact.subject.split(" and ")]
    answers = [rng.choice((*fact.wrong_answers, fact.answer)) for fact in facts]
    vocabulary = (*skill.keywords, *names, *answers, "best", "cheap", "free", "buy")
    words = [rng.choice(vocabulary) for _ in range(rng.randint(*SPAM_WORDS))]
    return Document("spam", "", (), " ".join(words))


def _boilerplate(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    return Document("boilerplate", "", (), boilerplate_text(rng))


def _shuffled(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    """The words of a skill document or of filler in random order."""
    source = _skill(skill, decks, rng).text if rng.random() < 0.5 else filler_text(rng)
    words = source.split()
    rng.shuffle(words)
    return Document("shuffled", "", (), " ".join(words))


def _filler(skill: Skill, decks: FactDecks, rng: random.Random) -> Document:
    return Document("filler", "", (), filler_text(rng))


WRITERS: dict[str, Callable[[Skill, FactDecks, random.Random], Document]] = {
    "skill": _skill,
    "wrong": _wrong,
    "spam": _spam,
    "boilerplate": _boilerplate,
    "shuffled": _shuffled,
    "filler": _filler,
}


def _told(skill: Skill, claims: list[tuple[Fact, str]], rng: random.Random) -> str:
    """Running text: sometimes an opening sentence, then one statement per claim."""
    sentences = [skill.opening] if rng.random() < OPENING_SHARE else []
    for fact, answer in claims:
        statement = rng.choice(skill.statements)
        sentences.append(statement.format(subject=fact.subject, aspect=fact.aspect, answer=answer))
    return " ".join(sentences)
