"""Image references, the Docker engine's images, and pulling others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import translate_docker_errors
from falconry.docker_engine.configuration import docker_login
from falconry.docker_engine.registry_errors import explain

if TYPE_CHECKING:
    from docker.client import DockerClient

# Docker's own default, and the marks by which it takes the first part for a host
# (distribution/reference, normalize.go).
_DOCKER_HUB = "docker.io"
_LOCALHOST = "localhost"
# The Docker engine takes plain HTTP for these and for no others (moby, registry/config.go).
_LOOPBACK = re.compile(r"(127(\.\d+){3}|localhost)(:\d+)?")
_ANNOUNCED = frozenset({"Pulling fs layer", "Preparing", "Waiting"})
_MOVING = frozenset({"Downloading", "Pushing"})
_MOVED = frozenset({"Download complete", "Pull complete", "Pushed"})
_PRESENT = frozenset({"Already exists", "Layer already exists"})
_ATTEMPT = "the image cannot be pulled"
_CONFLICT = 409


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: no TLS there, and no proxy."""
    return _LOOPBACK.fullmatch(host) is not None


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`[<registry>/]<repository>[:<tag>][@<digest>]`.

    Attributes:
        registry: host with port, empty where the reference names none.
        repository: the path in the registry.
        digest: `sha256:<64 hex digits>`, None where there is none.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Takes a reference apart without checking its characters."""
        name, _, digest = text.partition("@")
        path, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:  # the colon of a registry's port
            path, tag = name, ""
        first, slash, rest = path.partition("/")
        if slash and ("." in first or ":" in first or first == _LOCALHOST):
            return cls(first, rest, tag or None, digest or None)
        return cls("", path, tag or None, digest or None)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    @property
    def version(self) -> str:
        """What Docker pulls by: the digest if any, else the tag."""
        return self.digest or self.tag or "latest"

    def host(self) -> str:
        """The registry; Docker Hub where the reference names none."""
        return self.registry or _DOCKER_HUB

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"


class LayerProgress:
    """The fraction of an image's layers that has been pulled or pushed.

    A layer's size is known only when its turn comes; until then it counts as an average one. Layers
    that the other side has already do not count.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        self._layers: set[str] = set()
        self._fraction = 0.0

    def fraction_after(self, event: Mapping[str, Any]) -> float:
        """The fraction after an event of a pull or push; never decreases."""
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        detail = event.get("progressDetail") or {}
        if status in _ANNOUNCED:
            self._layers.add(layer)
        elif status in _PRESENT:
            self._layers.discard(layer)
        elif status in _MOVING and detail.get("total"):
            self._layers.add(layer)
            self._known[layer] = (detail.get("current", 0), detail["total"])
        elif status in _MOVED and layer in self._known:
            total = self._known[layer][1]
            self._known[layer] = (total, total)
        if self._known:
            done, size = (sum(column) for column in zip(*self._known.values(), strict=True))
            total = size * len(self._layers) / len(self._known)
            self._fraction = max(self._fraction, min(done / total, 1.0))
        return self._fraction


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image that the engine holds.

    Attributes:
        names: references with tags and those with digests.
        size: bytes of all its layers on the disk, shared ones too.
        in_use: whether a container is made of it, running or not.
    """

    id: str
    names: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    created: datetime
    in_use: bool


def labelled_images(client: DockerClient, label: str) -> list[LocalImage]:
    """The images with a label, the newest first."""
    with translate_docker_errors():
        used = {container["ImageID"] for container in client.api.containers(all=True)}
        found = client.api.images(filters={"label": label})
    images = [
        LocalImage(
            image["Id"],
            tuple(name for name in _names(image) if not name.startswith("<none>")),
            image["Labels"],
            image["Size"],
            datetime.fromtimestamp(image["Created"], UTC),
            image["Id"] in used,
        )
        for image in found
    ]
    return sorted(images, key=lambda image: image.created, reverse=True)


def remove_image(client: DockerClient, image: LocalImage) -> bool:
    """Removes all names of an image, and so the image itself.

    False when it stays, because a container was made from it meanwhile.
    """
    from docker.errors import APIError, ImageNotFound

    with translate_docker_errors():
        for name in image.names or (image.id,):
            # Names with a digest go with the last tag of their repository.
            with contextlib.suppress(ImageNotFound):
                try:
                    client.api.remove_image(name)
                except APIError as error:
                    if error.status_code == _CONFLICT:
                        return False
                    raise
    return True


def _names(image: Mapping[str, Any]) -> list[str]:
    return [*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())]


def has_image(client: DockerClient, reference: str) -> bool:
    """Whether the engine holds an image."""
    return _image(client, reference) is not None


def image_digest(client: DockerClient, reference: str) -> str | None:
    """The registry's `sha256:...` of a local image; None without one."""
    image = _image(client, reference)
    known: list[str] = (image.attrs.get("RepoDigests") or []) if image else []
    repository = ImageReference.parse(reference).name
    ours = [name for name in known if name.partition("@")[0] == repository] or known
    return ours[0].partition("@")[2] if ours else None


def image_id(client: DockerClient, reference: str) -> str | None:
    """The engine's own `sha256:...` of a local image; None without it."""
    image = _image(client, reference)
    return str(image.id) if image else None


def reference_with_digest(client: DockerClient, reference: str) -> str:
    """A reference with its digest, if the image came from a registry."""
    digest = image_digest(client, reference)
    return f"{reference.partition('@')[0]}@{digest}" if digest else reference


def image_labels(client: DockerClient, reference: str) -> dict[str, str]:
    """An image's labels; none where the engine does not hold it."""
    image = _image(client, reference)
    return dict(image.labels) if image else {}


def pull(client: DockerClient, reference: str, report: Callable[[float], None]) -> None:
    """Pulls an image with `docker login`'s credentials; reports the fraction done.

    Raises:
        ImageError: the registry refuses, has no such image, or cannot be reached.
    """
    from docker.errors import APIError

    wanted = ImageReference.parse(reference)
    layers = LayerProgress()
    login = docker_login(wanted.host())
    with translate_docker_errors():
        try:
            for event in client.api.pull(
                wanted.name,
                tag=wanted.version,
                stream=True,
                decode=True,
                auth_config=login.auth_config() if login else None,
            ):
                if "error" in event:
                    raise explain(reference, str(event["error"]), _ATTEMPT)
                report(layers.fraction_after(event))
        except APIError as error:
            raise explain(reference, str(error.explanation or error), _ATTEMPT) from None


def _image(client: DockerClient, reference: str) -> Any:
    from docker.errors import ImageNotFound

    with translate_docker_errors():
        try:
            return client.images.get(reference)
        except ImageNotFound:
            return None
