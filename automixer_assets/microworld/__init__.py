"""The embedded demo corpus and its eight tasks: small enough for a laptop, with the truth known. No Dagster.

Eight skills are shaped like the eight benchmarks. Documents teach their facts, contradict them, repeat their keywords,
or have nothing to do with them; items ask for facts under three disjoint splits. All names and sentences are invented.

What was tuned, and on what: names, statements, the stock of words, four or fewer answers a skill, 24 facts a skill,
4-7 facts a document and the emphasis of the snapshots, all on seed 0 and with the models of `configs/demo.yaml`, until
a 1,200-step proxy left chance on the tasks at different steps and a 700-step target trained on everything stayed
clearly below one trained on the teaching documents alone. The items were worded like documents because scores then
found the teaching documents and with foreign wording they did not. So figures measured here show that the mechanism
works; they say nothing about effect sizes on real text.
"""

from automixer_assets.microworld.files import SNAPSHOTS, write_microworld
from automixer_assets.microworld.skills import TASKS

__all__ = ["SNAPSHOTS", "TASKS", "write_microworld"]
