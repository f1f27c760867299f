"""Routes for callers on this machine alone, who need no signature."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from local_oci.http.errors import not_found

Handler = Callable[[Request], Awaitable[Response]]


def from_here(handler: Handler) -> Handler:
    """Refuse callers from other machines, as if there were nothing."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        client = request.client
        if client is None or not ipaddress.ip_address(client.host).is_loopback:
            raise not_found()
        return await handler(request)

    return guarded
