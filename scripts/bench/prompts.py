"""What is asked of every engine alike. Standard library only: peers read it in their own Python."""

from __future__ import annotations

import random

BATCHES = (1, 8, 32)
PROMPT_TOKENS = 64
NEW_TOKENS = 64
# Enough to have every kernel compiled that a batch needs.
WARM_UP_TOKENS = 4

# Of the small benchmark checkpoint; the tokens before the first ordinary one are special.
VOCAB_SIZE = 8192
_FIRST_ORDINARY = 12


def prompts(batch: int, *, warm_up: bool = False) -> list[list[int]]:
    """Token ids [batch, PROMPT_TOKENS], the same in every call, none twice in a process.

    So no engine gains from a prompt that it has seen before.
    """
    numbers = random.Random(2 * batch + warm_up)
    return [
        [numbers.randrange(_FIRST_ORDINARY, VOCAB_SIZE) for _ in range(PROMPT_TOKENS)]
        for _ in range(batch)
    ]
