"""The front and Triton as one program: they start, stop and fail together."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from falconry.image.process_image import prepare_process_image


@pytest.fixture
def launcher(tmp_path):
    return prepare_process_image(tmp_path / "image") / "bin" / "tritonserver"


@pytest.fixture
def models(tmp_path):
    """An empty model repository, which Triton serves as well."""
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextlib.contextmanager
def running(launcher, models, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
    """Runs both until the end of the context."""
    port = free_port()
    process = subprocess.Popen(
        [launcher, f"--model-repository={models}"],
        env={**os.environ, "LOCAL_OCI_SERVER_PORT": str(port)},
        stdout=stdout,
        stderr=stderr,
    )
    process.url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{process.url}/v2/health/ready", timeout=5).ok:
                break
        except requests.RequestException:
            pass
        time.sleep(0.05)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(launcher, models):
    with running(launcher, models) as process:
        yield process


def test_lines_of_triton_and_of_the_front_never_meet_in_one_stream(launcher, models, tmp_path):
    written = tmp_path / "stdout", tmp_path / "stderr"
    with (
        written[0].open("wb") as stdout,
        written[1].open("wb") as stderr,
        running(launcher, models, stdout, stderr) as process,
    ):
        requests.post(f"{process.url}/v2/models/none/generate", json={}, timeout=5)
        assert wait_for(lambda: "/generate 4" in written[0].read_text(), 10)
    out, err = (path.read_text() for path in written)
    assert "front: ready" in out
    assert "/v2/models/none/generate 4" in out
    assert "front: " not in err
    assert "Started HTTPService" in err


def test_what_is_no_inference_passes_through(server):
    assert requests.get(f"{server.url}/v2", timeout=5).json()["name"] == "triton"
    assert requests.get(f"{server.url}/v2/models/none/config", timeout=5).status_code == 404
    unknown = requests.post(f"{server.url}/v2/models/none/generate", json={}, timeout=5)
    assert "unknown model" in unknown.json()["error"]


def test_only_the_front_listens_beyond_loopback(launcher, models, tmp_path):
    http, grpc = free_port(), free_port()
    arguments = [f"--model-repository={models}", f"--http-port={http}", f"--grpc-port={grpc}"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([launcher, *arguments], stdout=output, stderr=output)
    try:
        assert wait_for(lambda: b"Started Metrics Service" in log.read_bytes(), 30)
        assert wait_for(lambda: any(port == http for _, port in listening()), 10)
        started = re.findall(rb"Started .* at ([\d.]+):(\d+)", log.read_bytes())
        assert {address for address, _ in started} == {b"127.0.0.1"}
        assert str(grpc).encode() in [port for _, port in started]
        assert {address for address, port in listening() if port == http} == {"0.0.0.0"}
    finally:
        process.kill()
        process.wait()


def listening():
    """The IPv4 addresses and ports of this machine that take connections."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        if state == "0A":
            address, port = local.split(":")
            yield socket.inet_ntoa(int(address, 16).to_bytes(4, sys.byteorder)), int(port, 16)


def test_what_says_whether_it_is_ready_agrees(server):
    paths = ("/health", "/v2/health/live", "/v2/health/ready")
    answers = [requests.get(f"{server.url}{path}", timeout=5).status_code for path in paths]
    assert answers == [200, 200, 200]


def test_sigterm_ends_both_and_the_status_is_tritons(server):
    both = children(server.pid)
    with requests.Session() as client:  # A connection that stays open must not hold Triton up.
        client.get(f"{server.url}/v2", timeout=5)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0  # Triton's exit timeout is 30 s.
    assert all(wait_until_gone(pid) for pid in both)


def test_a_taken_port_ends_the_server_with_a_reason(launcher, models):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        ended = subprocess.run(
            [launcher, f"--model-repository={models}"],
            env={**os.environ, "LOCAL_OCI_SERVER_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def wait_until_gone(pid):
    return wait_for(lambda: gone(pid), 10)


def wait_for(condition, seconds):
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
