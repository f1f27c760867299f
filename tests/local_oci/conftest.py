"""A cloud for all tests, clouds for one test, and a process image for them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local_oci.oracle_tools import oracle_tools
from tests.local_oci.support import IMAGE, LocalCloud, Sdk, ds


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A process image whose `serve` is the tests' inference server."""
    directory = tmp_path_factory.mktemp("image")
    launcher = directory / "bin" / "serve"
    launcher.parent.mkdir()
    server = Path(__file__).with_name("image_server.py")
    command = shlex.join([sys.executable, "-S", str(server)])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o755)
    (directory / "mounts").write_text(f"{sys.prefix}\n{sys.base_prefix}\n{server}\n")
    return directory


@pytest.fixture(scope="session")
def shared_cloud(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A cloud for tests that do not stop it."""
    directory = tmp_path_factory.mktemp("cloud") / "d"
    cloud = LocalCloud(directory, f"--image={IMAGE}={image}", "--start-timeout=20").start()
    yield cloud
    cloud.stop()


@pytest.fixture(scope="session")
def oracle_python() -> Path:
    """Python of the environment with Oracle's own clients."""
    return oracle_tools()


@pytest.fixture(scope="session")
def sdk(shared_cloud: LocalCloud) -> Sdk:
    """The SDK, speaking to the shared cloud."""
    return Sdk(shared_cloud)


@pytest.fixture(scope="session")
def echo(sdk: Sdk) -> str:
    """OCID of a deployment that nobody changes, with endpoints of its own."""
    endpoints = [
        ds.InferenceHttpEndpoint(endpoint_uri_suffix=suffix, http_methods=methods)
        for suffix, methods in (
            ("/teapot", ["POST"]),
            ("/slow", ["POST"]),
            ("/v2/models/{}/generate", ["POST"]),
            ("/v2/models/{}/generate_stream", ["POST"]),
            ("/items/{}", ["GET", "PUT"]),
        )
    ]
    return str(sdk.deploy(custom_http_endpoints=endpoints).id)


@pytest.fixture(autouse=True)
def _no_fault_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"shared_cloud", "registry_cloud"} & set(request.fixturenames):
        cloud: LocalCloud = request.getfixturevalue(name)
        cloud.forget_faults()


@pytest.fixture
def new_cloud(image: Path, tmp_path: Path) -> Iterator[Callable[..., LocalCloud]]:
    """Make clouds that a test may stop and kill; they are stopped afterwards."""
    clouds: list[LocalCloud] = []

    def make(*arguments: str) -> LocalCloud:
        directory = tmp_path / f"d{len(clouds)}"
        cloud = LocalCloud(directory, f"--image={IMAGE}={image}", *arguments)
        clouds.append(cloud)
        return cloud.start()

    yield make
    for cloud in clouds:
        cloud.stop()
