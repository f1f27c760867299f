"""The table of what was compared, with which release, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        what: what of ours was compared.
        release: of NVIDIA's code that it was compared with.
        how: `run` where that very release's code ran here; `read` where its facts were recorded.
        equal: whether they agree.
        note: the differences, or what the comparison rests on.
    """

    what: str
    release: str
    how: Literal["run", "read"]
    equal: bool
    note: str = ""


def compared(what: str, release: str, differences: Sequence[str]) -> Row:
    """The row of a comparison that was run here; it notes the first differences."""
    return Row(what, release, "run", not differences, ", ".join(differences[:3])[:160])


_HEAD = ("what", "release", "how", "result", "")


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one a line."""
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD) - 1)]
    return "\n".join(_line(row, widths) for row in cells)


def _cells(row: Row) -> tuple[str, ...]:
    return (row.what, row.release, row.how, "equal" if row.equal else "DIFFERENT", row.note)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "  ".join([*padded, cells[-1]]).rstrip()
