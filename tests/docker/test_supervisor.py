"""What the supervisor makes of two children that are not Triton and the front."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.docker.front_support import wait_until
from tests.docker_images import ROOT

# A front that beats until its end, and notes its process.
STEADY = """
    open(f"{directory}/front", "w").write(str(os.getpid()))
    while True:
        os.write(beats, b".")
        time.sleep(0.05)
"""
SCRIPT = """
import os, sys, time
sys.path.insert(0, {server!r})
import supervisor
directory = {directory!r}
supervisor._TICK_S, supervisor._SILENT_TICKS = 0.05, 10
def front(beats):
{front}
    os._exit(0)
sys.exit(supervisor.Supervisor({command!r}, front).run())
"""


@pytest.fixture
def supervise(tmp_path):
    """Runs a shell script as Triton beside a front of Python lines; gives the supervisor."""
    started = []

    def start(triton, front=STEADY):
        script = SCRIPT.format(
            server=str(ROOT / "docker/server"),
            directory=str(tmp_path),
            front=front,
            command=[
                "/bin/sh",
                "-c",
                f"echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/triton\n{triton}",
            ],
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def number(path):
    """The number of a process that has noted it in a file."""
    return int(wait_until(lambda: path.exists() and path.read_text()))


def has_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


FOREVER = "while :; do sleep 0.05; done"


@pytest.mark.parametrize(("end", "status"), [("exit 7", 7), ("kill -9 $$", 137)])
def test_the_status_is_tritons_where_that_fails(supervise, tmp_path, end, status):
    process = supervise(f"sleep 0.3; {end}")
    front = number(tmp_path / "front")
    assert process.wait(10) == status
    assert has_gone(front)


def test_triton_that_ends_well_unasked_after_it_served_is_a_failure(supervise):
    process = supervise("sleep 0.5; exit 0")
    assert process.wait(10) == 1
    assert "Triton has ended with status 0" in process.stderr.read()


def test_triton_that_only_says_something_ends_well(supervise):
    assert supervise("exit 0", front="    time.sleep(60)\n").wait(10) == 0


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_to_triton_whose_status_is_returned(supervise, tmp_path, told):
    process = supervise(f"trap 'exit 0' TERM; trap 'exit 5' INT; {FOREVER}")
    number(tmp_path / "front")
    time.sleep(0.2)  # until the traps are set
    process.send_signal(told)
    assert process.wait(10) == (0 if told is signal.SIGTERM else 5)


def test_the_children_have_groups_of_their_own_and_the_supervisors_session(supervise, tmp_path):
    """Linux may share CPU time among sessions; Triton must not run ahead of its front."""
    process = supervise(FOREVER)
    children = [number(tmp_path / part) for part in ("front", "triton")]
    assert len({os.getpgid(pid) for pid in (process.pid, *children)}) == 3
    assert {os.getsid(pid) for pid in children} == {os.getsid(process.pid)}


@pytest.mark.parametrize("how", ["os._exit(0)", "os._exit(4)", "os.kill(os.getpid(), 9)"])
def test_without_the_front_triton_ends_and_what_it_started(supervise, tmp_path, how):
    child = f"(echo $BASHPID > /dev/null; trap '' TERM HUP; echo up > {tmp_path}/up; {FOREVER}) &"
    process = supervise(f"{child} {FOREVER}", front=f"    time.sleep(0.3)\n    {how}\n")
    triton = number(tmp_path / "triton")
    group = os.getpgid(triton)
    status = process.wait(10)
    assert status == {"os._exit(4)": 4, "os.kill(os.getpid(), 9)": 137}.get(how, 1)
    assert has_gone(triton)
    with pytest.raises(ProcessLookupError):
        os.killpg(group, 0)


def test_a_front_that_does_not_move_any_more_ends_the_server(supervise):
    process = supervise(FOREVER, front='    os.write(beats, b".")\n    time.sleep(60)\n')
    assert process.wait(10) == 1
    assert "the front has not moved" in process.stderr.read()


@pytest.mark.parametrize("part", ["front", "triton"])
def test_a_child_that_is_stopped_is_continued(supervise, tmp_path, part):
    process = supervise(f"trap 'exit 0' TERM; {FOREVER}")
    pid = number(tmp_path / part)
    number(tmp_path / "front")
    time.sleep(0.2)
    os.kill(pid, signal.SIGSTOP)
    assert f"{'Triton' if part == 'triton' else 'the front'} was stopped" in (
        process.stderr.readline()
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_both_end_with_a_killed_supervisor(supervise, tmp_path):
    process = supervise(FOREVER)
    pids = [number(tmp_path / part) for part in ("front", "triton")]
    process.kill()
    wait_until(lambda: all(has_gone(pid) for pid in pids))


def test_a_program_that_cannot_be_run_is_named(tmp_path):
    refused = subprocess.run(
        [sys.executable, str(ROOT / "docker/server/tritonserver.py"), "/no/such/program"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert refused.returncode == 127
    assert "cannot run /no/such/program: No such file or directory" in refused.stderr
