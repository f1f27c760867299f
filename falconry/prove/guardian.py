"""The process that removes what a trial made, when the trial ends in any way.

    python -m falconry.prove.guardian <directory of the trial>

It is in a session of its own and waits for the end of its standard input, which comes when the
trial closes it or is killed, or for the trial's limit of time.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from falconry.cloud import emulator
from falconry.cloud.work_requests import Watch
from falconry.errors import FalconryError
from falconry.files import atomic_write_text, file_lock
from falconry.prove.report import RECORD, REPORT_JSON, known_answers, write_report
from falconry.settings import CloudSettings

TAG = "falconry-prove"
"""The tag of everything that a trial makes; its value is the trial's name."""

TASK, _LOCK, _LOG = "task.json", "guardian.lock", "guardian.log"
_REMOVAL_S = 3600.0
# A request that was under way when the trial was killed may still make something.
_SETTLE_S = 3.0
_PAUSE_S = 5.0
_MOST_PASSES = 24


@dataclass(frozen=True, slots=True)
class Task:
    """What a guardian has to know.

    Attributes:
        run: the trial's name.
        cloud: the profile's settings of the cloud, as JSON.
        seconds: the trial's limit of time.
        ends_emulator: whether the trial started the local cloud.
    """

    run: str
    cloud: str
    seconds: float
    ends_emulator: bool


@contextmanager
def guarded(directory: Path, task: Task) -> Iterator[None]:
    """Keeps a guardian while the body runs; waits for the removal at its end."""
    atomic_write_text(directory / TASK, json.dumps(asdict(task)))
    guardian = _start(directory)
    try:
        yield
    finally:
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()


def finish_old_trials(parent: Path) -> list[str]:
    """Removes what trials left whose guardian was killed as well; returns their names."""
    left = [
        path.parent
        for path in sorted(parent.glob(f"*/{TASK}"))
        if not (path.parent / REPORT_JSON).exists() and (path.parent / RECORD).exists()
    ]
    for directory in left:
        guardian = _start(directory)
        if guardian.stdin is not None:
            guardian.stdin.close()
        guardian.wait()
    return [directory.name for directory in left]


def _start(directory: Path) -> subprocess.Popen[bytes]:
    with (directory / _LOG).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "falconry.prove.guardian", str(directory)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def remove_trial(task: Task) -> list[dict[str, Any]]:
    """Removes everything that has the trial's tag, until nothing is left; returns what it was."""
    from falconry.cloud.session import session_of
    from falconry.deployment.tagged import Resource, remove_tagged

    settings = CloudSettings.model_validate_json(task.cloud)
    if emulator.is_stopped(settings.emulator):
        return []
    session = session_of(settings)
    watch = Watch(_REMOVAL_S, lambda step, fraction: None)
    found: dict[str, Resource] = {}
    left: list[Resource] = []
    was_empty = False
    for _ in range(_MOST_PASSES):
        left = remove_tagged(session, TAG, task.run, watch)
        found |= {each.id: each for each in left if each.id}
        if not left and was_empty:
            break
        was_empty = not left
        failed = any(each.problem for each in left)
        time.sleep(_PAUSE_S if failed else _SETTLE_S if was_empty else 0)
    # What the last look did not find is gone, whatever an earlier removal said.
    gone = [replace(each, problem=None) for each in found.values() if each not in left]
    return [each.facts() for each in (*gone, *left)]


def main() -> int:
    """Waits for the trial's end, removes what it made and writes its report."""
    directory = Path(sys.argv[1])
    task = Task(**json.loads((directory / TASK).read_text(encoding="utf-8")))
    deadline = time.monotonic() + task.seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([sys.stdin], [], [], left)[0] and not os.read(sys.stdin.fileno(), 1):
            break
    with file_lock(directory / _LOCK, print):
        try:
            removed = remove_trial(task)
            settings = CloudSettings.model_validate_json(task.cloud)
            if task.ends_emulator and settings.emulator:
                emulator.stop(settings.emulator)
        except FalconryError as error:
            removed = [{"kind": "trial", "name": task.run, "id": task.run, "problem": str(error)}]
        write_report(directory, removed, known_answers())
    return int(any(each["problem"] for each in removed))


if __name__ == "__main__":
    raise SystemExit(main())
