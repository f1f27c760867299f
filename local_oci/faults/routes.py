"""`/_local/`: what the cloud itself can be asked, from this machine alone and without signature."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from functools import wraps

from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.cloud import cloud_of
from local_oci.faults.models import Fault
from local_oci.http.errors import invalid_parameter, not_found
from local_oci.http.middleware import LOCAL_PREFIX
from local_oci.http.responses import empty_response, json_response

_FAULTS = TypeAdapter(list[Fault])
Handler = Callable[[Request], Awaitable[Response]]


def _from_here(handler: Handler) -> Handler:
    """Refuse callers from other machines, as if there were nothing."""

    @wraps(handler)
    async def guarded(request: Request) -> Response:
        client = request.client
        if client is None or not ipaddress.ip_address(client.host).is_loopback:
            raise not_found()
        return await handler(request)

    return guarded


@_from_here
async def health(request: Request) -> Response:
    """Say which directory this cloud has."""
    return json_response({"directory": str(cloud_of(request).home.root)})


@_from_here
async def list_faults(request: Request) -> Response:
    """What is still to happen."""
    faults = cloud_of(request).faults.pending()
    return json_response([fault.model_dump(mode="json", by_alias=True) for fault in faults])


@_from_here
async def add_faults(request: Request) -> Response:
    """Let faults happen: a JSON list of them."""
    try:
        faults = _FAULTS.validate_json(await request.body())
    except ValidationError as error:
        raise invalid_parameter(str(error)) from error
    cloud_of(request).faults.add(faults)
    return empty_response()


@_from_here
async def clear_faults(request: Request) -> Response:
    """Let none happen any more."""
    cloud_of(request).faults.clear()
    return empty_response()


ROUTES = [
    Route(f"{LOCAL_PREFIX}health", health, methods=["GET"]),
    Route(f"{LOCAL_PREFIX}faults", list_faults, methods=["GET"]),
    Route(f"{LOCAL_PREFIX}faults", add_faults, methods=["POST"]),
    Route(f"{LOCAL_PREFIX}faults", clear_faults, methods=["DELETE"]),
]
