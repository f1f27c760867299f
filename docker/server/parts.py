"""The processes that answers need, besides the front: Triton and its Python backends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import PurePath

from processes import Process, arguments_of, descendants_of, read_process

_TRITON = "tritonserver"
_BACKEND = "triton_python_b"  # triton_python_backend_stub, as the kernel shortens it
_log = logging.getLogger("front")


class Parts:
    """The parts of a server whose models are loaded.

    Args:
        supervisor: the process whose descendants they are; None where nothing supervises them.
    """

    def __init__(self, supervisor: int | None) -> None:
        self._supervisor = supervisor
        self._names: Mapping[Process, str] = {}
        self._cpu_s = 0.0

    def find(self) -> None:
        """Finds the parts; call it once all models are loaded."""
        self._names = self._running()

    def ended(self) -> str | None:
        """The name of a part that has ended, if one has."""
        for part, name in self._names.items():
            if _present(part) is None:
                return name
        return None

    def unreaped(self) -> str | None:
        """The name of a Python backend that has ended without Triton's notice, if one has."""
        return next((name for part, name in self._running().items() if part.has_ended), None)

    def continue_stopped(self) -> None:
        """Continues stopped parts, also while models load, and the supervisor."""
        supervisor = None if self._supervisor is None else read_process(self._supervisor)
        named = dict(self._names or self._running())
        if supervisor is not None:
            named[supervisor] = "the supervisor"
        for part, name in named.items():
            if (present := _present(part)) and present.is_stopped:
                _log.warning("%s was stopped and is continued", name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(part.pid, signal.SIGCONT)

    def _running(self) -> Mapping[Process, str]:
        found = [] if self._supervisor is None else descendants_of(self._supervisor)
        return {each: _name(each) for each in found if each.name in (_TRITON, _BACKEND)}

    def used_cpu_s(self) -> float:
        """The CPU time that they have used since the last call, in seconds."""
        before, self._cpu_s = (
            self._cpu_s,
            sum(present.cpu_s for part in self._names if (present := _present(part))),
        )
        return max(self._cpu_s - before, 0.0)


def _present(part: Process) -> Process | None:
    """A part as it is now; None if it has ended."""
    present = read_process(part.pid)
    if present is None or present.has_ended or present.started != part.started:
        return None
    return present


def _name(part: Process) -> str:
    if part.name == _TRITON:
        return "Triton"
    # triton_python_backend_stub .../MODEL/VERSION/model.py ...
    script = next((word for word in arguments_of(part.pid) if word.endswith(".py")), "")
    model = PurePath(script).parent.parent.name
    return f"the Python backend of {model or 'a model'}"
