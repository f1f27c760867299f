"""The TensorRT-LLM server image on a stand-in for NVIDIA's: its ranks start and stop well."""

import json

import pytest

from tests.docker_images import build_context, built, container, curl, stop, wait_until_ready


@pytest.fixture(scope="module")
def image(docker_client, stand_in_trtllm_image, private_ca_marker):
    context = build_context("triton-trtllm", private_ca_marker)
    repository = "falconry-test/triton-trtllm-on-stand-in"
    return built(docker_client, repository, context, stand_in_trtllm_image)


@pytest.fixture
def repository(tmp_path):
    """Makes a model repository whose engine wants a number of ranks."""

    def make(ranks):
        version = tmp_path / "tensorrt_llm" / "1"
        version.mkdir(parents=True)
        config = {"pretrained_config": {"mapping": {"world_size": ranks}}}
        (version / "config.json").write_text(json.dumps(config))
        tmp_path.chmod(0o755)
        return tmp_path

    return make


def told(running, fact):
    """What the ranks said about something, by rank; each says it once."""
    lines = running.logs(stderr=False).decode().splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    return {each["rank"]: each[fact] for each in said if fact in each}


def test_one_rank_is_the_server_alone(docker_client, image, repository):
    with container(docker_client, image, repository=repository(1)) as running:
        wait_until_ready(running)
        assert stop(running)[0] == 0
        arguments = told(running, "arguments")
    assert list(arguments) == [0]
    assert not [word for word in arguments[0] if "shm-region-prefix-name=prefix" in word]


def test_ranks_stop_in_their_own_time_and_with_their_own_status(docker_client, image, repository):
    """Open MPI's own way would kill them after a second and end with 1."""
    with container(docker_client, image, repository=repository(2)) as running:
        wait_until_ready(running)
        status, seconds = stop(running)
        assert told(running, "ended") == {0: True, 1: True}
    assert status == 0
    assert seconds < 8


def test_the_first_ranks_status_is_the_containers(docker_client, image, repository):
    variables = {"STAND_IN_STATUS": "7"}
    with container(
        docker_client, image, repository=repository(2), environment=variables
    ) as running:
        wait_until_ready(running)
        assert stop(running)[0] == 7


def test_ranks_can_be_stopped_while_they_load(docker_client, image, repository):
    variables = {"STAND_IN_LOADING_S": "120"}
    with container(
        docker_client, image, repository=repository(2), environment=variables
    ) as running:
        for line in running.logs(stream=True):
            if b'"rank": 0' in line:
                break
        status, seconds = stop(running)
    assert status == 128 + 15
    assert seconds < 5


@pytest.mark.parametrize("user", ["1000:1000", "0:0", "54321:0"])
def test_every_user_can_start_ranks_which_have_all_cores(docker_client, image, repository, user):
    with container(docker_client, image, repository=repository(2), user=user) as running:
        wait_until_ready(running)
        cores = told(running, "cores")
        assert told(running, "prepared") == {0: "yes", 1: "yes"}
    assert len(cores) == 2
    assert cores[0] == cores[1]
    assert len(cores[0]) > 1


def test_the_port_is_the_fronts_and_the_front_has_its_own_packages(
    docker_client, image, repository
):
    words = ("tritonserver", "--model-repository=/opt/ds/model/deployed_model/model_repository")
    with container(
        docker_client, image, *words, "--http-port=9000", repository=repository(2)
    ) as running:
        for _ in range(600):
            code, _ = running.exec_run(["curl", "-sf", "http://127.0.0.1:9000/v2/health/ready"])
            if code == 0:
                break
        assert code == 0
        assert curl(running, "/v2/health/ready") is None
        (inner,) = [word for word in told(running, "arguments")[0] if "--http-port" in word]
        assert inner != "--http-port=9000"


# A container's /proc is the kernel's own, so the driver's version is read from another file.
OLD_DRIVER = """
import os, sys
from pathlib import Path

sys.path.insert(0, "/opt/falconry/server")
import entrypoint

entrypoint._DRIVER = Path("/tmp/version")
entrypoint._DRIVER.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat")
Path("/tmp/compat/lib.real").mkdir(parents=True)
sys.argv[1:] = ["sh", "-c", "echo $LD_LIBRARY_PATH; id -u"]
entrypoint.main()
"""


def test_an_old_driver_gets_the_images_libraries_without_root(docker_client, image):
    words = ("/opt/falconry/venv/bin/python", "-c", OLD_DRIVER)
    variables = {"CUDA_DRIVER_VERSION": "575.57.08", "_CUDA_COMPAT_PATH": "/tmp/compat"}
    with container(docker_client, image, *words, environment=variables) as running:
        assert running.wait(timeout=60)["StatusCode"] == 0
        assert running.logs(stderr=False) == b"/tmp/compat/lib.real\n1000\n"
        assert b"entrypoint: the driver 535.161.08 is older" in running.logs(stdout=False)


def test_other_commands_go_through_nvidias_entrypoint(docker_client, image):
    with container(docker_client, image, "sh", "-c", "echo $STAND_IN_PREPARED; id -u") as running:
        assert running.wait(timeout=60)["StatusCode"] == 0
        assert running.logs() == b"yes\n1000\n"
