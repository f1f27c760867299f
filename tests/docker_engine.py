"""The Docker engine of the tests: one that answers already, or one that they start for themselves.

The engine that is started has its own directory and bridge, and ends with the tests. It changes
nothing that another engine of the machine uses. Its containers reach the outside where the machine
has a working iptables. With FALCONRY_REQUIRE_DOCKER=1 a test that needs Docker and is skipped is a
failure.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from docker.errors import DockerException

import docker
from tests.debian import install
from tests.docker_bridge import own_bridge
from tests.grouping import needs_docker
from tests.leaks import since_boot

STAND_IN_GPU = Path(__file__).parent / "stand_in_gpu"
_DEFAULT_HOST = "unix:///var/run/docker.sock"
_START_DEADLINE_S = 30
_END_DEADLINE_S = 15
_INSTALL = "apt-get install --no-install-recommends docker.io"
_REQUIRED = "FALCONRY_REQUIRE_DOCKER"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Where Docker is required, makes a failure of the skip of a test that needs it."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")  # else: failed as expected
    if skipped and os.environ.get(_REQUIRED) == "1" and needs_docker(item):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{_REQUIRED}=1 and yet {item.nodeid} was {str(reason).lower()}"
    return report


@dataclass(frozen=True)
class DockerEngine:
    """A Docker engine that answers at `host`, such as `unix:///var/run/docker.sock`."""

    host: str

    def client(self, timeout_s=60):
        """A new client; whoever asks for it closes it."""
        return docker.DockerClient(base_url=self.host, timeout=timeout_s)

    def answers(self):
        with contextlib.suppress(DockerException, OSError), contextlib.closing(self.client()) as it:
            return it.ping()
        return False


@pytest.fixture(scope="session")
def gpu_docker_engine(docker_engine):
    """A Docker engine that takes `--gpus`: by a stand-in hook when the tests started it."""
    with contextlib.closing(docker_engine.client()) as client:
        if "nvidia" not in client.info()["Runtimes"]:
            pytest.skip("the Docker engine that answers takes no --gpus")
    return docker_engine


@pytest.fixture(scope="session")
def stand_in_driver(tmp_path_factory):
    """A directory with a stand-in for libnvidia-ml.so.1, for LD_LIBRARY_PATH."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the stand-in for NVIDIA's driver library needs a C compiler")
    directory = tmp_path_factory.mktemp("driver")
    library = directory / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, STAND_IN_GPU / "nvml.c"], check=True
    )
    return directory


@pytest.fixture(scope="session")
def docker_engine(leaks):
    """A Docker engine; skips, and says what to install, where there can be none."""
    present = DockerEngine(os.environ.get("DOCKER_HOST", _DEFAULT_HOST))
    with contextlib.ExitStack() as stack:
        engine = present if present.answers() else stack.enter_context(started_engine())
        with _no_container_left(engine, leaks):
            yield engine


@contextlib.contextmanager
def _no_container_left(engine, leaks):
    """Reports, and removes, containers that are there in the end and were not at the start."""
    with contextlib.closing(engine.client()) as client:
        before = {
            container.id for container in client.containers.list(all=True, ignore_removed=True)
        }
        yield
        for container in client.containers.list(all=True, ignore_removed=True):
            if container.id not in before:
                image = container.attrs["Config"]["Image"]
                created = datetime.fromisoformat(container.attrs["Created"][:26] + "+00:00")
                made = since_boot() - (time.time() - created.timestamp())
                leaks.report(f"container {container.name} of {image}", made)
                container.remove(force=True)


@contextlib.contextmanager
def started_engine():
    """A Docker engine of the tests' own."""
    _require_dockerd()
    # A socket's path may have 107 characters at most, and pytest's own directories are deep.
    directory = Path(tempfile.mkdtemp(prefix="dockerd-", dir="/tmp"))
    with own_bridge() as bridge:
        with (directory / "log").open("wb") as log:
            process = _start(directory, bridge, log)
        try:
            yield _answering(DockerEngine(f"unix://{directory}/s.sock"), process, directory / "log")
        finally:
            _end(process, directory)


@contextlib.contextmanager
def engine_events(client, word):
    """Gives a list that in the end has the engine's events which have to do with a word."""
    seen, started = [], time.time()
    yield seen
    between = {"since": f"{started:.9f}", "until": f"{time.time():.9f}"}
    seen.extend(event for event in client.events(**between, decode=True) if word in str(event))


@pytest.fixture
def docker_host(docker_engine, monkeypatch):
    """The engine is the one that DOCKER_HOST names."""
    monkeypatch.setenv("DOCKER_HOST", docker_engine.host)
    return docker_engine.host


@pytest.fixture(scope="session")
def publishing_docker_engine(docker_engine):
    """A Docker engine whose containers can have published ports."""
    with contextlib.closing(docker_engine.client()) as client:
        if not client.networks.list(names=["bridge"], filters={"driver": "bridge"}):
            pytest.skip("the Docker engine has no bridge, so it cannot publish ports of containers")
    return docker_engine


def _require_dockerd():
    if os.geteuid() != 0:
        pytest.skip(f"no Docker engine answers; start one, or as root: {_INSTALL}")
    if not shutil.which("dockerd"):
        install("docker.io")
    if not shutil.which("dockerd"):
        pytest.skip(f"no Docker engine answers and dockerd could not be installed; try {_INSTALL}")


def _start(directory, bridge, log):
    return subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "TERM"),  # it ends with the tests even if they are killed
            "dockerd",
            *("--data-root", directory / "root", "--exec-root", directory / "exec"),
            *("--pidfile", directory / "pid", "--host", f"unix://{directory}/s.sock"),
            # Its rules would take the place of another engine's (libnetwork, removeIPChains).
            *("--iptables=false", "--bridge", bridge),
            # With the stand-in hook on its PATH the engine takes `--gpus`, as on a GPU host.
            *("--add-runtime", f"nvidia={shutil.which('runc')}"),
        ],
        env={**os.environ, "PATH": f"{STAND_IN_GPU}:{os.environ['PATH']}"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for the tests; they end it after their containers
    )


def _answering(engine, process, log):
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if engine.answers():
            return engine
        time.sleep(0.1)
    said = log.read_text(errors="replace")[-600:]
    return pytest.skip(f"dockerd does not run on this machine (it needs root's rights): {said}")


def _end(process, directory):
    engine = DockerEngine(f"unix://{directory}/s.sock")
    with (
        contextlib.suppress(DockerException, OSError),
        contextlib.closing(engine.client(_END_DEADLINE_S)) as client,
    ):
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)
    process.terminate()
    try:
        process.wait(_END_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _kill_containerd(directory / "exec" / "containerd" / "containerd.pid")
    for place in _mounts_below(directory):
        subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(directory, ignore_errors=True)


def _kill_containerd(pid_file):
    """Kills the containerd that a killed dockerd left; it removes the file when it ends well."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        if b"containerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def _mounts_below(directory):
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(
        (place for place in mounts if Path(place).is_relative_to(directory)), reverse=True
    )
