"""Injected faults do to clients what a real cloud does now and then."""

from __future__ import annotations

import time

import oci
import pytest
import requests

from tests.local_oci.support import LocalCloud, Sdk, ds, refusal


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
    shared_cloud.fault(kind="status", path="/n$", status=503, skip=1)
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

    with pytest.raises((oci.exceptions.RequestException, OSError)):
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
    url = f"{shared_cloud.endpoint}/_local/faults"
    (fault,) = requests.get(url, timeout=5).json()
    assert (fault["operation"], fault["times"]) == ("get_namespace", 5)
    requests.delete(url, timeout=5)
    assert sdk.object_storage.get_namespace().status == 200


@pytest.mark.parametrize(
    "fault", [{"kind": "status"}, {"kind": "flood", "path": "x"}, {"path": "x"}]
)
def test_a_fault_that_makes_no_sense_is_refused(shared_cloud: LocalCloud, fault) -> None:
    response = requests.post(f"{shared_cloud.endpoint}/_local/faults", json=[fault], timeout=5)
    assert (response.status_code, response.json()["code"]) == (400, "InvalidParameter")
