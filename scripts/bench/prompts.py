"""The prompts for every engine. Standard library only: peers import it too."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

BATCHES = (1, 8, 32)
PROMPT_TOKENS = 64
NEW_TOKENS = 64
# Enough to have every kernel compiled that a batch needs.
_WARM_UP_TOKENS = 4

# Of the small benchmark checkpoint; the tokens before the first ordinary one are special.
VOCAB_SIZE = 8192
_FIRST_ORDINARY = 12

_WORDS = (
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
)
_WORDS_A_PROMPT = 24
_LEAST_REQUESTS = 8
_REQUESTS_A_STREAM = 3


def prompts(batch: int, *, warm_up: bool = False) -> list[list[int]]:
    """Token ids [batch, PROMPT_TOKENS]: always the same, none twice in a process.

    So no engine gains from a prompt that it has seen before.
    """
    numbers = random.Random(2 * batch + warm_up)
    return [
        [numbers.randrange(_FIRST_ORDINARY, VOCAB_SIZE) for _ in range(PROMPT_TOKENS)]
        for _ in range(batch)
    ]


def speeds(generate: Callable[[list[list[int]], int], None]) -> dict[int, float]:
    """Tokens a second of a generator by batch size, each after a short warm-up."""
    found = {}
    for batch in BATCHES:
        generate(prompts(batch, warm_up=True), _WARM_UP_TOKENS)
        started = time.perf_counter()
        generate(prompts(batch), NEW_TOKENS)
        found[batch] = batch * NEW_TOKENS / (time.perf_counter() - started)
    return found


@dataclass(frozen=True, slots=True)
class Load:
    """Texts for so many streams at a time.

    No text begins as another one does, of this or of another load: no cache of prefixes helps.
    """

    streams: int

    @property
    def warm_up(self) -> list[str]:
        """A text for each stream, before the clock starts."""
        return self._texts("warm-up", self.streams)

    @property
    def prompts(self) -> list[str]:
        """What is measured."""
        count = max(_LEAST_REQUESTS, _REQUESTS_A_STREAM * self.streams)
        return self._texts("measured", count)

    def _texts(self, name: str, count: int) -> list[str]:
        draw = random.Random(f"{name} {self.streams}")
        return [
            f"{number} of {self.streams}, {name}: "
            + " ".join(draw.choices(_WORDS, k=_WORDS_A_PROMPT))
            for number in range(count)
        ]
