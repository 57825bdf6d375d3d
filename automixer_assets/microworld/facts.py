"""The latent knowledge base: which subject has which answer, and which of three disjoint item sets asks for it.

Within a skill and a split every answer is right equally often, so that no option is a better guess than another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from automixer_assets.errors import AutomixerError
from automixer_assets.microworld.names import invented_names
from automixer_assets.microworld.skills import SKILLS, Skill, Structure

SPLITS: tuple[str, ...] = ("train", "validation", "test")
FACTS_PER_SKILL_STEP = len(SPLITS) * 8
"""Eight facts balance two or four answers and four aspects; skills of three answers get six of each eight."""


@dataclass(frozen=True)
class Fact:
    """One thing to know. `wrong_answers` are what a wrong document may claim and an item may offer instead."""

    fact_id: str
    skill: str
    split: str
    subject: str
    aspect: str
    answer: str
    wrong_answers: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """Everything there is to know, by skill, in a fixed order."""

    seed: int
    facts: dict[str, tuple[Fact, ...]]

    def split(self, skill: str, split: str) -> tuple[Fact, ...]:
        return tuple(fact for fact in self.facts[skill] if fact.split == split)


def build_world(seed: int, facts_per_skill: int) -> World:
    """The knowledge base of that seed; `facts_per_skill` is divided evenly among the three splits.

    Raises:
        AutomixerError: the facts cannot be divided so that every answer is right equally often.
    """
    if facts_per_skill <= 0 or facts_per_skill % FACTS_PER_SKILL_STEP:
        raise AutomixerError(
            f"facts_per_skill={facts_per_skill} cannot be balanced over {len(SPLITS)} splits and "
            f"their answers: use a multiple of {FACTS_PER_SKILL_STEP}"
        )
    names = invented_names(seed)
    return World(seed, {skill.name: _skill_facts(skill, seed, facts_per_skill, names) for skill in SKILLS})


def _skill_facts(skill: Skill, seed: int, count: int, names: Iterator[str]) -> tuple[Fact, ...]:
    rng = random.Random(f"microworld facts {seed} {skill.name}")
    facts: list[Fact] = []
    for split in SPLITS:
        for subject, aspect, answer, wrong in BUILDERS[skill.structure](skill, count // len(SPLITS), names, rng):
            facts.append(Fact(f"{skill.name}/{len(facts):03d}", skill.name, split, subject, aspect, answer, wrong))
    return tuple(facts)


Row = tuple[str, str, str, tuple[str, ...]]
"""subject, aspect, answer, wrong answers"""


def _single(skill: Skill, count: int, names: Iterator[str], rng: random.Random) -> list[Row]:
    count -= count % len(skill.answers)
    subjects = _subjects(skill, count, names)
    answers = rng.sample(skill.answers * (count // len(skill.answers)), count)
    return [(subject, "", answer, _others(skill, answer)) for subject, answer in zip(subjects, answers, strict=True)]


def _aspects(skill: Skill, count: int, names: Iterator[str], rng: random.Random) -> list[Row]:
    subjects = _subjects(skill, count // len(skill.aspects), names)
    questions = [(subject, aspect) for subject in subjects for aspect in skill.aspects]
    answers = rng.sample(skill.answers * (count // len(skill.answers)), count)
    return [(*question, answer, _others(skill, answer)) for question, answer in zip(questions, answers, strict=True)]


def _yes_no(skill: Skill, count: int, names: Iterator[str], rng: random.Random) -> list[Row]:
    claims = [(aspect, answer) for aspect in skill.aspects for answer in skill.answers]
    claims = rng.sample(claims * (count // len(claims)), count)
    subjects = _subjects(skill, count, names)
    return [(subject, *claim, _others(skill, claim[1])) for subject, claim in zip(subjects, claims, strict=True)]


def _pair(skill: Skill, count: int, names: Iterator[str], rng: random.Random) -> list[Row]:
    """Two facts per pair, one answered by each of the two: the pair alone never tells the answer."""
    rows: list[Row] = []
    for _ in range(count // 2):
        one, other = _subjects(skill, 2, names)
        first, second = rng.sample(skill.aspects, 2)
        rows.append((f"{one} and {other}", first, one, (other,)))
        rows.append((f"{one} and {other}", second, other, (one,)))
    return rows


BUILDERS: dict[Structure, Callable[[Skill, int, Iterator[str], random.Random], list[Row]]] = {
    "single": _single,
    "aspects": _aspects,
    "yes_no": _yes_no,
    "pair": _pair,
}


def _subjects(skill: Skill, count: int, names: Iterator[str]) -> list[str]:
    return [name.capitalize() if skill.proper_names else name for name in islice(names, count)]


def _others(skill: Skill, answer: str) -> tuple[str, ...]:
    return tuple(other for other in skill.answers if other != answer)
