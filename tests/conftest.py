"""What all tests share: the project's root, and a real Triton that serves the tiny Falcon."""

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest

from falconry.pipeline import Workspace
from falconry.progress import Progress
from falconry.settings import load_settings
from scripts.real_triton import assembled_repository, running_as_deployed

# Many container images set it. The suite starts hundreds of Pythons: without bytecode each would
# compile the project's modules anew; pytest would rewrite all tests in every worker.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = [
    "tests.grouping",
    "tests.leaks",
    "tests.docker_engine",
    "tests.docker_images",
    "tests.docker_registry",
    "tests.local_oci.registry_cloud",
]

ROOT = Path(__file__).parents[1]


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
    """Makes a model repository of a checkpoint."""

    def make(checkpoint=ROOT / "checkpoints/tiny-falcon", recipe="cpu"):
        settings = load_settings(
            ROOT,
            recipe=recipe,
            checkpoint=str(checkpoint),
            overrides=f"engine.store={store}",
        )
        workspace = Workspace.open(
            tmp_path_factory.mktemp("build") / "local", Progress(io.StringIO())
        )
        return assembled_repository(settings, workspace)

    return make


@contextlib.contextmanager
def running_triton(repository, directory):
    """A real Triton that serves a repository as in a local deployment; gives its URL."""
    with running_as_deployed(repository, directory) as (url, _):
        yield url


@pytest.fixture(scope="session")
def triton_with_log(make_repository, tmp_path_factory):
    """The URL of a Triton that serves the tiny Falcon, and its log."""
    repository, directory = make_repository(), tmp_path_factory.mktemp("triton")
    with running_as_deployed(repository, directory) as url_and_log:
        yield url_and_log


@pytest.fixture(scope="session")
def triton(triton_with_log):
    """The URL of a Triton that serves the tiny Falcon."""
    return triton_with_log[0]


@pytest.fixture(scope="session")
def triton_log(triton_with_log):
    """The log of the server that `triton` gives."""
    return triton_with_log[1]
