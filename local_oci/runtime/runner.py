"""What the deployments service needs of whatever runs containers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import httpx


class Stream(StrEnum):
    """Where a line of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


OutputSink = Callable[[Stream, list[str]], None]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a port of a container can be reached from this process.

    Args:
        port: port on the loopback interface; ignored when there is a socket.
        socket: Unix socket that leads to the port.
    """

    port: int
    socket: Path | None = None

    def transport(self) -> httpx.AsyncHTTPTransport:
        """An httpx transport to this address.

        No connection is kept for the next request: a server may close an idle one just when a
        request that must not be repeated is on its way.
        """
        return httpx.AsyncHTTPTransport(
            uds=None if self.socket is None else str(self.socket),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    @property
    def url(self) -> str:
        """Base URL for requests that go through `transport`."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Launch:
    """A container to run.

    Args:
        image: image reference.
        command: entrypoint and cmd; the first word is a program.
        environment: variables that the user and the service set.
        server_port: port of the inference server.
        health_port: port of the health check.
        model: directory with the unpacked artifact.
        directory: a directory of the container's own, for its files.
        shm_size: size of /dev/shm in tmpfs(5) notation, such as "64m".
        output: receives the lines that the container writes.
    """

    image: str
    command: tuple[str, ...]
    environment: dict[str, str]
    server_port: int
    health_port: int
    model: Path
    directory: Path
    shm_size: str
    output: OutputSink


class StartError(Exception):
    """A container that could not be started; the text says why."""


class Container(Protocol):
    """A container that runs, or ran."""

    @property
    def server(self) -> Address:
        """Where the inference server can be reached."""

    @property
    def health(self) -> Address:
        """Where the health check can be reached."""

    @property
    def running(self) -> bool:
        """Whether it still runs."""

    @property
    def last_stderr(self) -> list[str]:
        """The last lines that it wrote to its standard error."""

    async def wait(self) -> str:
        """Wait for its end; say how it ended, as in "exited with status 3"."""

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period; return when nothing of it is left."""


class Runner(Protocol):
    """Something that runs containers."""

    def has_image(self, reference: str) -> bool:
        """Whether an image can be run."""

    async def start(self, launch: Launch) -> Container:
        """Start a container.

        Raises:
            StartError: the image is gone, or its command cannot be executed.
        """
