"""A client of the Docker engine, its errors, and its capabilities."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.docker_engine import configuration
from falconry.docker_engine.configuration import check_configuration
from falconry.docker_engine.registry_errors import USER_INFORMATION
from falconry.errors import MachineError

if TYPE_CHECKING:
    from docker.client import DockerClient

_INSTALL = "install Docker and start it, or name its engine in DOCKER_HOST"
# How long an engine may take for its first answer; afterwards it has the SDK's minute.
_FIRST_ANSWER_S = 8
_NO_ANSWER = "Error while fetching server API version"
_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_NVIDIA_DEVICES = "nvidia.com/gpu"


def connect() -> DockerClient:
    """A client of the engine that Docker's variables or context name.

    Raises:
        MachineError: no engine answers there, or this user may not use it; or the configuration of
            the Docker command cannot be used.
    """
    from docker.client import from_env
    from docker.constants import DEFAULT_TIMEOUT_SECONDS
    from docker.errors import DockerException

    check_configuration()
    try:
        client = from_env(timeout=_FIRST_ANSWER_S)
    except (DockerException, OSError, ValueError) as error:
        raise _connection_error(error) from None
    client.api.timeout = DEFAULT_TIMEOUT_SECONDS
    return client


def _connection_error(error: Exception) -> MachineError:
    """Explains why there is no connection, by the SDK's words."""
    text = str(error)
    if "Permission denied" in text:
        return MachineError(
            "this user may not use the Docker engine",
            remedy="add the user to the group docker and log in again",
        )
    if "timed out" in text:
        return MachineError(
            f"the Docker engine does not answer within {_FIRST_ANSWER_S} s",
            remedy="restart it (systemctl restart docker), or name another in DOCKER_HOST",
        )
    if "SSL" in text or "TLS" in text or "certificate" in text.lower():
        return MachineError(
            f"the Docker engine's TLS cannot be used ({text})",
            remedy="check DOCKER_HOST, DOCKER_TLS_VERIFY and the files in DOCKER_CERT_PATH",
        )
    if _NO_ANSWER in text:
        return MachineError("no Docker engine answers", remedy=_INSTALL)
    return MachineError(
        f"the Docker engine cannot be used ({USER_INFORMATION.sub('//', text)})",
        where="DOCKER_HOST" if os.environ.get("DOCKER_HOST") else None,
        remedy="correct the engine's address, or install a current Docker",
    )


@contextlib.contextmanager
def translate_docker_errors() -> Iterator[None]:
    """Turns a lost connection, or an unexpected refusal, into a `MachineError`."""
    from docker.credentials import StoreError
    from docker.errors import APIError, DockerException
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
    except (DockerException, StoreError) as error:
        raise MachineError(f"the Docker engine cannot be used ({error})") from None


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
    try:
        return USER_INFORMATION.sub("//", configuration.engine_address(environment))
    except MachineError:  # `connect` says what is wrong
        return f"the context {environment.get('DOCKER_CONTEXT') or 'of the Docker command'}"


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
