"""A client of the Docker engine, its errors, and its capabilities."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.registry_errors import USER_INFORMATION
from falconry.errors import MachineError

if TYPE_CHECKING:
    from docker.client import DockerClient

_INSTALL = "install Docker and start it, or name its engine in DOCKER_HOST"
_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_NVIDIA_DEVICES = "nvidia.com/gpu"


def connect() -> DockerClient:
    """A client of the engine that Docker's variables or context name.

    Raises:
        MachineError: no engine answers there, or this user may not use it.
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


@contextlib.contextmanager
def translate_docker_errors() -> Iterator[None]:
    """Turns a lost connection, or an unexpected refusal, into a `MachineError`."""
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


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """An engine.

    Attributes:
        version: its release, such as 20.10.24.
        platform: what its containers run on, such as `linux/x86_64`.
        storage: where it keeps images, on its own machine.
    """

    version: str
    platform: str
    storage: Path


def engine_facts(client: DockerClient) -> EngineFacts:
    """An engine's version, platform and storage."""
    with translate_docker_errors():
        info: Mapping[str, Any] = client.info()
    return EngineFacts(
        version=str(info.get("ServerVersion", "unknown")),
        platform=f"{info.get('OSType', 'unknown')}/{info.get('Architecture', 'unknown')}",
        storage=Path(str(info.get("DockerRootDir", ""))),
    )


def engine_address(environment: Mapping[str, str] = os.environ) -> str:
    """Where `connect` looks for the engine, without user and password."""
    from docker.context import ContextAPI

    address = environment.get("DOCKER_HOST")
    if not address:
        try:
            address = ContextAPI.kwargs_from_context(environment=environment).get("base_url")
        except Exception:  # what the SDK raises for a damaged context has no class of its own
            return f"the context {environment.get('DOCKER_CONTEXT') or 'of the Docker command'}"
    address = (address or _DEFAULT_ADDRESS).removeprefix("http+")  # as the SDK keeps a context's
    return USER_INFORMATION.sub("//", address)


def can_see_gpus(client: DockerClient) -> bool:
    """Whether the engine can give a container NVIDIA GPUs, if known.

    True when it has NVIDIA's runtime or lists NVIDIA's devices (CDI, with Docker 28.3 and newer),
    or when the hook that `--gpus` needs is installed here (moby, daemon/nvidia_linux.go). Only a
    started container shows for certain.
    """
    with translate_docker_errors():
        info: Mapping[str, Any] = client.info()
    devices = info.get("DiscoveredDevices") or []
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or any(str(device.get("ID", "")).startswith(_NVIDIA_DEVICES) for device in devices)
        or any(_has_nvidia_devices(Path(path)) for path in info.get("CDISpecDirs") or [])
        or shutil.which(_NVIDIA_HOOK) is not None
    )


def _has_nvidia_devices(directory: Path) -> bool:
    """Whether a directory of CDI specifications on this machine has NVIDIA's."""
    with contextlib.suppress(OSError):
        return any(
            _NVIDIA_DEVICES in path.read_text(encoding="utf-8", errors="replace")
            for path in directory.glob("*")
            if path.suffix in (".yaml", ".yml", ".json")
        )
    return False
