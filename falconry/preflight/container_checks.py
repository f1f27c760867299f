"""Whether Oracle takes a container's ports, command, variables and endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator

from falconry.findings import Finding, verdict
from falconry.preflight.limits import ContainerLimits
from falconry.preflight.subject import Container


def container_findings(container: Container, limits: ContainerLimits) -> Iterator[Finding]:
    """The findings of how the container is run."""
    yield _port("server port", container.server_port, limits)
    yield _port("health check port", container.health_check_port, limits)
    yield _command(container, limits)
    yield from _environment(container, limits)
    yield from _endpoints(container, limits)


def _port(check: str, port: int, limits: ContainerLimits) -> Finding:
    reserved = ", ".join(map(str, limits.reserved_ports))
    return verdict(
        check,
        limits.lowest_port <= port <= limits.highest_port and port not in limits.reserved_ports,
        str(port),
        f"the {check} is {port}, and the cloud takes {limits.lowest_port} to"
        f" {limits.highest_port} without {reserved}",
        "set serving.port to another one",
    )


def _command(container: Container, limits: ContainerLimits) -> Finding:
    words = [*container.entrypoint, *container.command]
    size = sum(len(word.encode()) for word in words)
    return verdict(
        "command",
        size < limits.command_bytes,
        f"{size} of fewer than {limits.command_bytes} bytes",
        f"command and entrypoint have {size} bytes, and the cloud takes fewer than"
        f" {limits.command_bytes}",
        "put words into the image's entrypoint",
    )


def _environment(container: Container, limits: ContainerLimits) -> Iterator[Finding]:
    size = sum(len(f"{name}{value}".encode()) for name, value in container.environment.items())
    yield verdict(
        "variables",
        size < limits.environment_bytes,
        f"{size} of fewer than {limits.environment_bytes} bytes",
        f"the variables have {size} bytes, and the cloud takes fewer than"
        f" {limits.environment_bytes}",
        "put fixed variables into the image",
    )
    for name in container.environment:
        if not re.fullmatch(limits.environment_name, name):
            yield Finding(
                "variables",
                "failed",
                f"{name!r} is no name for a variable",
                "name variables with 2 to 31 letters, digits and underscores, a letter first and"
                " no underscore last",
            )
        elif name in limits.reserved_names:
            yield Finding(
                "variables", "failed", f"the variable {name} is the cloud's own", "leave it out"
            )


def _endpoints(container: Container, limits: ContainerLimits) -> Iterator[Finding]:
    count = len(container.endpoints)
    yield verdict(
        "custom endpoints",
        count <= limits.custom_endpoints,
        f"{count} of {limits.custom_endpoints}",
        f"there are {count} custom endpoints, and the cloud takes {limits.custom_endpoints}",
        "take several paths together with {}, which stands for one part of a path",
    )
    for path, methods in container.endpoints:
        if not path.startswith("/"):
            yield Finding(
                "custom endpoints",
                "failed",
                f"the custom endpoint {path!r} does not begin with a slash",
                "begin it with one",
            )
        if not methods or not set(methods) <= set(limits.custom_methods):
            yield Finding(
                "custom endpoints",
                "failed",
                f"the custom endpoint {path} has the methods {', '.join(methods) or 'none'}",
                f"choose some of {', '.join(limits.custom_methods)}",
            )
    wanted = container.specification
    if wanted is not None and wanted.lower() not in limits.specifications:
        yield Finding(
            "API specification",
            "failed",
            f"the cloud knows no API specification {wanted!r}",
            f"choose one of {', '.join(limits.specifications)}",
        )
