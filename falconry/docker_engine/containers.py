"""Containers of the Docker engine: created, followed, ended, found by their label, removed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import engine_errors_told
from falconry.errors import EngineError

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

_GRACE_S = 5


class RefusalError(EngineError):
    """What the engine says when it does not create or start a container."""


def create(client: DockerClient, image: str, **options: Any) -> Container:
    """Creates a container that has not started.

    Args:
        client: of the engine.
        image: its reference.
        options: what the SDK's `containers.create` takes, with `mounts` as keyword arguments of
            its `Mount` and `gpus` as the number of GPUs or None.

    Raises:
        RefusalError: the engine refuses.
        MachineError: the engine does not answer.
    """
    from docker.types import DeviceRequest, Mount

    mounts = [Mount(**mount) for mount in options.pop("mounts")]
    gpus = options.pop("gpus")
    requests = [DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else None
    with engine_errors_told(), _refusal_told():
        return client.containers.create(image, mounts=mounts, device_requests=requests, **options)


def output_of(container: Container) -> Iterator[bytes]:
    """Starts a container and gives its output, both streams together, until it ends.

    Attached before the start, nothing is missed and no logging driver is needed.

    Raises:
        RefusalError: the engine refuses to start it.
        MachineError: the engine does not answer.
    """
    with engine_errors_told():
        with _refusal_told():
            stream = container.attach(stream=True, logs=False)
            container.start()
        yield from stream


def end_of(container: Container) -> tuple[int, bool]:
    """Waits for a container's end: its exit status, and whether the kernel killed for memory.

    Raises:
        MachineError: the engine does not answer.
    """
    with engine_errors_told():
        status: int = container.wait()["StatusCode"]
        container.reload()
        return status, bool(container.attrs["State"].get("OOMKilled"))


def labelled(client: DockerClient, label: str) -> list[Container]:
    """All containers with a label, running or not.

    Raises:
        MachineError: the engine does not answer.
    """
    with engine_errors_told():
        # Sparse: one that is removed meanwhile must not be an error.
        return list(client.containers.list(all=True, sparse=True, filters={"label": label}))


def label_of(container: Container, label: str) -> str:
    """A listed container's label; empty where it has none."""
    labels: Mapping[str, str] = container.attrs.get("Labels") or {}
    return labels.get(label, "")


def is_running(container: Container) -> bool:
    """Whether a listed container was running."""
    return bool(container.attrs.get("State") == "running")


def discard(container: Container) -> None:
    """Stops a container, by force after a grace of 5 s, and removes it; fine when it is gone.

    One that cannot be removed now, as when the engine is gone, stays for the next start.
    """
    from docker.errors import DockerException
    from requests import RequestException

    gone = (DockerException, RequestException)
    with contextlib.suppress(*gone):
        container.stop(timeout=_GRACE_S)
    with contextlib.suppress(*gone):
        container.remove(force=True, v=True)


@contextlib.contextmanager
def _refusal_told() -> Iterator[None]:
    """Turns the engine's refusal of a container into an error with its words."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        raise RefusalError(str(error.explanation or error)) from None
