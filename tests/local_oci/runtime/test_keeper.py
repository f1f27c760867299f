"""The keeper of a container's processes, run by itself with a short grace period."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from local_oci.runtime.isolation import Isolation
from local_oci.runtime.keeper import Task
from tests.local_oci.support import REPOSITORY, processes_of, wait_until

GRACE_SECONDS = 0.5
Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture(params=list(Isolation))
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Start:
    """Start a keeper with a shell script; skipped where the machine refuses namespaces."""

    def start(script: str) -> subprocess.Popen[bytes]:
        for part in ("model", "staging", "home"):
            (tmp_path / part).mkdir()
        read_end, write_end = os.pipe()
        lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
        task = Task(
            parent=os.getpid(),
            isolation=request.param,
            command=["sh", "-c", script],
            environment={"PATH": os.defpath, "HOME": str(tmp_path)},
            directory=str(tmp_path / "home"),
            model=str(tmp_path / "model"),
            mount_point="/opt/ds/model/deployed_model",
            staging=str(tmp_path / "staging"),
            shm_size="1m",
            relays={},
            network=False,
            shown=[],
            grace_seconds=GRACE_SECONDS,
            status_descriptor=write_end,
            lock_descriptor=lock,
        )
        (tmp_path / "task.json").write_text(task.to_json())
        keeper = subprocess.Popen(
            [sys.executable, "-m", "local_oci.runtime.keeper", str(tmp_path / "task.json")],
            cwd=REPOSITORY,
            pass_fds=(write_end, lock),
        )
        os.close(write_end)
        os.close(lock)
        with os.fdopen(read_end) as status:
            problem = status.read()
        if "cannot set up the namespaces" in problem or "cannot prepare" in problem:
            pytest.skip(f"this machine refuses namespaces: {problem}")
        assert problem == ""
        return keeper

    return start


def test_it_ends_as_its_command_ends(start: Start) -> None:
    assert start("exit 3").wait(10) == 3


def test_a_signal_that_ends_the_command_shows_in_the_status(start: Start) -> None:
    assert start("kill -SEGV $$").wait(10) == 128 + signal.SIGSEGV


def test_sigterm_lets_the_command_end_by_itself(start: Start, tmp_path: Path) -> None:
    keeper = start("trap 'echo bye > said; exit 0' TERM; touch up; sleep 9 & wait")
    wait_until((tmp_path / "home" / "up").exists)
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(10) == 0
    assert (tmp_path / "home" / "said").read_text() == "bye\n"
    assert not processes_of(tmp_path)


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_period(
    start: Start, tmp_path: Path
) -> None:
    keeper = start("trap '' TERM; touch up; while true; do sleep 0.05; done")
    wait_until((tmp_path / "home" / "up").exists)
    began = time.monotonic()
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(10) == 128 + signal.SIGKILL
    assert time.monotonic() - began >= GRACE_SECONDS
    assert not processes_of(tmp_path)


def test_what_the_command_leaves_behind_ends_with_it(start: Start, tmp_path: Path) -> None:
    keeper = start("setsid sleep 1000 & exit 0")
    assert keeper.wait(10) == 0
    assert not processes_of(tmp_path)


def test_a_keeper_that_is_killed_takes_its_command_along(start: Start, tmp_path: Path) -> None:
    keeper = start("touch up; exec sleep 1000")
    wait_until((tmp_path / "home" / "up").exists)
    keeper.kill()
    keeper.wait(10)
    wait_until(lambda: not processes_of(tmp_path), 5)
