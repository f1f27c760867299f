"""The outermost layer of requests: id, log line, metrics and error answers.

No text of a prompt or an answer is logged, and no client's address.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from access import without_regions
from aiohttp import web
from errors import ApiError, not_ready
from metrics import Metrics
from triton_client import TritonError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# OCI's gateway names a request in opc-request-id, others in x-request-id.
_REQUEST_IDS = ("x-request-id", "opc-request-id")
_USABLE_ID = re.compile(r"[\x21-\x7e]{1,200}")
_CLIENT_DISCONNECTED = 499  # nginx's
_LONGEST_LOGGED_PATH = 200
# A generation's route by its path; other requests are neither logged nor counted one by one.
_ROUTES = re.compile(
    r"/v1/(?P<openai>chat/completions|completions)"
    r"|/v2/models/[^/]+(?:/versions/[^/]+)?/(?P<kserve>generate|generate_stream|infer)"
)
_HTTP_REASONS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_log = logging.getLogger("front")


@dataclass(slots=True)
class Record:
    """One request.

    Attributes:
        request_id: the client's name for it, or else one of ours.
        route: which kind of generation it is, None for none.
        arrived: when it came, of `time.perf_counter`.
        first_text: how many seconds later a stream's first text was sent.
        facts: further facts for the log, numbers and words of ours only.
    """

    request_id: str
    route: str | None
    arrived: float = field(default_factory=time.perf_counter)
    first_text: float | None = None
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def age(self) -> float:
        """Seconds since it came."""
        return time.perf_counter() - self.arrived

    def text_sent(self) -> None:
        """Notes the time of a stream's first text."""
        if self.first_text is None:
            self.first_text = self.age


_RECORD = web.RequestKey("record", Record)


def record_of(request: web.Request) -> Record:
    """The record of a request."""
    return request[_RECORD]


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Adds the request's id to the response, before its headers are sent."""
    record = request.get(_RECORD)  # None where aiohttp refuses a request before any middleware
    if record:
        response.headers["x-request-id"] = record.request_id


class RequestLog:
    """The middleware that logs and counts requests, and turns exceptions into error responses.

    Args:
        metrics: the front's metrics.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @web.middleware
    async def log_request(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handles a request, then logs and counts it."""
        record = request[_RECORD] = Record(_request_id(request), _route(request.path))
        status = _CLIENT_DISCONNECTED
        try:
            response = await self._answer(request, handler)
            status = response.status
            return response
        except (ConnectionResetError, asyncio.CancelledError):
            record.facts["end"] = "the client disconnected"
            raise
        finally:
            self._report(request, record, status)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return self._error_response(request, error)
        except TritonError as error:
            return self._error_response(request, api_error_of(error))
        except web.HTTPException as error:
            reason = _HTTP_REASONS.get(error.status, "refused")
            return self._error_response(
                request, ApiError(error.status, reason, error.text or error.reason)
            )
        except (ConnectionResetError, asyncio.CancelledError):
            raise
        except MemoryError:
            return self._error_response(request, not_ready("the server has no memory left"))
        except Exception:
            _log.exception("request %s failed", json.dumps(record_of(request).request_id))
            return self._error_response(request, ApiError(500, "internal", "the front has failed"))

    def _error_response(self, request: web.Request, error: ApiError) -> web.StreamResponse:
        record_of(request).facts["refused"] = error.reason
        return web.Response(
            body=json.dumps(error.body(request.path)).encode(),
            status=error.status,
            headers=error.headers,
            content_type="application/json",  # Triton's own, without a charset
        )

    def _report(self, request: web.Request, record: Record, status: int) -> None:
        if record.route is None:
            return
        self._metrics.answered(record.route, status, record.age)
        if "refused" in record.facts:
            self._metrics.refused(str(record.facts["refused"]))
        if record.first_text is not None:
            self._metrics.first_text(record.route, record.first_text)
            record.facts["first_s"] = f"{record.first_text:.3f}"
        facts = "".join(f", {name} {value}" for name, value in record.facts.items())
        path = request.raw_path[:_LONGEST_LOGGED_PATH]
        _log.info(
            "request %s: %s %s %d%s, total_s %.3f",
            *(json.dumps(record.request_id), request.method, path, status, facts, record.age),
        )


def api_error_of(error: TritonError) -> ApiError:
    """Converts an error of Triton; its message stays unless that is about shared memory."""
    reason = without_regions(str(error))
    if error.status == 503:
        return ApiError(503, "unavailable", reason)
    if error.status == 400:
        return ApiError(400, "invalid_value", reason)
    return ApiError(500, "engine_failed", reason)


def _request_id(request: web.Request) -> str:
    for name in _REQUEST_IDS:
        given = request.headers.get(name, "")
        if _USABLE_ID.fullmatch(given):
            return given
    return uuid.uuid4().hex


def _route(path: str) -> str | None:
    match = _ROUTES.fullmatch(path)
    return match and (match["openai"] or match["kserve"])
