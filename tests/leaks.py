"""Fails the run when tests leave a process, a listening port or a container behind.

Each process of the run (a worker of pytest-xdist, or pytest itself) looks once, after its last
fixture: what is still there then was not cleaned up. The time at which it was made tells the test.
What was left is ended, so that the next run does not find it.
"""

from __future__ import annotations

import gc
import os
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_TOKEN_VARIABLE = "TESTS_OF_RUN"
_GRACE_S = 5.0  # what was told to end may take this long
_LISTEN = "0A"  # TCP_LISTEN of the kernel's include/net/tcp_states.h
_TICKS = os.sysconf("SC_CLK_TCK")
# Python starts it for a process's own semaphores and it ends with that process.
_PYTHONS_OWN = b"multiprocessing.resource_tracker"


@dataclass
class Leaks:
    """What the tests of this process have left.

    Attributes:
        found: one line for each thing.
        token: the environment variable's value by which processes of the tests are known.
        base: the directory of all temporary ones.
    """

    found: list[str] = field(default_factory=list)
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    base: Path | None = None
    _tests: list[tuple[float, str]] = field(default_factory=list)
    _sockets: dict[str, str] = field(default_factory=dict)

    def begin(self, test: str) -> None:
        """Records that a test begins."""
        self._tests.append((since_boot(), test))

    def end(self) -> None:
        """Records which sockets a test leaves open."""
        test = self._tests[-1][1]
        opened = _open_sockets()
        self._sockets = {each: self._sockets.get(each, test) for each in opened}

    def report(self, what: str, made: float) -> None:
        """Adds a line for something that was made some seconds after the machine's start."""
        during = [test for begun, test in self._tests if begun <= made + 1 / _TICKS]
        self.found.append(f"{what}, made during {during[-1] if during else 'the start'}")

    def look(self) -> None:
        """Finds the processes and ports that are left, and ends the processes."""
        deadline = time.monotonic() + _GRACE_S
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid, process in left.items():
            self.report(f"process {pid} ({process.line})", process.made)
        for pid in left:
            _end(pid)
        gc.collect()
        listening = _listening()
        for each in _open_sockets() & listening.keys():
            test = self._sockets.get(each, "the end")
            self.found.append(f"port {listening[each]} listens, opened during {test}")

    def _processes(self) -> dict[int, _Process]:
        """Processes that tests have started and that run, by their id."""
        processes = _all_processes()
        mine = {os.getpid()} | {
            pid
            for pid, process in processes.items()
            if process.mentions(f"{_TOKEN_VARIABLE}={self.token}".encode())
            or (self.base and process.mentions(bytes(self.base)))
        }
        while more := {p for p, each in processes.items() if each.parent in mine} - mine:
            mine |= more
        return {
            pid: processes[pid]
            for pid in mine - {os.getpid()}
            if pid in processes and _PYTHONS_OWN not in processes[pid].text
        }


def since_boot() -> float:
    """The seconds since the machine's start, by which the kernel dates processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class _Process:
    parent: int
    made: float
    text: bytes
    environment: bytes
    directory: str

    @property
    def line(self) -> str:
        return self.text.replace(b"\0", b" ").decode(errors="replace").strip()[:200]

    def mentions(self, text: bytes) -> bool:
        return text in self.text + self.environment + os.fsencode(self.directory)


def _all_processes() -> dict[int, _Process]:
    """All that run, zombies and kernel threads left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            text, environment = _read(entry / "cmdline"), _read(entry / "environ")
            # proc(5): after the name in parentheses come state, parent and, the 20th, start.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            directory = str((entry / "cwd").readlink())
        except OSError:
            continue
        if text and fields[0] not in "ZX":
            made = int(fields[19]) / _TICKS
            found[int(entry.name)] = _Process(int(fields[1]), made, text, environment, directory)
    return found


def _read(path: Path) -> bytes:
    """A file of /proc; empty where another user's process does not let us read it."""
    try:
        return path.read_bytes()
    except PermissionError:
        return b""


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return


def _open_sockets() -> set[str]:
    """The inodes of this process's sockets."""
    links = set()
    for each in Path("/proc/self/fd").iterdir():
        try:
            links.add(str(each.readlink()))
        except OSError:
            continue
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def _listening() -> dict[str, int]:
    """The ports that listen by their sockets' inode (proc_net_tcp of the kernel's documents)."""
    found = {}
    for table in ("tcp", "tcp6"):
        path = Path("/proc/self/net") / table
        for row in path.read_text().splitlines()[1:] if path.exists() else ():
            columns = row.split()
            if columns[3] == _LISTEN:
                found[columns[9]] = int(columns[1].rpartition(":")[2], 16)
    return found


_LEAKS = pytest.StashKey[Leaks]()
_ALL = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Marks the processes that this one's tests will start."""
    leaks = Leaks()
    config.stash[_LEAKS], config.stash[_ALL] = leaks, []
    os.environ[_TOKEN_VARIABLE] = leaks.token


@pytest.fixture(scope="session")
def leaks(request: pytest.FixtureRequest) -> Leaks:
    """What tests have left; for fixtures that know of more than processes and ports."""
    return request.config.stash[_LEAKS]


@pytest.fixture(scope="session", autouse=True)
def _base_directory(leaks: Leaks, tmp_path_factory: pytest.TempPathFactory) -> None:
    leaks.base = tmp_path_factory.getbasetemp()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Notes when a test begins, and what it leaves open."""
    leaks = item.config.stash[_LEAKS]
    leaks.begin(item.nodeid)
    try:
        return (yield)
    finally:
        leaks.end()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Looks, in each process that ran tests; the one that reports fails the run."""
    leaks, everything = session.config.stash[_LEAKS], session.config.stash[_ALL]
    if session.config.getoption("dist", "no") == "no":  # with workers, those run the tests
        leaks.look()
    if _is_worker(session.config):
        session.config.workeroutput["leaks"] = leaks.found  # type: ignore[attr-defined]
        return
    everything.extend(leaks.found)
    if everything and session.exitstatus in (
        pytest.ExitCode.OK,
        pytest.ExitCode.NO_TESTS_COLLECTED,
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Takes over what a worker has found."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[_ALL].extend(output.get("leaks", []))  # type: ignore[attr-defined]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Says what was left."""
    if everything := config.stash[_ALL]:
        terminalreporter.section("left behind by tests", red=True, bold=True)
        for line in everything:
            terminalreporter.line(f"ERROR: {line}", red=True)
