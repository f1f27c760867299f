"""Reads the processes of the server from /proc; Linux only, as the server is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_STOPPED = "T"
_ENDED = frozenset({"Z", "X"})
# Fields of proc_pid_stat(5) after the command's name, which may hold spaces and parentheses.
_STATE, _PARENT, _USER_TIME, _SYSTEM_TIME, _STARTED = 0, 1, 11, 12, 19
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it was when it was read.

    Attributes:
        pid: its number.
        name: of its program, at most 15 characters.
        state: one letter, as ps shows it.
        parent: the number of its parent.
        cpu_s: the CPU time that it has used, in seconds.
        started: when it started; tells it from a later process with the same number.
    """

    pid: int
    name: str
    state: str
    parent: int
    cpu_s: float
    started: int

    @property
    def has_ended(self) -> bool:
        """Whether only its exit status is left."""
        return self.state in _ENDED

    @property
    def is_stopped(self) -> bool:
        """Whether a signal such as SIGSTOP has stopped it."""
        return self.state == _STOPPED


def read_process(pid: int) -> Process | None:
    """The process with a number; None where there is none."""
    try:
        head, _, tail = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return None
    fields = tail.split()
    ticks = int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
    return Process(
        pid=pid,
        name=head.partition("(")[2],
        state=fields[_STATE],
        parent=int(fields[_PARENT]),
        cpu_s=ticks / _TICKS_PER_SECOND,
        started=int(fields[_STARTED]),
    )


def children_of(pid: int) -> list[Process]:
    """The children of a process."""
    return [each for each in _all_processes() if each.parent == pid]


def descendants_of(pid: int) -> list[Process]:
    """The children of a process, their children, and so on."""
    by_parent: dict[int, list[Process]] = {}
    for process in _all_processes():
        by_parent.setdefault(process.parent, []).append(process)
    found = list(by_parent.get(pid, []))
    for process in found:  # grows meanwhile
        found += by_parent.get(process.pid, [])
    return found


def arguments_of(pid: int) -> list[str]:
    """The words of a process's command line; none where it has ended."""
    try:
        content = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in content.split(b"\0")[:-1]]


def _all_processes() -> Iterator[Process]:
    # In process namespaces without a /proc of their own, it shows other processes by our numbers.
    if (_PROC / "self").readlink().name != str(os.getpid()):
        return
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (process := read_process(int(entry.name))) is not None:
            yield process
