"""Whether a container's command and variables are within the cloud's limits.

Its ports, the names of the user's variables and the custom endpoints were checked when the profile
was loaded (falconry/settings.py).
"""

from __future__ import annotations

from collections.abc import Iterator

from falconry.findings import Finding, verdict
from falconry.oci_facts import ContainerLimits, variable_bytes
from falconry.preflight.subject import Container


def container_findings(container: Container, limits: ContainerLimits) -> Iterator[Finding]:
    """The findings of how the container is run."""
    words = [*container.entrypoint, *container.command]
    size = sum(len(word.encode()) for word in words)
    yield verdict(
        "command",
        size < limits.command_bytes,
        f"{size} of fewer than {limits.command_bytes} bytes",
        f"command and entrypoint have {size} bytes, and the cloud takes fewer than"
        f" {limits.command_bytes}",
        "put words into the image's entrypoint",
    )
    # Loading the profile measured the user's variables alone; here ours are with them.
    size = variable_bytes(container.environment)
    yield verdict(
        "variables",
        size < limits.environment_bytes,
        f"{size} of fewer than {limits.environment_bytes} bytes",
        f"the variables have {size} bytes, and the cloud takes fewer than"
        f" {limits.environment_bytes}",
        "put fixed variables into the image",
    )
