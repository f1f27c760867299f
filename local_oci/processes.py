"""The processes of a cloud, found by what the kernel says of them, and ended.

A cloud's directory names its server, but can be deleted while the server runs. Each process has the
directory in its command line as well, or descends from such a process.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0
_ENDED = frozenset("ZX")  # proc(5): a zombie, or dead
_STOPPED = frozenset("Tt")
_DELETED = " (deleted)"  # what the kernel appends to the path of a directory that is gone
_DIRECTORY = "--directory"
_PROGRAMS = frozenset({"local_oci", "local-oci"})  # with -m, or as the command of the package
_HELPERS = frozenset({"local_oci.runtime.keeper", "local_oci.services.registry.child"})


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by more than its id, which the kernel uses again.

    Args:
        id: its process id.
        started: when, in clock ticks since the machine started.
    """

    id: int
    started: int

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, be it stopped or not."""
        state = _state(self.id)
        return state is not None and state.started == self.started and state.letter not in _ENDED

    @property
    def is_stopped(self) -> bool:
        """Whether a signal, such as SIGSTOP, has stopped it until SIGCONT."""
        state = _state(self.id)
        return state is not None and state.started == self.started and state.letter in _STOPPED

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.is_running:
            try:
                os.kill(self.id, number)
            except ProcessLookupError:
                return


def process_of(process_id: int) -> Process | None:
    """The process that has an id now."""
    state = _state(process_id)
    return None if state is None else Process(process_id, state.started)


def servers_of(root: Path) -> list[Process]:
    """The processes that serve a directory, be it still there or not."""
    return [process for process, words in _own_processes() if _serves(process, words, root)]


def helpers_of(root: Path) -> list[Process]:
    """What the servers of a directory started, with all that descends from it."""
    own = _own_processes()
    helpers = [process.id for process, words in own if _helps(words, root)]
    children: dict[int, list[int]] = {}
    for entry in _process_ids():
        if state := _state(entry):
            children.setdefault(state.parent, []).append(entry)
    for helper in helpers:  # grows on the way
        helpers.extend(child for child in children.get(helper, []) if child not in helpers)
    return [process for helper in helpers if (process := process_of(helper))]


def end(processes: Iterable[Process], grace_seconds: float) -> list[Process]:
    """SIGTERM, then SIGKILL after the grace period; return those that do not end even so."""
    ending = list(processes)
    for process in ending:
        process.send(signal.SIGTERM)
        process.send(signal.SIGCONT)  # a stopped process would not notice
    return [] if _wait_until_ended(ending, grace_seconds) else kill(ending)


def kill(processes: Iterable[Process]) -> list[Process]:
    """SIGKILL; return those that the kernel does not end in seconds."""
    ending = list(processes)
    for process in ending:
        process.send(signal.SIGKILL)
    _wait_until_ended(ending, _KILL_SECONDS)
    return [process for process in ending if process.is_running]


def _wait_until_ended(processes: list[Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(process.is_running for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _serves(process: Process, words: list[str], root: Path) -> bool:
    """Whether a command line is that of a server of a directory."""
    pairs = list(zip(words, [*words, ""][1:], strict=True))
    if not any(Path(word).name in _PROGRAMS and verb == "serve" for word, verb in pairs):
        return False
    for word, following in pairs:
        name, _, value = word.partition("=")
        if name == _DIRECTORY:
            return _directory(process, value or following) == root
    return False


def _directory(process: Process, text: str) -> Path | None:
    """The directory that a process means by a path."""
    try:
        started_in = str((_PROC / str(process.id) / "cwd").readlink()).removesuffix(_DELETED)
    except OSError:
        return None
    return Path(started_in, text).resolve()


def _helps(words: list[str], root: Path) -> bool:
    """Whether a command line is that of a keeper or a registry of a directory."""
    if not words or not words[-1].startswith(f"{root}/"):
        return False
    return not _HELPERS.isdisjoint(words) or words[1:-1] == ["serve"]  # docker-registry


def _own_processes() -> list[tuple[Process, list[str]]]:
    """This user's processes with their command lines, this one left out."""
    found = []
    for process_id in _process_ids():
        entry = _PROC / str(process_id)
        try:
            if process_id == os.getpid() or entry.stat().st_uid != os.geteuid():
                continue
            words = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")[:-1]
        except OSError:
            continue
        if process := process_of(process_id):
            found.append((process, words))
    return found


def _process_ids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


@dataclass(frozen=True, slots=True)
class _State:
    """What proc(5) calls the state, ppid and starttime of a process."""

    letter: str
    parent: int
    started: int


def _state(process_id: int) -> _State | None:
    try:
        text = (_PROC / str(process_id) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # "pid (comm) state ppid ..."; comm may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return _State(fields[0], int(fields[1]), int(fields[19]))
