"""Who made a container, told by its label, so that those of killed processes are found and removed.

A container outlives a process that is killed with SIGKILL, since nothing is left to remove it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from falconry.docker_engine.containers import discard, is_running, label_of, labelled

if TYPE_CHECKING:
    from docker.client import DockerClient

PROCESS_LABEL = "io.falconry.process"


def owner_labels() -> dict[str, str]:
    """The label that names this process as the one which made a container."""
    return {PROCESS_LABEL: _Process.this().label()}


def remove_abandoned(client: DockerClient, label: str) -> None:
    """Removes the containers that killed processes left, and those that a reboot stopped.

    Args:
        client: of the engine.
        label: of the containers that it is about; those without an owner's label stay.

    Raises:
        MachineError: the engine does not answer.
    """
    for container in labelled(client, label):
        process = _Process.of_label(label_of(container, PROCESS_LABEL))
        if process is None:
            continue
        before_boot = process.boot != _boot() and not is_running(container)
        if process.is_gone() or before_boot:
            discard(container)


@dataclass(frozen=True, slots=True)
class _Process:
    """A process that cannot be taken for another: its id alone is given to a new one some day.

    Attributes:
        boot: the kernel's boot id.
        namespace: of process ids, as `/proc/<pid>/ns/pid` names it.
        started: clock ticks from the boot, as `/proc/<pid>/stat` has it.
    """

    boot: str
    namespace: str
    pid: int
    started: int

    @classmethod
    def this(cls) -> _Process:
        return cls(_boot(), _namespace(), os.getpid(), _started(os.getpid()) or 0)

    def label(self) -> str:
        return f"{self.boot} {self.namespace} {self.pid} {self.started}"

    @classmethod
    def of_label(cls, label: str) -> _Process | None:
        try:
            boot, namespace, pid, started = label.split()
            return cls(boot, namespace, int(pid), int(started))
        except ValueError:
            return None

    def is_gone(self) -> bool:
        """Whether it has surely ended; False where its processes cannot be seen from here."""
        if (self.boot, self.namespace) != (_boot(), _namespace()):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # somebody else's: it lives
        return _is_zombie(self.pid) or _started(self.pid) not in (self.started, None)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return int(fields[19]) if fields else None  # field 22


def _is_zombie(pid: int) -> bool:
    """Whether it has ended and nobody has taken note, as in containers whose init does not."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] in "ZX"


def _stat_fields(pid: int) -> list[str]:
    """The fields of `/proc/<pid>/stat` from the third, the state, on; see proc(5)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
