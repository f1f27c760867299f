"""serve, start, stop, status."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import oci
import pytest
import requests

from local_oci.home import Lock
from tests.local_oci.support import REPOSITORY, processes_of, run_cli, wait_until


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "d"
    run_cli("stop", f"--directory={tmp_path / 'd'}")


def _start(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_cli("start", f"--directory={directory}", *arguments)


def test_a_cloud_is_started_found_asked_and_stopped(directory: Path) -> None:
    started = _start(directory)
    endpoint = started.stdout.strip()
    assert (started.returncode, endpoint) == (0, (directory / "endpoint").read_text())
    again = _start(directory)
    assert (again.returncode, again.stdout.strip()) == (0, endpoint)
    assert endpoint in run_cli("status", f"--directory={directory}").stdout
    config = oci.config.from_file(str(directory / "config"))
    storage = oci.object_storage.ObjectStorageClient(config, service_endpoint=endpoint)
    assert storage.get_namespace().data == "localoci"
    stopped = run_cli("stop", f"--directory={directory}")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert not processes_of(directory)
    assert run_cli("status", f"--directory={directory}").returncode == 3


def test_stopping_what_does_not_run_is_fine(directory: Path) -> None:
    stopped = run_cli("stop", f"--directory={directory}")
    assert (stopped.returncode, stopped.stdout) == (0, "not running\n")


def test_a_stop_whose_docker_engine_is_gone_says_what_is_left_and_the_way_out(
    directory: Path, tmp_path: Path
) -> None:
    _start(directory)
    engines = directory / "docker_engines.json"
    engines.write_text(json.dumps([f"unix://{tmp_path}/gone.sock"]))
    stopped = run_cli("stop", f"--directory={directory}")
    assert stopped.returncode == 1
    (line,) = stopped.stderr.splitlines()
    assert "nothing runs any more, but containers of" in line
    assert f"no Docker engine answers at unix://{tmp_path}/gone.sock" in line
    assert line.endswith(f"if that engine is gone for good, remove {engines}")
    assert not processes_of(directory)
    engines.unlink()
    assert run_cli("stop", f"--directory={directory}").returncode == 0


def test_the_port_of_last_time_is_taken_again(directory: Path) -> None:
    first = _start(directory).stdout
    run_cli("stop", f"--directory={directory}")
    assert _start(directory).stdout == first


def test_another_port_is_taken_when_that_of_last_time_is_in_use(directory: Path) -> None:
    first = _start(directory).stdout.strip()
    run_cli("stop", f"--directory={directory}")
    with socket.create_server(("127.0.0.1", int(first.rpartition(":")[2]))):
        second = _start(directory).stdout.strip()
    assert second.startswith("http://127.0.0.1:")
    assert second != first


def test_a_port_that_is_taken_is_one_clear_line(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = _start(directory, f"--port={port}")
    assert refused.returncode == 1
    assert refused.stdout == ""
    (line,) = refused.stderr.splitlines()
    assert line == (
        f"cannot listen on 127.0.0.1 port {port} (Address already in use); choose another --port, "
        "or 0 for any that is free"
    )
    assert not processes_of(directory)


def test_a_cloud_that_an_older_version_serves_is_one_clear_line(directory: Path) -> None:
    class OldHealth(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"directory": str(directory)}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    directory.mkdir()
    lock = Lock(directory / "lock")
    assert lock.acquire()
    with HTTPServer(("127.0.0.1", 0), OldHealth) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (directory / "endpoint").write_text(f"http://127.0.0.1:{server.server_port}")
        refused = _start(directory)
        server.shutdown()
    lock.release()
    (line,) = refused.stderr.splitlines()
    assert (refused.returncode, line) == (
        1,
        f"{directory} is served by another version of local_oci; stop it, and start it again: "
        f"{sys.executable} -m local_oci stop --directory {directory}",
    )


def test_two_starts_at_once_make_one_server(directory: Path) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-m", "local_oci", "start", f"--directory={directory}"],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = {start.communicate(timeout=60)[0] for start in starts}
    assert {start.returncode for start in starts} == {0}
    assert len(outputs) == 1
    wait_until(lambda: len(processes_of(directory)) == 1)


def test_a_killed_server_is_no_obstacle(directory: Path) -> None:
    endpoint = _start(directory).stdout.strip()
    (server,) = processes_of(directory)
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: not processes_of(directory))
    assert run_cli("status", f"--directory={directory}").returncode == 3
    assert _start(directory).stdout.strip() == endpoint


def test_the_identity_outlives_the_server(directory: Path) -> None:
    _start(directory)
    before = (directory / "config").read_text()
    run_cli("stop", f"--directory={directory}")
    endpoint = _start(directory).stdout.strip()
    assert (directory / "config").read_text() == before
    config = oci.config.from_file(str(directory / "config"))
    signer = oci.signer.Signer.from_config(config)
    assert requests.get(f"{endpoint}/n", auth=signer, timeout=5).ok


@pytest.mark.parametrize("value", ["no-separator", "ref=/does/not/exist"])
def test_an_image_that_is_none_is_refused(directory: Path, value: str) -> None:
    refused = _start(directory, f"--image={value}")
    assert refused.returncode == 2
    assert value.rpartition("=")[2] in refused.stderr


@pytest.mark.parametrize("verb", ["serve", "start", "stop", "status"])
def test_every_verb_explains_itself(verb: str) -> None:
    shown = run_cli(verb, "--help")
    assert shown.returncode == 0
    assert "--directory" in shown.stdout


def test_an_image_reaches_a_server_that_runs_already(directory: Path, image: Path) -> None:
    _start(directory)
    assert _start(directory, f"--image=local/late:1={image}").returncode == 0
    assert "local/late:1" in (directory / "images.json").read_text()


def test_an_images_directory_may_have_any_name(
    directory: Path, image: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "a=b & ü"
    odd.symlink_to(image)
    assert _start(directory, f"--image=local/odd:1={odd}").returncode == 0
    known = json.loads((directory / "images.json").read_text())
    assert known["local/odd:1"] == str(image.resolve())
