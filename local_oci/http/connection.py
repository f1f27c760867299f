"""uvicorn's HTTP/1.1 protocol with abilities that the cloud's gateway has and uvicorn lacks.

* Trailers after a chunked body (ASGI extension `http.response.trailers`): the cloud reports a
  failure in the middle of a stream in the trailer `StreamFailure`.
* Cutting the connection, for injected faults (extension `local_oci.cut`).
* A large body of a request that a thread takes from the socket (extension `local_oci.take_body`).
* A body that the kernel sends from a file (extension `local_oci.sendfile`): a cloud's storage is
  as fast as the network, so ours must not be slower than this machine's disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from local_oci.http.taking import BodyTaking

TRAILERS = "http.response.trailers"
CUT = "local_oci.cut"
SENDFILE = "local_oci.sendfile"
TAKE_BODY = "local_oci.take_body"


@dataclass(frozen=True, slots=True)
class FileSlice:
    """The body of a response: `count` bytes of a file from `offset` on."""

    file: BinaryIO
    offset: int
    count: int

    def __len__(self) -> int:
        return self.count


class GatewayProtocol(H11Protocol):
    """One client connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._application = self.app
        self.app = self._run

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        taking = BodyTaking(self.transport, self.flow, self.cycle, receive)
        scope["extensions"] = {
            TRAILERS: {},
            CUT: self._cut,
            SENDFILE: self._send_file,
            TAKE_BODY: taking,
        }
        trailing = _TrailerSend(taking.closing(send), self._end_with_trailers)
        await self._application(scope, receive, trailing)

    def _cut(self) -> None:
        """Send what is buffered, then close without finishing the response."""
        self.transport.close()

    async def _send_file(self, part: FileSlice) -> None:
        """Send the whole of a body whose head was sent and says how long it is.

        h11 frames data that it does not see (`send_with_data_passthrough`, made for sendfile).
        """
        if self.cycle.disconnected or part.count == 0:
            return
        self.conn.send_with_data_passthrough(h11.Data(data=part))  # type: ignore[arg-type]
        try:
            await self.loop.sendfile(self.transport, part.file, part.offset, part.count)
        except OSError:  # the client went away, which nobody reads while the kernel sends
            self.transport.abort()

    def _end_with_trailers(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """What the parent's `send` does at the end of a body, with trailers in the last chunk."""
        cycle = self.cycle
        if cycle.disconnected:
            return
        self.transport.write(self.conn.send(h11.EndOfMessage(headers=trailers)) or b"")
        cycle.response_complete = True
        cycle.message_event.set()
        if self.conn.our_state is h11.MUST_CLOSE or not cycle.keep_alive:
            self.conn.send(h11.ConnectionClosed())
            self.transport.close()
        cycle.on_response()


class _TrailerSend:
    """An ASGI `send` that holds the end of a body back until its trailers are known."""

    def __init__(self, send: Send, end: Callable[[list[tuple[bytes, bytes]]], None]) -> None:
        self._send = send
        self._end = end
        self._expected = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._expected = message.get("trailers", False)
        elif message["type"] == TRAILERS:
            self._end(list(message["headers"]))
            return
        elif self._expected and not message.get("more_body", False):
            message = {**message, "more_body": True}
        await self._send(message)
