"""list_objects: prefix, start, end, limit, delimiter."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from local_oci.http.errors import invalid_parameter
from local_oci.http.messages import integer_query
from local_oci.limits import MAX_PAGE
from local_oci.services.object_storage.models import StoredObject

_FIELDS: dict[str, Callable[[StoredObject], Any]] = {
    "name": lambda stored: stored.name,
    "size": lambda stored: stored.size,
    "md5": lambda stored: stored.md5,
    "etag": lambda stored: stored.etag,
    "timecreated": lambda stored: stored.time_created.isoformat(),
    "timemodified": lambda stored: stored.time_modified.isoformat(),
    "storagetier": lambda stored: "Standard",
    "archivalstate": lambda stored: None,
}
_SPELLING = {
    "timecreated": "timeCreated",
    "timemodified": "timeModified",
    "storagetier": "storageTier",
    "archivalstate": "archivalState",
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list request asks for."""

    prefix: str
    start: str
    start_after: str | None
    end: str | None
    delimiter: str | None
    limit: int
    fields: tuple[str, ...]


def read_listing(request: Request) -> Listing:
    """The query of a list request.

    Raises:
        ServiceError: 400 for an unknown field or delimiter.
    """
    query = request.query_params
    fields = tuple(name.strip().lower() for name in query.get("fields", "name").split(","))
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise invalid_parameter(f"fields: '{unknown[0]}' is not a field of an object.")
    delimiter = query.get("delimiter")
    if delimiter not in (None, "/"):
        raise invalid_parameter("delimiter: only '/' is supported.")
    return Listing(
        prefix=query.get("prefix", ""),
        start=query.get("start", ""),
        start_after=query.get("startAfter"),
        end=query.get("end"),
        delimiter=delimiter,
        limit=integer_query(request, "limit", MAX_PAGE, MAX_PAGE),
        fields=fields,
    )


def list_page(objects: Iterable[StoredObject], listing: Listing) -> dict[str, Any]:
    """One page.

    Args:
        objects: the bucket's objects with the prefix, at or after `start`, by name.
        listing: what is asked for.
    """
    found: list[dict[str, Any]] = []
    prefixes: list[str] = []
    next_start: str | None = None
    for stored in objects:
        if listing.start_after is not None and stored.name <= listing.start_after:
            continue
        if listing.end is not None and stored.name >= listing.end:
            break
        folder = _folder(stored.name, listing)
        if folder is not None and prefixes and prefixes[-1] == folder:
            continue
        if len(found) + len(prefixes) == listing.limit:
            next_start = stored.name
            break
        if folder is not None:
            prefixes.append(folder)
        else:
            found.append(_summary(stored, listing.fields))
    page: dict[str, Any] = {"objects": found, "prefixes": prefixes}
    return page if next_start is None else {**page, "nextStartWith": next_start}


def _folder(name: str, listing: Listing) -> str | None:
    """The name up to the first delimiter after the prefix, if there is one."""
    if listing.delimiter is None:
        return None
    head, delimiter, _ = name[len(listing.prefix) :].partition(listing.delimiter)
    return f"{listing.prefix}{head}{delimiter}" if delimiter else None


def _summary(stored: StoredObject, fields: Iterable[str]) -> dict[str, Any]:
    values = {_SPELLING.get(name, name): _FIELDS[name](stored) for name in ("name", *fields)}
    return {name: value for name, value in values.items() if value is not None}
