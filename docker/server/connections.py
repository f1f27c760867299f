"""The front's connections: how many there are, and how long each may keep the front waiting.

aiohttp 3.14 has no limit for connections, and one deadline for a slow request head and for an idle
connection that is to be kept. So each of its protocols is wrapped, to watch what passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from aiohttp import web
from typing_extensions import override

_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 64 << 10
# A client that takes nothing of its answer for so long has lost it.
_SEND_TIMEOUT_S = 30.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_HEAD_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
    b"Content-Length: 0\r\n\r\n"
)


class Connections:
    """All connections of clients.

    At the limit, a new connection ends an idle one, or one whose request has not arrived: the
    front has waited for it longest. Requests that are being answered are never ended.

    Args:
        most: how many there may be.
        header_timeout_s: how long a request's head may take.
    """

    def __init__(self, most: int, header_timeout_s: float) -> None:
        self._most = most
        self._header_timeout_s = header_timeout_s
        self._all: dict[asyncio.BaseTransport, _Connection] = {}
        self._waiting: dict[_Connection, None] = {}  # in the order in which they began to wait

    def wrap(self, make_protocol: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """Makes a factory of watched protocols from one of aiohttp's."""
        return lambda: _Connection(self, make_protocol, self._header_timeout_s)

    def begin(self, request: web.Request) -> None:
        """Notes that the head of a request has arrived; its answer is on its way."""
        if connection := self._of(request):
            connection.expect_no_head()
            self._waiting.pop(connection, None)

    def wait(self, request: web.Request) -> None:
        """Notes that the body of a request is yet to arrive."""
        if connection := self._of(request):
            self._waiting[connection] = None

    def proceed(self, request: web.Request) -> None:
        """Notes that the body of a request has arrived."""
        if connection := self._of(request):
            self._waiting.pop(connection, None)

    def end(self, request: web.Request) -> None:
        """Notes that a request has had its answer."""
        if connection := self._of(request):
            self._waiting[connection] = None
            # What is left of a refused body may follow; aiohttp reads it, so that the client gets
            # to see its answer.
            connection.expect_head(rest_of_body=not request.content.is_eof())

    def add(self, connection: _Connection, transport: asyncio.BaseTransport) -> bool:
        """Adds a new connection; returns whether there is room for it."""
        if len(self._all) >= self._most:
            if not self._waiting:
                return False
            oldest = next(iter(self._waiting))
            oldest.abort()
        self._all[transport] = connection
        self._waiting[connection] = None
        return True

    def remove(self, connection: _Connection, transport: asyncio.BaseTransport) -> None:
        """Removes a connection that has ended."""
        self._all.pop(transport, None)
        self._waiting.pop(connection, None)

    def _of(self, request: web.Request) -> _Connection | None:
        transport = request.transport
        return self._all.get(transport) if transport else None


class _Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and counts what comes before a request."""

    def __init__(
        self,
        connections: Connections,
        make_protocol: Callable[[], asyncio.Protocol],
        header_timeout_s: float,
    ) -> None:
        self._connections = connections
        self._make_protocol = make_protocol
        self._header_timeout_s = header_timeout_s
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None
        self._head_size: int | None = None  # of the head that is arriving; None where none is
        self._head_tail = b""

    def expect_head(self, *, rest_of_body: bool) -> None:
        """Expects the head of a further request; its deadline begins with its first byte."""
        if rest_of_body:
            self._start_deadline()
        else:
            self._head_size, self._head_tail = 0, b""

    def expect_no_head(self) -> None:
        """Ends the deadline: the head has arrived."""
        self._head_size = None
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def abort(self) -> None:
        """Ends the connection at once."""
        self._connections.remove(self, self._transport)
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._connections.add(self, transport):
            self._transport.write(_FULL)
            self._transport.close()
            return
        self.expect_head(rest_of_body=False)
        self._start_deadline()
        self._inner = self._make_protocol()
        self._inner.connection_made(transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._inner and self._head_fits(data):
            self._inner.data_received(data)

    @override
    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._inner else None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.expect_no_head()
        self._connections.remove(self, self._transport)
        if self._inner:
            self._inner.connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        if self._inner:
            self._inner.pause_writing()

    @override
    def resume_writing(self) -> None:
        if self._inner:
            self._inner.resume_writing()

    def _head_fits(self, data: bytes) -> bool:
        """Follows a head to its end; ends the connection where it is too long."""
        if self._head_size is None:
            return True
        if not self._deadline:
            self._start_deadline()
        if _HEAD_END in self._head_tail + data:
            self.expect_no_head()
            return True
        self._head_size += len(data)
        self._head_tail = (self._head_tail + data)[1 - len(_HEAD_END) :]
        if self._head_size > _LONGEST_HEAD:
            self._transport.write(_HEAD_TOO_LONG)
            self._transport.close()
            return False
        return True

    def _start_deadline(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._header_timeout_s, self.abort)


async def send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Sends a part of a response.

    Raises:
        ConnectionResetError: the client takes no data, or has disconnected.
    """
    try:
        async with asyncio.timeout(_SEND_TIMEOUT_S):
            await response.write(data)
    except TimeoutError:
        if request.transport:
            request.transport.abort()
        raise ConnectionResetError("the client takes no data") from None
