"""Assembles a repository and serves it with a real Triton here, for tests and tools."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from falconry.engine.stage import EngineStage
from falconry.errors import ServerError
from falconry.image.process_image import prepare_process_image
from falconry.pipeline import Step, Workspace, run_stages
from falconry.repository.stage import RepositoryStage
from falconry.settings import Settings

_ROOT = Path(__file__).resolve().parents[1]
_START_DEADLINE_S = 60
_STOP_DEADLINE_S = 20
_LOG_LINES = 60


@dataclass(frozen=True, slots=True)
class Triton:
    """A running Triton behind the front.

    Attributes:
        url: its HTTP, which is the front's.
        grpc: `HOST:PORT` of its gRPC.
        metrics: the URL of its own metrics.
        pid: its outermost process.
        log: the file with its output.
    """

    url: str
    grpc: str
    metrics: str
    pid: int
    log: Path


def assembled_repository(settings: Settings, workspace: Workspace) -> Path:
    """The model repository of a profile, brought up to date.

    Raises:
        FalconryError: a stage fails.
    """
    steps = [
        Step("engine", lambda _: EngineStage(settings, workspace)),
        Step(
            "repository",
            lambda made: RepositoryStage(
                _ROOT / "model_repository", made["engine"], settings, workspace
            ),
            ("engine",),
        ),
    ]
    return run_stages(steps, workspace).path


@contextlib.contextmanager
def running_as_deployed(repository: Path, directory: Path) -> Iterator[tuple[str, Path]]:
    """Serves a repository as a local deployment does; gives its URL and log.

    Args:
        repository: an assembled one.
        directory: for the log and the server's image.

    Raises:
        ServerError: it does not start.
    """
    (port,) = _free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "LOCAL_OCI_SERVER_PORT": str(port)}
    with _running(directory, [f"--model-repository={repository}"], url, environment) as (_, log):
        yield url, log


@contextlib.contextmanager
def running_with_all_ports(repository: Path, directory: Path) -> Iterator[Triton]:
    """Serves a repository as in a container, with gRPC and metrics.

    Args:
        repository: an assembled one.
        directory: for the log and the server's image.

    Raises:
        ServerError: it does not start.
    """
    http, grpc, metrics = _free_ports(3)
    arguments = [
        f"--model-repository={repository}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics}",
    ]
    url, metrics_url = f"http://127.0.0.1:{http}", f"http://127.0.0.1:{metrics}/metrics"
    with _running(directory, arguments, url) as (pid, log):
        yield Triton(url, f"127.0.0.1:{grpc}", metrics_url, pid, log)


@contextlib.contextmanager
def _running(
    directory: Path, arguments: Sequence[str], url: str, environment: Mapping[str, str] = os.environ
) -> Iterator[tuple[int, Path]]:
    """Runs Triton until the end of the context.

    Args:
        directory: for the log and the server's image.
        arguments: Triton's own.
        url: its health endpoint's.
        environment: of the process.

    Yields:
        Its process id and its log file.

    Raises:
        ServerError: it does not start; with the log's last lines.
    """
    launcher = prepare_process_image(directory / "image") / "bin" / "tritonserver"
    log = directory / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [launcher, *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(url, process, log)
        yield process.pid, log
    finally:
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    """Different free ports of loopback."""
    with contextlib.ExitStack() as probes:
        sockets = [probes.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5).status == 200:
                return
        time.sleep(0.1)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise ServerError("Triton did not start", where=log, details=lines[-_LOG_LINES:])
