"""A local_oci of the tests' own, whose process image is a small server that starts at once."""

import shlex
import sys
from pathlib import Path

import pytest

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.cloud.session import Session
from falconry.digests import DigestCache
from falconry.settings import load_settings
from tests.local_oci.support import LocalCloud

ROOT = Path(__file__).parents[3]
SERVER = ROOT / "tests/local_oci/image_server.py"


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    """The running emulator."""
    base = tmp_path_factory.mktemp("cloud")
    launcher = base / "image" / "bin" / "tritonserver"
    launcher.parent.mkdir(parents=True)
    command = shlex.join([sys.executable, "-S", str(SERVER), "8000"])
    launcher.write_text(f"#!/bin/sh\nexec {command}\n")
    launcher.chmod(0o755)
    image = load_settings(ROOT).image.process_image
    running = LocalCloud(base / "d", f"--image={image}={base / 'image'}", "--start-timeout=20")
    try:
        yield running.start()
    finally:
        running.stop()


@pytest.fixture
def settings(cloud, request):
    """The default profile, for this cloud, with a deployment name of the test's own."""
    return load_settings(
        ROOT,
        overrides=f"cloud.config_file={cloud.directory}/config "
        f"cloud.emulator.directory={cloud.directory} deployment.name={request.node.name[:60]}",
    )


@pytest.fixture
def session(settings):
    return Session(settings.cloud)


@pytest.fixture
def make_view(tmp_path):
    """Makes artifacts of repositories with one file."""

    def make(name, content):
        repository = tmp_path / name
        repository.mkdir()
        (repository / "name").write_bytes(content)
        digests = DigestCache(tmp_path / f"{name}.json")
        contents = describe(repository, digests, {}, lambda step, fraction: None)
        return ArtifactView.open(repository, contents, digests)

    return make
