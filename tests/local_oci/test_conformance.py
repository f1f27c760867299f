"""What the SDK builds on its operations works, and nothing that it is told is unknown to it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import oci

from tests.local_oci.support import LocalCloud, Sdk, ds, refusal, zipped

UNKNOWN = "UNKNOWN_ENUM_VALUE"  # what the SDK makes of a value that it does not know


FINAL = ["SUCCEEDED", "FAILED"]
WAITER = {"max_interval_seconds": 1}


def test_no_answer_holds_a_value_that_the_sdk_does_not_know(
    sdk: Sdk, shared_cloud: LocalCloud, echo: str
) -> None:
    shared_cloud.fault(kind="bootstrap", operation="create_model_deployment")
    failed, work_request = sdk.begin_deployment(sdk.model())
    sdk.finished(work_request)
    storage, science = sdk.object_storage, sdk.data_science
    bucket = _bucket(sdk)
    storage.put_object("localoci", bucket, "a", b"a")
    upload = storage.create_multipart_upload(
        "localoci", bucket, oci.object_storage.models.CreateMultipartUploadDetails(object="o")
    )
    inactive = sdk.model()
    science.deactivate_model(inactive)
    group, log = sdk.log()
    limits = sdk.client(oci.limits.LimitsClient)
    version_set = science.create_model_version_set(
        ds.CreateModelVersionSetDetails(
            compartment_id=sdk.compartment, project_id=sdk.project(), name=f"set-{bucket}"
        )
    ).data
    answers: list[Any] = [
        upload.data,
        version_set,
        science.get_model_deployment(echo).data,
        science.get_model_deployment(failed).data,
        science.list_model_deployments(sdk.compartment).data,
        science.list_models(sdk.compartment).data,
        science.get_model(inactive).data,
        science.list_projects(sdk.compartment).data,
        science.list_model_version_sets(sdk.compartment).data,
        science.list_work_requests(sdk.compartment).data,
        science.list_work_request_errors(work_request).data,
        science.list_work_request_logs(work_request).data,
        science.list_model_deployment_shapes(sdk.compartment).data,
        storage.list_buckets("localoci", sdk.compartment).data,
        storage.get_bucket("localoci", bucket).data,
        storage.list_objects("localoci", bucket, fields="storageTier,archivalState").data,
        sdk.logging.list_log_groups(sdk.compartment).data,
        sdk.logging.get_log_group(group).data,
        sdk.logging.get_log(group, log).data,
        sdk.logging.list_logs(group).data,
        sdk.logging.list_work_requests(sdk.compartment).data,
        sdk.identity.get_tenancy(sdk.compartment).data,
        sdk.identity.get_user(sdk.config["user"]).data,
        sdk.identity.get_compartment(sdk.compartment).data,
        sdk.identity.list_region_subscriptions(sdk.compartment).data,
        sdk.identity.list_availability_domains(sdk.compartment).data,
        sdk.identity.list_policies(sdk.compartment).data,
        limits.list_limit_definitions(sdk.compartment).data,
        limits.list_limit_values(sdk.compartment, "data-science").data,
        limits.get_resource_availability("data-science", "ds-gpu-a10-count", sdk.compartment).data,
    ]
    for answer in answers:
        assert answer is not None
        assert UNKNOWN not in str(answer)


def _bucket(sdk: Sdk) -> str:
    """Name of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    sdk.object_storage.create_bucket(
        "localoci",
        oci.object_storage.models.CreateBucketDetails(name=name, compartment_id=sdk.compartment),
    )
    return name


def _finished(work_request: Any, operation: str) -> None:
    """A composite operation of a deployment answers its finished work request."""
    assert (work_request.status, work_request.operation_type) == ("SUCCEEDED", operation)
    assert UNKNOWN not in str(work_request)


def test_the_composite_operations_take_a_deployment_through_its_life(sdk: Sdk) -> None:
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    waiting: dict[str, Any] = {"wait_for_states": FINAL, "waiter_kwargs": WAITER}
    details = sdk.deployment_details(sdk.model())
    created = composite.create_model_deployment_and_wait_for_state(details, **waiting).data
    _finished(created, "MODEL_DEPLOYMENT_CREATE")
    deployment = created.resources[0].identifier
    update = ds.UpdateModelDeploymentDetails(description="updated")
    updated = composite.update_model_deployment_and_wait_for_state(deployment, update, **waiting)
    _finished(updated.data, "MODEL_DEPLOYMENT_UPDATE")
    stopped = composite.deactivate_model_deployment_and_wait_for_state(deployment, **waiting)
    _finished(stopped.data, "MODEL_DEPLOYMENT_DEACTIVATE")
    assert sdk.state(deployment) == "INACTIVE"
    started = composite.activate_model_deployment_and_wait_for_state(deployment, **waiting)
    _finished(started.data, "MODEL_DEPLOYMENT_ACTIVATE")
    assert sdk.post(deployment).ok
    deleted = composite.delete_model_deployment_and_wait_for_state(deployment, **waiting)
    _finished(deleted.data, "MODEL_DEPLOYMENT_DELETE")
    assert sdk.state(deployment) == "DELETED"


def test_a_composite_operation_that_fails_is_over_as_soon(
    sdk: Sdk, shared_cloud: LocalCloud
) -> None:
    shared_cloud.fault(kind="no_capacity", operation="create_model_deployment")
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    answer = composite.create_model_deployment_and_wait_for_state(
        sdk.deployment_details(sdk.model()), wait_for_states=FINAL, waiter_kwargs=WAITER
    )
    assert (answer.data.status, answer.data.percent_complete) == ("FAILED", 100.0)


def test_the_composite_operations_take_a_model_through_its_life(sdk: Sdk) -> None:
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=sdk.project())
    waiting = {"waiter_kwargs": WAITER}
    created = composite.create_model_and_wait_for_state(
        details, wait_for_states=["ACTIVE"], **waiting
    ).data
    assert created.lifecycle_state == "ACTIVE"
    update = ds.UpdateModelDetails(description="updated")
    updated = composite.update_model_and_wait_for_state(
        created.id, update, wait_for_states=["ACTIVE"], **waiting
    ).data
    assert updated.description == "updated"
    stopped = composite.deactivate_model_and_wait_for_state(
        created.id, wait_for_states=["INACTIVE"], **waiting
    ).data
    assert stopped.lifecycle_state == "INACTIVE"
    started = composite.activate_model_and_wait_for_state(
        created.id, wait_for_states=["ACTIVE"], **waiting
    ).data
    assert started.lifecycle_state == "ACTIVE"
    composite.delete_model_and_wait_for_state(created.id, wait_for_states=["DELETED"], **waiting)
    assert sdk.data_science.get_model(created.id).data.lifecycle_state == "DELETED"


def test_an_upload_manager_sends_parts_that_become_an_artifact(sdk: Sdk, tmp_path: Path) -> None:
    bucket = _bucket(sdk)
    content = zipped({"weights.bin": bytes(range(256)) * 4096})
    file = tmp_path / "model.zip"
    file.write_bytes(content)
    manager = oci.object_storage.UploadManager(
        sdk.object_storage, allow_parallel_uploads=True, parallel_process_count=3
    )
    manager.upload_file("localoci", bucket, "models/m.zip", str(file), part_size=100_000)
    head = sdk.object_storage.head_object("localoci", bucket, "models/m.zip")
    assert head.headers["content-length"] == str(len(content))
    parts = -(-len(content) // 100_000)
    assert head.headers["opc-multipart-md5"].endswith(f"-{parts}")
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=sdk.project())
    model = sdk.data_science.create_model(details).data.id
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    exported = composite.export_model_artifact_and_wait_for_state(
        model,
        ds.ExportModelArtifactDetails(
            artifact_export_details=ds.ArtifactExportDetailsObjectStorage(
                namespace="localoci",
                source_bucket=bucket,
                source_object_name="models/m.zip",
                source_region="local_oci",
            )
        ),
        wait_for_states=FINAL,
        waiter_kwargs=WAITER,
    ).data
    _finished(exported, "EXPORT_MODEL_ARTIFACT")
    assert sdk.data_science.get_model_artifact_content(model).data.content == content


def test_the_invocation_client_predicts_and_streams(sdk: Sdk, echo: str) -> None:
    # As text, the SDK (2.189.0) would send other bytes of an umlaut than it signs.
    answer = sdk.inference.predict(echo, '{"a": "ä"}'.encode())
    assert json.loads(answer.data)["body"] == '{"a": "ä"}'
    path = "/v2/models/falcon/generate_stream"
    deployment = sdk.deploy(variables={"MODEL_DEPLOY_PREDICT_ENDPOINT": path}).id
    stream = sdk.inference.predict_with_response_stream(deployment, '{"parts": 3}')
    assert [event.data for event in stream.data.events()] == ["0", "1", "2"]
    sdk.delete(deployment)
    assert refusal(lambda: sdk.inference.predict_with_response_stream(echo, "{}")) == (
        409,
        "ExternalServerIncorrectState",
    )


def test_the_states_that_the_cloud_uses_are_states_of_the_sdk() -> None:
    from local_oci.services.catalog.models import ModelState, ProjectState, VersionSetState
    from local_oci.services.deployments.models import DeploymentState
    from local_oci.services.logs.models import LoggingOperation
    from local_oci.services.work_requests.models import Operation, Status

    for ours, theirs, prefix in (
        (ProjectState, ds.Project, "LIFECYCLE_STATE_"),
        (ModelState, ds.Model, "LIFECYCLE_STATE_"),
        (DeploymentState, ds.ModelDeployment, "LIFECYCLE_STATE_"),
        (Status, ds.WorkRequest, "STATUS_"),
        (Operation, ds.WorkRequest, "OPERATION_TYPE_"),
        (VersionSetState, ds.ModelVersionSet, "LIFECYCLE_STATE_"),
        (LoggingOperation, oci.logging.models.WorkRequest, "OPERATION_TYPE_"),
    ):
        known = {value for name, value in vars(theirs).items() if name.startswith(prefix)}
        assert {str(value) for value in ours} <= known
