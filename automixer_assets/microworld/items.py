"""Benchmark items: lm-eval multiple-choice tasks whose options carry no hint.

Within a split and a prompt the answers are cut into blocks, and each answer of a block is the gold one equally often
among the items that offer the block. So a guesser who looks at the options alone (how long, how frequent, which place)
is exactly at chance, and only facts help.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from itertools import cycle, islice

import yaml

from automixer_assets.microworld.facts import SPLITS, Fact, World
from automixer_assets.microworld.skills import Skill


@dataclass(frozen=True)
class Item:
    """One question: `gold` is the place of the right answer in `choices`."""

    fact_id: str
    query: str
    choices: tuple[str, ...]
    gold: int


def split_items(world: World, skill: Skill, split: str) -> list[Item]:
    """Every fact of the split under every prompt of the skill; gold places are balanced."""
    facts = world.split(skill.name, split)
    items: list[Item] = []
    for number, prompt in enumerate(skill.prompts):
        rng = random.Random(f"microworld items {world.seed} {skill.name} {split} {number}")
        rivals = _rivals(skill, facts, rng)
        places = list(islice(cycle(range(skill.n_options)), len(facts)))
        rng.shuffle(places)
        for fact, place in zip(facts, places, strict=True):
            query = prompt.format(subject=fact.subject, aspect=fact.aspect)
            others = list(rivals[fact.fact_id])
            choices = (*others[:place], fact.answer, *others[place:])
            items.append(Item(fact.fact_id, query, choices, place))
    return items


def _rivals(skill: Skill, facts: tuple[Fact, ...], rng: random.Random) -> dict[str, tuple[str, ...]]:
    """Per fact the wrong options: the rest of its answer's block, or the only other answer there is."""
    if skill.n_options == len(facts[0].wrong_answers) + 1:
        return {fact.fact_id: fact.wrong_answers for fact in facts}
    answers = rng.sample(skill.answers, len(skill.answers))
    blocks = [answers[start : start + skill.n_options] for start in range(0, len(answers), skill.n_options)]
    block_of = {answer: block for block in blocks for answer in block}
    return {fact.fact_id: tuple(other for other in block_of[fact.answer] if other != fact.answer) for fact in facts}


def items_jsonl(items: list[Item]) -> bytes:
    """One JSON object per line, in item order."""
    return "".join(json.dumps(asdict(item)) + "\n" for item in items).encode()


def task_yaml(skill: Skill) -> bytes:
    """The lm-eval task; `data_files` are relative to the folder that holds the YAML file."""
    task = {
        "task": skill.task,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: f"{skill.task}/{split}.jsonl" for split in SPLITS}},
        "output_type": "multiple_choice",
        **{f"{'training' if split == 'train' else split}_split": split for split in SPLITS},
        "doc_to_text": "query",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1.0},
    }
    return yaml.safe_dump(task, sort_keys=False).encode()
