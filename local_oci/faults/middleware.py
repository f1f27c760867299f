"""Makes faults happen to authenticated requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_oci.faults.models import WORKFLOW_KINDS, Fault, Kind
from local_oci.faults.plan import FaultPlan
from local_oci.http.connection import CUT, SENDFILE
from local_oci.http.errors import ServiceError
from local_oci.http.middleware import LOCAL_PREFIX
from local_oci.http.responses import error_response

_REQUEST_KINDS = frozenset(Kind) - WORKFLOW_KINDS


class _CutError(Exception):
    """Unwinds a request whose connection was cut."""


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
        except _CutError:
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
            match fault.kind:
                case Kind.STATUS:
                    error = ServiceError(fault.status, fault.code, fault.message)
                    await error_response(error)(scope, receive, send)
                    return
                case Kind.DELAY:
                    await asyncio.sleep(fault.seconds)
                case Kind.TIMEOUT:
                    scope["deadline_seconds"] = fault.seconds
                case Kind.CUT_REQUEST:
                    receive = _cut_request(receive, cut, fault.after_bytes)
                case Kind.CUT_RESPONSE:
                    # What the kernel sends by itself cannot be counted.
                    scope["extensions"].pop(SENDFILE, None)
                    send = _cut_response(send, cut, fault.after_bytes)
        await self._app(scope, receive, send)


def _cut_request(receive: Receive, cut: Callable[[], None], after_bytes: int) -> Receive:
    left = after_bytes

    async def cutting_receive() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0 or (left == 0 and message.get("more_body", False)):
            cut()
            raise _CutError
        return message

    return cutting_receive


def _cut_response(send: Send, cut: Callable[[], None], after_bytes: int) -> Send:
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
        raise _CutError

    return cutting_send
