"""uvicorn's HTTP/1.1 protocol and what the cloud's gateway can do besides.

* Trailers after a chunked body (ASGI extension `http.response.trailers`): the cloud reports a
  failure in the middle of a stream in the trailer `StreamFailure`.
* Cutting the connection, for injected faults (extension `local_oci.cut`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

TRAILERS = "http.response.trailers"
CUT = "local_oci.cut"


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
        scope["extensions"] = {TRAILERS: {}, CUT: self._cut}
        await self._application(scope, receive, _TrailerSend(send, self._end_with_trailers))

    def _cut(self) -> None:
        """Send what is buffered, then close without finishing the response."""
        self.transport.close()

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
