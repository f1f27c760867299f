"""An update of a deployment whose model runs in a container, as its clients see it."""

from pathlib import Path

import pytest

from falconry.image.output import ImageOutput
from tests.docker_images import remove_images_of
from tests.falconry.cloud.conftest import SERVER, run
from tests.falconry.cloud.eight_clients import assert_took_over, eight_clients
from tests.local_oci.container_images import container_image, push
from tests.local_oci.support import LocalCloud, Sdk

_NAME = "tests/answering"
_INSTRUCTIONS = [
    # An engine takes a while to stop a container, and a question shall be under way then.
    "ENV LISTEN_ADDRESS=0.0.0.0 ANSWER_SECONDS=0.5",
    "USER 4321",
    'ENTRYPOINT ["/usr/bin/python3", "-S", "/app/serve.py", "8000"]',
]


@pytest.fixture
def cloud(docker_registry, publishing_docker_engine, docker_host, docker_client, tmp_path):
    """A cloud of the test's own, with a container registry."""
    running = LocalCloud(tmp_path / "d", "--registry", "--start-timeout=60").start()
    host = (running.directory / "registry-host").read_text()
    try:
        yield running
    finally:
        running.stop()
        remove_images_of(docker_client, host)


@pytest.fixture
def image(cloud, docker_client):
    """The answering server as a container image that is in the cloud's registry."""
    host = (cloud.directory / "registry-host").read_text()
    reference = f"{host}/localoci/{_NAME}:1"
    with (
        container_image(docker_client, reference, SERVER, _INSTRUCTIONS),
        Sdk(cloud).auth_token() as token,
    ):
        digest = push(docker_client, reference, token)
    return ImageOutput(Path(), digest, "", reference=reference, kind="container")


@pytest.mark.long  # test_stage.py of the cloud has it with processes
def test_a_new_model_takes_over_in_a_container_while_eight_clients_ask_and_no_request_fails(
    make_stage, deployments, settings, session
):
    run(make_stage("A"))
    with eight_clients(deployments.get(settings.deployment.name), session) as told:
        run(make_stage("B"))
    assert_took_over(told, "A", "B")
