"""What a check leaves when it is killed, which the next check removes: containers and a directory.

Each container names its process in a label. A process id is given to a new process some day, so
the kernel's boot id, the namespace of the id and the process's start are beside it (proc(5)).
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from local_oci.home import Lock, is_locked
from local_oci.runtime.artifact import remove_tree
from local_oci.runtime.docker_engine import connect, translate_engine_errors

_LABEL = "local_oci.check"
_PREFIX = "local_oci-check-"
# Held as long as the check runs; the kernel lets go of it whatever ends the process.
_LOCK = "lock"


def owner_labels() -> dict[str, str]:
    """The labels of this process's containers."""
    started = _stat_fields(os.getpid())[19]
    return {_LABEL: f"{_boot()} {_namespace()} {os.getpid()} {started}"}


def remove_left_containers() -> None:
    """Remove the containers of checks that have ended without doing so. Blocks."""
    from docker.errors import APIError

    with contextlib.closing(connect()) as client, translate_engine_errors():
        # Sparse: a container that is removed meanwhile must not be an error.
        containers = client.containers.list(all=True, sparse=True, filters={"label": _LABEL})
        for container in containers:
            owner = container.attrs["Labels"][_LABEL]
            if _is_left_container(owner, running=container.attrs["State"] == "running"):
                with contextlib.suppress(APIError):  # another check removes it as well
                    container.remove(force=True, v=True)


def _is_left_container(owner: str, *, running: bool) -> bool:
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
        return False  # another user's, who may be checking too
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


# --- the directory that a check unpacks into --------------------------------------------------


@contextlib.contextmanager
def check_directory() -> Iterator[Path]:
    """A new directory for temporary files, which is removed afterwards. Blocks.

    Those of checks that have ended without removing theirs are removed first.
    """
    _remove_left_directories()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = Lock(directory / _LOCK)
    lock.acquire()
    try:
        yield directory
    finally:
        remove_tree(directory)
        lock.release()


def _remove_left_directories() -> None:
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another check removes it as well
            if _is_left_directory(directory):
                remove_tree(directory)


def _is_left_directory(directory: Path) -> bool:
    """Whether it is a directory of this user's whose check has ended."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return False
    lock = directory / _LOCK
    return lock.exists() and not is_locked(lock)  # one without a lock is being made
