"""Finds and removes containers that killed checks left in a Docker engine.

Each names its process in a label. A process id is given to a new process some day, so the kernel's
boot id, the namespace of the id and the process's start stand beside it (proc(5)).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from local_oci.runtime.docker_engine import connect, engine_errors_told

_LABEL = "local_oci.check"


def owner_labels() -> dict[str, str]:
    """The labels of this process's containers."""
    started = _stat_fields(os.getpid())[19]
    return {_LABEL: f"{_boot()} {_namespace()} {os.getpid()} {started}"}


def remove_left_containers() -> None:
    """Remove the containers of checks that have ended without doing so. Blocks.

    Raises:
        EngineError: no engine answers.
    """
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, engine_errors_told():
        # Sparse: one that is removed meanwhile must not be an error.
        containers = client.containers.list(all=True, sparse=True, filters={"label": _LABEL})
        for container in containers:
            owner = container.attrs["Labels"][_LABEL]
            if _is_left(owner, running=container.attrs["State"] == "running"):
                with contextlib.suppress(APIError):  # another check removes it as well
                    container.remove(force=True, v=True)


def _is_left(owner: str, *, running: bool) -> bool:
    """Whether a container's process has surely ended, by its label."""
    words = owner.split()
    if len(words) != 4:
        return False
    boot, namespace, process, started = words
    if boot != _boot():
        return not running  # from before this boot, or another machine's, which is let be
    return namespace == _namespace() and _has_ended(int(process), started)


def _has_ended(process: int, started: str) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # somebody else's, who may be checking too
    fields = _stat_fields(process)
    return not fields or fields[0] in "ZX" or fields[19] != started


def _stat_fields(process: int) -> list[str]:
    """The fields of `/proc/<pid>/stat` from the third, the state, on; none if it is gone."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
