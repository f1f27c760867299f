"""What this machine offers a build: GPUs, Docker, memory and disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from falconry.docker_engine.client import connect
from falconry.docker_engine.gpus import can_see_gpus
from falconry.engine.tensorrt_llm.gpus import HostGpus, probe_gpus
from falconry.errors import MachineError


@dataclass
class Machine:
    """What a build would find on this machine.

    Attributes:
        gpus: what NVML gives; None for no GPU.
        docker_gpus: whether containers can have GPUs; None when that could not be asked.
        docker_problem: why not, or why it could not be asked.
        free_disk_bytes: on the file system that the build writes to.
        memory_bytes: host memory.
    """

    gpus: HostGpus | None
    docker_gpus: bool | None
    docker_problem: str | None
    free_disk_bytes: int
    memory_bytes: int


def this_machine(build: Path) -> Machine:
    """Asks the driver, the Docker engine and the file system; starts nothing.

    Args:
        build: where a build's scratch would stand.

    Raises:
        MachineError: NVIDIA's driver is there and refuses.
    """
    docker_gpus: bool | None
    try:
        with contextlib.closing(connect()) as client:
            docker_gpus, problem = can_see_gpus(client), None
    except MachineError as error:
        docker_gpus, problem = None, error.problem
    build.mkdir(parents=True, exist_ok=True)
    return Machine(
        gpus=probe_gpus(),
        docker_gpus=docker_gpus,
        docker_problem=problem,
        free_disk_bytes=shutil.disk_usage(build).free,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )
