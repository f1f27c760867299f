"""What the deployments service needs of whatever runs containers."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import httpx

_READ_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 16

_log = logging.getLogger("local_oci.runtime")
_SIGNALLED = 128  # shells and Docker add the number of the signal to it


class Stream(StrEnum):
    """Where a line of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


OutputSink = Callable[[Stream, list[str]], None]
# Called with the fraction that is done, from 0 to 1.
PullReport = Callable[[float], None]


PLAIN_HTTP = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""What an httpx client of a loopback address gets as `verify`.

No TLS is spoken there, and this context trusts no authority. By default httpx reads all certificate
authorities for each client: 30 ms in which the local cloud answers no one.
"""


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
            verify=PLAIN_HTTP,
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
        image: what `Runner.pull` returned.
        entrypoint: words in place of the image's ENTRYPOINT; none to leave it.
        cmd: words in place of the image's CMD; none to leave it, as in Docker.
        environment: variables that the user and the service set.
        server_port: port of the inference server; 0 for a job's container, which serves nothing.
        health_port: port of the health check; likewise.
        model: directory with the unpacked artifact; None for a job's container, which has none, may
            write to its files and has this machine's network.
        directory: a directory of the container's own, for its files.
        shm_size: size of /dev/shm in tmpfs(5) notation, such as "64m".
        output: receives the lines that the container writes.
    """

    image: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    environment: dict[str, str]
    server_port: int
    health_port: int
    model: Path | None
    directory: Path
    shm_size: str
    output: OutputSink

    @property
    def serves(self) -> bool:
        """Whether it is a deployment's container, and not a job's."""
        return self.model is not None


class StartError(Exception):
    """A container that could not be started; the text says why."""


class PullError(Exception):
    """An image that could not be had; the text says why."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image that can be run.

    Args:
        digest: digest of its manifest, "sha256:..."; None for an image that has none.
    """

    digest: str | None


class ImageRegistry(Protocol):
    """A registry of container images."""

    @property
    def host(self) -> str:
        """Host and port, with which the references of its images begin."""

    def login(self) -> dict[str, str]:
        """What the Docker SDK takes as `auth_config`."""

    async def digest_of(self, reference: str) -> str | None:
        """Digest of the manifest that a reference means; None if there is no such image."""


class RegistrySource(Protocol):
    """Something that has a registry, or will have one."""

    @property
    def registry(self) -> ImageRegistry | None:
        """The registry, if it runs."""


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

    @property
    def status(self) -> int | None:
        """Its exit status as shells have it; None before its end, or if it was lost."""

    async def wait(self) -> str:
        """Wait for its end; say how it ended, as in "exited with status 3"."""

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period; return when nothing of it is left."""

    async def kill(self) -> None:
        """SIGKILL at once. What it leaves behind is for `stop`."""


class Runner(Protocol):
    """Something that runs containers."""

    async def find_image(self, reference: str) -> FoundImage | None:
        """The image that a reference means, if there is one."""

    async def pull(self, reference: str, digest: str | None, report: PullReport) -> str:
        """Have an image ready on this machine.

        Args:
            reference: which one.
            digest: which of those that the reference ever meant; None for the present one.
            report: receives the progress, if something must be fetched.

        Returns:
            What `Launch.image` has to be.

        Raises:
            PullError: it cannot be had.
        """

    async def start(self, launch: Launch) -> Container:
        """Start a container.

        Raises:
            StartError: the image is gone, or its command cannot be executed.
        """


class LineReader:
    """Splits one output stream into lines."""

    def __init__(self, stream: Stream, sink: OutputSink, keep: int) -> None:
        self._stream = stream
        self._sink = sink
        self._unfinished = b""
        self.last: deque[str] = deque(maxlen=keep)

    async def read(self, source: asyncio.StreamReader) -> None:
        """Read until the stream ends."""
        while data := await source.read(_READ_BYTES):
            self.feed(data)
        self.finish()

    def feed(self, data: bytes) -> None:
        """Take what was read and pass on the lines that it completes."""
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        if len(self._unfinished) > _MAX_LINE_BYTES:
            lines.append(self._unfinished)
            self._unfinished = b""
        self._pass_on(lines)

    def finish(self) -> None:
        """The stream has ended: pass on what is left without an end of line."""
        if self._unfinished:
            self._pass_on([self._unfinished])
            self._unfinished = b""

    def _pass_on(self, lines: list[bytes]) -> None:
        texts = [line.rstrip(b"\r").decode(errors="replace") for line in lines]
        if texts:
            self.last.extend(texts)
            try:
                self._sink(self._stream, texts)
            except Exception:
                # A container must not stall on a full pipe because its lines cannot be kept.
                _log.exception("%d lines of a container's output are lost", len(texts))


def describe_exit(status: int) -> str:
    """How a container ended, as in "exited with status 3" or "was killed by SIGKILL".

    Args:
        status: as of a shell, or minus the number of the signal.
    """
    status = _SIGNALLED - status if status < 0 else status
    if status > _SIGNALLED:
        try:
            return f"was killed by {signal.Signals(status - _SIGNALLED).name}"
        except ValueError:
            pass
    return f"exited with status {status}"
