"""Which operation of Oracle's services a request means, by what was recorded of the SDK."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_FILE = "operations.txt"
_COMMENT = "#"
_PARAMETER = re.compile(r"\\\{\w+\\\}")
# The routes of what is emulated take no line's end either, so such a path names no operation.
_VALUE = r"[^/\x00-\x1f\x7f]+"


def find_operation(method: str, path: str) -> str | None:
    """The SDK's name of an operation, such as `data_science.create_pipeline`, if there is one."""
    found = [name for pattern, name in _operations().get(method, ()) if pattern.fullmatch(path)]
    return found[-1] if found else None


@cache
def _operations() -> dict[str, list[tuple[re.Pattern[str], str]]]:
    """Patterns of paths with the names of their operations by method, the most literal last."""
    by_method: dict[str, list[tuple[str, str]]] = {}
    for line in files(__package__).joinpath(_FILE).read_text(encoding="utf-8").splitlines():
        if not line.startswith(_COMMENT):
            method, path, name = line.split()
            by_method.setdefault(method, []).append((path, name))
    return {
        method: [
            (re.compile(_PARAMETER.sub(lambda _: _VALUE, re.escape(path))), name)
            for path, name in sorted(rows, key=lambda row: -row[0].count("{"))
        ]
        for method, rows in by_method.items()
    }
