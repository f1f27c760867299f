"""One run of the container: is it healthy, what does it listen on, what did it write.

A container that is not healthy is run again with one constraint less at a time, to find out why.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from local_oci.contract_check.leftovers import owner_labels
from local_oci.contract_check.report import CheckRequest, Finding, violation
from local_oci.limits import DEFAULT_SHM_SIZE, DEPLOYED_MODEL_PATH
from local_oci.runtime.docker_container import (
    Confinement,
    DockerContainer,
    start_container,
    written_files,
)
from local_oci.runtime.docker_engine import connect, engine_errors_told
from local_oci.runtime.health import EndedError, UnhealthyError, wait_until_healthy
from local_oci.runtime.runner import Launch, StartError, Stream
from local_oci.services.deployments.rules import health_path

_ROOT = frozenset({"", "0", "root"})
_CURL_SECONDS = 30
_LISTENING = "0A"  # TCP_LISTEN, linux/net/tcp_states.h
_LOOPBACK_6 = "00000000000000000000000001000000"
_MAPPED_4 = "0000000000000000FFFF0000"
_LOOPBACK_4_END = "7F"  # the first of 127.0.0.1's bytes comes last
_KEPT_LINES = 20
# A server may open its port a moment after the port of the health check.
_PORT_SECONDS = 5.0
_PORT_STEP_SECONDS = 0.1
# What Docker itself makes in a container's file system: where it mounts something.
_MOUNT_POINTS = (DEPLOYED_MODEL_PATH, "/tmp")
_SERVICE_VARIABLES = {
    "MODEL_DEPLOYMENT_OCID": "ocid1.datasciencemodeldeployment.oc1..check",
    "TENANCY_OCID": "ocid1.tenancy.oc1..check",
}
_SHOWN = 3
# Any user that is not root; this one is "nonroot" of distroless images.
UNPRIVILEGED_USER = "65532:65532"

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class EngineImage:
    """What matters of an image.

    Args:
        id: by which the engine finds it, whatever its reference means by then.
        platform: such as "linux/amd64".
        user: its USER; empty for root.
        command: its ENTRYPOINT and CMD.
    """

    id: str
    platform: str
    user: str
    command: tuple[str, ...]

    @property
    def runs_as_root(self) -> bool:
        """Whether its containers run as root."""
        return self.user.partition(":")[0] in _ROOT


def find_image(reference: str) -> EngineImage | None:
    """An image that the engine has. Blocks.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, engine_errors_told():
        try:
            attributes: dict[str, Any] = client.images.get(reference).attrs
        except APIError:  # unknown, or no reference at all
            return None
    configuration = attributes.get("Config") or {}
    return EngineImage(
        id=attributes["Id"],
        platform=f"{attributes['Os']}/{attributes['Architecture']}",
        user=configuration.get("User") or "",
        command=(*(configuration.get("Entrypoint") or ()), *(configuration.get("Cmd") or ())),
    )


def has_curl(image: EngineImage) -> bool:
    """Whether curl can be run in a container of the image. Blocks.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, engine_errors_told():
        container = client.containers.create(
            image.id,
            entrypoint=["curl"],
            command=["--version"],
            network_disabled=True,
            labels=owner_labels(),
        )
        try:
            container.start()
            return bool(container.wait(timeout=_CURL_SECONDS)["StatusCode"] == 0)
        except APIError:
            return False
        finally:
            container.remove(force=True, v=True)


# --- listening sockets, read from the host's /proc: proc_pid_net(5) ---------------------------


class ListeningSocket(NamedTuple):
    """A TCP socket that accepts connections; `loopback` if only from the container itself."""

    port: int
    loopback: bool


def listening_sockets(process: int, container: str) -> frozenset[ListeningSocket] | None:
    """The listening sockets of a container.

    Args:
        process: id of its first process, as the engine tells it.
        container: its id.

    Returns:
        None where that process cannot be seen: the engine is not on this machine.
    """
    directory = Path(f"/proc/{process}")
    try:
        if container not in (directory / "cgroup").read_text():
            return None
        tables = [(directory / "net" / name).read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return None
    return frozenset(socket for table in tables for socket in parse(table))


def parse(table: str) -> list[ListeningSocket]:
    """The listening sockets in the text of /proc/net/tcp or tcp6."""
    found = []
    for line in table.splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == _LISTENING:
            address, _, port = local.partition(":")
            found.append(ListeningSocket(int(port, 16), _is_loopback(address)))
    return found


def _is_loopback(address: str) -> bool:
    is_v4 = len(address) == 8 or address.startswith(_MAPPED_4)
    return address == _LOOPBACK_6 or (is_v4 and address.endswith(_LOOPBACK_4_END))


@dataclass(frozen=True, slots=True)
class Subject:
    """What runs in every trial: the request's image with the unpacked artifact."""

    request: CheckRequest
    image: EngineImage
    model: Path


@dataclass(frozen=True, slots=True)
class Trial:
    """How a run went.

    Args:
        problem: why it was not healthy; None if it was.
        seconds: until it was healthy, or not.
        sockets: what it listened on; None where that cannot be seen.
        end: how it ended after SIGTERM; None if unknown.
        output: the last lines that it wrote before it was stopped.
        written_model: files below the artifact's directory that it wrote, in a copy.
        written_root: paths that it wrote in a root file system that was not read-only.
    """

    problem: str | None
    seconds: float
    sockets: frozenset[ListeningSocket] | None = None
    end: str | None = None
    output: tuple[str, ...] = ()
    written_model: tuple[str, ...] = ()
    written_root: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether it became healthy."""
        return self.problem is None


async def run_trial(subject: Subject, confinement: Confinement) -> Trial:
    """Run the container until it is healthy or cannot be, then stop and remove it."""
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    started = time.monotonic()
    try:
        container = await start_container(
            _launch(subject, lines), confinement, owner_labels(), subject.request.stop_grace
        )
    except StartError as error:
        return Trial(problem=f"could not be started: {error}", seconds=0.0)
    try:
        problem = await _health_problem(subject.request, container)
        seconds = time.monotonic() - started
        sockets = await _sockets(subject.request, container)
        output = tuple(lines)  # what it writes while it is stopped explains nothing
        end = await container.terminate()
        written_model, written_root = await asyncio.to_thread(
            _written, container.engine_container, subject.model, confinement
        )
    finally:
        await container.remove()
    return Trial(problem, seconds, sockets, end, output, written_model, written_root)


def _launch(subject: Subject, lines: deque[str]) -> Launch:
    request = subject.request

    def output(_stream: Stream, texts: list[str]) -> None:
        lines.extend(texts)

    return Launch(
        image=subject.image.id,
        entrypoint=request.entrypoint,
        cmd=request.cmd,
        environment={
            **request.environment,
            **_SERVICE_VARIABLES,
            "CONTAINER_CUSTOM_IMAGE": request.image,
        },
        server_port=request.server_port,
        health_port=request.health_port,
        model=subject.model,
        directory=subject.model.parent,
        shm_size=request.environment.get("SHM_SIZE", DEFAULT_SHM_SIZE),
        output=output,
    )


async def _health_problem(request: CheckRequest, container: DockerContainer) -> str | None:
    path = health_path(request.environment)
    try:
        await wait_until_healthy(container, path, request.timeout)
    except EndedError as ended:
        return f"the container {ended} before it was healthy"
    except UnhealthyError as problem:
        return (
            f"not healthy within {request.timeout:g} seconds: GET {path} on port "
            f"{request.health_port}: {problem}"
        )
    return None


async def _sockets(
    request: CheckRequest, container: DockerContainer
) -> frozenset[ListeningSocket] | None:
    """The listening sockets, as soon as the server's is among them."""
    deadline = time.monotonic() + min(_PORT_SECONDS, request.timeout)
    while True:
        found = await asyncio.to_thread(_sockets_now, container.engine_container)
        if found is None or time.monotonic() > deadline:
            return found
        if request.server_port in {socket.port for socket in found}:
            return found
        await asyncio.sleep(_PORT_STEP_SECONDS)


def _sockets_now(container: Any) -> frozenset[ListeningSocket] | None:
    container.reload()
    return listening_sockets(container.attrs["State"]["Pid"], container.id)


def _written(
    container: Any, model: Path, confinement: Confinement
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    written_model = () if confinement.read_only_model else tuple(written_files(container, model))
    written_root = () if confinement.read_only_root else tuple(_changes(container.diff() or ()))
    return written_model, written_root


def _changes(diff: Iterable[dict[str, Any]]) -> list[str]:
    """The deepest of the changed paths; a directory changes with what is in it."""
    paths = {PurePosixPath(change["Path"]) for change in diff}
    above = {parent for path in paths for parent in path.parents}
    mounts = {PurePosixPath(point) for point in _MOUNT_POINTS}
    mounts |= {parent for point in mounts for parent in point.parents}
    # Python's caches come last: that they cannot be written hinders nobody.
    return [
        str(path) for path in sorted(paths - above - mounts, key=lambda p: (p.suffix == ".pyc", p))
    ]


# --- why a container is not healthy -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Relaxation:
    """A run with fewer constraints: what it has and what it is."""

    what: str
    confinement: Confinement


async def diagnose(subject: Subject, strict: Confinement, note: Note) -> Finding | None:
    """Find the constraint that keeps a container from being healthy.

    Returns:
        The violation; None if it is not healthy without constraints either.
    """
    for relaxation in _relaxations(strict, subject.image.runs_as_root):
        note(f"not healthy; trying again {relaxation.what}")
        trial = await run_trial(subject, relaxation.confinement)
        if trial.healthy:
            return _relaxed_finding(trial, relaxation.confinement)
    return None


def _relaxations(strict: Confinement, image_runs_as_root: bool) -> Iterator[_Relaxation]:
    yield _Relaxation(
        "with a writable copy of the artifact", replace(strict, read_only_model=False)
    )
    yield _Relaxation("with a writable root file system", replace(strict, read_only_root=False))
    free = replace(strict, read_only_model=False, read_only_root=False)
    if image_runs_as_root:
        as_root = replace(strict, user=None, capabilities=True)
        yield _Relaxation("as root", as_root)
        free = replace(free, user=None, capabilities=True)
    yield _Relaxation("without any of these constraints", free)


def _relaxed_finding(trial: Trial, relaxed: Confinement) -> Finding:
    """What the run that was healthy says, by what it wrote."""
    if trial.written_model or (not relaxed.read_only_model and relaxed.read_only_root):
        return violation(
            "artifact",
            f"wrote under {DEPLOYED_MODEL_PATH}: {_some(trial.written_model)}",
            "write to /tmp, or put the file into the artifact; there it is mounted read-only",
        )
    if trial.written_root or not relaxed.read_only_root:
        return violation(
            "file system",
            f"wrote {_some(trial.written_root)} (docker diff)",
            "write to /tmp, for instance with HOME=/tmp among the variables",
        )
    return violation(
        "user",
        "needs root",
        "give the image a USER that is not root, and that user what it has to read",
    )


def _some(paths: tuple[str, ...]) -> str:
    if not paths:
        return "something that is gone again"
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return ", ".join(paths[:_SHOWN]) + more
