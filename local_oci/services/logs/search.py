"""The part of the Logging query language that finds a deployment's logs. Pure.

    search "<compartment>/<group>/<log>"[, "..."] [| where <comparison> [and ...]]
        [| sort by datetime [asc|desc]]

The language: docs.oracle.com/en-us/iaas/Content/Logging/Reference/query_language_specification.htm.
What is outside this part is refused, never ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from local_oci.http.errors import ServiceError, invalid_parameter

_STREAM = re.compile(r'"([^"]*)"')
_SORT = re.compile(r"sort\s+by\s+datetime(?:\s+(asc|desc))?", re.IGNORECASE)
_COMPARISON = re.compile(r"([\w.]+)\s*(=|!=)\s*'([^']*)'")
_AND = re.compile(r"\s+and\s+", re.IGNORECASE)
_WHERE = re.compile(r"where\s+", re.IGNORECASE)
_SEARCH = re.compile(r"search\s+", re.IGNORECASE)
# A pipe that separates stages is not inside quotes.
_PIPE = re.compile(r"""\|(?=(?:[^"']|"[^"]*"|'[^']*')*$)""")


@dataclass(frozen=True, slots=True)
class StreamName:
    """What to search: a compartment, a log group in it, or a log in that."""

    compartment: str
    group: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field = 'pattern'`, or `!=`; a `*` in the pattern stands for anything."""

    field: str
    equal: bool
    pattern: str

    def holds(self, entry: dict[str, Any]) -> bool:
        """Whether it is true of an entry."""
        value = _field(entry, self.field)
        return fnmatchcase("" if value is None else str(value), self.pattern) is self.equal


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query."""

    streams: tuple[StreamName, ...]
    conditions: tuple[Comparison, ...]
    descending: bool


def parse(text: str) -> Query:
    """Parse a query.

    Raises:
        ServiceError: 400 InvalidParameter, with the part that is not understood.
    """
    first, *stages = (stage.strip() for stage in _PIPE.split(text))
    search = _SEARCH.match(first)
    if search is None:
        raise _not_understood(first)
    streams = tuple(_stream(name) for name in first[search.end() :].split(","))
    conditions: list[Comparison] = []
    descending = True  # the newest first, where nothing else is said
    for stage in stages:
        if match := _SORT.fullmatch(stage):
            descending = (match.group(1) or "asc").lower() == "desc"
        else:
            conditions += [_comparison(part) for part in _AND.split(_WHERE.sub("", stage, count=1))]
    return Query(streams, tuple(conditions), descending)


def _stream(text: str) -> StreamName:
    match = _STREAM.fullmatch(text.strip())
    if match is None:
        raise _not_understood(text)
    parts: list[str | None] = [*match.group(1).split("/")]
    if len(parts) > 3 or not all(parts):
        raise _not_understood(text)
    compartment, group, log = [*parts, None, None][:3]
    return StreamName(str(compartment), group, log)


def _comparison(text: str) -> Comparison:
    match = _COMPARISON.fullmatch(text.strip())
    if match is None:
        raise _not_understood(text)
    field, operator, pattern = match.groups()
    return Comparison(field, operator == "=", _literal_but_star(pattern))


def _literal_but_star(pattern: str) -> str:
    """Keep `*` as the only special character of fnmatch."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def _field(entry: dict[str, Any], path: str) -> Any:
    """A field by its path, from the entry's top or from its logContent."""
    for start in (entry, entry["logContent"]):
        value: Any = start
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _not_understood(part: str) -> ServiceError:
    return invalid_parameter(
        f"searchQuery: local_oci does not understand '{part.strip()}'. It knows: search "
        "\"compartment/group/log\" | where field = 'text' and ... | sort by datetime desc."
    )


def names(wanted: str | None, identifier: str, display_name: str) -> bool:
    """Whether a part of a stream's name means a resource: absent, its OCID, or its name."""
    return wanted is None or wanted in (identifier, display_name)
