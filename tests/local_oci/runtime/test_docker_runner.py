"""Deployments whose image is in the cloud's registry: containers of a real Docker engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local_oci.runtime.docker_container import describe_end
from tests.docker_engine import DockerEngine
from tests.local_oci.container_images import container_image, push
from tests.local_oci.support import (
    IMAGE,
    MODEL_FILES,
    LocalCloud,
    Sdk,
    ds,
    job_run,
    refusal,
    run_cli,
    wait_until,
)

MODEL = "/opt/ds/model/deployed_model"
PROGRAM = Path(__file__).parents[1] / "image_server.py"
SERVE = ["/usr/bin/python3", "-S", "/app/serve.py"]
REPOSITORY = "tests/echo"
NAME = f"localoci/{REPOSITORY}"
USER = 4321
WRITE = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/write", http_methods=["POST"])
DIE = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/die", http_methods=["POST"])
INVALID = (400, "InvalidParameter")
START_SECONDS = 20
GRACE_SECONDS = 1


class RegistryCloud(LocalCloud):
    """A cloud with a container registry, and a process image beside it."""

    def __init__(self, directory: Path, image: Path) -> None:
        super().__init__(
            directory,
            *(f"--image={IMAGE}={image}", "--registry"),
            *(f"--start-timeout={START_SECONDS}", f"--stop-grace={GRACE_SECONDS}"),
        )

    @property
    def registry(self) -> str:
        """The registry's host."""
        return (self.directory / "registry-host").read_text()


@pytest.fixture(scope="module")
def engine(publishing_docker_engine: DockerEngine) -> Iterator[DockerEngine]:
    """The engine that the clouds use as well."""
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = publishing_docker_engine.host
    yield publishing_docker_engine
    if before is None:
        del os.environ["DOCKER_HOST"]
    else:
        os.environ["DOCKER_HOST"] = before


@pytest.fixture(scope="module")
def client(engine: DockerEngine) -> Iterator[Any]:
    with contextlib.closing(engine.client()) as client:
        yield client


def _push(client: Any, cloud: RegistryCloud, tag: str, *instructions: str) -> tuple[str, str]:
    """Reference and digest of an image that only the registry has."""
    reference = f"{cloud.registry}/{NAME}:{tag}"
    with (
        container_image(client, reference, PROGRAM, list(instructions)),
        Sdk(cloud).auth_token() as token,
    ):
        return reference, push(client, reference, token)


def _remove_pulled(client: Any, registry: str) -> None:
    for image in client.images.list(name=f"{registry}/{NAME}"):
        client.images.remove(image.id, force=True)


def _delete_image(sdk: Sdk, digest: str) -> None:
    """Take an image out of the registry."""
    images = sdk.artifacts.list_container_images(
        sdk.compartment, repository_name=REPOSITORY
    ).data.items
    (image,) = (image for image in images if image.digest == digest)
    sdk.artifacts.delete_container_image(image.id)


def _forget_last_layer(cloud: RegistryCloud, digest: str) -> None:
    """Damage an image: its last layer is gone from the registry's disk."""
    blobs = cloud.directory / "registry/storage/docker/registry/v2/blobs/sha256"

    def blob(digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return blobs / name[:2] / name / "data"

    layers = json.loads(blob(digest).read_bytes())["layers"]
    blob(layers[-1]["digest"]).unlink()


@pytest.fixture(scope="module")
def cloud(
    docker_registry: Path, image: Path, client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryCloud]:
    cloud = RegistryCloud(tmp_path_factory.mktemp("cloud") / "d", image)
    cloud.start()
    registry = cloud.registry
    yield cloud
    cloud.stop()
    assert not _containers(client, cloud.directory)
    _remove_pulled(client, registry)


@pytest.fixture(scope="module")
def pushed(client: Any, cloud: RegistryCloud) -> tuple[str, str]:
    """An image with everything that a deployment can override, and its digest."""
    return _push(
        client,
        cloud,
        "1",
        'ENTRYPOINT ["/usr/bin/python3", "-S", "/app/serve.py"]',
        'CMD ["8000", "0.0.0.0"]',
        f"USER {USER}",
        "ENV OF_THE_IMAGE=yes",
        "STOPSIGNAL SIGUSR1",
        "VOLUME /data",
    )


@pytest.fixture(scope="module")
def docker_sdk(cloud: RegistryCloud) -> Sdk:
    return Sdk(cloud)


def _containers(client: Any, directory: Path) -> list[Any]:
    """All containers of the cloud in a directory."""
    label = f"local_oci.home={directory}"
    found: list[Any] = client.containers.list(
        all=True, filters={"label": label}, ignore_removed=True
    )
    return found


def _container_of(client: Any, cloud: LocalCloud, deployment: str) -> Any:
    (container,) = (
        container
        for container in _containers(client, cloud.directory)
        if f"MODEL_DEPLOYMENT_OCID={deployment}" in container.attrs["Config"]["Env"]
    )
    return container


def _details(sdk: Sdk, reference: str, **options: Any) -> Any:
    return sdk.deployment_details(sdk.model(), **{"image": reference, "cmd": None, **options})


def _create(sdk: Sdk, reference: str, **options: Any) -> Callable[[], Any]:
    details = _details(sdk, reference, **options)
    return lambda: sdk.data_science.create_model_deployment(details)


def _deploy(sdk: Sdk, reference: str, **options: Any) -> str:
    return str(sdk.deploy(**{"image": reference, "cmd": None, **options}).id)


# --- under the contract -----------------------------------------------------------------------


def test_a_deployment_answers_from_a_container_that_sees_what_the_contract_says(
    docker_sdk: Sdk, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0], variables={"OF_THE_USER": "yes"})
    answer = docker_sdk.post(deployment).json()
    assert answer["path"] == "/predict"
    assert answer["files"] == ["model_repository", "model_repository/echo", *MODEL_FILES]
    assert answer["uid"] == USER
    assert answer["pid"] == 1
    environment = answer["environment"]
    assert environment.pop("HOSTNAME")
    assert environment == {
        "PATH": "/usr/local/bin:/usr/bin",
        "HOME": "/",
        "OF_THE_IMAGE": "yes",
        "OF_THE_USER": "yes",
        "MODEL_DEPLOYMENT_OCID": deployment,
        "TENANCY_OCID": docker_sdk.compartment,
        "CONTAINER_CUSTOM_IMAGE": pushed[0],
    }
    docker_sdk.delete(deployment)


def test_the_steps_tell_of_the_pull(docker_sdk: Sdk, pushed: tuple[str, str]) -> None:
    deployment, work_request = docker_sdk.begin_deployment(
        docker_sdk.model(), image=pushed[0], cmd=None
    )
    assert docker_sdk.finished(work_request).status == "SUCCEEDED"
    steps = docker_sdk.steps(work_request)
    assert steps[:2] == ["Creating compute resource configuration", "Pulling the container image"]
    assert "Pulling the container image: 100%" in steps
    assert steps.index("Unpacking the model artifact") > steps.index(
        "Pulling the container image: 100%"
    )
    docker_sdk.delete(deployment)


def test_the_container_is_confined(
    docker_sdk: Sdk, client: Any, pushed: tuple[str, str], cloud: LocalCloud
) -> None:
    deployment = _deploy(
        docker_sdk,
        pushed[0],
        custom_http_endpoints=[WRITE],
        variables={"SHM_SIZE": "128m"},
    )
    assert docker_sdk.post(deployment, "/predict/write").json() == {
        MODEL: "OSError",  # EROFS
        "/tmp": "written",
        "/dev/shm": "written",
    }
    attributes = _container_of(client, cloud, deployment).attrs
    host = attributes["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ShmSize"] == 128 * 1024**2
    assert attributes["Image"] == client.images.get(attributes["Config"]["Image"]).id
    assert attributes["Config"]["Image"] == f"{pushed[0].rpartition(':')[0]}@{pushed[1]}"
    bindings = attributes["NetworkSettings"]["Ports"]
    assert set(bindings) == {"8000/tcp"}
    assert {binding["HostIp"] for binding in bindings["8000/tcp"]} == {"127.0.0.1"}
    docker_sdk.delete(deployment)


def test_cmd_and_entrypoint_stand_in_for_those_of_the_image_as_in_docker(
    docker_sdk: Sdk, pushed: tuple[str, str]
) -> None:
    other = {"server_port": 9000, "health_check_port": 9000}
    for command in (
        {"cmd": ["9000", "0.0.0.0"]},
        {"entrypoint": SERVE, "cmd": ["9000", "0.0.0.0"]},
        {"entrypoint": [*SERVE, "9000", "0.0.0.0"], "cmd": None},
    ):
        docker_sdk.delete(_deploy(docker_sdk, pushed[0], **other, **command))


def test_health_has_a_port_of_its_own(
    docker_sdk: Sdk, client: Any, cloud: LocalCloud, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0], server_port=8001)
    ports = _container_of(client, cloud, deployment).attrs["NetworkSettings"]["Ports"]
    assert set(ports) == {"8000/tcp", "8001/tcp"}
    assert docker_sdk.post(deployment).status_code == 503  # nothing listens on 8001
    docker_sdk.delete(deployment)


def test_what_the_container_writes_is_kept_line_by_line(
    docker_sdk: Sdk, cloud: LocalCloud, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0])
    docker_sdk.post(deployment)
    output = cloud.directory / "outputs" / f"{deployment}.log"
    wait_until(lambda: output.read_text() == "about to start\nasked for /predict\n")
    docker_sdk.delete(deployment)


def test_a_process_image_is_run_as_before(docker_sdk: Sdk, client: Any, cloud: LocalCloud) -> None:
    containers = len(_containers(client, cloud.directory))
    deployment = docker_sdk.deploy().id
    assert docker_sdk.post(deployment).ok
    assert len(_containers(client, cloud.directory)) == containers
    docker_sdk.delete(deployment)


# --- the image --------------------------------------------------------------------------------


def test_an_image_that_the_registry_does_not_have_is_refused(
    docker_sdk: Sdk, cloud: RegistryCloud, pushed: tuple[str, str]
) -> None:
    assert refusal(_create(docker_sdk, f"{cloud.registry}/{NAME}:no")) == INVALID
    assert refusal(_create(docker_sdk, f"{cloud.registry}/other:1")) == INVALID


def test_a_digest_that_is_not_the_references_is_refused(
    docker_sdk: Sdk, client: Any, cloud: RegistryCloud, pushed: tuple[str, str]
) -> None:
    _, other = _push(client, cloud, "2", 'ENTRYPOINT ["/usr/bin/python3"]')
    assert refusal(_create(docker_sdk, pushed[0], image_digest=other)) == INVALID
    assert refusal(_create(docker_sdk, pushed[0], image_digest="sha256:12")) == INVALID
    docker_sdk.delete(_deploy(docker_sdk, pushed[0], image_digest=pushed[1]))


def test_an_image_that_is_gone_is_refused_by_update_and_activate(
    docker_sdk: Sdk, client: Any, cloud: RegistryCloud, pushed: tuple[str, str]
) -> None:
    reference, digest = _push(
        client, cloud, "gone", f"ENTRYPOINT {SERVE!r}".replace("'", '"'), "LABEL is=another"
    )
    deployment = _deploy(docker_sdk, reference, cmd=["8000", "0.0.0.0"])
    _delete_image(docker_sdk, digest)
    assert (
        refusal(
            lambda: docker_sdk.data_science.update_model_deployment(
                deployment, ds.UpdateModelDeploymentDetails(display_name="other")
            )
        )
        == INVALID
    )
    answer = docker_sdk.data_science.deactivate_model_deployment(deployment)
    docker_sdk.finished(answer.headers["opc-work-request-id"])
    assert refusal(lambda: docker_sdk.data_science.activate_model_deployment(deployment)) == INVALID
    docker_sdk.delete(deployment)


def test_an_image_that_cannot_be_pulled_fails_the_work_request(
    docker_sdk: Sdk, client: Any, cloud: RegistryCloud
) -> None:
    reference, digest = _push(client, cloud, "damaged", "LABEL is=damaged", "COPY curl /third")
    _forget_last_layer(cloud, digest)
    deployment, work_request = docker_sdk.begin_deployment(
        docker_sdk.model(), image=reference, cmd=None
    )
    assert docker_sdk.finished(work_request).status == "FAILED"
    ((code, message),) = docker_sdk.errors(work_request)
    assert code == "ImagePullFailed"
    assert "Errors occurred while bootstrapping the Model Deployment" in message
    assert f"{NAME}@{digest} cannot be pulled" in message
    docker_sdk.delete(deployment)


# --- the end ----------------------------------------------------------------------------------


def test_a_deleted_deployment_leaves_neither_container_nor_volume(
    docker_sdk: Sdk, client: Any, cloud: LocalCloud, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0])
    (volume,) = (
        mount["Name"]
        for mount in _container_of(client, cloud, deployment).attrs["Mounts"]
        if mount["Type"] == "volume"
    )
    docker_sdk.delete(deployment)
    assert not _containers(client, cloud.directory)
    assert volume not in {present.name for present in client.volumes.list()}


def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_period(
    docker_sdk: Sdk, client: Any, cloud: LocalCloud, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0], variables={"IGNORE_SIGTERM": "1"})
    begun = time.monotonic()
    docker_sdk.delete(deployment)
    assert time.monotonic() - begun >= GRACE_SECONDS
    assert not _containers(client, cloud.directory)


def test_a_container_that_exits_early_tells_why(docker_sdk: Sdk, pushed: tuple[str, str]) -> None:
    deployment, work_request = docker_sdk.begin_deployment(
        docker_sdk.model(), image=pushed[0], cmd=None, variables={"EXIT_EARLY": "3"}
    )
    assert docker_sdk.finished(work_request).status == "FAILED"
    ((code, message),) = docker_sdk.errors(work_request)
    assert code == "ContainerExited"
    assert "the container exited with status 3 before it was healthy" in message
    assert "the engine file is damaged" in message
    docker_sdk.delete(deployment)


def test_a_program_that_is_not_there_is_told(docker_sdk: Sdk, pushed: tuple[str, str]) -> None:
    deployment, work_request = docker_sdk.begin_deployment(
        docker_sdk.model(), image=pushed[0], entrypoint=["tritonserver"], cmd=None
    )
    docker_sdk.finished(work_request)
    ((code, message),) = docker_sdk.errors(work_request)
    assert code == "ContainerStartFailed"
    assert '"tritonserver": executable file not found' in message
    docker_sdk.delete(deployment)


def test_a_container_that_ends_by_itself_is_replaced(
    docker_sdk: Sdk, client: Any, cloud: LocalCloud, pushed: tuple[str, str]
) -> None:
    deployment = _deploy(docker_sdk, pushed[0], custom_http_endpoints=[DIE])
    first = _container_of(client, cloud, deployment).id
    docker_sdk.post(deployment, "/predict/die")
    wait_until(lambda: docker_sdk.post(deployment).ok)
    wait_until(lambda: first not in {it.id for it in _containers(client, cloud.directory)})
    assert _container_of(client, cloud, deployment).status == "running"
    docker_sdk.delete(deployment)


def _pause(container: Any) -> None:
    container.pause()


def _disconnect(container: Any) -> None:
    for network in container.attrs["NetworkSettings"]["Networks"]:
        container.client.networks.get(network).disconnect(container, force=True)


@pytest.mark.parametrize(
    "silence",
    [_pause, pytest.param(_disconnect, marks=pytest.mark.long)],
    ids=lambda it: it.__name__,
)
def test_a_container_that_falls_silent_is_replaced(
    docker_sdk: Sdk,
    client: Any,
    cloud: LocalCloud,
    pushed: tuple[str, str],
    silence: Callable[[Any], None],
) -> None:
    deployment = _deploy(docker_sdk, pushed[0])
    first = _container_of(client, cloud, deployment)
    silence(first)
    wait_until(lambda: first.id not in {it.id for it in _containers(client, cloud.directory)})
    wait_until(lambda: docker_sdk.post(deployment).ok)
    docker_sdk.delete(deployment)


@pytest.mark.parametrize(
    ("status", "out_of_memory", "text"),
    [
        (3, False, "exited with status 3"),
        (137, False, "was killed by SIGKILL"),
        (137, True, "ran out of memory and was killed by SIGKILL"),
    ],
)
def test_the_end_of_a_container_is_put_in_words(
    status: int, out_of_memory: bool, text: str
) -> None:
    assert describe_end(status, {"OOMKilled": out_of_memory}) == text


# --- clouds that end --------------------------------------------------------------------------


@pytest.fixture
def other_cloud(cloud: RegistryCloud, image: Path, tmp_path: Path) -> Iterator[RegistryCloud]:
    """A cloud that a test may stop and kill."""
    other = RegistryCloud(tmp_path / "d", image)
    other.start()
    yield other
    other.stop()
    run_cli("stop", f"--directory={other.directory}")


@pytest.fixture
def pushed_there(
    client: Any, cloud: RegistryCloud, other_cloud: RegistryCloud, pushed: tuple[str, str]
) -> Iterator[str]:
    """The reference of the same image in that cloud's registry."""
    yield _copied(cloud, pushed[0], other_cloud)
    other_cloud.stop()
    run_cli("stop", f"--directory={other_cloud.directory}")
    _remove_pulled(client, _last_host(other_cloud))


def _copied(cloud: RegistryCloud, reference: str, other: RegistryCloud) -> str:
    """Put a cloud's images into another one's registry by its disk, which takes no time."""
    stored = "registry/storage"
    shutil.copytree(
        cloud.directory / stored,
        other.directory / stored,
        copy_function=os.link,
        dirs_exist_ok=True,
    )
    Sdk(other).repository(display_name=REPOSITORY)
    return f"{other.registry}/{reference.partition('/')[2]}"


def _last_host(cloud: RegistryCloud) -> str:
    """The host of a registry that may be gone."""
    return f"127.0.0.1:{(cloud.directory / 'registry/port').read_text()}"


# What a job's container may do that a deployment's may not.
IN_A_JOB = """
import os, sys, urllib.error, urllib.request
with open("/written", "w") as file:
    file.write("by root")
try:
    urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as answer:
    print("the cloud answers", answer.code, os.environ["OF_THE_IMAGE"], flush=True)
sys.exit(7)
"""


def test_a_job_run_is_a_container_that_may_write_and_has_a_network(
    docker_sdk: Sdk, cloud: RegistryCloud, client: Any, pushed: tuple[str, str]
) -> None:
    reference = _push(client, cloud, "job", "ENV OF_THE_IMAGE=yes")[0]
    run = job_run(
        docker_sdk,
        image=reference,
        entrypoint=["/usr/bin/python3", "-S"],
        cmd=["-c", IN_A_JOB, f"{cloud.endpoint}/20190101/jobs"],
    )
    written = (cloud.directory / "outputs" / f"{run.id}.log").read_text()
    assert written.splitlines() == ["the cloud answers 401 yes"]
    assert run.lifecycle_state == "FAILED"
    assert "exit code 7" in run.lifecycle_details
    assert not [
        each
        for each in _containers(client, cloud.directory)
        if f"JOB_RUN_OCID={run.id}" in each.attrs["Config"]["Env"]
    ]


def test_a_stopped_cloud_leaves_no_container(
    other_cloud: RegistryCloud, client: Any, pushed_there: str
) -> None:
    _deploy(Sdk(other_cloud), pushed_there)
    assert len(_containers(client, other_cloud.directory)) == 1
    other_cloud.stop()
    assert not _containers(client, other_cloud.directory)


def test_a_killed_cloud_removes_what_it_left_at_its_next_start_and_serves_again(
    other_cloud: RegistryCloud, client: Any, pushed_there: str
) -> None:
    deployment = _deploy(Sdk(other_cloud), pushed_there)
    (left,) = _containers(client, other_cloud.directory)
    other_cloud.kill()
    assert _containers(client, other_cloud.directory) == [left]
    other_cloud.start()
    sdk = Sdk(other_cloud)
    wait_until(lambda: sdk.post(deployment).ok)
    (successor,) = _containers(client, other_cloud.directory)
    assert successor.id != left.id


def test_stop_removes_what_a_killed_cloud_left_whatever_docker_host_says(
    other_cloud: RegistryCloud,
    client: Any,
    pushed_there: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _deploy(Sdk(other_cloud), pushed_there)
    other_cloud.kill()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    stopped = run_cli("stop", f"--directory={other_cloud.directory}")
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert not _containers(client, other_cloud.directory)


def test_without_an_engine_a_launch_says_so(
    cloud: RegistryCloud,
    image: Path,
    pushed: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    other = RegistryCloud(tmp_path / "d", image)
    try:
        sdk = Sdk(other.start())
        reference = _copied(cloud, pushed[0], other)
        _, work_request = sdk.begin_deployment(sdk.model(), image=reference, cmd=None)
        assert sdk.finished(work_request).status == "FAILED"
        ((_, message),) = sdk.errors(work_request)
        assert message == (
            "Errors occurred while bootstrapping the Model Deployment: no Docker engine answers at "
            f"unix://{tmp_path}/nowhere.sock; start Docker, or name its engine in DOCKER_HOST."
        )
    finally:
        other.stop()
