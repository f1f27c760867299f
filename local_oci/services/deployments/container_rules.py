"""The documented limits of a container's command, ports, variables and endpoints. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from local_oci.http.errors import invalid_parameter
from local_oci.limits import (
    COMMAND_BYTES,
    CUSTOM_ENDPOINT_METHODS,
    ENVIRONMENT_BYTES,
    ENVIRONMENT_KEY,
    ENVIRONMENT_KEY_CHARACTERS,
    MAX_CUSTOM_ENDPOINTS,
    MAX_PORT,
    MIN_PORT,
    RESERVED_ENVIRONMENT,
    RESERVED_PORTS,
)
from local_oci.services.deployments.models import CustomEndpoint


def is_allowed_port(port: int) -> bool:
    """Whether a container may listen on a port."""
    return MIN_PORT <= port <= MAX_PORT and port not in RESERVED_PORTS


def check_port(name: str, port: int) -> None:
    """Refuse a port outside the documented range, or a reserved one: 400."""
    if not is_allowed_port(port):
        reserved = ", ".join(str(number) for number in sorted(RESERVED_PORTS))
        raise invalid_parameter(
            f"{name}: {port} is not between {MIN_PORT} and {MAX_PORT}, or one of {reserved}."
        )


def check_command(entrypoint: Sequence[str], cmd: Sequence[str]) -> None:
    """Refuse a command that is too long: 400."""
    size = sum(len(word.encode()) for word in (*entrypoint, *cmd))
    if size >= COMMAND_BYTES:
        raise invalid_parameter(
            f"cmd and entrypoint: {size} bytes together, must be less than {COMMAND_BYTES}."
        )


def check_environment(variables: Mapping[str, str]) -> None:
    """Refuse names that break a rule, and too much of everything: 400."""
    for name in variables:
        too_long = len(name) >= ENVIRONMENT_KEY_CHARACTERS
        if too_long or not ENVIRONMENT_KEY.fullmatch(name):
            raise invalid_parameter(
                f"environmentVariables: '{name}' is not a valid name: 2 to "
                f"{ENVIRONMENT_KEY_CHARACTERS - 1} letters, digits and underscores, the first a "
                "letter, the last no underscore."
            )
        if name in RESERVED_ENVIRONMENT:
            raise invalid_parameter(f"environmentVariables: '{name}' is reserved by the service.")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size >= ENVIRONMENT_BYTES:
        raise invalid_parameter(
            f"environmentVariables: {size} bytes in all, must be less than {ENVIRONMENT_BYTES}."
        )


def check_custom_endpoints(endpoints: Sequence[CustomEndpoint]) -> None:
    """Refuse too many custom endpoints, other methods, and suffixes that are no paths: 400."""
    if len(endpoints) > MAX_CUSTOM_ENDPOINTS:
        raise invalid_parameter(
            f"customHttpEndpoints: {len(endpoints)} endpoints, at most {MAX_CUSTOM_ENDPOINTS}."
        )
    for endpoint in endpoints:
        suffix = endpoint.endpoint_uri_suffix
        if not suffix.startswith("/"):
            raise invalid_parameter(f"endpointUriSuffix: '{suffix}' does not begin with '/'.")
        if not endpoint.http_methods or not CUSTOM_ENDPOINT_METHODS.issuperset(
            endpoint.http_methods
        ):
            allowed = ", ".join(sorted(CUSTOM_ENDPOINT_METHODS))
            raise invalid_parameter(f"httpMethods of '{suffix}': one or more of {allowed}.")
