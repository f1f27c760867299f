"""Runs Triton and the front side by side, and ends both when one of them fails.

Nothing is restarted here: a server that has lost a part ends with a status that is not 0, and
whatever runs its container starts a new one. A process that a signal has stopped is continued.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from processes import children_of, read_process

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
_TICK_S = 0.5
# The front sends a beat in each period of its health check, 0.5 s. Ticks are counted and not
# seconds: a machine that was suspended has not been silent.
_SILENT_TICKS = 30
# What the front has left to answer the requests under way when Triton has ended.
_LAST_ANSWERS_S = 2.0
_KILLED_S = 5.0
_STEP_S = 0.02
_FAILED = 1
_FIRST = 1  # the number of a container's first process

Front = Callable[[int], None]


class Supervisor:
    """Supervises Triton and the front, each a child process.

    Args:
        triton: Triton's command line.
        front: serves in a child of this process until Triton stops or a part of the server
            fails; gets the descriptor for its beats, and ends the child itself.
    """

    def __init__(self, triton: Sequence[str], front: Front) -> None:
        self._command = triton
        self._serve_front = front
        self._triton = 0
        self._front = 0
        self._beats = 0
        self._has_served = False
        self._silent_ticks = 0
        self._is_stopping = False

    def run(self) -> int:
        """Runs both until both have ended.

        Returns:
            Triton's exit status where a signal has stopped it or it has never served; otherwise a
            status that is not 0. As in a shell, 128 plus the signal's number after a signal.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOPPING, signal.SIGCHLD})
        _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)  # to end Triton's own children after it
        self._start()
        while True:
            arrived = signal.sigtimedwait({*_STOPPING, signal.SIGCHLD}, _TICK_S)
            if arrived is not None and arrived.si_signo in _STOPPING:
                self._is_stopping = True
                os.kill(self._triton, arrived.si_signo)
            _continue_first_process()
            status = self._reap()
            if status is None and self._is_silent(ticked=arrived is None):
                _report(f"the front has not moved for {_SILENT_TICKS * _TICK_S:g} s")
                status = _FAILED
            if status is not None:
                self._kill_all()
                return status

    def _start(self) -> None:
        self._beats, sender = os.pipe()
        os.set_blocking(self._beats, False)
        supervisor = os.getpid()
        self._front = os.fork()
        if self._front == 0:
            os.close(self._beats)
            _end_with(supervisor, signal.SIGTERM)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            self._serve_front(sender)
        os.close(sender)
        self._triton = os.fork()
        if self._triton == 0:
            _end_with(supervisor, signal.SIGKILL)
            _become(self._command)

    def _reap(self) -> int | None:
        """Deals with children that have ended or are stopped; gives the status to end with."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return None
            if pid == 0:
                return None
            if os.WIFSTOPPED(status):
                _report(f"{self._name(pid)} was stopped and is continued")
                os.kill(pid, signal.SIGCONT)
                continue
            code = os.waitstatus_to_exitcode(status)
            code = code if code >= 0 else 128 - code
            if pid == self._triton:
                self._triton = 0
                return self._triton_has_ended(code)
            if pid == self._front:
                self._front = 0
                if not self._is_stopping:
                    _report(f"the front has ended with status {code}")
                    return code or _FAILED

    def _triton_has_ended(self, code: int) -> int:
        if self._front:
            self._let_the_front_end()
        if self._is_stopping:
            return code
        _report(f"Triton has ended with status {code}")
        return code or (_FAILED if self._has_served else 0)

    def _let_the_front_end(self) -> None:
        os.kill(self._front, signal.SIGTERM)
        deadline = time.monotonic() + _LAST_ANSWERS_S
        while time.monotonic() < deadline:
            if os.waitpid(self._front, os.WNOHANG)[0]:
                self._front = 0
                return
            time.sleep(_STEP_S)

    def _is_silent(self, *, ticked: bool) -> bool:
        """Whether the front, once it serves, sends no beats."""
        if self._is_stopping:
            return False
        try:
            beaten = bool(os.read(self._beats, 4096))
        except BlockingIOError:
            beaten = False
        if beaten:
            self._has_served = True
            self._silent_ticks = 0
        elif self._has_served and ticked:
            self._silent_ticks += 1
        return self._silent_ticks >= _SILENT_TICKS

    def _kill_all(self) -> None:
        """Kills all descendants; those whose parents die become children of this process."""
        for pid in filter(None, (self._triton, self._front)):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + _KILLED_S
        while time.monotonic() < deadline:
            for child in children_of(os.getpid()):
                os.kill(child.pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
            time.sleep(_STEP_S)

    def _name(self, pid: int) -> str:
        return {self._front: "the front", self._triton: "Triton"}.get(pid, f"process {pid}")


def _continue_first_process() -> None:
    """Continues the first process of a container where that is this process's parent."""
    first = os.getppid()
    if first == _FIRST and (process := read_process(first)) and process.is_stopped:
        _report("the container's first process was stopped and is continued")
        os.kill(first, signal.SIGCONT)


def _become(command: Sequence[str]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, which would be inherited
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
    os._exit(127)


def _end_with(parent: int, number: signal.Signals) -> None:
    """Has the kernel end this process when its parent ends, for whatever reason."""
    # Ctrl-C in a terminal comes once, by way of the supervisor. No session of its own: where Linux
    # shares CPU time among sessions (autogroup), a busy machine would run Triton hundreds of steps
    # ahead of its front and clients, which then come too late to stop a request.
    os.setpgid(0, 0)
    _set_process_option(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(_FAILED)


def _set_process_option(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _report(what: str) -> None:
    print(f"tritonserver: {what}", file=sys.stderr, flush=True)
