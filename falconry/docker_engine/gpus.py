"""Whether a Docker engine can give its containers NVIDIA's GPUs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconry.docker_engine.client import engine_errors_told

if TYPE_CHECKING:
    from docker.client import DockerClient

_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_NVIDIA_DEVICES = "nvidia.com/gpu"


def can_see_gpus(client: DockerClient) -> bool:
    """Whether the engine can give a container an NVIDIA GPU, as far as it can be known.

    True when it has NVIDIA's runtime or lists NVIDIA's devices (CDI, with Docker 28.3 and newer),
    or when the hook that `--gpus` needs is installed here (moby, daemon/nvidia_linux.go). Only a
    started container shows for certain.

    Raises:
        MachineError: the engine does not answer.
    """
    with engine_errors_told():
        info: Mapping[str, Any] = client.info()
    devices = info.get("DiscoveredDevices") or []
    return (
        "nvidia" in (info.get("Runtimes") or {})
        or any(str(device.get("ID", "")).startswith(_NVIDIA_DEVICES) for device in devices)
        or any(_has_nvidia_devices(Path(place)) for place in info.get("CDISpecDirs") or [])
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
