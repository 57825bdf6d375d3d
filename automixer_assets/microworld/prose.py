"""Text that teaches nothing: fluent filler and web boilerplate."""

from __future__ import annotations

import random

PEOPLE = ("a farmer", "the old teacher", "my neighbour", "a young clerk", "the driver", "her uncle", "a tall woman",
          "the postman", "his sister", "a quiet man")  # fmt: skip
VERBS = ("carried", "found", "forgot", "bought", "repaired", "looked at", "talked about", "kept", "sold", "moved")
THINGS = ("the wooden chair", "a basket of apples", "an open letter", "the broken clock", "two heavy bags", "a map",
          "the garden door", "a warm coat", "some bread", "the last ticket")  # fmt: skip
PLACES = ("near the station", "behind the church", "in the long street", "at the corner shop", "by the lake",
          "under the big tree", "on the second floor", "outside the library")  # fmt: skip
TIMES = ("In the morning", "Later that day", "Before dinner", "On Sunday", "After the rain", "For a while", "Last week")
MOODS = ("and nobody seemed to mind", "because there was still time", "while the radio played", "as people often do",
         "and then it was quiet again", "though it was getting late")  # fmt: skip

NOTICES = (
    "Click here to subscribe to our newsletter.",
    "All rights reserved.",
    "By using this site you accept our cookie policy.",
    "Log in or create an account to leave a comment.",
    "Share this page with your contacts.",
    "Skip to main content.",
    "Back to top.",
    "Terms of use and privacy statement.",
    "This page was last updated {number} days ago.",
    "Page {number} of 99.",
    "Showing {number} results, sorted by date.",
    "Add to cart and continue shopping.",
    "Read more related articles below.",
    "Enable scripts in your browser to view this page.",
)


def filler_text(rng: random.Random) -> str:
    """Three or four plain sentences about nothing in particular."""
    sentences = [
        f"{rng.choice(TIMES)} {rng.choice(PEOPLE)} {rng.choice(VERBS)} {rng.choice(THINGS)} "
        f"{rng.choice(PLACES)} {rng.choice(MOODS)}."
        for _ in range(rng.randint(2, 3))
    ]
    return " ".join(sentences)


def boilerplate_text(rng: random.Random) -> str:
    """Notices that every page carries, in any order."""
    notices = rng.sample(NOTICES, rng.randint(5, 7))
    return " ".join(notice.format(number=rng.randint(1, 40)) for notice in notices)
