"""Prompts of a given number of tokens, for whatever reads text."""

from __future__ import annotations

import random
from pathlib import Path

from tokenizers import Tokenizer

CONCURRENT = 64
PROMPT_TOKENS = 512
STOP_WORDS = ("User:", "\n\n")

# What an assembled repository tells the preprocessing model.
PREPROCESSING = {
    "max_input_len": 2 * PROMPT_TOKENS,
    "max_seq_len": 4 * PROMPT_TOKENS,
    "end_id": 11,
    "pad_id": 11,
    "words_are_compared_as": "tokens",
}

# English that every checkout has.
_TEXTS = ("LICENSE", "README.md")
_ROOT = Path(__file__).parents[2]


def prompts(checkpoint: Path, *, seed: int) -> list[str]:
    """CONCURRENT texts of exactly PROMPT_TOKENS tokens each, the same for a seed.

    Words in random order, so that no two prompts begin alike.
    """
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    words = [word for name in _TEXTS for word in (_ROOT / name).read_text("utf-8").split()]
    numbers = random.Random(seed)
    return [_prompt(tokenizer, words, numbers) for _ in range(CONCURRENT)]


def _prompt(tokenizer: Tokenizer, words: list[str], numbers: random.Random) -> str:
    """Words up to the length, then tabs, of which each is a token."""
    text = longer = numbers.choice(words)
    while len(tokenizer.encode(longer).ids) <= PROMPT_TOKENS:
        text, longer = longer, f"{longer} {numbers.choice(words)}"
    while len(tokenizer.encode(text).ids) < PROMPT_TOKENS:
        text += "\t"
    return text
