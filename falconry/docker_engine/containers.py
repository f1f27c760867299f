"""Containers of the Docker engine: created, followed, stopped, found by label, removed.

A container outlives a process that is killed with SIGKILL. Its label names the process that made
it, so that a later run can remove it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import translate_docker_errors
from falconry.errors import EngineError

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

_GRACE_S = 5
_LONGEST_LINE = 64 * 1024
PROCESS_LABEL = "io.falconry.process"


class RefusalError(EngineError):
    """The engine's own message that it creates or starts no container."""


def create(client: DockerClient, image: str, **options: Any) -> Container:
    """Creates a container without starting it.

    The options are those of the SDK's `containers.create`, with `mounts` as keyword arguments of
    its `Mount` and `gpus` as the number of GPUs or None.

    Raises:
        RefusalError: the engine refuses.
    """
    from docker.types import DeviceRequest, Mount

    mounts = [Mount(**mount) for mount in options.pop("mounts")]
    gpus = options.pop("gpus")
    requests = [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else None
    with translate_docker_errors(), _translate_refusal():
        return client.containers.create(image, mounts=mounts, device_requests=requests, **options)


@dataclass(frozen=True, slots=True)
class Output:
    """Complete lines that a container printed to its two streams."""

    stdout: bytes = b""
    stderr: bytes = b""


def output_of(container: Container) -> Iterator[Output]:
    """Starts a container and gives its output until it ends.

    It is attached before the start, so nothing is missed and no logging driver is needed.

    Raises:
        RefusalError: the engine refuses to start it.
    """
    with translate_docker_errors():
        with _translate_refusal():
            stream = container.attach(stream=True, logs=False, demux=True)
            container.start()
        yield from complete_lines(stream)


def complete_lines(pieces: Iterable[tuple[bytes | None, bytes | None]]) -> Iterator[Output]:
    """Joins pieces of two streams to complete lines of each.

    Docker passes on what a program writes: half a line of one stream may come, and then a line of
    the other. A carriage return ends a line too, as in progress bars. Longer lines than 64 KiB are
    given in parts.
    """
    stdout, stderr = _Lines(), _Lines()
    for of_stdout, of_stderr in pieces:
        output = Output(stdout.add(of_stdout or b""), stderr.add(of_stderr or b""))
        if output.stdout or output.stderr:
            yield output
    yield Output(stdout.rest, stderr.rest)


class _Lines:
    """A stream, whose line without an end waits for the next piece."""

    def __init__(self) -> None:
        self.rest = b""

    def add(self, piece: bytes) -> bytes:
        data = self.rest + piece
        is_long = len(data) > _LONGEST_LINE
        end = len(data) if is_long else max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self.rest = data[end:]
        return data[:end]


def end_of(container: Container) -> tuple[int, bool]:
    """Waits for a container; gives exit status and whether memory ran out."""
    with translate_docker_errors():
        status: int = container.wait()["StatusCode"]
        container.reload()
        return status, bool(container.attrs["State"].get("OOMKilled"))


def labelled(client: DockerClient, label: str) -> list[Container]:
    """All containers with a label, running or not."""
    with translate_docker_errors():
        # Sparse: a container removed meanwhile must not be an error.
        return list(client.containers.list(all=True, sparse=True, filters={"label": label}))


def label_of(container: Container, label: str) -> str:
    """A listed container's label; empty where it has none."""
    labels: Mapping[str, str] = container.attrs.get("Labels") or {}
    return labels.get(label, "")


def is_running(container: Container) -> bool:
    """Whether a listed container was running."""
    return bool(container.attrs.get("State") == "running")


def discard(container: Container) -> None:
    """Stops a container, by force after 5 s, and removes it.

    If it cannot be removed now, for example because the engine is gone, the next start does it.
    """
    from docker.errors import DockerException
    from requests import RequestException

    gone = (DockerException, RequestException)
    with contextlib.suppress(*gone):
        container.stop(timeout=_GRACE_S)
    with contextlib.suppress(*gone):
        container.remove(force=True, v=True)


@contextlib.contextmanager
def _translate_refusal() -> Iterator[None]:
    """Turns the engine's refusal of a container into a `RefusalError`."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        raise RefusalError(str(error.explanation or error)) from None


def owner_labels() -> dict[str, str]:
    """The label that names this process as a container's maker."""
    return {PROCESS_LABEL: _Process.this().label()}


def remove_abandoned(client: DockerClient, label: str) -> None:
    """Removes a label's containers that killed processes or reboots left.

    Those without an owner's label stay.
    """
    for container in labelled(client, label):
        process = _Process.of_label(label_of(container, PROCESS_LABEL))
        if process is None:
            continue
        before_boot = process.boot != _boot() and not is_running(container)
        if process.is_gone() or before_boot:
            discard(container)


@dataclass(frozen=True, slots=True)
class _Process:
    """A process, by more than its id, which the kernel reuses.

    Attributes:
        boot: the kernel's boot id.
        namespace: of process ids, as `/proc/<pid>/ns/pid` names it.
        started: clock ticks from the boot, as `/proc/<pid>/stat` has it.
    """

    boot: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def this(cls) -> _Process:
        return cls(_boot(), _namespace(), os.getpid(), _started(os.getpid()) or 0)

    def label(self) -> str:
        return f"{self.boot} {self.namespace} {self.pid} {self.started}"

    @classmethod
    def of_label(cls, label: str) -> _Process | None:
        try:
            boot, namespace, pid, started = label.split()
            return cls(boot, namespace, int(pid), int(started))
        except ValueError:
            return None

    def is_gone(self) -> bool:
        """Whether it has surely ended; False where it cannot be seen."""
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # another user's, so it runs
        return _is_zombie(self.pid) or _started(self.pid) not in (self.started, None)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None  # field 22


def _is_zombie(pid: int) -> bool:
    """Whether it has ended without its parent waiting for it."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] in "ZX"


def _stat_fields(pid: int) -> list[str]:
    """The fields of `/proc/<pid>/stat` from the third, the state, on; see proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
