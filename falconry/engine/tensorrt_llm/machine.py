"""What this machine offers a build: GPUs, Docker, memory and disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from falconry.docker_engine.connection import connect
from falconry.docker_engine.gpus import can_see_gpus
from falconry.engine.tensorrt_llm.checks import Machine
from falconry.engine.tensorrt_llm.gpus import probe_gpus
from falconry.errors import MachineError


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
