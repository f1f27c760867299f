"""Runs that are killed, run twice, or robbed of their outputs end in the same state.

These are a few of each, of `make` itself. Every file that can be lost and every step at which a run
can be killed: tests/falconry/test_disturbed_runs.py, and of a deployment
tests/falconry/cloud/test_killed_deploy.py.
"""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import kill

CLOUD = "Explain Cloud Computing to a school kid"


@pytest.fixture(scope="module")
def whole(clone):
    """The state after an undisturbed `make artifact`."""
    clone.ok("artifact")
    return clone.state()


def wipe(clone):
    shutil.rmtree(clone.directory / "build", onerror=writable_and_again)


def writable_and_again(function, path, _):
    Path(path).chmod(0o700)
    function(path)


@pytest.mark.parametrize(
    ("victim", "damage"),
    [
        ("store/*/openvino_model.bin", "overwrite"),
        ("local/repository", "delete"),
        ("local", "delete"),
    ],
)
@pytest.mark.long  # of the pipeline alone: tests/falconry/test_disturbed_runs.py
def test_a_lost_or_damaged_output_is_made_again(clone, whole, victim, damage):
    for path in (clone.directory / "build").glob(victim):
        if damage == "delete":
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        elif path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    clone.ok("artifact")
    assert clone.state() == whole


@pytest.mark.parametrize("moment", ["converting weights", "flushing to disk", "assembling"])
@pytest.mark.long  # at every step: tests/falconry/test_disturbed_runs.py
def test_a_killed_build_ends_in_the_same_state_when_run_again(clone, whole, moment):
    wipe(clone)
    process = clone.start_until(moment, "artifact")
    kill(process)
    clone.ok("artifact")
    assert clone.state() == whole


def test_two_builds_at_once_do_the_work_once(clone, whole):
    wipe(clone)
    processes = [clone.start("artifact") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    made = [len(re.findall(r"^✔ \w+ +made ", output, re.MULTILINE)) for output in outputs]
    assert sorted(made) == [0, 3], outputs
    assert clone.state() == whole


def test_ctrl_c_is_one_line(clone):
    wipe(clone)
    process = clone.start_until("reading the checkpoint", "artifact")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output, output
    assert "Interrupted; run the same again to continue." in output


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("uploading the artifact", marks=pytest.mark.long),
        "Waiting for the container to be healthy",
    ],
)
def test_a_killed_deploy_is_finished_by_the_next(clone, sentences, moment):
    clone.ok("clean")
    process = clone.start_until(moment, "deploy")
    kill(process)
    assert "ACTIVE" in clone.ok("deploy").output
    assert clone.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]


@pytest.mark.long  # test_stage.py has two runners in two processes
def test_two_deploys_at_once_make_one_deployment(clone, sentences):
    clone.run("down")
    processes = [clone.start("deploy") for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    urls = {word for output in outputs for word in output.split() if word.startswith("http")}
    assert len(urls) == 1
    assert clone.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]


@pytest.mark.long  # test_deployments.py and test_docker_runner.py of local_oci kill clouds
def test_a_killed_local_cloud_takes_its_server_along_and_comes_back(clone, sentences):
    clone.ok("deploy")
    for line in ("local_oci", "serve"):
        assert any(line in process for process in clone.processes())
    for entry in os.listdir("/proc"):
        if entry.isdigit() and is_local_cloud(entry, clone.directory):
            os.kill(int(entry), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while clone.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert clone.processes() == []
    assert "ACTIVE" in clone.ok("deploy").output
    assert clone.ok("query", f"PROMPT={CLOUD}").answer == sentences[CLOUD]


def is_local_cloud(pid, directory):
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return (
        b"local_oci" in words and b"serve" in words and str(directory).encode() in b" ".join(words)
    )
