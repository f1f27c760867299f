"""The life of a deployment: made, running, failed, updated, stopped, deleted."""

from __future__ import annotations

import contextlib
import resource
import shutil
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import oci
import pytest

from tests.local_oci.support import (
    IMAGE,
    MODEL_FILES,
    PORT,
    LocalCloud,
    Sdk,
    ds,
    processes_of,
    refusal,
    wait_until,
    zipped,
)


def _container(**fields: Any) -> Any:
    return ds.UpdateSingleModelDeploymentConfigurationDetails(
        environment_configuration_details=(
            ds.UpdateOcirModelDeploymentEnvironmentConfigurationDetails(**fields)
        )
    )


def _environment(sdk: Sdk, deployment: str) -> dict[str, str]:
    return sdk.post(deployment).json()["environment"]


# --- becoming active --------------------------------------------------------------------------


def test_a_deployment_becomes_active_step_by_step(sdk: Sdk) -> None:
    deployment, work_request = sdk.begin_deployment(sdk.model())
    assert sdk.state(deployment) in ("CREATING", "ACTIVE")
    finished = sdk.finished(work_request)
    assert (finished.status, finished.percent_complete) == ("SUCCEEDED", 100.0)
    assert finished.operation_type == "MODEL_DEPLOYMENT_CREATE"
    assert finished.resources[0].identifier == deployment
    assert finished.resources[0].action_type == "CREATED"
    assert sdk.steps(work_request) == [
        "Creating compute resource configuration",
        "Unpacking the model artifact",
        "Starting container",
        "Waiting for the container to be healthy",
        "Model Deployment is Active.",
    ]
    assert sdk.errors(work_request) == []
    active = sdk.data_science.get_model_deployment(deployment).data
    assert active.lifecycle_state == "ACTIVE"
    assert active.model_deployment_url == f"{sdk.cloud.endpoint}/{deployment}"
    sdk.delete(deployment)


def test_a_work_request_that_has_started_is_not_canceled(sdk: Sdk) -> None:
    deployment, work_request = sdk.begin_deployment(sdk.model())
    cancel = sdk.data_science.cancel_work_request
    assert refusal(lambda: cancel(work_request)) == (409, "Conflict")
    sdk.finished(work_request)
    sdk.delete(deployment)


def test_work_requests_are_listed_by_their_subject(sdk: Sdk, echo: str) -> None:
    listed = sdk.data_science.list_work_requests(sdk.compartment, resource_id=echo).data
    assert [(found.operation_type, found.status) for found in listed] == [
        ("MODEL_DEPLOYMENT_CREATE", "SUCCEEDED")
    ]


def test_the_composite_operation_of_the_sdk_waits_for_the_work_request(sdk: Sdk) -> None:
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    answer = composite.create_model_deployment_and_wait_for_state(
        sdk.deployment_details(sdk.model()), wait_for_states=["SUCCEEDED", "FAILED"]
    )
    assert answer.data.status == "SUCCEEDED"
    sdk.delete(answer.data.resources[0].identifier)


def test_the_container_sees_the_documented_environment_and_nothing_else(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = sdk.deploy(variables={"MY_NAME": "my value"}).id
    environment = _environment(sdk, deployment)
    assert environment["MY_NAME"] == "my value"
    assert environment["MODEL_DEPLOYMENT_OCID"] == deployment
    assert environment["TENANCY_OCID"] == sdk.compartment
    # sh and Python add the last ones
    allowed = {"MY_NAME", "MODEL_DEPLOYMENT_OCID", "TENANCY_OCID", "CONTAINER_CUSTOM_IMAGE"}
    allowed |= {"PATH", "HOME", "PWD", "LC_CTYPE"}
    allowed |= {"LOCAL_OCI_SERVER_PORT", "LOCAL_OCI_HEALTH_CHECK_PORT"}  # isolation plain
    assert set(environment) <= allowed
    shown = sdk.data_science.get_model_deployment(deployment).data
    container = shown.model_deployment_configuration_details.environment_configuration_details
    assert container.default_environment_variables["MODEL_DEPLOYMENT_OCID"] == deployment
    sdk.delete(deployment)


def test_entrypoint_and_cmd_make_one_command(sdk: Sdk) -> None:
    deployment = sdk.deploy(entrypoint=["env", "EXTRA=1", "serve"], cmd=[str(PORT)]).id
    assert _environment(sdk, deployment)["EXTRA"] == "1"
    sdk.delete(deployment)


def test_tags_and_listing(sdk: Sdk) -> None:
    details = sdk.deployment_details(sdk.model())
    details.freeform_tags = {"artifact": "sha256:1"}
    answer = sdk.data_science.create_model_deployment(details)
    sdk.finished(answer.headers["opc-work-request-id"])
    listed = sdk.data_science.list_model_deployments(
        sdk.compartment, display_name=details.display_name
    ).data
    assert [(found.id, found.freeform_tags) for found in listed] == [
        (answer.data.id, {"artifact": "sha256:1"})
    ]
    assert refusal(
        lambda: sdk.data_science.list_model_deployments(
            sdk.compartment, display_name="a", lifecycle_state="ACTIVE"
        )
    ) == (400, "InvalidParameter")
    sdk.delete(answer.data.id)


def test_the_same_create_sent_twice_makes_one_deployment(sdk: Sdk) -> None:
    details = sdk.deployment_details(sdk.model())
    answers = [
        sdk.data_science.create_model_deployment(details, opc_retry_token=details.display_name)
        for _ in range(2)
    ]
    assert len({answer.data.id for answer in answers}) == 1
    assert len({answer.headers["opc-work-request-id"] for answer in answers}) == 1
    sdk.finished(answers[0].headers["opc-work-request-id"])
    sdk.delete(answers[0].data.id)


def test_the_shapes_are_known_to_the_sdk(sdk: Sdk) -> None:
    shapes = sdk.data_science.list_model_deployment_shapes(sdk.compartment).data
    by_name = {shape.name: shape for shape in shapes}
    assert by_name["VM.GPU.A10.1"].memory_in_gbs == 240  # Oracle's model-deployment-tips.md
    assert all(shape.shape_series != "UNKNOWN_ENUM_VALUE" for shape in shapes)


# --- failing ----------------------------------------------------------------------------------


def _failure(sdk: Sdk, model: str | None = None, **options: Any) -> tuple[str, str, Any]:
    """Code and message of a deployment that fails, and the deployment."""
    deployment, work_request = sdk.begin_deployment(model or sdk.model(), **options)
    assert sdk.finished(work_request).status == "FAILED"
    (error,) = sdk.errors(work_request)
    failed = sdk.data_science.get_model_deployment(deployment).data
    assert (failed.lifecycle_state, failed.lifecycle_details) == ("FAILED", error[1])
    assert sdk.steps(work_request)[-1] == error[1]
    assert sdk.post(deployment).status_code == 404
    return (*error, failed)


def test_an_artifact_that_is_no_zip_fails_the_deployment(sdk: Sdk) -> None:
    code, message, _ = _failure(sdk, sdk.model(artifact=b"this is no zip"))
    assert code == "InvalidArtifact"
    assert "not a valid zip" in message


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_an_artifact_that_leads_outside_fails_the_deployment(sdk: Sdk, name: str) -> None:
    code, message, _ = _failure(sdk, sdk.model(artifact=zipped({name: b"x"})))
    assert code == "InvalidArtifact"
    assert name in message
    assert not list(sdk.cloud.directory.rglob("outside"))


def test_a_command_that_is_not_found_fails_the_deployment(sdk: Sdk) -> None:
    code, message, _ = _failure(sdk, cmd=["tritonserver", "--model-repository=x"])
    assert code == "ContainerStartFailed"
    assert "command not found: tritonserver" in message


def test_no_command_at_all_fails_the_deployment(sdk: Sdk) -> None:
    code, message, _ = _failure(sdk, cmd=[])
    assert code == "ContainerStartFailed"
    assert "set cmd or entrypoint" in message


def test_a_container_that_exits_early_fails_with_its_last_words(sdk: Sdk) -> None:
    code, message, _ = _failure(sdk, variables={"EXIT_EARLY": "3"})
    assert code == "ContainerExited"
    assert "exited with status 3" in message
    assert "the engine file is damaged" in message


def test_a_container_that_is_never_healthy_fails_at_the_timeout(new_cloud) -> None:
    sdk = Sdk(new_cloud("--start-timeout=1"))
    code, message, failed = _failure(sdk, variables={"SICK": "1"})
    assert code == "HealthCheckTimeout"
    assert message.startswith("Workflow timed out. Maximum runtime was: ")
    assert "GET /health on port 8000: status 503" in message
    assert not processes_of(sdk.cloud.directory / "deployments" / failed.id)


def test_a_failed_deployment_can_be_deleted_and_nothing_else(sdk: Sdk) -> None:
    _, _, failed = _failure(sdk, variables={"EXIT_EARLY": "1"})
    for call in (
        sdk.data_science.activate_model_deployment,
        sdk.data_science.deactivate_model_deployment,
    ):
        assert refusal(lambda call=call: call(failed.id)) == (409, "Conflict")
    sdk.delete(failed.id)


# --- updating ---------------------------------------------------------------------------------


class Load:
    """Calls a deployment again and again, and keeps the answers."""

    def __init__(self, sdk: Sdk, deployment: str) -> None:
        self._sdk, self._deployment = sdk, deployment
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]
        self.statuses: list[int] = []
        self.versions: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.statuses) > 5)
        return self

    def __exit__(self, *_: object) -> None:
        count = len(self.statuses)
        wait_until(lambda: len(self.statuses) > count + 5)
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            response = self._sdk.post(self._deployment)
            self.statuses.append(response.status_code)
            if response.ok:
                self.versions.append(response.json()["environment"].get("VERSION", ""))
            time.sleep(0.01)


def test_an_update_is_without_downtime_under_load(sdk: Sdk) -> None:
    deployment = sdk.deploy(variables={"VERSION": "1"}).id
    with Load(sdk, deployment) as load:
        update = _container(environment_variables={"VERSION": "2", "START_SECONDS": "0.3"})
        work_request = sdk.update(deployment, model_deployment_configuration_details=update)
        assert work_request.status == "SUCCEEDED"
    assert set(load.statuses) == {200}
    assert load.versions[0] == "1"
    assert load.versions[-1] == "2"
    assert load.versions == sorted(load.versions)  # never back to the old one
    assert sdk.state(deployment) == "ACTIVE"
    sdk.delete(deployment)


def test_a_request_that_is_under_way_ends_in_the_container_that_it_began_in(sdk: Sdk) -> None:
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/slow", http_methods=["POST"])
    deployment = sdk.deploy(custom_http_endpoints=[endpoint]).id
    answers: list[int] = []

    def call() -> None:
        response = sdk.post(deployment, "/predict/slow", json={"seconds": 2})
        answers.append(response.status_code)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    update = _container(environment_variables={"VERSION": "2"})
    sdk.update(deployment, model_deployment_configuration_details=update)
    thread.join()
    assert answers == [200]
    sdk.delete(deployment)


def test_an_update_with_another_model_serves_the_other_model(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    project = sdk.data_science.get_model_deployment(deployment).data.project_id
    other = sdk.model(artifact=zipped({"other": b""}), project=project)
    details = sdk.data_science.get_model_deployment(deployment).data
    configuration = details.model_deployment_configuration_details.model_configuration_details
    work_request = sdk.update(
        deployment,
        freeform_tags={"artifact": "other"},
        model_deployment_configuration_details=ds.UpdateSingleModelDeploymentConfigurationDetails(
            model_configuration_details=ds.UpdateModelConfigurationDetails(
                model_id=other, instance_configuration=configuration.instance_configuration
            )
        ),
    )
    assert work_request.status == "SUCCEEDED"
    assert sdk.post(deployment).json()["files"] == ["other"]
    assert sdk.data_science.get_model_deployment(deployment).data.freeform_tags == {
        "artifact": "other"
    }
    sdk.delete(deployment)


def test_a_failed_update_leaves_the_old_container_serving(sdk: Sdk) -> None:
    deployment = sdk.deploy(variables={"VERSION": "1"}).id
    update = _container(environment_variables={"EXIT_EARLY": "3"})
    work_request = sdk.update(deployment, model_deployment_configuration_details=update)
    assert work_request.status == "FAILED"
    assert sdk.errors(work_request.id)[0][0] == "ContainerExited"
    after = sdk.data_science.get_model_deployment(deployment).data
    assert after.lifecycle_state == "NEEDS_ATTENTION"
    assert "exited with status 3" in after.lifecycle_details
    assert _environment(sdk, deployment)["VERSION"] == "1"
    repaired = _container(environment_variables={"VERSION": "2"})
    sdk.update(deployment, model_deployment_configuration_details=repaired)
    assert sdk.state(deployment) == "ACTIVE"
    assert _environment(sdk, deployment)["VERSION"] == "2"
    sdk.delete(deployment)


def test_an_active_deployment_changes_one_group_of_options_at_a_time(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    update = _container(environment_variables={"A_1": "1"})
    both = {"display_name": "new", "model_deployment_configuration_details": update}
    assert refusal(lambda: sdk.update(deployment, **both)) == (400, "InvalidParameter")
    answer = sdk.data_science.deactivate_model_deployment(deployment)
    sdk.finished(answer.headers["opc-work-request-id"])
    assert sdk.update(deployment, **both).status == "SUCCEEDED"
    assert sdk.state(deployment) == "INACTIVE"
    assert sdk.data_science.get_model_deployment(deployment).data.display_name == "new"
    sdk.delete(deployment)


def test_a_new_name_needs_no_new_container(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    before = sdk.post(deployment).json()["environment"]["HOME"]
    assert sdk.update(deployment, display_name="new").status == "SUCCEEDED"
    assert sdk.post(deployment).json()["environment"]["HOME"] == before
    sdk.delete(deployment)


def test_an_update_while_another_runs_is_refused(sdk: Sdk) -> None:
    deployment, work_request = sdk.begin_deployment(sdk.model(), variables={"START_SECONDS": "0.5"})
    assert refusal(lambda: sdk.update(deployment, display_name="n")) == (409, "IncorrectState")
    assert refusal(lambda: sdk.delete(deployment)) == (409, "IncorrectState")
    sdk.finished(work_request)
    sdk.delete(deployment)


# --- stopping ---------------------------------------------------------------------------------


def test_an_inactive_deployment_answers_nobody_until_it_is_activated(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    answer = sdk.data_science.deactivate_model_deployment(deployment)
    assert sdk.finished(answer.headers["opc-work-request-id"]).status == "SUCCEEDED"
    assert sdk.state(deployment) == "INACTIVE"
    assert sdk.post(deployment).status_code == 404
    answer = sdk.data_science.activate_model_deployment(deployment)
    assert sdk.finished(answer.headers["opc-work-request-id"]).status == "SUCCEEDED"
    assert sdk.post(deployment).ok
    sdk.delete(deployment)


def test_a_deleted_deployment_leaves_no_process_and_no_file(sdk: Sdk) -> None:
    deployment = sdk.deploy(variables={"LEAVE_CHILD": "1"}).id
    assert list(sdk.cloud.directory.rglob(f"*{deployment}*"))
    # the keeper, process 1 and its relay, the server, and the child in a session of its own
    assert len(processes_of(sdk.cloud.directory / "deployments" / deployment)) >= 3
    sdk.delete(deployment)
    assert not processes_of(sdk.cloud.directory / "deployments" / deployment)
    assert not list(sdk.cloud.directory.rglob(f"*{deployment}*"))
    assert sdk.state(deployment) == "DELETED"
    assert refusal(lambda: sdk.delete(deployment)) == (404, "NotAuthorizedOrNotFound")


def test_a_container_that_dies_is_reported_and_replaced(sdk: Sdk) -> None:
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/die", http_methods=["POST"])
    deployment = sdk.deploy(custom_http_endpoints=[endpoint]).id
    assert sdk.post(deployment, "/predict/die").status_code == 503

    def details() -> str | None:
        return sdk.data_science.get_model_deployment(deployment).data.lifecycle_details

    assert "exited with status 7" in wait_until(details)
    response = sdk.post(deployment)
    assert (response.status_code, response.json()["code"]) == (503, "ServiceUnavailable")
    assert response.headers["retry-after"] == "2"
    wait_until(lambda: sdk.post(deployment).ok)
    wait_until(lambda: details().startswith("Containers replaced: 1. "))
    assert "The last one exited with status 7, at 20" in details()
    assert sdk.state(deployment) == "ACTIVE"
    assert sdk.update(deployment, display_name="renamed").status == "SUCCEEDED"
    assert details() is None
    sdk.delete(deployment)


def test_a_container_that_is_not_healthy_any_more_is_reported_and_replaced(sdk: Sdk) -> None:
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/sicken", http_methods=["POST"])
    deployment = sdk.deploy(custom_http_endpoints=[endpoint]).id
    before = sdk.post(deployment).json()["environment"]["HOME"]
    assert sdk.post(deployment, "/predict/sicken").ok

    def details() -> str:
        return sdk.data_science.get_model_deployment(deployment).data.lifecycle_details or ""

    wait_until(lambda: details().startswith("Containers replaced: 1. "))
    assert "failed its health check 3 times (GET /health: status 503)" in details()
    assert sdk.post(deployment).json()["environment"]["HOME"] != before
    output = sdk.cloud.directory / "outputs" / f"{deployment}.log"
    assert "local_oci: The container failed its health check" in output.read_text()
    sdk.delete(deployment)


def test_a_failed_replacement_is_tried_again(new_cloud, image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "image"
    shutil.copytree(image, copy)
    cloud: LocalCloud = new_cloud(f"--image=local/copy:1={copy}")
    sdk = Sdk(cloud)
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/die", http_methods=["POST"])
    deployment = sdk.deploy(image="local/copy:1", custom_http_endpoints=[endpoint]).id
    launcher = copy / "bin" / "serve"
    launcher.rename(copy / "elsewhere")
    sdk.post(deployment, "/predict/die")
    wait_until(lambda: sdk.state(deployment) == "NEEDS_ATTENTION")
    (copy / "elsewhere").rename(launcher)
    wait_until(lambda: sdk.post(deployment).ok)
    wait_until(lambda: sdk.state(deployment) == "ACTIVE")


def test_a_dead_container_does_not_stand_in_the_way_of_an_update_or_a_deletion(sdk: Sdk) -> None:
    endpoint = ds.InferenceHttpEndpoint(endpoint_uri_suffix="/die", http_methods=["POST"])
    deployment = sdk.deploy(custom_http_endpoints=[endpoint]).id
    sdk.post(deployment, "/predict/die")
    assert sdk.update(deployment, display_name="renamed").status == "SUCCEEDED"
    wait_until(lambda: sdk.post(deployment).ok)
    sdk.post(deployment, "/predict/die")
    sdk.delete(deployment)
    assert sdk.state(deployment) == "DELETED"


def test_a_directory_may_be_longer_than_a_sockets_path(image: Path, tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30) / "cloud"
    directory.parent.mkdir()
    cloud = LocalCloud(directory, f"--image={IMAGE}={image}").start()
    try:
        sdk = Sdk(cloud)
        assert sdk.post(sdk.deploy().id).ok
    finally:
        cloud.stop()


# --- starting again ---------------------------------------------------------------------------


def test_active_deployments_serve_again_after_a_restart(new_cloud) -> None:
    cloud: LocalCloud = new_cloud()
    sdk = Sdk(cloud)
    deployment = sdk.deploy(variables={"VERSION": "1"}).id
    url = sdk.data_science.get_model_deployment(deployment).data.model_deployment_url
    inactive = sdk.deploy().id
    answer = sdk.data_science.deactivate_model_deployment(inactive)
    sdk.finished(answer.headers["opc-work-request-id"])
    cloud.stop()
    cloud.start()
    assert sdk.data_science.get_model_deployment(deployment).data.model_deployment_url == url
    wait_until(lambda: sdk.post(deployment).ok)
    assert _environment(sdk, deployment)["VERSION"] == "1"
    assert sdk.state(inactive) == "INACTIVE"
    assert sdk.post(inactive).status_code == 404


def test_a_deployment_whose_image_is_gone_needs_attention_after_a_restart(
    new_cloud, image: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "image"
    shutil.copytree(image, copy)
    cloud: LocalCloud = new_cloud(f"--image=local/copy:1={copy}")
    sdk = Sdk(cloud)
    deployment = sdk.deploy(image="local/copy:1").id
    cloud.stop()
    (copy / "bin" / "serve").unlink()
    cloud.start()
    wait_until(lambda: sdk.state(deployment) == "NEEDS_ATTENTION")
    details = sdk.data_science.get_model_deployment(deployment).data.lifecycle_details
    assert "command not found: serve" in details
    assert sdk.post(deployment).status_code == 503


@pytest.mark.parametrize(
    "hang_up",
    [
        pytest.param(signal.SIG_DFL, id="usual", marks=pytest.mark.long),  # nohup's is harder
        pytest.param(signal.SIG_IGN, id="nohup"),
    ],
)
def test_a_deployment_that_is_being_restored_can_be_deleted(new_cloud, hang_up, request) -> None:
    before = signal.signal(signal.SIGHUP, hang_up)  # what the cloud inherits
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    cloud: LocalCloud = new_cloud()
    sdk = Sdk(cloud)
    deployment = sdk.deploy(variables={"START_SECONDS": "1.5"}).id
    cloud.stop()
    cloud.start()
    assert sdk.post(deployment).status_code == 503
    began = time.monotonic()
    sdk.delete(deployment)
    assert time.monotonic() - began < 1.5
    assert not processes_of(cloud.directory / "deployments" / deployment)


def test_a_work_request_that_was_interrupted_runs_again(new_cloud) -> None:
    cloud: LocalCloud = new_cloud()
    sdk = Sdk(cloud)
    deployment, work_request = sdk.begin_deployment(sdk.model(), variables={"START_SECONDS": "0.7"})
    wait_until(lambda: "Starting container" in sdk.steps(work_request))
    cloud.kill()
    cloud.start()
    assert sdk.finished(work_request).status == "SUCCEEDED"
    assert sdk.steps(work_request).count("Starting container") == 1
    assert sdk.post(deployment).ok


def test_an_operation_that_fails_by_a_fault_of_this_program_ends_in_a_final_state(
    new_cloud,
) -> None:
    """No file can be opened for a while, for a new deployment and for one that serves."""
    cloud: LocalCloud = new_cloud()
    sdk = Sdk(cloud)
    model, serving = sdk.model(), sdk.deploy().id
    assert cloud.process is not None
    server, limit = cloud.process.pid, resource.RLIMIT_NOFILE
    before = resource.prlimit(server, limit)
    opened = len(list(Path(f"/proc/{server}/fd").iterdir()))
    resource.prlimit(server, limit, (opened + 2, before[1]))
    created, creation = sdk.begin_deployment(model)
    change = _container(environment_variables={"VERSION": "2"})
    update = sdk.update(serving, model_deployment_configuration_details=change)
    resource.prlimit(server, limit, before)
    assert sdk.finished(creation).status == update.status == "FAILED"
    assert (sdk.state(created), sdk.state(serving)) == ("FAILED", "NEEDS_ATTENTION")
    assert sdk.post(serving).ok
    cloud.kill()
    cloud.start()
    wait_until(lambda: sdk.state(serving) == "ACTIVE")  # a new container is healthy
    assert sdk.state(created) == "FAILED"
    sdk.delete(created)


def test_what_lost_its_operation_is_in_a_final_state_after_a_restart(new_cloud) -> None:
    cloud: LocalCloud = new_cloud("--start-timeout=0.3")
    sdk = Sdk(cloud)
    model = sdk.model()
    after = {"CREATING": "FAILED", "UPDATING": "INACTIVE", "DELETING": "FAILED"}
    begun = {state: sdk.begin_deployment(model, {"SICK": "1"}) for state in after}
    for _, creation in begun.values():
        sdk.finished(creation)
    cloud.kill()
    change = "UPDATE records SET document = json_set(document, '$.lifecycleState', ?) WHERE key = ?"
    with contextlib.closing(sqlite3.connect(cloud.directory / "state.sqlite3")) as database:
        for state, (deployment, _) in begun.items():
            database.execute(change, (state, deployment))
        database.commit()
    cloud.start()
    assert {state: sdk.state(deployment) for state, (deployment, _) in begun.items()} == after
    for deployment, _ in begun.values():
        sdk.delete(deployment)


def test_an_update_that_was_interrupted_runs_again_over_the_old_container(new_cloud) -> None:
    cloud: LocalCloud = new_cloud()
    sdk = Sdk(cloud)
    deployment = sdk.deploy(variables={"VERSION": "1"}).id
    update = _container(environment_variables={"VERSION": "2", "START_SECONDS": "0.7"})
    answer = sdk.data_science.update_model_deployment(
        deployment,
        ds.UpdateModelDeploymentDetails(model_deployment_configuration_details=update),
    )
    work_request = answer.headers["opc-work-request-id"]
    wait_until(lambda: "Starting container" in sdk.steps(work_request))
    cloud.kill()
    cloud.start()
    assert sdk.finished(work_request).status == "SUCCEEDED"
    assert _environment(sdk, deployment)["VERSION"] == "2"


def test_nothing_outlives_a_killed_cloud(new_cloud) -> None:
    cloud: LocalCloud = new_cloud()
    Sdk(cloud).deploy(variables={"LEAVE_CHILD": "1"})
    assert len(processes_of(cloud.directory)) >= 4  # with the server of the cloud itself
    cloud.kill()
    wait_until(lambda: not processes_of(cloud.directory), 5)


def test_a_stopped_cloud_leaves_no_process(new_cloud) -> None:
    cloud: LocalCloud = new_cloud()
    Sdk(cloud).deploy(variables={"LEAVE_CHILD": "1"})
    assert cloud.signal(15) == 0
    assert not processes_of(cloud.directory)
    assert not (cloud.directory / "endpoint").exists()


def test_the_artifact_is_what_the_container_finds(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    (name,) = MODEL_FILES
    assert name in sdk.post(deployment).json()["files"]
    sdk.delete(deployment)


def test_the_steps_of_a_work_request_come_in_pages(sdk: Sdk) -> None:
    _, work_request = sdk.begin_deployment(sdk.model())
    sdk.finished(work_request)
    steps = sdk.steps(work_request)
    assert len(steps) > 2
    first = sdk.data_science.list_work_request_logs(work_request, limit=2)
    assert [entry.message for entry in first.data] == steps[:2]
    pages = oci.pagination.list_call_get_all_results(
        sdk.data_science.list_work_request_logs, work_request, limit=2
    )
    assert [entry.message for entry in pages.data] == steps
    assert refusal(
        lambda: sdk.data_science.list_work_request_logs(work_request, page="bm9uc2Vuc2U=")
    ) == (400, "InvalidParameter")


def test_the_work_requests_of_one_resource_are_listed(sdk: Sdk) -> None:
    deployment, created = sdk.begin_deployment(sdk.model())
    sdk.finished(created)
    stopped = sdk.data_science.deactivate_model_deployment(deployment)
    stopping = stopped.headers["opc-work-request-id"]
    sdk.finished(stopping)
    listed = sdk.data_science.list_work_requests(
        sdk.compartment, resource_id=deployment, sort_by="timeAccepted", sort_order="ASC"
    ).data
    assert [found.id for found in listed] == [created, stopping]
    by_status = sdk.data_science.list_work_requests(
        sdk.compartment, resource_id=deployment, status="FAILED"
    ).data
    assert by_status == []


def test_a_change_meant_for_another_version_of_a_deployment_is_refused(sdk: Sdk) -> None:
    deployment = sdk.deploy().id
    etag = sdk.data_science.get_model_deployment(deployment).headers["etag"]
    assert sdk.update(deployment, description="x").status == "SUCCEEDED"
    for call in (
        sdk.data_science.deactivate_model_deployment,
        sdk.data_science.delete_model_deployment,
    ):
        assert refusal(lambda call=call: call(deployment, if_match=etag)) == (412, "NoEtagMatch")
    sdk.delete(deployment)
