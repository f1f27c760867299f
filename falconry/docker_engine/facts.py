"""What a Docker engine says of itself."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import engine_errors_told

if TYPE_CHECKING:
    from docker.client import DockerClient

_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_USER_INFORMATION = re.compile(r"//[^/@\s]+@")


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
    """Asks an engine for its facts.

    Raises:
        MachineError: the engine does not answer.
    """
    with engine_errors_told():
        info: Mapping[str, Any] = client.info()
    return EngineFacts(
        version=str(info.get("ServerVersion", "unknown")),
        platform=f"{info.get('OSType', 'unknown')}/{info.get('Architecture', 'unknown')}",
        storage=Path(str(info.get("DockerRootDir", ""))),
    )


def engine_address(environment: Mapping[str, str] = os.environ) -> str:
    """Where `connect` looks for the engine, without the user's name and password in it.

    Args:
        environment: DOCKER_HOST and DOCKER_CONTEXT are read.
    """
    from docker.context import ContextAPI

    address = environment.get("DOCKER_HOST")
    if not address:
        try:
            address = ContextAPI.kwargs_from_context(environment=environment).get("base_url")
        except Exception:  # what the SDK raises for a damaged context has no class of its own
            return f"the context {environment.get('DOCKER_CONTEXT') or 'of the Docker command'}"
    address = (address or _DEFAULT_ADDRESS).removeprefix("http+")  # as the SDK keeps a context's
    return _USER_INFORMATION.sub("//", address)
