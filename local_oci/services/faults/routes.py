"""`/_local/`: unsigned requests to the cloud itself, from this machine and with its token."""

from __future__ import annotations

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.messages import empty_response, json_response, refusal_of
from local_oci.http.middleware import LOCAL_PREFIX, local_only
from local_oci.services.cloud import cloud_of
from local_oci.services.faults.models import FAULTS
from local_oci.version import running_code


@local_only
async def health(request: Request) -> Response:
    """Say which directory this cloud has, and which code serves it."""
    code = running_code()
    return json_response(
        {
            "directory": str(cloud_of(request).home.root),
            "code": code.digest,
            "outdated": code.is_outdated,
        }
    )


@local_only
async def list_faults(request: Request) -> Response:
    """What is still to happen."""
    faults = cloud_of(request).faults.pending()
    return json_response([fault.model_dump(mode="json", by_alias=True) for fault in faults])


@local_only
async def add_faults(request: Request) -> Response:
    """Let faults happen: a JSON list of them."""
    try:
        faults = FAULTS.validate_json(await request.body())
    except ValidationError as error:
        raise refusal_of(error) from error
    cloud_of(request).faults.add(faults)
    return empty_response()


@local_only
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
