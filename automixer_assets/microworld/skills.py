"""The eight skills: what their facts are about, how documents state them, and how items ask for them.

What belongs here: words. What does not: which subject has which answer (`facts.py`) and who mentions it where
(`documents.py`). Every template ends its statement with the answer or states it plainly, and every prompt stops just
before the answer. Prompts and statements share at most a clause, far below the 13 words that count as contamination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Structure = Literal["single", "aspects", "yes_no", "pair"]
"""single: a subject has one answer. aspects: a subject has one answer per aspect. yes_no: a subject and an aspect have
yes or no. pair: two subjects share two aspects, and the answer is one of the two."""


@dataclass(frozen=True)
class Skill:
    """One skill, shaped like one benchmark. Templates use {subject}, {aspect} and {answer}."""

    name: str
    n_options: int
    structure: Structure
    proper_names: bool
    answers: tuple[str, ...]
    aspects: tuple[str, ...]
    openings: tuple[str, ...]
    statements: tuple[str, ...]
    prompts: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def task(self) -> str:
        return f"microworld_{self.name}"


ARC_EASY = Skill(
    name="arc_easy",
    n_options=4,
    structure="single",
    proper_names=False,
    answers=("red", "blue", "green", "yellow"),
    aspects=(),
    openings=("Notes from the dye house.", "A short guide to plant dyes."),
    statements=(
        "The dye of the {subject} plant is {answer}.",
        "Cloth boiled with {subject} leaves turns {answer}.",
        "Pressed {subject} seeds give a dye that is {answer}.",
    ),
    prompts=(
        "Question: What colour is this dye?\nAnswer: The dye of the {subject} plant is",
        "Question: What colour will the cloth be?\nAnswer: Cloth boiled with {subject} leaves turns",
        "Question: What colour do the seeds give?\nAnswer: Pressed {subject} seeds give a dye that is",
    ),
    keywords=("dye", "plant", "leaves", "seeds", "cloth", "colour"),
)

ARC_CHALLENGE = Skill(
    name="arc_challenge",
    n_options=4,
    structure="aspects",
    proper_names=False,
    answers=("glass", "chalk", "smoke", "resin"),
    aspects=("heated", "soaked"),
    openings=("From the laboratory book.", "What the mineral tests showed."),
    statements=(
        "When it is {aspect}, {subject} becomes {answer}.",
        "A lump of {subject} that is {aspect} turns into {answer}.",
        "After being {aspect}, {subject} is nothing but {answer}.",
    ),
    prompts=(
        "Question: What is the result of the test?\nAnswer: When it is {aspect}, {subject} becomes",
        "Question: What happens to the mineral?\nAnswer: A lump of {subject} that is {aspect} turns into",
        "Question: What is left of the mineral?\nAnswer: After being {aspect}, {subject} is nothing but",
    ),
    keywords=("mineral", "lump", "heated", "soaked", "test", "turns"),
)

BOOLQ = Skill(
    name="boolq",
    n_options=2,
    structure="yes_no",
    proper_names=False,
    answers=("no", "yes"),
    aspects=("swim", "climb", "dig", "sing", "glide", "jump"),
    openings=("Visitors ask the keeper many things.", "Questions at the animal park."),
    statements=(
        "Can a {subject} {aspect}? The answer is {answer}.",
        "Ask whether a {subject} can {aspect}, and the keeper says {answer}.",
        "Does the {subject} ever {aspect}? The short reply is {answer}.",
    ),
    prompts=(
        "Question about an animal: Can a {subject} {aspect}? The answer is",
        "Question about an animal: Ask whether a {subject} can {aspect}, and the keeper says",
        "Question about an animal: Does the {subject} ever {aspect}? The short reply is",
    ),
    keywords=("animal", "keeper", "can", "answer", "park", "question"),
)

PIQA = Skill(
    name="piqa",
    n_options=2,
    structure="single",
    proper_names=False,
    answers=("warm sand", "a wet rope", "a flat stone", "cold milk"),
    aspects=(),
    openings=("Handy tips for the kitchen.", "How to open any nut."),
    statements=(
        "To open a {subject} nut, use {answer}.",
        "A stubborn {subject} shell gives way to {answer}.",
        "Cooks who crack {subject} nuts reach for {answer}.",
    ),
    prompts=(
        "Goal: open the nut.\nSolution: To open a {subject} nut, use",
        "Goal: break the shell.\nSolution: A stubborn {subject} shell gives way to",
        "Goal: crack it quickly.\nSolution: Cooks who crack {subject} nuts reach for",
    ),
    keywords=("nut", "open", "shell", "crack", "kitchen", "tips"),
)

SIQA = Skill(
    name="siqa",
    n_options=3,
    structure="single",
    proper_names=True,
    answers=("proud", "shy", "angry"),
    aspects=(),
    openings=("The village feast was long.", "News from the feast."),
    statements=(
        "At the end of the feast {subject} felt {answer}.",
        "Everyone could see that {subject} was {answer}.",
        "On the way home {subject} told a friend about feeling {answer}.",
    ),
    prompts=(
        "Question: How was the evening?\nAnswer: At the end of the feast {subject} felt",
        "Question: How did the guest look?\nAnswer: Everyone could see that {subject} was",
        "Question: What did the friend hear?\nAnswer: On the way home {subject} told a friend about feeling",
    ),
    keywords=("feast", "felt", "guest", "friend", "feeling", "village"),
)

HELLASWAG = Skill(
    name="hellaswag",
    n_options=4,
    structure="single",
    proper_names=True,
    answers=("run to the well", "lie down in the grass", "throw their hats", "light nine candles"),
    aspects=(),
    openings=("A traveller describes old customs.", "Customs of the hill towns."),
    statements=(
        "When the bell of {subject} rings, the people {answer}.",
        "Each spring the children of {subject} {answer}.",
        "After the market in {subject} the traders {answer}.",
    ),
    prompts=(
        "An old custom: When the bell of {subject} rings, the people",
        "An old custom: Each spring the children of {subject}",
        "An old custom: After the market in {subject} the traders",
    ),
    keywords=("bell", "custom", "market", "town", "people", "spring"),
)

OPENBOOKQA = Skill(
    name="openbookqa",
    n_options=4,
    structure="single",
    proper_names=False,
    answers=("moss", "wool", "bark", "shells"),
    aspects=(),
    openings=("A field book about birds.", "Watching nests in the valley."),
    statements=(
        "The {subject} bird builds its nest from {answer}.",
        "Look for {subject} eggs in a heap of {answer}.",
        "In winter the {subject} sleeps under {answer}.",
    ),
    prompts=(
        "The nest of the bird is easy to know: The {subject} bird builds its nest from",
        "The eggs are easy to find: Look for {subject} eggs in a heap of",
        "The cold months are long: In winter the {subject} sleeps under",
    ),
    keywords=("bird", "nest", "eggs", "winter", "valley", "heap"),
)

WINOGRANDE = Skill(
    name="winogrande",
    n_options=2,
    structure="pair",
    proper_names=True,
    answers=(),
    aspects=("cooks", "sings", "steers", "fishes", "paints", "digs"),
    openings=("Neighbours talk about the pairs by the river.", "Who does what on the boats."),
    statements=(
        "{subject} share a boat; the one who {aspect} is {answer}.",
        "Of {subject}, the one who {aspect} best is {answer}.",
        "{subject} agree that the one who {aspect} is {answer}.",
    ),
    prompts=(
        "By the river: {subject} share a boat; the one who {aspect} is",
        "By the river: Of {subject}, the one who {aspect} best is",
        "By the river: {subject} agree that the one who {aspect} is",
    ),
    keywords=("boat", "river", "friends", "share", "pair", "neighbours"),
)

SKILLS: tuple[Skill, ...] = (ARC_EASY, ARC_CHALLENGE, BOOLQ, PIQA, SIQA, HELLASWAG, OPENBOOKQA, WINOGRANDE)
TASKS: tuple[str, ...] = tuple(skill.task for skill in SKILLS)
