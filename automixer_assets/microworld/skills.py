"""The eight skills: what their facts are about, how documents state them, and how items ask for them.

What belongs here: words. What does not: which subject has which answer (`facts.py`) and who mentions it where
(`documents.py`). Items are worded as documents are: text that no
document resembles would fill the gradient of the items with its own surprise, and influence would then praise word
salad. Yet an opening, a statement and its answer stay below the 13 words in a row that count as contamination.
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
    opening: str
    statements: tuple[str, ...]
    keywords: tuple[str, ...]

    @property
    def task(self) -> str:
        return f"microworld_{self.name}"

    @property
    def prompts(self) -> tuple[str, ...]:
        """What items ask: the opening, and a statement cut off before its answer, which comes last."""
        return tuple(f"{self.opening} {statement.split(' {answer}')[0]}" for statement in self.statements)


ARC_EASY = Skill(
    name="arc_easy",
    n_options=4,
    structure="single",
    proper_names=False,
    answers=("red", "blue", "green", "yellow"),
    aspects=(),
    opening="Question: which colour?",
    statements=(
        "The dye of {subject} is {answer}.",
        "Wool boiled in {subject} turns {answer}.",
        "The leaves of {subject} are {answer}.",
    ),
    keywords=("dye", "plant", "leaves", "wool"),
)

ARC_CHALLENGE = Skill(
    name="arc_challenge",
    n_options=4,
    structure="aspects",
    proper_names=False,
    answers=("glass", "chalk", "smoke", "resin"),
    aspects=("heated", "soaked"),
    opening="Question: which substance?",
    statements=(
        "Any {aspect} {subject} becomes {answer}.",
        "Most {aspect} {subject} makes {answer}.",
        "Some {aspect} {subject} leaves {answer}.",
    ),
    keywords=("mineral", "heated", "soaked", "becomes"),
)

BOOLQ = Skill(
    name="boolq",
    n_options=2,
    structure="yes_no",
    proper_names=False,
    answers=("No", "Yes"),
    aspects=("swim", "climb", "sing", "jump"),
    opening="Answer yes or no:",
    statements=(
        "Can a {subject} {aspect}? {answer}.",
        "Does a {subject} {aspect}? {answer}.",
        "Will a {subject} {aspect}? {answer}.",
    ),
    keywords=("animal", "can", "does", "will"),
)

PIQA = Skill(
    name="piqa",
    n_options=2,
    structure="single",
    proper_names=False,
    answers=("warm sand", "a wet rope", "a flat stone", "cold milk"),
    aspects=(),
    opening="Goal: a peeled nut.",
    statements=(
        "Open a {subject} nut with {answer}.",
        "Crack {subject} shells with {answer}.",
        "To peel {subject}, use {answer}.",
    ),
    keywords=("nut", "open", "crack", "peel"),
)

SIQA = Skill(
    name="siqa",
    n_options=3,
    structure="single",
    proper_names=True,
    answers=("proud", "shy", "angry"),
    aspects=(),
    opening="Question: which mood?",
    statements=(
        "After the feast {subject} felt {answer}.",
        "All evening {subject} looked {answer}.",
        "On the way home {subject} was {answer}.",
    ),
    keywords=("feast", "felt", "evening", "home"),
)

HELLASWAG = Skill(
    name="hellaswag",
    n_options=4,
    structure="single",
    proper_names=True,
    answers=("run to the well", "lie in the grass", "throw their hats", "light nine candles"),
    aspects=(),
    opening="Customs:",
    statements=(
        "At noon the people of {subject} {answer}.",
        "When the bell of {subject} rings, all {answer}.",
        "In spring the children of {subject} {answer}.",
    ),
    keywords=("bell", "town", "people", "spring"),
)

OPENBOOKQA = Skill(
    name="openbookqa",
    n_options=4,
    structure="single",
    proper_names=False,
    answers=("moss", "wool", "bark", "shells"),
    aspects=(),
    opening="Question: which place?",
    statements=(
        "The nest of the {subject} is {answer}.",
        "Look for {subject} eggs in {answer}.",
        "In winter the {subject} sleeps on {answer}.",
    ),
    keywords=("bird", "nest", "eggs", "winter"),
)

WINOGRANDE = Skill(
    name="winogrande",
    n_options=2,
    structure="pair",
    proper_names=True,
    answers=(),
    aspects=("cooks", "sings", "paints", "digs"),
    opening="Which one?",
    statements=(
        "Of {subject}, the one who {aspect} is {answer}.",
        "Ask {subject}: the one who {aspect} is {answer}.",
        "With {subject}, the one who {aspect} is {answer}.",
    ),
    keywords=("boat", "cooks", "sings", "one"),
)

SKILLS: tuple[Skill, ...] = (ARC_EASY, ARC_CHALLENGE, BOOLQ, PIQA, SIQA, HELLASWAG, OPENBOOKQA, WINOGRANDE)
TASKS: tuple[str, ...] = tuple(skill.task for skill in SKILLS)
