"""What tests leave behind fails the run, and nothing else does."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
ALONE = ("-n0",)
TWO = ("-n2", "--dist=loadfile")
TIDY = """
import socket, subprocess, sys

import pytest

@pytest.fixture(scope="session")
def server():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()

def test_that_uses_a_server(server):
    with socket.create_server(("127.0.0.1", 0)):
        assert server.poll() is None

def test_whose_process_is_just_ending(tmp_path):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5)"])
"""
# Its process has a session, a parent and an environment of its own. The kernel dates processes by
# the hundredth of a second, so the next test begins later than that.
DETACHED = """
import subprocess, sys, time

LEAVE = "import subprocess as s; s.Popen(['sleep', '607'], {}, cwd={!r}, env={})"

def test_before():
    pass

def test_that_leaves_a_process(tmp_path):
    words = LEAVE.format("start_new_session=True", str(tmp_path), ENVIRONMENT)
    subprocess.run([sys.executable, "-c", words], check=True)
    time.sleep(0.1)

def test_after():
    pass
"""
PORT = """
import socket

kept = []

def test_that_leaves_a_port():
    kept.append(socket.create_server(("127.0.0.1", 0)))

def test_after():
    pass
"""
CONTAINER = """
import contextlib

def test_that_leaves_a_container(docker_engine):
    with contextlib.closing(docker_engine.client()) as client:
        client.api.import_image_from_data(b"\\0" * 1024, repository="falconry-test/leak", tag="1")
        client.api.create_container("falconry-test/leak:1", "x", name=NAME)
"""


@pytest.fixture
def run(tmp_path):
    """Runs a test file under the plugin; gives pytest's status and what it says."""

    def go(text, *arguments, **environment):
        (tmp_path / "test_inner.py").write_text(text)
        plugins = [word for name in ("leaks", "docker_engine") for word in ("-p", f"tests.{name}")]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return go


def has_ended(pid):
    """Whether a process is gone, or waits only for its status to be asked for."""
    try:
        text = (Path("/proc") / pid / "stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def test_tidy_tests_pass(run):
    status, said = run(TIDY, *TWO)
    assert status == 0, said
    assert "left behind" not in said


@pytest.mark.parametrize(
    ("workers", "environment"),
    [pytest.param(ALONE, "None", marks=pytest.mark.long), (TWO, "{}")],
    ids=["alone", "two"],
)
def test_a_process_that_is_left_is_told_with_its_test_and_ended(run, workers, environment):
    status, said = run(DETACHED.replace("ENVIRONMENT", repr(environment)), *workers)
    assert status == 1, said
    line = next(line for line in said.splitlines() if line.startswith("ERROR: process"))
    assert "(sleep 607)" in line
    assert line.endswith("test_inner.py::test_that_leaves_a_process")
    assert has_ended(line.split()[2])


def test_a_port_that_is_left_is_told_with_its_test(run):
    status, said = run(PORT, *ALONE)
    assert status == 1, said
    line = next(line for line in said.splitlines() if line.startswith("ERROR: port"))
    assert line.endswith("test_inner.py::test_that_leaves_a_port")


def test_a_container_that_is_left_is_told_with_its_test_and_removed(run, docker_engine, tmp_path):
    name = f"falconry-leak-{os.getpid()}"
    status, said = run(CONTAINER.replace("NAME", repr(name)), "-n0", DOCKER_HOST=docker_engine.host)
    assert status == 1, said
    line = next(line for line in said.splitlines() if line.startswith("ERROR: container"))
    assert name in line
    assert line.endswith("test_inner.py::test_that_leaves_a_container")
    with contextlib.closing(docker_engine.client()) as client:
        assert name not in [
            each.name for each in client.containers.list(all=True, ignore_removed=True)
        ]
        client.images.remove("falconry-test/leak:1")
