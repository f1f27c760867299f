"""What a server's processes hold: memory, threads, open files, work."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.processes import with_descendants


@dataclass(frozen=True, slots=True)
class Holdings:
    """All processes of a server together.

    Attributes:
        memory_mib: resident memory that is no file's: anonymous and shared (proc_pid_status(5),
            RssAnon and RssShmem).
        threads: threads.
        files: open file descriptors.
        processes: processes.
    """

    memory_mib: float
    threads: int
    files: int
    processes: int


def holdings(pid: int) -> Holdings:
    """What a process and all below it hold now."""
    memory_kib = threads = files = processes = 0
    for each in with_descendants(pid):
        with contextlib.suppress(OSError):  # one that has just ended
            status = _status(each)
            memory_kib += int(status["RssAnon"].split()[0]) + int(status["RssShmem"].split()[0])
            threads += int(status["Threads"])
            files += len(list(Path(f"/proc/{each}/fd").iterdir()))
            processes += 1
    return Holdings(memory_kib / 1024, threads, files, processes)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process and all below it have taken (proc_pid_stat(5))."""
    ticks = 0
    for each in with_descendants(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
