"""Text that teaches nothing: fluent filler and web boilerplate.

The stock of words is small on purpose: in a vocabulary of a thousand tokens every word kept here takes the place of
an invented name, and names cut into letters are hard to learn for a model of this size.
"""

from __future__ import annotations

import random

TIMES = ("Later that day", "On Sunday", "After the rain", "Last week")
PEOPLE = ("a farmer", "the old teacher", "a young man", "the postman", "his sister")
VERBS = ("found", "forgot", "bought", "sold", "carried")
THINGS = ("a chair", "an old map", "a letter", "two bags", "the clock", "a warm coat")
PLACES = ("near the station", "at the shop", "by the lake", "under a tree", "in the street")
MOODS = ("and it was quiet", "while the radio played", "because it was late", "and had no time")

NOTICES = (
    "Log in to leave a comment.",
    "All rights reserved.",
    "This site uses cookies.",
    "Share this page.",
    "Back to top.",
    "Terms of use.",
    "Page {number} of 9.",
    "Add to cart.",
    "Read more about this site.",
    "Click here to leave this page.",
)


def filler_text(rng: random.Random) -> str:
    """Two to four plain sentences about nothing in particular."""
    stocks = (TIMES, PEOPLE, VERBS, THINGS, PLACES, MOODS)
    return " ".join(" ".join(rng.choice(stock) for stock in stocks) + "." for _ in range(rng.randint(2, 4)))


def boilerplate_text(rng: random.Random) -> str:
    """Notices that every page carries, in any order."""
    notices = [rng.choice(NOTICES) for _ in range(rng.randint(8, 11))]
    return " ".join(notice.format(number=rng.randint(1, 9)) for notice in notices)
