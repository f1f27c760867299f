"""scripts/base_image.sh: what it does beside making the base that the images are built on."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from tests.docker_images import ROOT, container, run_base_image_script

SCRIPT = ROOT / "scripts/base_image.sh"
NOBODY = "unix:///nowhere/docker.sock"


@pytest.fixture
def temporary():
    """A directory for temporary files, which apt's own user can enter."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_it_does_nothing_where_the_image_is(docker_engine, docker_client, base_image):
    before = docker_client.images.get(base_image).id
    again = run_base_image_script(docker_engine.host, base_image)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{base_image} is there already; --force makes it again\n"
    assert docker_client.images.get(base_image).id == before


def test_the_base_is_debian_12_with_debians_own_sources(docker_client, base_image):
    said = "cat /etc/debian_version /etc/apt/sources.list.d/*"
    with container(docker_client, base_image, "sh", "-c", said, user="0") as running:
        assert running.wait(timeout=60)["StatusCode"] == 0
        lines = running.logs().decode().splitlines()
    assert lines[0].startswith("12.")
    sources = [line for line in lines if line.startswith("deb ")]
    assert any(" bookworm main" in line for line in sources)
    assert any(" bookworm-security main" in line for line in sources)


def test_an_interrupted_run_leaves_nothing(docker_engine, docker_client, base_image, temporary):
    process = subprocess.Popen(
        ["sh", SCRIPT, "falconry-base:interrupted"],
        env={**os.environ, "DOCKER_HOST": docker_engine.host, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("Making"):
            break
    time.sleep(2)  # into mmdebstrap's work
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    assert process.wait(60) != 0
    assert list(temporary.iterdir()) == []
    with pytest.raises(ImageNotFound):
        docker_client.images.get("falconry-base:interrupted")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--forse"], "unknown option --forse"), ([], "no Docker engine answers at unix:///nowhere")],
)
def test_what_is_wrong_is_said_with_what_to_do(arguments, said):
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command; install docker.io")
    failed = run_base_image_script(NOBODY, *arguments)
    assert failed.returncode == 1
    problem, remedy = failed.stderr.splitlines()
    assert problem.startswith(f"base_image: {said}")
    assert remedy.startswith("  ")


def test_help_needs_nothing():
    helped = run_base_image_script(NOBODY, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("Usage: sh scripts/base_image.sh")
