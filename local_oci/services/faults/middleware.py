"""Makes faults happen to authenticated requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local_oci.http.middleware import LOCAL_PREFIX
from local_oci.http.protocol import CUT
from local_oci.http.responses import error_response
from local_oci.services.faults.models import WORKFLOW_KINDS, Fault, Kind
from local_oci.services.faults.network import (
    CutError,
    cut_request,
    cut_response,
    slow_receive,
    slow_send,
)
from local_oci.services.faults.plan import FaultPlan
from local_oci.services.faults.refusals import REFUSING_KINDS, headers_of, refusal_of
from local_oci.storage.ids import now

_REQUEST_KINDS = frozenset(Kind) - WORKFLOW_KINDS

_log = logging.getLogger("local_oci.faults")


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
