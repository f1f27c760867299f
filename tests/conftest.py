"""What all tests share: the project's root, and a real Triton that serves the tiny Falcon."""

import contextlib
import io
import json
import os
import socket
import subprocess
import time
import urllib.request
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
                    ROOT / "model_repository", made["engine"], settings.serving, workspace
                ),
                ("engine",),
            ),
        ]
        return bring_up_to_date(steps, workspace).path

    return make


@contextlib.contextmanager
def running_triton(repository, directory):
    """A real Triton that serves a repository on a free port; gives its URL."""
    image = prepare_process_image(directory / "image")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = directory / "triton.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [image / "bin" / "tritonserver", f"--model-repository={repository}"],
            env={**os.environ, "LOCAL_OCI_SERVER_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, server, log)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


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
