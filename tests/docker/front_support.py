"""A front in a process of its own, before whatever Triton a test gives it."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import requests

from tests.docker.stand_in_triton import running_stand_in
from tests.docker_images import ROOT

_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); from front import serve; "
    "serve('127.0.0.1', int(sys.argv[2]), sys.argv[3], sys.argv[3] + '/metrics')"
)


def front_module(name):
    """A module of the front, such as `access`, which imports the others by their bare names."""
    directory = str(ROOT / "docker" / "server")
    if directory not in sys.path:
        sys.path.append(directory)
    return importlib.import_module(name)


class RunningFront:
    """A front and what is behind it.

    Attributes:
        url: the front's.
        triton: what is behind it.
        process: the front's process.
    """

    def __init__(self, url, triton, process, log):
        self.url = url
        self.triton = triton
        self.process = process
        self._log = log

    @property
    def log(self):
        return self._log.read_text()

    def get(self, path, **options):
        return requests.get(f"{self.url}{path}", timeout=10, **options)

    def post(self, path, body, **options):
        return requests.post(f"{self.url}{path}", **{"json": body, "timeout": 30, **options})

    def metric(self, name):
        """A metric's value, by its name with labels; 0 where it has none yet."""
        for line in self.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)


def wait_until(condition, seconds=10):
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


@contextmanager
def running_front(directory, state=None, **settings):
    """A front before a stand-in for Triton.

    The state is what the stand-in has from the beginning, settings are the front's environment
    variables.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = directory / "front.log"
    # A probe is a request to the stand-in as well: there is one where a test asks for it.
    settings = {"probe_period_s": 3600, **settings}
    environment = {f"FALCONRY_{name.upper()}": str(value) for name, value in settings.items()}
    with running_stand_in(**(state or {})) as triton, log.open("wb") as output:
        server = str(ROOT / "docker" / "server")
        process = subprocess.Popen(
            [sys.executable, "-c", _START, server, str(port), triton.url],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        front = RunningFront(f"http://127.0.0.1:{port}", triton, process, log)
        try:
            wait_until(lambda: _listens(front), seconds=60)
            yield front
        finally:
            process.kill()
            process.wait()


def wait_until_ready(front):
    """Waits for the first generation; forgets it."""
    wait_until(lambda: front.get("/v2/health/ready").status_code == 200, seconds=60)
    front.triton.seen.clear()


def _listens(front):
    assert front.process.poll() is None, front.log
    try:
        return front.get("/v2/health/ready") is not None
    except requests.ConnectionError:
        return False
