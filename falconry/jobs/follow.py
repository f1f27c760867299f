"""Follows a job run to its end: states, and the lines of its log."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falconry.deployment.logs import Logs
from falconry.documents import parse_json
from falconry.engine.tensorrt_llm.build_log import CONTROL, BuildLog
from falconry.errors import DetachedOperation, EngineError
from falconry.files import translate_disk_errors
from falconry.jobs.runs import ENDED, BuildJobs
from falconry.pipeline import Report

# ADS asks every three seconds, and for 90 seconds after the end, since entries come late.
_LOG_PAUSE_S = 3.0
_LOG_LATENESS_S = 90.0
_POLL_S = (0.2, 5.0)
_POLL_GROWTH = 1.2
# The exit code is only in a run's text (jobs-byoc.htm).
_EXIT_CODE = re.compile(r"exit code:? (\d+)", re.IGNORECASE)
_STATES = {
    "ACCEPTED": "waiting for the job's machine",
    "IN_PROGRESS": "the job is running",
    "CANCELING": "the job is being cancelled",
    "NEEDS_ATTENTION": "the job needs attention",
}


@dataclass(frozen=True, slots=True)
class FollowTimes:
    """How often to look, and how long for late lines; in seconds."""

    log_pause_s: float = _LOG_PAUSE_S
    log_lateness_s: float = _LOG_LATENESS_S
    sleep: Callable[[float], None] = time.sleep


class RunFollower:
    """Follows one run; its log goes to a file.

    `may_load_by_shard` says that a recipe could do so, which takes less memory.
    """

    def __init__(
        self,
        jobs: BuildJobs,
        logs: Logs,
        log: Path,
        times: FollowTimes,
        *,
        may_load_by_shard: bool = False,
    ) -> None:
        self._jobs = jobs
        self._logs = logs
        self._log = log
        self._times = times
        self._said = BuildLog(may_load_by_shard)
        self._complete = False  # whether the job's last line was read

    def follow(self, run: Any, report: Report) -> None:
        """Waits until a run has succeeded, or is gone.

        Raises:
            EngineError: it failed or was cancelled; the message is the cause.
            DetachedOperation: the user interrupted the wait; the run continues.
        """
        self._log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with translate_disk_errors(self._log), self._log.open("w", encoding="utf-8") as file:
                ended = self._wait(run, file, report)
        except KeyboardInterrupt:
            raise DetachedOperation(
                f"the build continues in the cloud as job run {run.id}: the same command follows"
                " it again; CANCEL=1 makes it end: make engine CANCEL=1, with the same PROFILE"
                " and other values"
            ) from None
        if ended is not None and ended.lifecycle_state in ("FAILED", "CANCELED"):
            raise self._failure(ended)

    def _wait(self, run: Any, file: Any, report: Report) -> Any | None:
        tail = self._logs.tail(run.id, run.time_accepted)
        state, pause, next_look = "", _POLL_S[0], 0.0
        current: Any | None = run
        while current is not None:
            if current.lifecycle_state != state:
                state = current.lifecycle_state
                report(_STATES.get(state, f"the job is {state}"), None)
            if state in ENDED:
                break
            now = time.monotonic()
            if state != "ACCEPTED" and now >= next_look:
                self._take(tail(), file, report)
                next_look = now + self._times.log_pause_s
            self._times.sleep(min(pause, self._times.log_pause_s))
            pause = min(pause * _POLL_GROWTH, _POLL_S[1])
            current = self._jobs.get(run.id)
        if current is not None and current.time_started is not None and state != "DELETED":
            self._read_late_lines(tail, file, report)
        return current

    def _read_late_lines(self, tail: Callable[[], list[str]], file: Any, report: Report) -> None:
        deadline = time.monotonic() + self._times.log_lateness_s
        self._take(tail(), file, report)
        while not self._complete and time.monotonic() < deadline:
            self._times.sleep(self._times.log_pause_s)
            self._take(tail(), file, report)

    def _take(self, lines: Iterable[str], file: Any, report: Report) -> None:
        for line in lines:
            file.write(f"{line}\n")
            self._complete = self._complete or _is_last(line)
            for step in self._said.read(f"{line}\n".encode()):
                report(step.step, step.fraction)
        file.flush()

    def _failure(self, run: Any) -> EngineError:
        details = run.lifecycle_details or "no reason was given"
        if run.lifecycle_state == "CANCELED":
            return EngineError(
                f"the job run was cancelled ({details})",
                where=run.id,
                remedy="run the same command to begin another",
            )
        found = _EXIT_CODE.search(details)
        if found is None:
            return EngineError(
                f"the job run failed: {details}", where=run.id, remedy="read its log's end"
            )
        problem, remedy = self._said.cause(int(found[1]), False)
        return EngineError(f"{problem} (job run: {details})", where=self._log, remedy=remedy)


def _is_last(line: str) -> bool:
    """Whether this is the line that engine/transfer.py ends with."""
    if not line.startswith(CONTROL):
        return False
    try:
        said = parse_json(line.removeprefix(CONTROL))
    except ValueError:
        return False
    return isinstance(said, dict) and "end" in said
