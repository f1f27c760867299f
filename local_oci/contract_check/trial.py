"""One run of the container: is it healthy, what does it listen on, what did it write."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from local_oci.contract_check.engine_image import EngineImage
from local_oci.contract_check.leftovers import owner_labels
from local_oci.contract_check.request import CheckRequest
from local_oci.contract_check.sockets import ListeningSocket, listening_sockets
from local_oci.limits import DEFAULT_SHM_SIZE, DEPLOYED_MODEL_PATH
from local_oci.runtime.docker_container import Confinement, DockerContainer, start_container
from local_oci.runtime.docker_model_copy import written_files
from local_oci.runtime.health import EndedError, UnhealthyError, wait_until_healthy
from local_oci.runtime.runner import Launch, StartError, Stream
from local_oci.services.deployments.contract import health_path

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
