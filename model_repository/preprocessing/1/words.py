"""Stop and bad words in TensorRT-LLM's form; independent of Triton.

A byte-level vocabulary has other tokens for a word at the beginning of a text or within another
word than for the same word after a space. A runtime that compares tokens misses one of the two,
so it is given both. A runtime that compares text is given the words as they are: " word" would also
cut the space before the word.
"""

from collections.abc import Iterable
from itertools import accumulate

import numpy as np


def word_forms(words: Iterable[str], *, spaced: bool) -> tuple[str, ...]:
    """The texts to look for; leaves out empty words, which would match everywhere.

    Args:
        words: as the user gave them.
        spaced: whether a word is also looked for after a space. A word that begins with a space is
            looked for as it is: without the space it would be found inside other words.
    """
    forms: dict[str, None] = {}
    for word in words:
        if word:
            forms[word] = None
            if spaced and not word[0].isspace():
                forms[f" {word}"] = None
    return tuple(forms)


def flat_word_list(sequences: Iterable[list[int]]) -> np.ndarray:
    """Token sequences in TensorRT-LLM's form: all ids, and each one's end.

    A sequence that ends with another one is left out: both are found at the same token. Sorted by
    their reversed tokens, sequences with the same end follow each other, the shortest first.

    Returns:
        int32 of shape [2, n]: row 0 the ids, row 1 the ends of the sequences, padded with -1.
    """
    kept: list[list[int]] = []
    for backwards in sorted(sequence[::-1] for sequence in sequences if sequence):
        if not kept or backwards[: len(kept[-1])] != kept[-1]:
            kept.append(backwards)
    least = sorted((backwards[::-1] for backwards in kept), key=len)
    ids = [token for sequence in least for token in sequence]
    ends = list(accumulate(map(len, least)))
    return np.array([ids, ends + [-1] * (len(ids) - len(ends))], np.int32)
