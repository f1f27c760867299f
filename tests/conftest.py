"""What all tests share: the project's root, and a real Triton that serves the tiny Falcon."""

import contextlib
import io
import json
import os
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from falconry.engine.stage import EngineStage
from falconry.image.process import prepare_process_image
from falconry.pipeline import Step, Workspace, bring_up_to_date
from falconry.progress import Progress
from falconry.repository.stage import RepositoryStage
from falconry.settings import load_settings

pytest_plugins = [
    "tests.docker_engine",
    "tests.docker_images",
    "tests.docker_registry",
    "tests.local_oci.registry_cloud",
]

ROOT = Path(__file__).parents[1]
_START_DEADLINE_S = 60


@pytest.fixture(scope="session")
def sentences():
    """The tiny Falcon's prompts and the answers that transformers gave."""
    recorded = json.loads((ROOT / "checkpoints/tiny-falcon/sentences.json").read_text())
    return {sentence["prompt"]: sentence["answer"] for sentence in recorded["sentences"]}


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """An engine store of the test run's own."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def make_repository(store, tmp_path_factory):
    """Makes a model repository of a checkpoint for a route."""

    def make(route, checkpoint=ROOT / "checkpoints/tiny-falcon", recipe="cpu"):
        settings = load_settings(
            ROOT,
            recipe=recipe,
            checkpoint=str(checkpoint),
            overrides=f"engine.store={store} serving.route={route}",
        )
        workspace = Workspace.open(
            tmp_path_factory.mktemp("build") / "local", Progress(io.StringIO())
        )
        steps = [
            Step("engine", lambda _: EngineStage(settings, workspace)),
            Step(
                "repository",
                lambda made: RepositoryStage(
                    ROOT / "model_repository", made["engine"], settings, workspace
                ),
                ("engine",),
            ),
        ]
        return bring_up_to_date(steps, workspace).path

    return make


@dataclass(frozen=True)
class Triton:
    """A running Triton: its URLs, and its log file."""

    url: str
    grpc: str
    metrics: str
    log: Path


@contextlib.contextmanager
def running_triton(repository, directory):
    """A real Triton that serves a repository as in a local deployment; gives its URL."""
    port = _free_port()
    environment = {"LOCAL_OCI_SERVER_PORT": str(port)}
    with _running(directory, [f"--model-repository={repository}"], environment, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running_triton_with_all_ports(repository, directory):
    """A real Triton that serves a repository as in a container, with gRPC and metrics."""
    http, grpc, metrics = _free_port(), _free_port(), _free_port()
    arguments = [
        f"--model-repository={repository}",
        "--http-address=127.0.0.1",
        f"--http-port={http}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc}",
        "--metrics-address=127.0.0.1",
        f"--metrics-port={metrics}",
    ]
    with _running(directory, arguments, {}, http) as log:
        yield Triton(
            f"http://127.0.0.1:{http}",
            f"127.0.0.1:{grpc}",
            f"http://127.0.0.1:{metrics}/metrics",
            log,
        )


@contextlib.contextmanager
def _running(directory, arguments, environment, port):
    """A Triton that is ready on the port; gives its log file."""
    image = prepare_process_image(directory / "image")
    log = directory / "triton.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [image / "bin" / "tritonserver", *arguments],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", server, log)
        yield log
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(url, server, log):
    deadline = time.monotonic() + _START_DEADLINE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            if urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5).status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"Triton did not start:\n{log.read_text(errors='replace')[-5000:]}")


@pytest.fixture(scope="session")
def triton(make_repository, tmp_path_factory):
    """The URL of a Triton that serves the tiny Falcon for the route `generate`."""
    with running_triton(make_repository("generate"), tmp_path_factory.mktemp("triton")) as url:
        yield url


@pytest.fixture(scope="session")
def unary_triton(make_repository, tmp_path_factory):
    """The URL of a Triton that serves the tiny Falcon for the route `infer`."""
    with running_triton(make_repository("infer"), tmp_path_factory.mktemp("triton")) as url:
        yield url
