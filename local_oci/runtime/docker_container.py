"""A container of the Docker engine that runs under the cloud's contract.

The SDK's calls block, so they are made in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from local_oci.limits import DEPLOYED_MODEL_PATH
from local_oci.runtime.docker_engine import EngineError, connect, translate_engine_errors
from local_oci.runtime.runner import Address, Launch, LineReader, StartError, Stream, describe_exit

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

_KEPT_LINES = 20
# After the engine said that the container is stopped, its last lines are on their way.
_LAST_LINES_SECONDS = 5.0
# So many pieces of output may wait for the event loop before the container has to wait.
_PIECES = 64
_LOST = "was lost: the Docker engine does not answer, or the container was removed"

_log = logging.getLogger("local_oci.runtime")


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a container may do; the defaults are the contract's.

    That the artifact is read-only is read (mod-dep-byoc.htm). The rest of the defaults is inferred,
    the strictest reading: Oracle does not say what else a container may do.

    Args:
        user: user in place of the image's own.
        read_only_root: whether only /tmp and /dev/shm can be written to.
        read_only_model: whether it sees the artifact itself, and not a copy that it may change.
        capabilities: whether it has the capabilities that Docker gives, and not none.
    """

    user: str | None = None
    read_only_root: bool = True
    read_only_model: bool = True
    capabilities: bool = False


@dataclass(frozen=True, slots=True)
class _Started:
    """What the thread that starts a container hands over."""

    client: DockerClient
    container: Any
    output: Iterator[tuple[bytes | None, bytes | None]]
    server: Address
    health: Address


async def start_container(
    launch: Launch, confinement: Confinement, labels: Mapping[str, str], stop_grace: int
) -> DockerContainer:
    """Create and start a container.

    Raises:
        StartError: no engine answers, or it refuses; nothing is left.
    """
    starting = asyncio.create_task(asyncio.to_thread(_start, launch, confinement, labels))
    try:
        started = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait({starting})  # a thread cannot be stopped
        if starting.exception() is None:
            await asyncio.to_thread(_discard, starting.result())
        raise
    return DockerContainer(started, launch, stop_grace)


class DockerContainer:
    """A container of the engine; see `runner.Container`."""

    def __init__(self, started: _Started, launch: Launch, stop_grace: int) -> None:
        self.server = started.server
        self.health = started.health
        self._started = started
        self._stop_grace = stop_grace
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self.status: int | None = None
        self._stdout = LineReader(Stream.STDOUT, launch.output, 0)
        self._stderr = LineReader(Stream.STDERR, launch.output, _KEPT_LINES)
        self._room = threading.Semaphore(_PIECES)
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def engine_container(self) -> Any:
        """The SDK's object, for looking into the container."""
        return self._started.container

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return not self._ended.done()

    @property
    def last_stderr(self) -> list[str]:
        """The last lines that it wrote to its standard error."""
        return list(self._stderr.last)

    async def wait(self) -> str:
        """Wait for its end and that of its output; say how it ended."""
        return await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the grace period; then remove it."""
        await self.terminate()
        await self.remove()

    async def kill(self) -> None:
        """SIGKILL at once."""
        await asyncio.to_thread(_kill, self._started.container)

    async def terminate(self) -> str | None:
        """SIGTERM, then SIGKILL after the grace period; say how it ended, as far as known."""
        if self.running:
            await asyncio.to_thread(_terminate, self._started.container, self._stop_grace)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self.wait(), _LAST_LINES_SECONDS)
        return None

    async def remove(self) -> None:
        """Remove it with its volumes; kill it if it runs."""
        await asyncio.to_thread(_discard, self._started)

    def _follow(self) -> None:
        """Pass on the output, then wait for the end. In a thread of its own."""
        from docker.errors import DockerException
        from requests import RequestException

        how, status = _LOST, None
        container = self._started.container
        with contextlib.suppress(DockerException, RequestException, OSError):
            for pieces in self._started.output:
                self._hand_over(*pieces)
            status = container.wait(timeout=None)["StatusCode"]
            container.reload()
            how = describe_end(status, container.attrs["State"])
        self._call(self._finish, how, status)

    def _hand_over(self, stdout: bytes | None, stderr: bytes | None) -> None:
        for reader, data in ((self._stdout, stdout), (self._stderr, stderr)):
            if data:
                self._room.acquire()
                self._call(self._feed, reader, data)

    def _call(self, callback: Any, *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _feed(self, reader: LineReader, data: bytes) -> None:
        self._room.release()
        reader.feed(data)

    def _finish(self, how: str, status: int | None) -> None:
        self._stdout.finish()
        self._stderr.finish()
        self.status = status
        self._ended.set_result(how)


def describe_end(status: int, state: Mapping[str, Any]) -> str:
    """How a container ended."""
    if state.get("OOMKilled"):
        return f"ran out of memory and {describe_exit(status)}"
    return describe_exit(status)


def _start(launch: Launch, confinement: Confinement, labels: Mapping[str, str]) -> _Started:
    from docker.errors import APIError

    try:
        client = connect()
        with translate_engine_errors():
            return _start_by(client, launch, confinement, labels)
    except EngineError as error:
        raise StartError(str(error)) from error
    except APIError as error:
        text = str(error.explanation or error).strip()
        raise StartError(f"the Docker engine does not start the container: {text}") from error


def _start_by(
    client: DockerClient, launch: Launch, confinement: Confinement, labels: Mapping[str, str]
) -> _Started:
    container = None
    try:
        container = client.containers.create(**_options(launch, confinement, labels))
        if launch.model is not None and not confinement.read_only_model:
            fill(container, launch.model)
        # Attached before the start, nothing is missed and no logging driver is needed.
        output = container.attach(stream=True, demux=True, logs=False)
        container.start()
        container.reload()
    except BaseException:
        if container is not None:
            container.remove(force=True, v=True)
        client.close()
        raise
    server = _published(container, launch.server_port)
    return _Started(client, container, output, server, _published(container, launch.health_port))


def _options(launch: Launch, confinement: Confinement, labels: Mapping[str, str]) -> dict[str, Any]:
    """What the SDK's `containers.create` takes."""
    from docker.types import LogConfig

    return {
        "image": launch.image,
        "entrypoint": list(launch.entrypoint) or None,
        "command": list(launch.cmd) or None,
        "environment": launch.environment,
        "use_config_proxy": False,  # it would add variables
        "user": confinement.user,
        "labels": dict(labels),
        **(_served(launch, confinement) if launch.serves else {"network_mode": "host"}),
        "read_only": confinement.read_only_root,
        # Programs in /tmp can be executed, as in an image; Docker's own default forbids it.
        "tmpfs": {"/tmp": "exec,mode=1777"},
        "shm_size": launch.shm_size,
        "cap_drop": None if confinement.capabilities else ["ALL"],
        "security_opt": ["no-new-privileges"],
        "init": False,
        "stop_signal": "SIGTERM",
        "healthcheck": {"test": ["NONE"]},  # health is probed from outside
        "log_config": LogConfig(type="none"),
    }


def _served(launch: Launch, confinement: Confinement) -> dict[str, Any]:
    """The ports and the artifact of a deployment's container."""
    from docker.types import Mount

    source = str(launch.model) if confinement.read_only_model else None
    return {
        "ports": {
            f"{port}/tcp": ("127.0.0.1", None) for port in (launch.server_port, launch.health_port)
        },
        "mounts": [
            Mount(
                target=DEPLOYED_MODEL_PATH,
                source=source,
                type="bind" if source else "volume",
                read_only=confinement.read_only_model,
            )
        ],
    }


def _published(container: Any, port: int) -> Address:
    """Where a port can be reached; a container that ended at once has none, and gets port 0."""
    bindings = (container.attrs["NetworkSettings"]["Ports"] or {}).get(f"{port}/tcp")
    return Address(int(bindings[0]["HostPort"]) if bindings else 0)


def _terminate(container: Any, stop_grace: int) -> None:
    from docker.errors import DockerException
    from requests import RequestException

    with contextlib.suppress(DockerException, RequestException):
        container.stop(timeout=stop_grace)


def _kill(container: Any) -> None:
    from docker.errors import DockerException
    from requests import RequestException

    with contextlib.suppress(DockerException, RequestException):
        container.kill()


def _discard(started: _Started) -> None:
    """Remove a container; if that fails now, its labels let it be found later."""
    from docker.errors import DockerException, NotFound
    from requests import RequestException

    try:
        started.container.remove(force=True, v=True)
    except NotFound:
        pass
    except (DockerException, RequestException) as error:
        _log.warning("container %s is not removed: %s", started.container.short_id, error)
    finally:
        started.client.close()


# --- a copy of the artifact that the container may write to, in a volume of its own -----------


class _State(NamedTuple):
    """What changes when a file is written to."""

    size: int
    modified: int


def fill(container: Container, model: Path) -> None:
    """Copy an artifact into a container that has not started. Blocks."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(model, arcname=".", filter=_writable)
        file.seek(0)
        container.put_archive(DEPLOYED_MODEL_PATH, file)


def written_files(container: Container, model: Path) -> list[str]:
    """Paths below the artifact's that are new, changed or gone, sorted. Blocks."""
    before = {
        str(path.relative_to(model)): _State(path.stat().st_size, int(path.stat().st_mtime))
        for path in model.rglob("*")
        if path.is_file()
    }
    after = _files(container)
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def _writable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode |= 0o777 if member.isdir() else 0o666
    member.mtime = int(member.mtime)
    return member


def _files(container: Container) -> dict[str, _State]:
    stream, _ = container.get_archive(DEPLOYED_MODEL_PATH)
    found = {}
    with tempfile.TemporaryFile() as file:
        for chunk in stream:
            file.write(chunk)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                if member.isfile():
                    name = member.name.partition("/")[2]
                    found[name] = _State(member.size, int(member.mtime))
    return found
