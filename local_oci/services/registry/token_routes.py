"""HTTP of the registry's tokens, and `/_local/registry`, which makes there be a registry."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import ServiceError, not_emulated
from local_oci.http.loopback import from_here
from local_oci.http.middleware import LOCAL_PREFIX, log_refusal, signed_request
from local_oci.http.responses import json_response
from local_oci.limits import REGISTRY_TOKEN_LIFETIME
from local_oci.services.cloud import cloud_of
from local_oci.services.registry.access import AnonymousError
from local_oci.services.registry.process import TOKEN_PATH, RegistryError
from local_oci.services.registry.scopes import parse_scopes
from local_oci.services.registry.service import ContainerRegistry

# Whoever has no signature shows a password, or is nobody.
SELF_AUTHENTICATING = frozenset({TOKEN_PATH})


def registry_of(request: Request) -> ContainerRegistry:
    """The registry of the cloud that a request was sent to.

    Raises:
        ServiceError: 501, there is none.
    """
    registry = cloud_of(request).registry
    if registry is None:
        raise not_emulated("a container registry unless it is started with --registry")
    return registry


async def get_docker_token(request: Request) -> Response:
    """A token for the registry, as Docker asks for it with `service` and `scope`."""
    registry = registry_of(request)
    try:
        caller = registry.credentials.caller(signed_request(request.scope, body_is_signed=False))
        token = registry.token(caller, parse_scopes(request.query_params.getlist("scope")))
    except ServiceError as error:
        log_refusal(request.scope, error)
        return _refusal(error.status, "Unauthorized", "Unauthorized")
    except AnonymousError:
        return _refusal(
            403, "DENIED", "Anonymous users are only allowed read access on public repos"
        )
    return json_response(
        {
            "token": token,
            "access_token": token,
            "expires_in": int(REGISTRY_TOKEN_LIFETIME.total_seconds()),
        }
    )


def _refusal(status: int, code: str, message: str) -> Response:
    """A refusal in the words that users of OCIR see from Docker; its JSON is [inferred].

    They see "unknown: Unauthorized" after a wrong password and "denied: Anonymous users are only
    allowed read access on public repos" (oracle/docker-images#2551) without one.
    """
    return json_response({"errors": [{"code": code, "message": message}]}, status)


@from_here
async def start_registry(request: Request) -> Response:
    """Start a registry unless one runs; say where it is."""
    try:
        registry = await cloud_of(request).registry_switch.turn_on()
    except RegistryError as error:
        raise ServiceError(503, "ServiceUnavailable", str(error)) from error
    return json_response({"host": registry.host})


ROUTES = [Route(TOKEN_PATH, get_docker_token, methods=["GET"])]
LOCAL_ROUTES = [Route(f"{LOCAL_PREFIX}registry", start_registry, methods=["POST"])]
