"""What is to be checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """An image with an artifact, configured as a deployment would be.

    Args:
        image: reference of an image that the Docker engine has or can pull.
        artifact: zip archive or directory.
        entrypoint: as in the deployment's configuration.
        cmd: as in the deployment's configuration.
        server_port: port of the inference server.
        health_port: port of the health check.
        environment: the user's variables.
        timeout: seconds that the container has to become healthy.
        stop_grace: seconds that it has to end after SIGTERM.
    """

    image: str
    artifact: Path
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    server_port: int
    health_port: int
    environment: dict[str, str]
    timeout: float
    stop_grace: int
