"""What the front model and the bare engine loop are asked for alike."""

from __future__ import annotations

import random
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Task:
    """Streams to be had at the same time.

    Attributes:
        name: makes the prompts: the same for the same name, and none of which begins as
            another does, of this or of another name. So no cache of prefixes helps either side.
        streams: how many.
        new_tokens: of each.
    """

    name: str
    streams: int
    new_tokens: int

    @property
    def prompts(self) -> list[str]:
        """A text for each stream."""
        draw = random.Random(self.name)
        return [
            f"{self.name} {number} " + " ".join(draw.choices(_WORDS, k=_WORDS_A_PROMPT))
            for number in range(self.streams)
        ]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a task took, in seconds: until all had ended, and until the median first token."""

    seconds: float
    first_token: float
