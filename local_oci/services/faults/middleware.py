"""Makes faults happen to authenticated requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_oci.http.messages import error_response
from local_oci.http.middleware import LOCAL_PREFIX
from local_oci.http.protocol import CUT
from local_oci.services.faults.models import (
    REFUSING_KINDS,
    WORKFLOW_KINDS,
    Fault,
    Kind,
    headers_of,
    refusal_of,
)
from local_oci.services.faults.plan import FaultPlan
from local_oci.storage.records import now

_REQUEST_KINDS = frozenset(Kind) - WORKFLOW_KINDS

_log = logging.getLogger("local_oci.faults")
# A slow body comes in pieces of what passes within this time.
_PIECE_SECONDS = 0.1


class Faults:
    """The middleware.

    Args:
        app: what comes next.
        plan: what is to happen.
        routes: the services' routes, whose names are the SDK's names of operations.
    """

    def __init__(self, app: ASGIApp, plan: FaultPlan, routes: Sequence[Route]) -> None:
        self._app = app
        self._plan = plan
        self._routes = routes
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, see the ASGI specification."""
        if scope["type"] != "http" or scope["path"].startswith(LOCAL_PREFIX):
            await self._app(scope, receive, send)
            return
        faults = self._happening(scope)
        if not faults:
            await self._app(scope, receive, send)
            return
        try:
            await self._with_faults(faults, scope, receive, send)
        except CutError:
            await asyncio.sleep(0)  # lets the server notice that the connection is closed

    def _happening(self, scope: Scope) -> list[Fault]:
        if not self._plan.pending():
            return []
        matching = (route for route in self._routes if route.matches(scope)[0] is Match.FULL)
        route = next(matching, None)
        operation = None if route is None else route.name
        return self._plan.take(operation, scope["path"], _REQUEST_KINDS)

    async def _with_faults(
        self, faults: list[Fault], scope: Scope, receive: Receive, send: Send
    ) -> None:
        cut: Callable[[], None] = scope["extensions"][CUT]
        for fault in faults:
            _log.info("%s %s: %s", scope["method"], scope["path"], fault.kind)
            if fault.kind in REFUSING_KINDS:
                response = error_response(refusal_of(fault), headers_of(fault, now()))
                await response(scope, receive, send)
                return
            match fault.kind:
                case Kind.DELAY:
                    await asyncio.sleep(fault.seconds)
                case Kind.RESET:
                    cut()
                    raise CutError
                case Kind.LATE_EFFECT:
                    await self._let_happen_later(fault.seconds, scope, receive)
                    cut()
                    raise CutError
                case Kind.TIMEOUT:
                    scope["deadline_seconds"] = fault.seconds
                case Kind.CUT_REQUEST:
                    receive = cut_request(receive, cut, fault.after_bytes)
                case Kind.CUT_RESPONSE:
                    send = cut_response(send, cut, fault.after_bytes)
                case Kind.SLOW_BODY:
                    receive = slow_receive(receive, fault.bytes_per_second)
                    send = slow_send(send, fault.bytes_per_second)
        await self._app(scope, receive, send)

    async def _let_happen_later(self, seconds: float, scope: Scope, receive: Receive) -> None:
        """Take a request whole and carry it out when its client has gone."""
        messages = [await receive()]
        while messages[-1].get("more_body", False):
            messages.append(await receive())
        scope["extensions"].clear()

        async def replay() -> Message:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def nobody_listens(_message: Message) -> None:
            """The answer goes nowhere."""

        async def happen() -> None:
            await asyncio.sleep(seconds)
            await self._app(scope, replay, nobody_listens)

        task = asyncio.create_task(happen())
        self._late.add(task)
        task.add_done_callback(self._late.discard)


# --- what the network does to bodies ----------------------------------------------------------


class CutError(Exception):
    """Unwinds a request whose connection was cut."""


def cut_request(receive: Receive, cut: Callable[[], None], after_bytes: int) -> Receive:
    """A `receive` that closes the connection after so many bytes of the request's body."""
    left = after_bytes

    async def cutting_receive() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0 or (left == 0 and message.get("more_body", False)):
            cut()
            raise CutError
        return message

    return cutting_receive


def cut_response(send: Send, cut: Callable[[], None], after_bytes: int) -> Send:
    """A `send` that closes the connection after so many bytes of the response's body."""
    left = after_bytes
    start: Message | None = None

    async def cutting_send(message: Message) -> None:
        nonlocal left, start
        if message["type"] == "http.response.start":
            start = message  # held back: with nothing of the body, there is no head either
            return
        body = message.get("body", b"")
        if start is not None and after_bytes > 0:
            await send(start)
            start = None
        if len(body) < left:
            left -= len(body)
            await send(message)
            return
        if left > 0:
            await send({**message, "body": body[:left], "more_body": True})
        cut()
        raise CutError

    return cutting_send


def slow_receive(receive: Receive, bytes_per_second: int) -> Receive:
    """A `receive` that takes its time with the request's body."""

    async def unhurried() -> Message:
        message = await receive()
        await asyncio.sleep(len(message.get("body", b"")) / bytes_per_second)
        return message

    return unhurried


def slow_send(send: Send, bytes_per_second: int) -> Send:
    """A `send` that gives the response's body in small pieces, at a steady pace."""
    piece = max(1, int(bytes_per_second * _PIECE_SECONDS))

    async def unhurried(message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] != "http.response.body" or not body:
            await send(message)
            return
        for first in range(0, len(body), piece):
            part = body[first : first + piece]
            last = first + piece >= len(body)
            await asyncio.sleep(len(part) / bytes_per_second)
            more = message.get("more_body", False) if last else True
            await send({**message, "body": part, "more_body": more})

    return unhurried
