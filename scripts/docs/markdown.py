"""Markdown that GitHub renders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Formats a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def code(text: str) -> str:
    """Formats a text as code."""
    return f"`{text}`"


def _cell(text: str) -> str:
    pieces = " ".join(text.split()).replace("|", "\\|").split("`")
    # GitHub would take <name> for HTML; in code it does not.
    pieces[::2] = [piece.replace("<", "&lt;") for piece in pieces[::2]]
    return "`".join(pieces)
