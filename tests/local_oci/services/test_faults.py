"""Injected faults do to clients what a real cloud does now and then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import oci
import pytest
import requests

from tests.local_oci.support import LocalCloud, Sdk, ds, refusal, run_cli, wait_until

# What the SDK raises when a connection ends.
GONE = (oci.exceptions.RequestException, OSError)


def test_a_status_is_answered_as_often_as_asked(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(
        kind="status",
        operation="list_projects",
        status=429,
        code="TooManyRequests",
        message="slow down",
        times=2,
    )
    for _ in range(2):
        assert refusal(lambda: sdk.data_science.list_projects(sdk.compartment)) == (
            429,
            "TooManyRequests",
        )
    assert sdk.data_science.list_projects(sdk.compartment).status == 200


def test_a_fault_can_let_some_requests_pass_first(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="status", path="/n", status=503, skip=1)
    assert sdk.object_storage.get_namespace().status == 200
    assert refusal(sdk.object_storage.get_namespace)[0] == 503


def test_the_retries_of_the_sdk_outlast_a_fault(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="status", operation="get_namespace", status=500)
    strategy = oci.retry.RetryStrategyBuilder(
        retry_base_sleep_time_seconds=0.01, retry_max_wait_between_calls_seconds=0.1
    ).get_retry_strategy()
    patient = sdk.client(oci.object_storage.ObjectStorageClient, retry_strategy=strategy)
    assert patient.get_namespace().data == "localoci"


def test_a_request_can_be_delayed(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="delay", operation="get_namespace", seconds=0.4)
    began = time.monotonic()
    sdk.object_storage.get_namespace()
    assert time.monotonic() - began > 0.4


def test_a_create_whose_answer_was_cut_off_happens_once(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="cut_response", operation="create_project", after_bytes=0)
    details = ds.CreateProjectDetails(compartment_id=sdk.compartment, display_name="cut-off")

    def create():
        return sdk.data_science.create_project(details, opc_retry_token="cut-off")

    with pytest.raises(GONE):
        create()
    created = create().data
    listed = sdk.data_science.list_projects(sdk.compartment, display_name="cut-off").data
    assert [project.id for project in listed] == [created.id]


def test_an_answer_can_be_cut_in_the_middle(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    model = sdk.model(artifact=b"0123456789")
    shared_cloud.fault(kind="cut_response", operation="get_model_artifact_content", after_bytes=4)
    url = f"{sdk.cloud.endpoint}/20190101/models/{model}/artifact/content"
    with requests.get(url, auth=sdk.signer, stream=True, timeout=5) as response:
        assert response.headers["content-length"] == "10"
        assert response.raw.read(4) == b"0123"
        with pytest.raises(Exception, match="IncompleteRead"):
            response.raw.read(6)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_capacity", "There is currently no capacity for the specified shape"),
        ("bootstrap", "Errors occurred while bootstrapping the Model Deployment"),
        ("image_pull", "the image could not be pulled"),
    ],
)
def test_a_deployment_can_be_made_to_fail(
    sdk: Sdk, shared_cloud: LocalCloud, kind: str, words: str
) -> None:
    shared_cloud.fault(kind=kind, operation="create_model_deployment")
    deployment, work_request = sdk.begin_deployment(sdk.model())
    assert sdk.finished(work_request).status == "FAILED"
    assert words in sdk.errors(work_request)[0][1]
    assert sdk.state(deployment) == "FAILED"


def test_faults_can_be_seen_and_forgotten(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="status", operation="get_namespace", times=5)
    (fault,) = shared_cloud.local("GET", "faults").json()
    assert (fault["operation"], fault["times"]) == ("get_namespace", 5)
    shared_cloud.local("DELETE", "faults")
    assert sdk.object_storage.get_namespace().status == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status"},
        {"kind": "flood", "path": "x"},
        {"path": "x"},
        {"kind": "delay", "path": "x", "seconds": "inf"},
        {"kind": "dies_later", "path": "x"},
        {"kind": "slow_body", "path": "x", "bytesPerSecond": 0},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(shared_cloud: LocalCloud, fault) -> None:
    response = shared_cloud.local("POST", "faults", json=[fault])
    assert response.status_code == 400
    assert response.json()["code"] in ("InvalidParameter", "MissingParameter")


def _refused(call: Callable[[], Any]) -> oci.exceptions.ServiceError:
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        call()
    return refused.value


@pytest.mark.parametrize("retry_after", [None, 7])
def test_a_throttle_says_when_to_come_back_if_it_is_told(
    sdk: Sdk, shared_cloud: LocalCloud, retry_after: int | None
) -> None:
    shared_cloud.fault(kind="throttle", operation="get_namespace", retryAfter=retry_after)
    error = _refused(sdk.object_storage.get_namespace)
    assert (error.status, error.code) == (429, "TooManyRequests")
    assert error.headers.get("retry-after") == (None if retry_after is None else "7")


def test_a_missing_policy_looks_as_if_there_were_nothing(
    sdk: Sdk, shared_cloud: LocalCloud
) -> None:
    shared_cloud.fault(kind="policy", operation="list_projects")
    error = _refused(lambda: sdk.data_science.list_projects(sdk.compartment))
    assert (error.status, error.code) == (404, "NotAuthorizedOrNotFound")


def test_a_session_can_be_over(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="expired_token", operation="get_namespace")
    error = _refused(sdk.object_storage.get_namespace)
    assert (error.status, error.code) == (401, "NotAuthenticated")


def test_clocks_that_differ_can_be_told_from_the_date_header(
    sdk: Sdk, shared_cloud: LocalCloud
) -> None:
    shared_cloud.fault(kind="clock_skew", operation="get_namespace", seconds=900)
    error = _refused(sdk.object_storage.get_namespace)
    assert (error.status, error.code) == (401, "NotAuthenticated")
    apart = parsedate_to_datetime(error.headers["date"]) - datetime.now(UTC)
    assert 895 < apart.total_seconds() < 905


def test_a_reset_comes_before_the_effect(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    project = sdk.project()
    shared_cloud.fault(kind="reset", operation="delete_project")
    with pytest.raises(GONE):
        sdk.data_science.delete_project(project)
    assert sdk.data_science.get_project(project).data.lifecycle_state == "ACTIVE"


def test_an_effect_that_comes_late_does_not_come_twice(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="late_effect", operation="create_project", seconds=0.5)
    details = ds.CreateProjectDetails(compartment_id=sdk.compartment, display_name="late")

    def create() -> Any:
        return sdk.data_science.create_project(details, opc_retry_token="late")

    def listed() -> list[str]:
        found = sdk.data_science.list_projects(sdk.compartment, display_name="late").data
        return [project.id for project in found]

    with pytest.raises(GONE):
        create()
    assert listed() == []
    (created,) = wait_until(listed)
    assert create().data.id == created
    assert listed() == [created]


def test_a_body_can_be_slow_in_both_directions(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=sdk.project())
    model = sdk.data_science.create_model(details).data.id
    content = bytes(4000)
    for operation, call in (
        ("create_model_artifact", lambda: sdk.data_science.create_model_artifact(model, content)),
        (
            "get_model_artifact_content",
            lambda: sdk.data_science.get_model_artifact_content(model).data.content,
        ),
    ):
        shared_cloud.fault(kind="slow_body", operation=operation, bytesPerSecond=10_000)
        began = time.monotonic()
        answer = call()
        assert 0.35 < time.monotonic() - began < 3
    assert answer == content


def test_a_container_can_never_be_healthy(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="never_healthy", operation="create_model_deployment", seconds=0.3)
    deployment, work_request = sdk.begin_deployment(sdk.model())
    assert sdk.finished(work_request).status == "FAILED"
    code, message = sdk.errors(work_request)[0]
    assert code == "HealthCheckTimeout"
    assert message.startswith("Workflow timed out.")
    assert "Waiting for the container to be healthy" in sdk.steps(work_request)
    assert sdk.state(deployment) == "FAILED"


def test_a_container_can_die_later(sdk: Sdk, shared_cloud: LocalCloud) -> None:
    shared_cloud.fault(kind="dies_later", operation="create_model_deployment", seconds=0.5)
    deployment = sdk.deploy().id
    assert sdk.post(deployment).ok
    wait_until(lambda: sdk.post(deployment).status_code == 503)

    def details() -> str:
        return sdk.data_science.get_model_deployment(deployment).data.lifecycle_details or ""

    wait_until(lambda: "503 until a new one is healthy" in details())
    wait_until(lambda: sdk.post(deployment).ok)
    sdk.delete(deployment)


def test_a_file_of_faults_is_read_whenever_it_changes(new_cloud) -> None:
    cloud = new_cloud()
    sdk = Sdk(cloud)
    file = cloud.directory / "faults.json"
    file.write_text(json.dumps([{"kind": "throttle", "operation": "get_namespace"}]))
    assert refusal(sdk.object_storage.get_namespace) == (429, "TooManyRequests")
    assert sdk.object_storage.get_namespace().status == 200
    file.write_text("no JSON")
    assert sdk.object_storage.get_namespace().status == 200
    file.write_text(json.dumps([{"kind": "throttle", "operation": "get_namespace", "times": 9}]))
    assert refusal(sdk.object_storage.get_namespace)[0] == 429
    file.unlink()
    assert sdk.object_storage.get_namespace().status == 200


def test_a_file_of_faults_that_is_wrong_at_the_start_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "faults.json").write_text('[{"kind": "flood"}]')
    refused = run_cli("serve", f"--directory={tmp_path}")
    assert refused.returncode == 1
    assert "faults.json: 0.kind: " in refused.stderr.splitlines()[-1]
