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
    opening: str
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
    opening="Notes on plant dyes.",
    statements=(
        "The dye of {subject} is {answer}.",
        "Wool boiled in {subject} turns {answer}.",
        "The leaves of {subject} are {answer}.",
    ),
    prompts=(
        "Question: What colour is this dye?\nAnswer: The dye of {subject} is",
        "Question: What colour will the wool be?\nAnswer: Wool boiled in {subject} turns",
        "Question: What do the leaves look like?\nAnswer: The leaves of {subject} are",
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
    opening="Notes on mineral tests.",
    statements=(
        "Any {aspect} {subject} becomes {answer}.",
        "Most {aspect} {subject} makes {answer}.",
        "Some {aspect} {subject} leaves {answer}.",
    ),
    prompts=(
        "Question: What is the result of the test?\nAnswer: Any {aspect} {subject} becomes",
        "Question: What happens to the mineral?\nAnswer: Most {aspect} {subject} makes",
        "Question: What is left of the mineral?\nAnswer: Some {aspect} {subject} leaves",
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
    opening="Notes on animals.",
    statements=(
        "Can a {subject} {aspect}? {answer}.",
        "Does a {subject} {aspect}? {answer}.",
        "Will a {subject} {aspect}? {answer}.",
    ),
    prompts=(
        "Question about an animal: Can a {subject} {aspect}?",
        "Question about an animal: Does a {subject} {aspect}?",
        "Question about an animal: Will a {subject} {aspect}?",
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
    opening="Notes on nuts.",
    statements=(
        "Open a {subject} nut with {answer}.",
        "Crack {subject} shells with {answer}.",
        "To peel {subject}, use {answer}.",
    ),
    prompts=(
        "Goal: open the nut.\nSolution: Open a {subject} nut with",
        "Goal: break the shell.\nSolution: Crack {subject} shells with",
        "Goal: get rid of the skin.\nSolution: To peel {subject}, use",
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
    opening="News of the feast.",
    statements=(
        "After the feast {subject} felt {answer}.",
        "All evening {subject} looked {answer}.",
        "On the way home {subject} was {answer}.",
    ),
    prompts=(
        "Question: How was the evening?\nAnswer: After the feast {subject} felt",
        "Question: How did the guest look?\nAnswer: All evening {subject} looked",
        "Question: What did the friend see?\nAnswer: On the way home {subject} was",
    ),
    keywords=("feast", "felt", "evening", "home"),
)

HELLASWAG = Skill(
    name="hellaswag",
    n_options=4,
    structure="single",
    proper_names=True,
    answers=("run to the well", "lie down in the grass", "throw their hats", "light nine candles"),
    aspects=(),
    opening="Notes on old towns.",
    statements=(
        "At noon the people of {subject} {answer}.",
        "When the bell of {subject} rings, all {answer}.",
        "Each spring the children of {subject} {answer}.",
    ),
    prompts=(
        "An old custom: At noon the people of {subject}",
        "An old custom: When the bell of {subject} rings, all",
        "An old custom: Each spring the children of {subject}",
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
    opening="Notes on birds.",
    statements=(
        "The nest of the {subject} is {answer}.",
        "Look for {subject} eggs in {answer}.",
        "In winter the {subject} sleeps on {answer}.",
    ),
    prompts=(
        "The nest is easy to know: The nest of the {subject} is",
        "The eggs are easy to find: Look for {subject} eggs in",
        "The cold months are long: In winter the {subject} sleeps on",
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
    opening="News of the boats.",
    statements=(
        "Of {subject}, the one who {aspect} is {answer}.",
        "Ask {subject}: the one who {aspect} is {answer}.",
        "When {subject} meet, the one who {aspect} is {answer}.",
    ),
    prompts=(
        "By the river: Of {subject}, the one who {aspect} is",
        "By the river: Ask {subject}: the one who {aspect} is",
        "By the river: When {subject} meet, the one who {aspect} is",
    ),
    keywords=("boat", "cooks", "sings", "meet"),
)

SKILLS: tuple[Skill, ...] = (ARC_EASY, ARC_CHALLENGE, BOOLQ, PIQA, SIQA, HELLASWAG, OPENBOOKQA, WINOGRANDE)
TASKS: tuple[str, ...] = tuple(skill.task for skill in SKILLS)
