"""Reading requests and building responses in the forms of Oracle's APIs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response

from local_oci.http.errors import ServiceError, etag_mismatch, invalid_parameter, missing_parameter
from local_oci.storage.records import Record, WireModel

DetailsT = TypeVar("DetailsT", bound=WireModel)
WORK_REQUEST_HEADER = "opc-work-request-id"

_LARGEST_INTEGER = 2**63 - 1
_MOST_DIGITS = len(str(_LARGEST_INTEGER)) - 1


def read_json(text: bytes | str) -> Any:
    """JSON as RFC 8259 has it: nested 200 levels at most, with 64-bit integers and finite floats.

    Raises:
        ValueError: it is something else, or holds half of a surrogate pair.
    """
    value = from_json(text, allow_inf_nan=False)
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict() as members:
                waiting.extend(members.values())
            case list() as items:
                waiting.extend(items)
            case int() as number if abs(number) > _LARGEST_INTEGER:
                raise ValueError("an integer has more than 64 bits")
            case float() as number if not math.isfinite(number):
                raise ValueError("a number is beyond what a float can hold")
    return value


def parse_json(body: bytes) -> Any:
    """A body as plain JSON.

    Raises:
        ServiceError: 400 CannotParseRequest.
    """
    try:
        return read_json(body)
    except ValueError as error:
        message = f"The request body is not valid JSON: {error}."
        raise ServiceError(400, "CannotParseRequest", message) from error


def parse_details(model: type[DetailsT], body: bytes) -> DetailsT:
    """A JSON body as its typed shape.

    Raises:
        ServiceError: 400 CannotParseRequest, MissingParameter or InvalidParameter.
    """
    return validate_details(model, parse_json(body))


def validate_details(model: type[DetailsT], value: Any) -> DetailsT:
    """Plain JSON as its typed shape.

    Raises:
        ServiceError: 400 MissingParameter or InvalidParameter.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal_of(error) from error


def refusal_of(error: ValidationError) -> ServiceError:
    """The first thing that is wrong with a body."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return missing_parameter(field)
    problem = first["msg"].removeprefix("Value error, ")
    return invalid_parameter(f"{field or 'body'}: {problem}.")


async def read_details(request: Request, model: type[DetailsT]) -> DetailsT:
    """The JSON body of a request, see `parse_details`."""
    return parse_details(model, await request.body())


def required_query(request: Request, name: str) -> str:
    """A query parameter that must be there."""
    value = request.query_params.get(name)
    if not value:
        raise missing_parameter(name)
    return value


def natural_number(text: str) -> int | None:
    """A number of at most 18 digits, as headers and queries have it; None for anything else."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    return int(text) if is_number else None


def integer_query(request: Request, name: str, default: int, maximum: int) -> int:
    """A positive integer from the query, `default` if absent, cut to `maximum`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    number = natural_number(text)
    if not number:
        raise invalid_parameter(f"{name}: '{text}' is not a positive integer.")
    return min(number, maximum)


def given_fields(details: WireModel) -> dict[str, Any]:
    """What an update's body names; what it leaves out, or names as null, stays as it is."""
    given = {name: getattr(details, name) for name in details.model_fields_set}
    return {name: value for name, value in given.items() if value is not None}


def check_if_match(request: Request, record: Record) -> None:
    """Refuse a change that was meant for another version of a resource.

    Raises:
        ServiceError: 412 NoEtagMatch.
    """
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted not in ("*", record.etag):
        raise etag_mismatch()


def parse_time(text: str, name: str) -> datetime:
    """An RFC 3339 time with a zone, in UTC."""
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is None:
            raise invalid_parameter(f"{name}: '{text}' has no time zone.")
        return value.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # OverflowError: before year 1, after 9999
        raise invalid_parameter(f"{name}: '{text}' is not an RFC 3339 time.") from error


# --- responses --------------------------------------------------------------------------------


def json_response(
    content: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON body."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status, headers, media_type="application/json")


def attachment(name: str) -> str:
    """A Content-Disposition with a file name, whatever characters it holds (RFC 6266)."""
    if name.isascii() and name.isprintable() and not set(name) & {'"', "\\"}:
        return f'attachment; filename="{name}"'
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


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
    later = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    content = {"code": error.code, "message": error.message}
    return json_response(content, error.status, {**later, **(headers or {})})
