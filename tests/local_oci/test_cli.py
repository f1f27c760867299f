"""serve, start, stop, status."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oci
import pytest
import requests

from local_oci import daemon, processes
from local_oci.daemon import DaemonError, running_endpoint, start, stop
from local_oci.home import Home
from tests.local_oci.support import (
    IMAGE,
    REPOSITORY,
    LocalCloud,
    Sdk,
    processes_of,
    run_cli,
    wait_until,
)


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


def test_a_cloud_of_older_code_is_replaced(directory: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "local_oci", copy / "local_oci")
    start = [sys.executable, "-m", "local_oci", "start", f"--directory={directory}"]

    def started_by_the_copy() -> tuple[str, int]:
        done = subprocess.run(start, cwd=copy, capture_output=True, text=True, check=True)
        (server,) = processes_of(directory)
        return done.stdout, server

    first = started_by_the_copy()
    assert started_by_the_copy() == first
    with (copy / "local_oci" / "limits.py").open("a") as changed:
        changed.write("# newer\n")
    endpoint, second = started_by_the_copy()
    assert (endpoint, second == first[1]) == (first[0], False)
    assert _start(directory).stdout == endpoint  # the copy is newer than the repository by now
    assert processes_of(directory) != [second]


def test_a_server_that_is_stopped_is_told_of_and_ends_by_stop(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start(directory)
    (server,) = processes_of(directory)
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(daemon, "_ANSWER_TIMEOUT_SECONDS", 0.3)
    for command in (running_endpoint, lambda home: start(home, [])):
        with pytest.raises(DaemonError, match=rf"process {server} .* is stopped, .* -m local_oci"):
            command(Home(directory))
    assert stop(Home(directory))
    assert not processes_of(directory)


def test_a_server_that_ignores_sigterm_is_killed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True);"
    command = [sys.executable, "-c", f"{deaf} signal.pause()"]
    command += ["local_oci", "serve", "--directory", os.path.relpath(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None and server.stdout.readline()
        monkeypatch.setattr(daemon, "_STOP_TIMEOUT_SECONDS", 0.2)
        assert stop(Home(directory))
        assert server.wait() == -signal.SIGKILL


def test_what_a_cloud_started_ends_though_it_is_stopped(directory: Path, image: Path) -> None:
    _start(directory, f"--image={IMAGE}={image}", "--isolation=plain")
    sdk = Sdk(LocalCloud(directory).find())
    deployment = sdk.deploy()
    for process in processes_of(directory):
        os.kill(process, signal.SIGSTOP)
    (server,) = (each.id for each in processes.servers_of(directory))
    os.kill(server, signal.SIGKILL)
    assert processes_of(directory), deployment
    stopped = run_cli("stop", f"--directory={directory}")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert not processes_of(directory)


def test_a_cloud_whose_directory_is_deleted_ends_with_all_its_processes(
    directory: Path, image: Path
) -> None:
    _start(directory, f"--image={IMAGE}={image}")
    sdk = Sdk(LocalCloud(directory).find())
    sdk.deploy()
    assert len(processes_of(directory)) > 1
    shutil.rmtree(directory, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)  # of what was written meanwhile
    wait_until(lambda: not processes_of(directory))


def test_a_cloud_that_is_stopped_and_has_lost_its_directory_ends_by_stop(directory: Path) -> None:
    _start(directory)
    (server,) = processes_of(directory)
    os.kill(server, signal.SIGSTOP)
    shutil.rmtree(directory)
    stopped = run_cli("stop", f"--directory={directory}")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert not processes_of(directory)


def test_a_new_cloud_in_a_deleted_directory_does_not_lose_its_files_to_the_old_one(
    directory: Path,
) -> None:
    _start(directory)
    (old,) = processes_of(directory)
    os.kill(old, signal.SIGSTOP)
    shutil.rmtree(directory)
    endpoint = _start(directory).stdout.strip()
    os.kill(old, signal.SIGCONT)
    wait_until(lambda: old not in processes_of(directory))
    assert (directory / "endpoint").read_text() == endpoint
    assert run_cli("status", f"--directory={directory}").returncode == 0


@pytest.mark.parametrize("verb", ["start", "serve"])
def test_too_few_open_files_are_one_clear_line(directory: Path, verb: str) -> None:
    command = f"ulimit -n 64; {sys.executable} -m local_oci {verb} --directory={directory}"
    limited = subprocess.run(
        ["sh", "-c", command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (limited.returncode, limited.stdout) == (1, "")
    (line,) = limited.stderr.splitlines()
    assert "may open 64 files" in line
    assert line.endswith("ulimit -n 1024")


def test_a_low_limit_that_may_be_raised_is_raised(directory: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    command = f"ulimit -S -n 64; {sys.executable} -m local_oci start --directory={directory}"
    subprocess.run(["sh", "-c", command], cwd=REPOSITORY, check=True)
    (server,) = processes_of(directory)
    allowed, _ = resource.prlimit(server, resource.RLIMIT_NOFILE)
    assert allowed == min(most, 8192)


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
