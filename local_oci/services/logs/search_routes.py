"""HTTP of log entries: searching for them, and pushing one's own.

Of the Logging query language, the part that finds a deployment's logs is known:

    search "<compartment>/<group>/<log>"[, "..."] [| where <comparison> [and ...]]
        [| sort by datetime [asc|desc]]

The language: docs.oracle.com/en-us/iaas/Content/Logging/Reference/query_language_specification.htm.
What is outside this part is refused, never ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import ServiceError, conflict, invalid_parameter, not_found
from local_oci.http.messages import (
    empty_response,
    integer_query,
    json_response,
    next_page_header,
    parse_time,
    read_details,
)
from local_oci.http.pages import make_token, read_token
from local_oci.http.queries import quoted, split_at, split_words
from local_oci.limits import DEFAULT_PAGE, MAX_SEARCH_BYTES, MAX_SEARCH_RESULTS, MAX_SEARCH_WINDOW
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.logs.models import PutLogsDetails, SearchLogsDetails
from local_oci.services.logs.store import Position, PushedEntry

_SORT = ("sort", "by", "datetime")
_ORDERS = {(): False, ("asc",): False, ("desc",): True}
_SOURCES = frozenset({"source", "logContent.source"})
_OCID = "ocid1."


@dataclass(frozen=True, slots=True)
class StreamName:
    """What to search: a compartment, a log group in it, or a log in that."""

    compartment: str
    group: str | None
    log: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`field = 'pattern'`, or `!=`; a `*` in the pattern matches anything."""

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
    try:
        first, *stages = split_at(split_words(text), "|")
    except ValueError as error:
        raise _not_understood([str(error)]) from error
    if [word.lower() for word in first[:1]] != ["search"]:
        raise _not_understood(first)
    streams = tuple(_stream(words) for words in split_at(first[1:], ","))
    conditions: list[Comparison] = []
    descending = True  # the newest first, where nothing else is said
    for stage in stages:
        small = tuple(word.lower() for word in stage)
        if small[: len(_SORT)] == _SORT:
            if small[len(_SORT) :] not in _ORDERS:
                raise _not_understood(stage)
            descending = _ORDERS[small[len(_SORT) :]]
        else:
            compared = stage[1:] if small[:1] == ("where",) else stage
            conditions += [_comparison(words) for words in split_at(compared, "and")]
    return Query(streams, tuple(conditions), descending)


def _stream(words: list[str]) -> StreamName:
    name = quoted(words[0], '"') if len(words) == 1 else None
    parts: list[str | None] = [*(name or "").split("/")]
    if len(parts) > 3 or not all(parts):
        raise _not_understood(words)
    compartment, group, log = [*parts, None, None][:3]
    return StreamName(str(compartment), group, log)


def _comparison(words: list[str]) -> Comparison:
    match words:
        case [field, "=" | "!=" as operator, text] if (pattern := quoted(text, "'")) is not None:
            if field in _SOURCES and pattern.startswith(_OCID):
                raise _bare_source(pattern)
            return Comparison(field, operator == "=", _literal_but_star(pattern))
        case _:
            raise _not_understood(words)


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


def _not_understood(words: list[str]) -> ServiceError:
    return invalid_parameter(
        f"searchQuery: local_oci does not understand '{' '.join(words)[:200]}'. It knows: search "
        "\"compartment/group/log\" | where field = 'text' and ... | sort by datetime desc."
    )


def _bare_source(ocid: str) -> ServiceError:
    """400: "source = <OCID> is not allowed but source = *<OCID> works" (ADS, oci_logging.py).

    The status, and that other operators are refused too, are [inferred].
    """
    return invalid_parameter(
        f"searchQuery: source '{ocid[:200]}' is not allowed, '*{ocid[:200]}' is."
    )


def names(wanted: str | None, identifier: str, display_name: str) -> bool:
    """Whether a part of a stream's name means a resource: absent, its OCID, or its name."""
    return wanted is None or wanted in (identifier, display_name)


async def search_logs(request: Request) -> Response:
    """Find log entries in a window of time.

    Raises:
        ServiceError: 400 where the page would be too large. ADS looks for these words and asks for
            less then (oracle/accelerated-data-science, ads/common/oci_logging.py).
    """
    details = await read_details(request, SearchLogsDetails)
    query = parse(details.search_query)
    start, end = _window(details)
    limit = integer_query(request, "limit", DEFAULT_PAGE, MAX_SEARCH_RESULTS)
    cloud = cloud_of(request)
    entries = [
        (position, entry)
        for position, entry in cloud.logs.read(_log_ids(cloud, query), start, end)
        if all(condition.holds(entry) for condition in query.conditions)
    ]
    if query.descending:
        entries.reverse()
    if token := request.query_params.get("page"):
        last = _read_position(token)
        entries = [
            (position, entry)
            for position, entry in entries
            if (position < last if query.descending else position > last)
        ]
    page = entries[:limit]
    more = len(entries) > limit
    headers = next_page_header(_make_token(page[-1][0]) if more else None)
    results = [{"data": entry} for _, entry in page]
    summary = {"resultCount": len(results), "fieldCount": 0}
    content = {"results": results, "fields": [], "summary": summary}
    response = json_response(content, headers=headers)
    if len(response.body) > MAX_SEARCH_BYTES:
        raise invalid_parameter(
            f"searchQuery: the search result is too large: {len(response.body)} bytes, at most "
            f"{MAX_SEARCH_BYTES}. Ask for a smaller window of time."
        )
    return response


def _make_token(position: Position) -> str:
    time, sequence = position
    return make_token((repr(time), str(sequence)))


def _read_position(token: str) -> Position:
    time, sequence = read_token(token)
    try:
        return float(time), int(sequence)
    except ValueError as error:
        raise invalid_parameter("page: this is not a token from opc-next-page.") from error


def _window(details: SearchLogsDetails) -> tuple[datetime, datetime]:
    start = parse_time(details.time_start, "timeStart")
    end = parse_time(details.time_end, "timeEnd")
    if start >= end:
        raise invalid_parameter("timeStart: it is not before timeEnd.")
    if end - start > MAX_SEARCH_WINDOW:
        raise invalid_parameter(f"timeStart: more than {MAX_SEARCH_WINDOW.days} days to timeEnd.")
    return start, end


def _log_ids(cloud: Cloud, query: Query) -> list[str]:
    """The logs that a query names; 404 if it names none that is there [inferred]."""
    groups = {group.id: group for group in cloud.logs.groups.scan()}
    found = [
        log.id
        for log in cloud.logs.logs.scan()
        for stream in query.streams
        if log.compartment_id == stream.compartment
        and names(stream.group, log.log_group_id, groups[log.log_group_id].display_name)
        and names(stream.log, log.id, log.display_name)
    ]
    if not found:
        raise not_found()
    return found


async def put_logs(request: Request) -> Response:
    """Write entries of one's own into a custom log."""
    details = await read_details(request, PutLogsDetails)
    cloud = cloud_of(request)
    log = cloud.logs.logs.get(request.path_params["log_id"])
    if log is None:
        raise not_found()
    if log.log_type != "CUSTOM" or not log.is_enabled:
        raise conflict("Only a custom log that is enabled takes entries.")
    entries = [
        PushedEntry(
            identifier=entry.id,
            source=batch.source,
            kind=batch.type,
            time=parse_time(entry.time or batch.defaultlogentrytime, "time"),
            data=entry.data,
        )
        for batch in details.log_entry_batches
        for entry in batch.entries
    ]
    cloud.logs.push(log, entries)
    return empty_response(200)


ROUTES = [
    Route("/20190909/search", search_logs, methods=["POST"]),
    Route("/20200831/logs/{log_id}/actions/push", put_logs, methods=["POST"]),
]
