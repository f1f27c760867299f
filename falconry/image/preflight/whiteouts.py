"""Whiteouts: the entries by which a layer removes what the layers below it hold. Pure.

Source: opencontainers/image-spec, layer.md.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import PurePosixPath

_PREFIX = ".wh."
_OPAQUE = ".wh..wh..opq"


def is_whiteout(path: str) -> bool:
    """Whether an entry is no file but the removal of one."""
    return path.rpartition("/")[2].startswith(_PREFIX)


def is_removed(path: str, whiteouts: Set[str]) -> bool:
    """Whether a layer with these whiteouts removes a path of a layer below it."""
    place = PurePosixPath(path)
    return any(
        str(part.with_name(_PREFIX + part.name)) in whiteouts
        or str(part.parent / _OPAQUE) in whiteouts
        for part in (place, *place.parents)
        if part.name
    )
