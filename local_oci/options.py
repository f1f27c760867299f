"""How a cloud is to be served, and why it cannot be; light, so that every command can import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_oci.home import Home


class ServeError(Exception):
    """Why a cloud cannot be served; one sentence."""


class AlreadyServedError(ServeError):
    """Another process serves the directory."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve a cloud.

    Args:
        home: its directory.
        host: address to listen on.
        port: port to listen on; 0 for that of the last run, or any free one.
        images: process images to register.
        isolation: "auto", "namespaces" or "plain".
        start_timeout: seconds that a container has to become healthy.
        stop_grace: seconds between SIGTERM and SIGKILL when a container is stopped.
        registry: whether to serve a container registry as well; a home that had one has one.
    """

    home: Home
    host: str
    port: int
    images: Mapping[str, Path]
    isolation: str
    start_timeout: float
    stop_grace: int
    registry: bool
