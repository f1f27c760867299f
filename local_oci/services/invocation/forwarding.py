"""Carries one invocation into a container, and its answer back without a change.

A container's own 4xx and 5xx reach the client as they are; the gateway itself answers only when
there is no answer (503, 500 at the deadline), when a stream was requested and none came (409), or
when the tenancy invokes too often (429).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local_oci.http.errors import ServiceError, invalid_parameter
from local_oci.http.protocol import TRAILERS
from local_oci.limits import (
    MAX_REQUESTS_PER_SECOND,
    PREDICT_TIMEOUT_SECONDS,
    STREAM_SILENCE_SECONDS,
)
from local_oci.services.deployments.fleet import RunningContainer

# RFC 9110, section 7.6.1, and what belongs to the exchange with the gateway.
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "authorization", "expect", "x-content-sha256", "date"}
# What a path may hold as it is (RFC 3986, pchar and "/").
_PATH_CHARACTERS = "/:@!$&'()*+,;=-._~"
_NOT_RETURNED = _HOP_BY_HOP | {"content-length"}
_EVENT_STREAM = "text/event-stream"
_STREAM_FAILURE = "StreamFailure"
_RETRY_SECONDS = 2  # a container is replaced about as fast

ResultT = TypeVar("ResultT")
_WINDOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Invocation:
    """A request on its way into a container.

    Args:
        path: path of the container, without escapes.
        query: raw query string.
        headers: names in small letters and values, as they arrived.
        deadline_seconds: how long an answer, or a stream's next part, may take.
    """

    method: str
    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    deadline_seconds: float

    def request(self, client: httpx.AsyncClient) -> httpx.Request:
        """The request to the container and to no other host, whatever the path is.

        Raises:
            ServiceError: 400, no URL can have this path and query.
        """
        target = quote(self.path, safe=_PATH_CHARACTERS).encode()
        if self.query:
            target += b"?" + self.query
        headers = [
            (name, value) for name, value in self.headers if name.decode() not in _NOT_FORWARDED
        ]
        try:
            url = client.base_url.copy_with(raw_path=target)
        except httpx.InvalidURL as error:
            raise invalid_parameter(f"The path cannot be forwarded: {error}.") from error
        return httpx.Request(self.method, url, headers=headers, content=self.body)


async def read_invocation(request: Request, path: str, streaming: bool) -> Invocation:
    """A client's request as an invocation of a path of the container."""
    default = STREAM_SILENCE_SECONDS if streaming else PREDICT_TIMEOUT_SECONDS
    return Invocation(
        method=request.method,
        path=path,
        query=request.scope["query_string"],
        headers=request.headers.raw,
        body=await request.body(),
        deadline_seconds=request.scope.get("deadline_seconds", default),
    )


async def forward(invocation: Invocation, running: RunningContainer, receive: Receive) -> Response:
    """Get the complete answer.

    Raises:
        ServiceError: 500 at the deadline, 503 if there is no server.
        ClientDisconnect: the client disconnected; the container's connection is closed.
    """

    async def exchange(client: httpx.AsyncClient) -> Response:
        answer = await client.send(invocation.request(client), stream=True)
        try:
            return await _complete_response(answer)
        finally:
            await answer.aclose()

    with running.lease() as client:
        return await _unless_disconnected(
            receive, _in_time(exchange(client), invocation.deadline_seconds)
        )


async def forward_stream(
    invocation: Invocation, running: RunningContainer, receive: Receive
) -> Response:
    """Get the answer part by part.

    Raises:
        ServiceError: 409 if it does not come in parts, 500 and 503 as in `forward`.
        ClientDisconnect: as in `forward`.
    """
    async with AsyncExitStack() as stack:
        client = stack.enter_context(running.lease())
        sending = client.send(invocation.request(client), stream=True)
        answer = await _unless_disconnected(receive, _in_time(sending, invocation.deadline_seconds))
        stack.push_async_callback(answer.aclose)
        if answer.is_error:
            return await _in_time(_complete_response(answer), invocation.deadline_seconds)
        if not _is_stream(answer):
            raise ServiceError(
                409,
                "ExternalServerIncorrectState",
                "Unexpected nonstreaming response detected from the deployed model. Check if the "
                "inference server returns the streaming response.",
            )
        return StreamedAnswer(answer, invocation.deadline_seconds, stack.pop_all().aclose)


class StreamedAnswer(Response):
    """An answer that is passed on as it comes, with a trailer that says how it ended."""

    def __init__(
        self,
        answer: httpx.Response,
        silence_seconds: float,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        self._answer = answer
        self._silence_seconds = silence_seconds
        self._release = release
        super().__init__(None, answer.status_code)
        self.raw_headers = [*_returned_headers(answer), (b"trailer", _STREAM_FAILURE.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the parts, then the trailer; stop when the client goes."""
        start = {"status": self.status_code, "headers": self.raw_headers, "trailers": True}
        await send({"type": "http.response.start", **start})
        try:
            await _unless_disconnected(receive, self._send_parts(send))
        finally:
            await self._release()

    async def _send_parts(self, send: Send) -> None:
        trailers: list[tuple[bytes, bytes]] = []
        try:
            async for part in self._parts():
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            trailers = [_stream_failure("RequestTimeout", 408, "The model server was silent.")]
        except httpx.TransportError:
            trailers = [_stream_failure("ServiceUnavailable", 503, "Model server unavailable.")]
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        await send({"type": TRAILERS, "headers": trailers, "more_trailers": False})

    async def _parts(self) -> AsyncIterator[bytes]:
        parts = aiter(self._answer.aiter_raw())
        while True:
            try:
                yield await asyncio.wait_for(anext(parts), self._silence_seconds)
            except StopAsyncIteration:
                return


async def _in_time(exchange: Awaitable[ResultT], seconds: float) -> ResultT:
    try:
        async with asyncio.timeout(seconds):
            return await exchange
    except TimeoutError as error:
        raise ServiceError(
            500, "InternalServerError", "Internal Server Error. Service Timeout."
        ) from error
    except httpx.TransportError as error:
        raise unavailable() from error


async def _unless_disconnected(receive: Receive, work: Awaitable[ResultT]) -> ResultT:
    """Do some work for a client as long as the client is there."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.wait({working, leaving})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _complete_response(answer: httpx.Response) -> Response:
    content = b"".join([part async for part in answer.aiter_raw()])
    response = Response(content, answer.status_code)
    response.raw_headers = [
        *_returned_headers(answer),
        (b"content-length", str(len(content)).encode()),
    ]
    return response


def _returned_headers(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    return [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.decode("latin-1").lower() not in _NOT_RETURNED
    ]


def _is_stream(answer: httpx.Response) -> bool:
    """Chunked or Server-Sent Events (model-dep-response-streaming-endpoint.htm)."""
    content_type = answer.headers.get("content-type", "")
    return "content-length" not in answer.headers or content_type.startswith(_EVENT_STREAM)


def _stream_failure(code: str, status: int, message: str) -> tuple[bytes, bytes]:
    """The trailer. Its name and the first two fields are read, its notation is inferred."""
    value = json.dumps({"ErrorCode": code, "HttpCode": status, "ErrorMessage": message})
    return _STREAM_FAILURE.encode(), value.encode()


def unavailable() -> ServiceError:
    """503: the container does not answer. The Retry-After is [inferred]."""
    return ServiceError(
        503, "ServiceUnavailable", "Model server unavailable.", retry_after=_RETRY_SECONDS
    )


class Throttle:
    """Counts the invocations of the last second."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._times: deque[float] = deque()

    def check(self) -> None:
        """Count an invocation, or refuse it.

        Raises:
            ServiceError: 429, in Oracle's words (model-dep-invoke-throttling.htm).
        """
        present = self._now()
        while self._times and self._times[0] <= present - _WINDOW_SECONDS:
            self._times.popleft()
        if len(self._times) >= MAX_REQUESTS_PER_SECOND:
            raise ServiceError(
                429,
                "TooManyRequests",
                "Tenancy request-rate limit exceeded. Please use the OCI Console to submit a "
                "support ticket for your tenancy to increase the request limit.",
            )
        self._times.append(present)
