"""The image stage's output, and whether this machine runs containers."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from falconry.docker_engine.configuration import engine_address
from falconry.errors import MachineError
from falconry.image.server_images import MADE_HERE
from falconry.pipeline import Output
from falconry.settings import ImageSettings

REGISTRY_PROGRAM = "docker-registry"
_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class ImageOutput(Output):
    """An image that deployments can name.

    Attributes:
        reference: its name with its tag.
        kind: a container image in a registry, pinned by `digest`; or a process image, whose
            directory is `path`.
        compressed_bytes: in its registry; None where that was not read.
        labels: None where they were not read.
    """

    reference: str
    kind: Literal["container", "process"]
    compressed_bytes: int | None = None
    labels: Mapping[str, str] | None = None

    @property
    def pinned(self) -> str:
        """The reference with the digest, which names this image alone."""
        return f"{self.reference}@{self.digest}"


def image_of(made: Mapping[str, Output]) -> ImageOutput:
    """The image among the outputs that a stage is made from."""
    image = made["image"]
    if not isinstance(image, ImageOutput):
        raise TypeError("the image stage gave another output")
    return image


@dataclass(frozen=True, slots=True)
class ImageKind:
    """The kind of image that runs; the reason is empty where requested."""

    kind: Literal["container", "process"]
    reason: str = ""


def choose(settings: ImageSettings, environment: Mapping[str, str] = os.environ) -> ImageKind:
    """Decides for a profile with the emulator; opens at most one connection.

    DOCKER_HOST and PATH of the environment are read.
    """
    if settings.run != "auto":
        return ImageKind(settings.run)
    lacking = _lacking(settings, environment)
    return ImageKind("process", lacking) if lacking else ImageKind("container")


def _lacking(settings: ImageSettings, environment: Mapping[str, str]) -> str:
    """What this machine lacks for containers, in words; empty if nothing."""
    try:
        if not engine_listens(environment):
            return "no Docker engine answers"
    except MachineError as error:
        return f"{error.where}: {error.problem}"
    path = environment.get("PATH")
    if settings.registry.host is None and not shutil.which(REGISTRY_PROGRAM, path=path):
        return f"{REGISTRY_PROGRAM} is not installed (apt-get install {REGISTRY_PROGRAM})"
    base = settings.base or ""
    makes_base = os.geteuid() == 0 and shutil.which("apt-get", path=path) is not None
    if base.partition(":")[0] == MADE_HERE and not makes_base:
        return "the base image is made by root on Debian (or set image.base)"
    return ""


def engine_listens(environment: Mapping[str, str]) -> bool:
    """Whether the Docker engine's address accepts connections.

    Faster by two tenths of a second than a client of the SDK.

    Raises:
        MachineError: the configuration of the Docker command names none.
    """
    address = urlsplit(engine_address(environment))
    try:
        if address.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_TIMEOUT_S)
                connection.connect(str(Path(address.path)))
            return True
        port = address.port or 2375
        socket.create_connection((address.hostname or "", port), timeout=_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
