"""A cloud with a container registry, for the tests of all that speak to one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_oci.support import LocalCloud, Sdk


@pytest.fixture(scope="session")
def registry_cloud(
    docker_registry: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalCloud]:
    """A cloud with a container registry, for tests that do not stop it."""
    cloud = LocalCloud(tmp_path_factory.mktemp("registry") / "d", "--registry").start()
    yield cloud
    cloud.stop()


@pytest.fixture(scope="session")
def registry_sdk(registry_cloud: LocalCloud) -> Sdk:
    """The SDK, speaking to the cloud with a container registry."""
    return Sdk(registry_cloud)


@pytest.fixture
def auth_token(registry_sdk: Sdk) -> Iterator[str]:
    """An auth token of the cloud with a container registry."""
    with registry_sdk.auth_token() as token:
        yield token
