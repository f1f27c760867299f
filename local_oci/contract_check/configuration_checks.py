"""Checks of what a deployment is asked to run, by the rules of the deployments service. Pure."""

from __future__ import annotations

from collections.abc import Callable

from local_oci.contract_check.report import Finding, ok, violation
from local_oci.contract_check.request import CheckRequest
from local_oci.http.errors import ServiceError
from local_oci.limits import COMMAND_BYTES, ENVIRONMENT_BYTES
from local_oci.services.deployments.container_rules import (
    check_command,
    check_environment,
    check_port,
)


def command_finding(request: CheckRequest) -> Finding:
    """Whether cmd and entrypoint are short enough."""
    return _finding(
        "command",
        lambda: check_command(request.entrypoint, request.cmd),
        f"less than {COMMAND_BYTES} bytes",
        "put the words into a script in the image or in the artifact",
    )


def environment_finding(request: CheckRequest) -> Finding:
    """Whether the variables have allowed names and are short enough."""
    return _finding(
        "environment",
        lambda: check_environment(request.environment),
        f"allowed names, less than {ENVIRONMENT_BYTES} bytes",
        "rename or shorten variables, or put them into a file of the artifact",
    )


def ports_finding(request: CheckRequest) -> Finding:
    """Whether both ports are allowed."""

    def check() -> None:
        check_port("serverPort", request.server_port)
        check_port("healthCheckPort", request.health_port)

    return _finding(
        "ports",
        check,
        f"allowed: {request.server_port} for requests, {request.health_port} for health",
        "choose another --port or --health-port",
    )


def _finding(name: str, check: Callable[[], None], good: str, remedy: str) -> Finding:
    try:
        check()
    except ServiceError as refusal:
        return violation(name, refusal.message.rstrip("."), remedy)
    return ok(name, good)
