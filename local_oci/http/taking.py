"""Large bodies by a thread that reads them from the socket itself.

What h11 and the event loop do with a byte, some five copies of it, they do while they hold the
interpreter. A cloud's storage is as fast as its network, so ours must not be slower than this
machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from local_oci.runtime.threads import run_abandonable

Result = TypeVar("Result")
ReadInto = Callable[[memoryview], None]

# As long as the SDK waits for an answer by default.
_SILENCE_SECONDS = 60.0


class BodyTaking:
    """The body of one request, for a thread to take.

    Args:
        transport: of the connection.
        flow: lets the connection be read, or not.
        cycle: the request, as uvicorn has it.
        receive: its ASGI `receive`; where a request has another, something stands between, which
            wants to see the body.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: FlowControl,
        cycle: RequestResponseCycle,
        receive: Receive,
    ) -> None:
        self._transport = transport
        self._flow = flow
        self._cycle = cycle
        self._receive = receive
        self._taken = False

    def may_take(self, receive: Receive) -> bool:
        """Whether nothing stands between a request with this `receive` and the connection."""
        return receive == self._receive

    async def take(self, store: Callable[[ReadInto], Result]) -> Result:
        """Run a function in a thread with what fills its buffers from the body.

        It must not ask for more than there is. The connection is closed after the response,
        because h11 has not seen the body's end.

        Raises:
            ClientDisconnect: the client went away, or says nothing any more.
        """
        message = await self._receive()
        # Until reading is paused nothing may be awaited: what comes meanwhile would be lost.
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self._flow.pause_reading()
        arrived = message["body"] + bytes(self._cycle.body)
        self._cycle.body = bytearray()
        self._taken = self._cycle.more_body
        connection: socket.socket = self._transport.get_extra_info("socket").dup()
        connection.settimeout(_SILENCE_SECONDS)
        rest = _Rest(arrived, connection)

        def run() -> Result:
            with connection:
                return store(rest.read_into)

        try:
            return await run_abandonable(run)
        except BaseException as error:
            with contextlib.suppress(OSError):  # the thread may have closed it
                connection.shutdown(socket.SHUT_RDWR)
            self._transport.abort()
            if isinstance(error, ClientDisconnect):
                await asyncio.sleep(0)  # lets the server notice that the connection is closed
            raise

    def closing(self, send: Send) -> Send:
        """A `send` that tells the client of the end of the connection."""

        async def closing_send(message: Message) -> None:
            if self._taken and message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        return closing_send


class _Rest:
    """What has arrived already, then what the connection gives."""

    def __init__(self, arrived: bytes, connection: socket.socket) -> None:
        self._arrived = memoryview(arrived)
        self._connection = connection

    def read_into(self, buffer: memoryview) -> None:
        """Fill a buffer.

        Raises:
            ClientDisconnect: the connection ended before.
        """
        count = min(len(buffer), len(self._arrived))
        buffer[:count] = self._arrived[:count]
        self._arrived = self._arrived[count:]
        left = buffer[count:]
        while left:
            try:
                received = self._connection.recv_into(left)
            except OSError:
                received = 0
            if received == 0:
                raise ClientDisconnect
            left = left[received:]
