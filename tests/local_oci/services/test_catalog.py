"""Projects, models, artifacts, provenance: the Data Science catalog."""

from __future__ import annotations

import base64
import hashlib
import io
import uuid

import oci
import pytest
import requests

from tests.local_oci.support import ds, refusal


def _create_model(sdk, **details):
    details = {"compartment_id": sdk.compartment, "project_id": sdk.project(), **details}
    return sdk.data_science.create_model(ds.CreateModelDetails(**details)).data


def test_a_project_can_be_read_listed_and_deleted(sdk) -> None:
    name = f"project-{uuid.uuid4().hex}"
    details = ds.CreateProjectDetails(
        compartment_id=sdk.compartment, display_name=name, freeform_tags={"team": "örtlich"}
    )
    project = sdk.data_science.create_project(details).data
    assert project.lifecycle_state == "ACTIVE"
    assert sdk.data_science.get_project(project.id).data.freeform_tags == {"team": "örtlich"}
    listed = sdk.data_science.list_projects(sdk.compartment, display_name=name).data
    assert [found.id for found in listed] == [project.id]
    sdk.data_science.delete_project(project.id)
    assert sdk.data_science.get_project(project.id).data.lifecycle_state == "DELETED"


def test_a_project_that_holds_a_model_is_not_deleted(sdk) -> None:
    project = sdk.project()
    _create_model(sdk, project_id=project)
    assert refusal(lambda: sdk.data_science.delete_project(project)) == (409, "Conflict")


def test_what_a_model_is_created_with_is_what_is_read(sdk) -> None:
    metadata = ds.Metadata(key="recipe", value="int8", category="Other", keywords=["a", "b"])
    model = _create_model(
        sdk,
        display_name="falcon",
        description="a model",
        freeform_tags={"digest": "sha256:1"},
        defined_tags={"space": {"key": "value"}},
        custom_metadata_list=[metadata],
        version_label="v1",
    )
    read = sdk.data_science.get_model(model.id).data
    assert (read.display_name, read.description, read.version_label) == ("falcon", "a model", "v1")
    assert read.freeform_tags == {"digest": "sha256:1"}
    assert read.defined_tags == {"space": {"key": "value"}}
    assert read.custom_metadata_list == [metadata]
    assert (read.lifecycle_state, read.category) == ("ACTIVE", "USER")
    assert read.created_by == sdk.config["user"]


def test_a_model_of_an_unknown_project_is_refused(sdk) -> None:
    assert refusal(lambda: _create_model(sdk, project_id="ocid1.datascienceproject.oc1..no")) == (
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
    )


def test_a_body_that_lacks_a_required_field_is_refused_by_its_name(sdk) -> None:
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        sdk.data_science.create_model({"compartmentId": sdk.compartment})
    assert refused.value.code == "MissingParameter"
    assert "projectId" in refused.value.message


def test_models_are_listed_by_filter(sdk) -> None:
    project = sdk.project()
    names = {
        _create_model(sdk, project_id=project, display_name=f"m{i}").display_name for i in (1, 2)
    }
    by_project = sdk.data_science.list_models(sdk.compartment, project_id=project).data
    assert {model.display_name for model in by_project} == names
    by_both = sdk.data_science.list_models(
        sdk.compartment, project_id=project, display_name="m2"
    ).data
    assert [model.display_name for model in by_both] == ["m2"]


def test_a_list_comes_in_pages_and_in_order(sdk) -> None:
    project = sdk.project()
    created = [_create_model(sdk, project_id=project, display_name=f"m{i}").id for i in range(5)]
    pages = oci.pagination.list_call_get_all_results(
        sdk.data_science.list_models,
        sdk.compartment,
        project_id=project,
        limit=2,
        sort_by="timeCreated",
        sort_order="ASC",
    )
    assert [model.id for model in pages.data] == created
    first = sdk.data_science.list_models(sdk.compartment, project_id=project, limit=2)
    assert [model.id for model in first.data] == created[:2:-1]  # the newest first by default


def test_a_page_token_of_ones_own_making_is_refused(sdk) -> None:
    def call():
        return sdk.data_science.list_models(sdk.compartment, page="bm9uc2Vuc2U=")

    assert refusal(call) == (400, "InvalidParameter")


def test_an_update_changes_what_it_names_and_nothing_else(sdk) -> None:
    model = _create_model(sdk, display_name="before", freeform_tags={"a": "1"})
    sdk.data_science.update_model(model.id, ds.UpdateModelDetails(freeform_tags={"b": "2"}))
    read = sdk.data_science.get_model(model.id).data
    assert (read.display_name, read.freeform_tags) == ("before", {"b": "2"})


def test_an_update_meant_for_another_version_is_refused(sdk) -> None:
    model = _create_model(sdk)
    etag = sdk.data_science.get_model(model.id).headers["etag"]

    def update():
        return sdk.data_science.update_model(
            model.id, ds.UpdateModelDetails(description="x"), if_match=etag
        )

    update()
    assert refusal(update) == (412, "NoEtagMatch")


def test_a_model_is_deactivated_and_activated_but_not_twice(sdk) -> None:
    model = _create_model(sdk)
    assert sdk.data_science.deactivate_model(model.id).data.lifecycle_state == "INACTIVE"

    def call():
        return sdk.data_science.deactivate_model(model.id)

    assert refusal(call) == (409, "Conflict")
    assert sdk.data_science.activate_model(model.id).data.lifecycle_state == "ACTIVE"


def test_a_deleted_model_is_remembered_without_its_artifact(sdk) -> None:
    model = sdk.model()
    sdk.data_science.delete_model(model)
    assert sdk.data_science.get_model(model).data.lifecycle_state == "DELETED"
    absent = (404, "NotAuthorizedOrNotFound")
    for call in ("get_model_artifact_content", "activate_model", "delete_model"):
        assert refusal(lambda call=call: getattr(sdk.data_science, call)(model)) == absent
    assert refusal(lambda: sdk.data_science.get_model(f"{model}x")) == absent


def test_a_create_with_the_same_retry_token_happens_once(sdk) -> None:
    details = ds.CreateProjectDetails(compartment_id=sdk.compartment, display_name="once")
    first, second = (
        sdk.data_science.create_project(details, opc_retry_token="token-1").data for _ in range(2)
    )
    assert first.id == second.id
    other = ds.CreateProjectDetails(compartment_id=sdk.compartment, display_name="other")

    def call():
        return sdk.data_science.create_project(other, opc_retry_token="token-1")

    assert refusal(call) == (409, "InvalidatedRetryToken")


# --- artifacts --------------------------------------------------------------------------------


def test_an_artifact_comes_back_as_it_was_sent(sdk) -> None:
    model = _create_model(sdk).id
    content = bytes(range(256)) * 20_000
    sdk.data_science.create_model_artifact(
        model,
        io.BytesIO(content),
        content_length=str(len(content)),
        content_disposition='attachment; filename="falcon.zip"',
    )
    answer = sdk.data_science.get_model_artifact_content(model)
    assert answer.data.content == content
    assert answer.headers["content-disposition"] == "attachment; filename=falcon.zip"
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    assert answer.headers["content-md5"] == digest
    head = sdk.data_science.head_model_artifact(model)
    assert head.headers["content-length"] == str(len(content))
    assert head.headers["etag"] == answer.headers["etag"]


def test_a_range_of_an_artifact_is_sent_alone(sdk) -> None:
    model = sdk.model(artifact=b"0123456789")
    answer = sdk.data_science.get_model_artifact_content(model, range="bytes=2-4")
    assert (answer.status, answer.data.content) == (206, b"234")
    assert answer.headers["content-range"] == "bytes 2-4/10"

    def call():
        return sdk.data_science.get_model_artifact_content(model, range="bytes=10-")

    assert refusal(call) == (416, "InvalidRange")


def test_an_artifact_cannot_be_replaced_but_may_be_sent_again(sdk) -> None:
    model = sdk.model(artifact=b"first")
    sdk.data_science.create_model_artifact(model, b"first")
    assert refusal(lambda: sdk.data_science.create_model_artifact(model, b"second")) == (
        409,
        "Conflict",
    )
    assert sdk.data_science.get_model_artifact_content(model).data.content == b"first"


def test_a_model_without_an_artifact_has_none_to_read(sdk) -> None:
    model = _create_model(sdk).id
    assert refusal(lambda: sdk.data_science.get_model_artifact_content(model))[0] == 404


def test_an_interrupted_upload_leaves_no_artifact(sdk, shared_cloud) -> None:
    model = _create_model(sdk).id
    shared_cloud.fault(kind="cut_request", operation="create_model_artifact", after_bytes=100_000)
    with pytest.raises((oci.exceptions.RequestException, OSError)):
        sdk.data_science.create_model_artifact(model, io.BytesIO(b"x" * 3_000_000))
    assert refusal(lambda: sdk.data_science.head_model_artifact(model))[0] == 404
    sdk.data_science.create_model_artifact(model, b"whole")
    assert sdk.data_science.get_model_artifact_content(model).data.content == b"whole"


def test_provenance_is_kept_and_404_before_it_is_given(sdk) -> None:
    model = _create_model(sdk).id
    assert refusal(lambda: sdk.data_science.get_model_provenance(model))[0] == 404
    given = ds.CreateModelProvenanceDetails(git_commit="abc", repository_url="https://example.org")
    sdk.data_science.create_model_provenance(model, given)
    assert sdk.data_science.get_model_provenance(model).data.git_commit == "abc"
    sdk.data_science.update_model_provenance(model, ds.UpdateModelProvenanceDetails(git_branch="b"))
    read = sdk.data_science.get_model_provenance(model).data
    assert (read.git_branch, read.git_commit) == ("b", None)


# --- between catalog and bucket ---------------------------------------------------------------


@pytest.fixture
def bucket(sdk) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    details = oci.object_storage.models.CreateBucketDetails(
        name=name, compartment_id=sdk.compartment
    )
    sdk.object_storage.create_bucket("localoci", details)
    return name


def _export_details(bucket: str, name: str, region: str = "local_oci"):
    return ds.ExportModelArtifactDetails(
        artifact_export_details=ds.ArtifactExportDetailsObjectStorage(
            namespace="localoci",
            source_bucket=bucket,
            source_object_name=name,
            source_region=region,
        )
    )


def test_an_object_is_exported_into_the_catalog(sdk, bucket: str) -> None:
    sdk.object_storage.put_object("localoci", bucket, "models/falcon.zip", b"content")
    model = _create_model(sdk).id
    answer = sdk.data_science.export_model_artifact(
        model, _export_details(bucket, "models/falcon.zip")
    )
    work_request = sdk.finished(answer.headers["opc-work-request-id"])
    assert (work_request.status, work_request.operation_type) == (
        "SUCCEEDED",
        "EXPORT_MODEL_ARTIFACT",
    )
    assert sdk.data_science.get_model_artifact_content(model).data.content == b"content"


def test_an_artifact_is_imported_into_a_bucket(sdk, bucket: str) -> None:
    model = sdk.model(artifact=b"content")
    answer = sdk.data_science.import_model_artifact(
        model,
        ds.ImportModelArtifactDetails(
            artifact_import_details=ds.ArtifactImportDetailsObjectStorage(
                namespace="localoci",
                destination_bucket=bucket,
                destination_object_name="copy.zip",
                destination_region="local_oci",
            )
        ),
    )
    assert sdk.finished(answer.headers["opc-work-request-id"]).status == "SUCCEEDED"
    assert sdk.object_storage.get_object("localoci", bucket, "copy.zip").data.content == b"content"


def test_an_export_from_another_region_or_of_no_object_is_refused(sdk, bucket: str) -> None:
    model = _create_model(sdk).id
    export = sdk.data_science.export_model_artifact
    absent, elsewhere = (
        _export_details(bucket, "no.zip"),
        _export_details(bucket, "no.zip", "us-ashburn-1"),
    )
    assert refusal(lambda: export(model, absent)) == (
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
    )
    assert refusal(lambda: export(model, elsewhere)) == (400, "InvalidParameter")


def test_an_export_over_another_artifact_fails_with_its_reason(sdk, bucket: str) -> None:
    sdk.object_storage.put_object("localoci", bucket, "other.zip", b"other")
    model = sdk.model(artifact=b"first")
    answer = sdk.data_science.export_model_artifact(model, _export_details(bucket, "other.zip"))
    work_request = answer.headers["opc-work-request-id"]
    assert sdk.finished(work_request).status == "FAILED"
    assert sdk.errors(work_request)[0][0] == "Conflict"


def test_an_unsigned_artifact_body_still_needs_a_signed_head(sdk) -> None:
    model = _create_model(sdk).id
    url = f"{sdk.cloud.endpoint}/20190101/models/{model}/artifact"
    assert requests.post(url, data=b"x", timeout=10).status_code == 401
