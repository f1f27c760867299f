"""What the front model and the bare engine loop are asked for alike."""

from __future__ import annotations

import random

STREAMS = 32
NEW_TOKENS = 64
MANY_STREAMS = 256
MANY_NEW_TOKENS = 8
FIRST_TOKEN_REQUESTS = 8
SHORT_TOKENS = 8
LONG_TOKENS = 192
# How often what takes little time is measured within a round; its median counts.
REPEATS = 5

_WORDS = [
    "cloud",
    "lends",
    "you",
    "its",
    "computers",
    "keeps",
    "what",
    "they",
    "hold",
    "near",
    "far",
]
_WORDS_A_PROMPT = 24


def texts(count: int, name: str) -> list[str]:
    """Prompts, the same for the same name, none of which begins as another does.

    So no cache of prefixes helps either side.
    """
    draw = random.Random(name)
    return [
        f"{name} {number} " + " ".join(draw.choices(_WORDS, k=_WORDS_A_PROMPT))
        for number in range(count)
    ]
