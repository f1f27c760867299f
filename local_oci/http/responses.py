"""Building responses in the forms of Oracle's APIs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response

from local_oci.http.errors import ServiceError
from local_oci.storage.records import Record

WORK_REQUEST_HEADER = "opc-work-request-id"


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON body."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status, headers, media_type="application/json")


def record_response(
    record: Record, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """One record, with its etag."""
    return json_response(record.wire(), status, {"etag": record.etag, **(headers or {})})


def records_response(records: Iterable[Record], next_page: str | None) -> Response:
    """A page of records as a bare JSON array; `opc-next-page` leads to the next one."""
    content = [record.wire() for record in records]
    return json_response(content, headers=next_page_header(next_page))


def next_page_header(token: str | None) -> dict[str, str]:
    """What leads to the next page, if there is one."""
    return {"opc-next-page": token} if token else {}


def empty_response(status: int = 204, headers: Mapping[str, str] | None = None) -> Response:
    """No body."""
    return Response(None, status, headers)


def error_response(error: ServiceError, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal: `{"code", "message"}`."""
    return json_response({"code": error.code, "message": error.message}, error.status, headers)
