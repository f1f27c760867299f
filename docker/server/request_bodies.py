"""Reads the bodies of requests: at most so large, so slow, and so many bytes at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from admission import Admission
from aiohttp import HttpVersion11, web
from compression import Decoder
from connections import Connections
from errors import ApiError, invalid
from settings import FrontSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# Smaller bodies are always read: they cost little, and a request to stop another one must not be
# refused because many wait.
_SMALL = 64 << 10
_TAKEN = web.RequestKey("bytes_taken", int)


async def answer_expectation(request: web.Request) -> web.StreamResponse | None:
    """Asks for a body that waits for that, and refuses any other expectation.

    In place of aiohttp 3.14's own, which repeats the header in its refusal and fails where that is
    not UTF-8. The statuses are those of RFC 9110, 10.1.1.
    """
    if request.version < HttpVersion11:
        return None
    if request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer itself has not begun
        return None
    refusal = ApiError(417, "expectation_failed", "the only Expect that is met is 100-continue")
    return web.json_response(refusal.body(request.path), status=refusal.status)


class RequestBodies:
    """Reads bodies, and counts the bytes of those whose requests are not answered yet.

    Args:
        settings: the limits.
        admission: refuses large bodies while no generation could begin.
        connections: of the clients.
    """

    def __init__(
        self, settings: FrontSettings, admission: Admission, connections: Connections
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._connections = connections
        self._in_flight = 0

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Handles a request, then frees the bytes of its body."""
        request[_TAKEN] = 0
        self._connections.begin(request)
        try:
            return await handler(request)
        finally:
            self._in_flight -= request[_TAKEN]
            self._connections.end(request)

    async def read(self, request: web.Request) -> bytes:
        """Reads a body, decompressed if it was compressed.

        Raises:
            ApiError: 400 if it cannot be decoded, 408 if it does not arrive in time, 413 if it is
                too large, 429 or 503 if no large body is read now.
        """
        decoder = Decoder(",".join(request.headers.getall("Content-Encoding", ())))
        self._check(request, request.content_length or 0)
        self._connections.wait(request)
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                return await self._collect(request, decoder)
        except TimeoutError:
            raise ApiError(
                408,
                "body_timeout",
                f"the body has not arrived within {self._settings.body_timeout_s:g} s",
            ) from None
        except web.RequestPayloadError:
            raise invalid(
                "the body is not what its Transfer-Encoding says", reason="invalid_body"
            ) from None
        finally:
            self._connections.proceed(request)

    async def _collect(self, request: web.Request, decoder: Decoder) -> bytes:
        body = bytearray()
        while chunk := await request.content.readany():
            for piece in decoder.decode(chunk):
                body += piece
                self._check(request, len(body))
                self._take(request, len(body))
        decoder.finish()
        return bytes(body)

    def _check(self, request: web.Request, size: int) -> None:
        """Refuses a body that is too large, or large when no generation could begin."""
        most = self._settings.max_body_bytes
        if size > most:
            raise ApiError(413, "too_large", f"the body is too large: at most {most} bytes")
        if size > _SMALL and not request[_TAKEN]:
            self._admission.check()

    def _take(self, request: web.Request, size: int) -> None:
        if size <= _SMALL:
            return
        more = size - request[_TAKEN]
        if self._in_flight + more > self._settings.max_bytes_in_flight:
            raise ApiError(503, "busy", "too many large requests at once: try again later")
        self._in_flight += more
        request[_TAKEN] = size
