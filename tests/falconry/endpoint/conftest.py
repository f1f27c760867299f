"""Deployments of local_oci whose server answers as each request tells it to."""

from __future__ import annotations

import base64
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from falconry.endpoint import Endpoint
from tests.local_oci.support import IMAGE, REPOSITORY, LocalCloud, Sdk, ds

OPEN = ("/v2/models/{}/generate_stream", "/other", "/slow")


@pytest.fixture(scope="session")
def scripted_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A cloud that runs scripted_server.py."""
    image = tmp_path_factory.mktemp("scripted-image")
    launcher = image / "bin" / "serve"
    launcher.parent.mkdir()
    server = Path(__file__).with_name("scripted_server.py")
    launcher.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-S", str(server)])} "$@"\n')
    launcher.chmod(0o755)
    (image / "mounts").write_text(f"{sys.prefix}\n{sys.base_prefix}\n{server}\n")
    cloud = LocalCloud(
        tmp_path_factory.mktemp("scripted-cloud") / "d",
        f"--image={IMAGE}={image}",
        "--start-timeout=20",
    ).start()
    yield cloud
    cloud.stop()


@pytest.fixture(scope="session")
def sdk(scripted_cloud: LocalCloud) -> Sdk:
    """The SDK, speaking to that cloud."""
    return Sdk(scripted_cloud)


def deploy(sdk: Sdk) -> Any:
    """A deployment with custom endpoints and OpenAI's."""
    endpoints = [
        ds.InferenceHttpEndpoint(endpoint_uri_suffix=suffix, http_methods=["GET", "POST"])
        for suffix in OPEN
    ]
    return sdk.deploy(custom_http_endpoints=endpoints, predict_api_specification="openai")


@pytest.fixture(scope="session")
def deployment(sdk: Sdk) -> Any:
    """A deployment that nobody changes."""
    return deploy(sdk)


@pytest.fixture
def profile(scripted_cloud: LocalCloud, tmp_path: Path) -> Callable[..., Path]:
    """Writes the profile `scripted`, which names that cloud and a deployment; gives its path."""
    text = (REPOSITORY / "profiles" / "local.toml").read_text(encoding="utf-8")

    def write(display_name: str) -> Path:
        path = tmp_path / "profiles" / "scripted.toml"
        path.parent.mkdir()
        path.write_text(
            text.replace("build/local/cloud", str(scripted_cloud.directory)).replace(
                '[deployment]\nname = "falconry"', f'[deployment]\nname = "{display_name}"'
            ),
            encoding="utf-8",
        )
        return path

    return write


@pytest.fixture(autouse=True)
def _no_fault_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "scripted_cloud" in request.fixturenames:
        cloud: LocalCloud = request.getfixturevalue("scripted_cloud")
        cloud.forget_faults()


@pytest.fixture
def endpoint(sdk: Sdk, deployment: Any) -> Iterator[Endpoint]:
    """That deployment, as its clients see it."""
    made = Endpoint(deployment.model_deployment_url, sdk.signer)
    yield made
    made.close()


@pytest.fixture
def script() -> Callable[..., dict[str, Any]]:
    """Makes a request that tells the server what to answer, in chunks."""

    def make(*chunks: bytes, **more: Any) -> dict[str, Any]:
        return {"chunks": [base64.b64encode(chunk).decode() for chunk in chunks], **more}

    return make
