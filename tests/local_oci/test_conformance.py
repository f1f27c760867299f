"""Nothing that the cloud says is unknown to the SDK."""

from __future__ import annotations

import uuid
from typing import Any

import oci

from tests.local_oci.support import LocalCloud, Sdk, ds

UNKNOWN = "UNKNOWN_ENUM_VALUE"  # what the SDK makes of a value that it does not know


def test_no_answer_holds_a_value_that_the_sdk_does_not_know(
    sdk: Sdk, shared_cloud: LocalCloud, echo: str
) -> None:
    shared_cloud.fault(kind="bootstrap", operation="create_model_deployment")
    failed, work_request = sdk.begin_deployment(sdk.model())
    sdk.finished(work_request)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    storage, science = sdk.object_storage, sdk.data_science
    storage.create_bucket(
        "localoci",
        oci.object_storage.models.CreateBucketDetails(name=bucket, compartment_id=sdk.compartment),
    )
    storage.put_object("localoci", bucket, "a", b"a")
    upload = storage.create_multipart_upload(
        "localoci", bucket, oci.object_storage.models.CreateMultipartUploadDetails(object="o")
    )
    inactive = sdk.model()
    science.deactivate_model(inactive)
    answers: list[Any] = [
        upload.data,
        science.get_model_deployment(echo).data,
        science.get_model_deployment(failed).data,
        science.list_model_deployments(sdk.compartment).data,
        science.list_models(sdk.compartment).data,
        science.get_model(inactive).data,
        science.list_projects(sdk.compartment).data,
        science.list_work_requests(sdk.compartment).data,
        science.list_work_request_errors(work_request).data,
        science.list_model_deployment_shapes(sdk.compartment).data,
        storage.list_buckets("localoci", sdk.compartment).data,
        storage.get_bucket("localoci", bucket).data,
        storage.list_objects("localoci", bucket, fields="storageTier,archivalState").data,
        sdk.logging.list_log_groups(sdk.compartment).data,
    ]
    for answer in answers:
        assert answer is not None
        assert UNKNOWN not in str(answer)


def test_the_states_that_the_cloud_uses_are_states_of_the_sdk() -> None:
    from local_oci.catalog.models import ModelState, ProjectState
    from local_oci.deployments.models import DeploymentState
    from local_oci.work_requests.models import Operation, Status

    for ours, theirs, prefix in (
        (ProjectState, ds.Project, "LIFECYCLE_STATE_"),
        (ModelState, ds.Model, "LIFECYCLE_STATE_"),
        (DeploymentState, ds.ModelDeployment, "LIFECYCLE_STATE_"),
        (Status, ds.WorkRequest, "STATUS_"),
        (Operation, ds.WorkRequest, "OPERATION_TYPE_"),
    ):
        known = {value for name, value in vars(theirs).items() if name.startswith(prefix)}
        assert {str(value) for value in ours} <= known
