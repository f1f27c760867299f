"""Lists: filters, order and pages.

A page token is the sort key of the last record that was given out, so records that come or go
meanwhile make no record appear twice.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from local_oci.http.errors import invalid_parameter
from local_oci.http.messages import (
    integer_query,
    json_response,
    natural_number,
    next_page_header,
    read_json,
    records_response,
)
from local_oci.limits import DEFAULT_PAGE, MAX_PAGE
from local_oci.storage.records import Record, Resource, WireModel

RecordT = TypeVar("RecordT", bound=Record)
ResourceT = TypeVar("ResourceT", bound=Resource)
SortKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Page(Generic[RecordT]):
    """A part of a list.

    Args:
        records: what is on the page.
        remaining: how many records come after it.
        token: leads to the next page; None on the last one.
    """

    records: Sequence[RecordT]
    remaining: int
    token: str | None


def as_array(page: Page[RecordT]) -> Response:
    """What most services answer to a list operation: a bare JSON array."""
    return records_response(page.records, page.token)


def as_collection(page: Page[RecordT], **totals: int) -> Response:
    """What the others answer: `{"items": ...}` and some numbers."""
    return json_response(
        {
            "items": [record.wire() for record in page.records],
            "remainingItemsCount": page.remaining,
            **totals,
        },
        headers=next_page_header(page.token),
    )


def list_response(
    request: Request,
    records: Iterable[ResourceT],
    *,
    filters: Mapping[str, Callable[[ResourceT], str | None]],
    sort_fields: Mapping[str, Callable[[ResourceT], str]],
    respond: Callable[[Page[ResourceT]], Response] = as_array,
) -> Response:
    """Answer a list operation.

    Args:
        request: its query holds filters, `sortBy`, `sortOrder`, `limit` and `page`.
        records: all that could be listed.
        filters: query parameter to the value that it must equal.
        sort_fields: `sortBy` value to the text to sort by; the first one is the default.
        respond: makes the response with a page.
    """
    query = request.query_params
    wanted = [(value_of, query[name]) for name, value_of in filters.items() if name in query]
    found = [record for record in records if all(value(record) == text for value, text in wanted)]
    field = query.get("sortBy", next(iter(sort_fields)))
    if field not in sort_fields:
        raise invalid_parameter(f"sortBy: '{field}' is not one of {', '.join(sort_fields)}.")
    descending = _descending(query.get("sortOrder"), field)

    def key(record: ResourceT) -> SortKey:
        return sort_fields[field](record), record.id

    found.sort(key=key, reverse=descending)
    return page_response(request, found, key=key, descending=descending, respond=respond)


def page_response(
    request: Request,
    records: Sequence[RecordT],
    *,
    key: Callable[[RecordT], SortKey],
    descending: bool = False,
    respond: Callable[[Page[RecordT]], Response] = as_array,
) -> Response:
    """One page of records that are sorted by `key`; `opc-next-page` leads to the next one."""
    limit = integer_query(request, "limit", DEFAULT_PAGE, MAX_PAGE)
    rest = records
    if token := request.query_params.get("page"):
        last = read_token(token)
        rest = [
            record
            for record in records
            if (key(record) < last if descending else key(record) > last)
        ]
    shown, remaining = rest[:limit], len(rest[limit:])
    token = make_token(key(shown[-1])) if remaining else None
    return respond(Page(shown, remaining, token))


def entries_response(request: Request, entries: Sequence[WireModel]) -> Response:
    """One page of entries without keys, such as the steps of a work request."""
    limit = integer_query(request, "limit", DEFAULT_PAGE, MAX_PAGE)
    token = request.query_params.get("page")
    first = _offset(token) if token else 0
    last = first + limit
    content = [entry.model_dump(mode="json", by_alias=True) for entry in entries[first:last]]
    following = make_token((str(last), "")) if last < len(entries) else None
    return json_response(content, headers=next_page_header(following))


def _offset(token: str) -> int:
    offset = natural_number(read_token(token)[0])
    if offset is None:
        raise invalid_parameter("page: this is not a token from opc-next-page.")
    return offset


def make_token(key: SortKey) -> str:
    """A sort key as an opaque page token."""
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode()


def read_token(token: str) -> SortKey:
    """The sort key in a page token."""
    try:
        value: Any = read_json(base64.urlsafe_b64decode(token))
        first, second = value
    except (ValueError, TypeError) as error:
        raise invalid_parameter("page: this is not a token from opc-next-page.") from error
    return str(first), str(second)


def _descending(order: str | None, field: str) -> bool:
    """The SDK's documents: times are descending by default, names ascending."""
    if order is None:
        return field.lower().startswith("time")
    if order not in ("ASC", "DESC"):
        raise invalid_parameter(f"sortOrder: '{order}' is neither ASC nor DESC.")
    return order == "DESC"
