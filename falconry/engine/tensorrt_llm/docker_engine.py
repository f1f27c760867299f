"""The only door of this builder to the Docker engine: its API by the Docker SDK.

The SDK is imported by the functions that need it, since importing it takes time.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.errors import EngineError, MachineError

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.containers import Container

_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_NVIDIA_DEVICES = "nvidia.com/gpu"
_GRACE_S = 5
_INSTALL = "install Docker and start it, or name its engine in DOCKER_HOST"
_USER_INFORMATION = re.compile(r"//[^/@\s]+@")


class RefusalError(EngineError):
    """What the engine says when it does not create or start a container."""


def connect() -> DockerClient:
    """A client of the engine that DOCKER_HOST, DOCKER_CONTEXT or the current context names.

    Raises:
        MachineError: no engine answers there, or this user may not ask it.
    """
    from docker.client import from_env
    from docker.errors import DockerException

    try:
        return from_env()
    except (DockerException, OSError, ValueError) as error:
        if "Permission denied" in str(error):
            raise MachineError(
                "this user may not use the Docker engine",
                remedy="add the user to the group docker and log in again",
            ) from None
        raise MachineError("no Docker engine answers", remedy=_INSTALL) from None


def can_see_gpus(client: DockerClient) -> bool:
    """Whether the engine can give a container an NVIDIA GPU, as far as it can be known.

    True when it has NVIDIA's runtime or lists NVIDIA's devices (CDI, with Docker 28.3 and newer),
    or when the hook that `--gpus` needs is installed here (moby, daemon/nvidia_linux.go). Only a
    started container shows for certain.

    Raises:
        MachineError: the engine does not answer.
    """
    with _engine_errors_told():
        info: Mapping[str, Any] = client.info()
    devices = info.get("DiscoveredDevices") or []
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or any(str(device.get("ID", "")).startswith(_NVIDIA_DEVICES) for device in devices)
        or any(_has_nvidia_devices(Path(place)) for place in info.get("CDISpecDirs") or [])
        or shutil.which(_NVIDIA_HOOK) is not None
    )


def has_image(client: DockerClient, reference: str) -> bool:
    """Whether the engine holds an image.

    Raises:
        MachineError: the engine does not answer.
    """
    return _image(client, reference) is not None


def image_digest(client: DockerClient, reference: str) -> str | None:
    """The `sha256:...` by which the registry knows a local image; None if it came from none.

    Raises:
        MachineError: the engine does not answer.
    """
    image = _image(client, reference)
    known: list[str] = (image.attrs.get("RepoDigests") or []) if image else []
    repository = _split(reference)[0]
    ours = [name for name in known if name.partition("@")[0] == repository] or known
    return ours[0].partition("@")[2] if ours else None


def reference_with_digest(client: DockerClient, reference: str) -> str:
    """An image's reference with its digest; as it is where the image came from no registry.

    Raises:
        MachineError: the engine does not answer.
    """
    digest = image_digest(client, reference)
    return f"{reference.partition('@')[0]}@{digest}" if digest else reference


def pull(client: DockerClient, reference: str, report: Callable[[float], None]) -> None:
    """Pulls an image with the credentials that `docker login` left, if any.

    Args:
        client: of the engine.
        reference: the image's name with tag or digest.
        report: called with how much of it is done, from 0 to 1, never less than before.

    Raises:
        EngineError: the registry refuses, has no such image, or cannot be reached.
        MachineError: the engine does not answer.
    """
    from docker.errors import APIError

    repository, version = _split(reference)
    layers = _Layers()
    with _engine_errors_told():
        try:
            for event in client.api.pull(repository, tag=version, stream=True, decode=True):
                if "error" in event:
                    raise _pull_error(reference, str(event["error"]))
                report(layers.fraction_after(event))
        except APIError as error:
            raise _pull_error(reference, str(error.explanation or error)) from None


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
    with _engine_errors_told(), _refusal_told():
        return client.containers.create(image, mounts=mounts, device_requests=requests, **options)


def output_of(container: Container) -> Iterator[bytes]:
    """Starts a container and gives its output, both streams together, until it ends.

    Attached before the start, nothing is missed and no logging driver is needed.

    Raises:
        RefusalError: the engine refuses to start it.
        MachineError: the engine does not answer.
    """
    with _engine_errors_told():
        with _refusal_told():
            stream = container.attach(stream=True, logs=False)
            container.start()
        yield from stream


def end_of(container: Container) -> tuple[int, bool]:
    """Waits for a container's end: its exit status, and whether the kernel killed for memory.

    Raises:
        MachineError: the engine does not answer.
    """
    with _engine_errors_told():
        status: int = container.wait()["StatusCode"]
        container.reload()
        return status, bool(container.attrs["State"].get("OOMKilled"))


def labelled(client: DockerClient, label: str) -> list[Container]:
    """All containers with a label, running or not.

    Raises:
        MachineError: the engine does not answer.
    """
    with _engine_errors_told():
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


class _Layers:
    """How much of an image has been pulled, from the engine's events.

    A layer's size is known only when its turn comes; until then it counts as an average one.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        self._layers: set[str] = set()
        self._fraction = 0.0

    def fraction_after(self, event: Mapping[str, Any]) -> float:
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        detail = event.get("progressDetail") or {}
        if status in ("Pulling fs layer", "Waiting"):
            self._layers.add(layer)
        elif status == "Downloading" and detail.get("total"):
            self._layers.add(layer)
            self._known[layer] = (detail.get("current", 0), detail["total"])
        elif status in ("Download complete", "Pull complete") and layer in self._known:
            total = self._known[layer][1]
            self._known[layer] = (total, total)
        if self._known:
            done, size = (sum(column) for column in zip(*self._known.values(), strict=True))
            whole = size * len(self._layers) / len(self._known)
            self._fraction = max(self._fraction, min(done / whole, 1.0))
        return self._fraction


def _image(client: DockerClient, reference: str) -> Any:
    from docker.errors import ImageNotFound

    with _engine_errors_told():
        try:
            return client.images.get(reference)
        except ImageNotFound:
            return None


def _split(reference: str) -> tuple[str, str]:
    """The repository and the digest or tag; where both are given the digest decides."""
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # the colon of a registry's port
        repository, tag = name, "latest"
    return repository, digest or tag


def _has_nvidia_devices(directory: Path) -> bool:
    """Whether a directory of CDI specifications on this machine has NVIDIA's."""
    with contextlib.suppress(OSError):
        return any(
            _NVIDIA_DEVICES in path.read_text(encoding="utf-8", errors="replace")
            for path in directory.glob("*")
            if path.suffix in (".yaml", ".yml", ".json")
        )
    return False


def _pull_error(reference: str, message: str) -> EngineError:
    said = message.lower()
    if re.search(r"unauthorized|denied|authentication|no basic auth|401|403", said):
        registry = reference.partition("/")[0]
        remedy = f"check the image's name and, if it needs one, log in: docker login {registry}"
    elif re.search(r"not found|manifest unknown|404|no such", said):
        remedy = "check the image's name and tag"
    else:
        remedy = "check the network and the registry, or bring the image with docker load"
    reason = _USER_INFORMATION.sub("//", message).strip().rstrip(".")
    return EngineError(f"the image cannot be pulled ({reason})", where=reference, remedy=remedy)


@contextlib.contextmanager
def _refusal_told() -> Iterator[None]:
    """Turns the engine's refusal of a container into an error with its words."""
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        raise RefusalError(str(error.explanation or error)) from None


@contextlib.contextmanager
def _engine_errors_told() -> Iterator[None]:
    """Turns a lost connection, and a refusal that nobody expected, into a `MachineError`."""
    from docker.errors import APIError
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:  # a RequestException too
        raise MachineError(f"the Docker engine refuses ({error.explanation or error})") from None
    except (RequestException, HTTPError, ConnectionError):
        raise MachineError(
            "the Docker engine stopped answering", remedy="see that it runs and run again"
        ) from None
