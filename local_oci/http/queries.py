"""Splits the cloud's query languages into words, in one pass however long a query is."""

from __future__ import annotations

import re

# No two of these begin with the same character, so that nothing is ever tried twice.
_WORD = re.compile(r"""\s+|"[^"]*"|'[^']*'|!=|&&|[=,|]|[^\s"'!&=,|]+""")


def split_words(query: str) -> list[str]:
    """The words of a query: names, quoted texts with their quotes, and operators.

    Raises:
        ValueError: a quote without its second, or a character that begins no word; the text is
            what is left of the query there.
    """
    words, position = [], 0
    while position < len(query):
        match = _WORD.match(query, position)
        if match is None:
            raise ValueError(query[position : position + 100])
        position = match.end()
        if not match[0].isspace():
            words.append(match[0])
    return words


def quoted(word: str, quote: str) -> str | None:
    """The text of a quoted word; None if it is none with these quotes."""
    return word[1:-1] if len(word) > 1 and word.startswith(quote) else None


def split_at(words: list[str], separator: str) -> list[list[str]]:
    """The parts of a query between its separators, whose capitals do not matter."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word.lower() == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts
