"""The table of what was compared, with which release, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scripts.bench.results import aligned


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
    cells = [
        (row.what, row.release, row.how, "equal" if row.equal else "DIFFERENT", row.note)
        for row in rows
    ]
    return "\n".join(aligned([_HEAD, *cells]))
