"""Model version sets: models that follow each other under one name."""

from __future__ import annotations

import uuid
from typing import Any

import oci
import pytest

from tests.local_oci.support import Sdk, ds, refusal

INVALID = (400, "InvalidParameter")


@pytest.fixture(scope="module")
def project(sdk: Sdk) -> str:
    return sdk.project()


def _create(sdk: Sdk, project: str, **details: Any) -> Any:
    name = f"set-{uuid.uuid4().hex[:8]}"
    details = {
        "compartment_id": sdk.compartment,
        "project_id": project,
        "name": name,
        **details,
    }
    return sdk.data_science.create_model_version_set(
        ds.CreateModelVersionSetDetails(**details)
    ).data


@pytest.fixture
def version_set(sdk: Sdk, project: str) -> Any:
    return _create(sdk, project)


def _model(sdk: Sdk, version_set: Any, **details: Any) -> Any:
    details = {
        "compartment_id": sdk.compartment,
        "project_id": version_set.project_id,
        "model_version_set_id": version_set.id,
        **details,
    }
    return sdk.data_science.create_model(ds.CreateModelDetails(**details)).data


def test_a_set_is_made_read_listed_and_updated(sdk: Sdk, project: str) -> None:
    created = _create(sdk, project, description="all falcons", freeform_tags={"a": "1"})
    read = sdk.data_science.get_model_version_set(created.id)
    assert (read.data.description, read.data.freeform_tags) == ("all falcons", {"a": "1"})
    assert (read.data.lifecycle_state, read.data.category) == ("ACTIVE", "USER")
    listed = sdk.data_science.list_model_version_sets(sdk.compartment, name=created.name).data
    assert [found.id for found in listed] == [created.id]
    update = ds.UpdateModelVersionSetDetails(description="two falcons")
    etag = read.headers["etag"]
    sdk.data_science.update_model_version_set(created.id, update, if_match=etag)
    read = sdk.data_science.get_model_version_set(created.id).data
    assert (read.description, read.freeform_tags) == ("two falcons", {"a": "1"})
    assert refusal(
        lambda: sdk.data_science.update_model_version_set(created.id, update, if_match=etag)
    ) == (412, "NoEtagMatch")


def test_a_name_is_taken_once_and_a_retry_makes_no_second(sdk: Sdk, project: str) -> None:
    name = f"set-{uuid.uuid4().hex[:8]}"
    details = ds.CreateModelVersionSetDetails(
        compartment_id=sdk.compartment, project_id=project, name=name
    )

    def create(token: str) -> Any:
        return sdk.data_science.create_model_version_set(details, opc_retry_token=token).data.id

    assert create(f"{name}-1") == create(f"{name}-1")
    assert refusal(lambda: create(f"{name}-2")) == (409, "Conflict")


def test_models_of_a_set_have_a_version_and_a_label(sdk: Sdk, version_set: Any) -> None:
    first = _model(sdk, version_set, version_label="champion")
    second = _model(sdk, version_set)
    assert (first.version_id, second.version_id) == (1, 2)
    assert second.model_version_set_name == version_set.name
    sdk.data_science.delete_model(first.id)
    assert _model(sdk, version_set, version_label="champion").version_id == 3
    by_set = sdk.data_science.list_models(
        sdk.compartment, model_version_set_name=version_set.name, sort_order="ASC"
    ).data
    assert [model.version_id for model in by_set] == [2, 3]
    by_label = sdk.data_science.list_models(
        sdk.compartment, model_version_set_name=version_set.name, version_label="champion"
    ).data
    assert [model.version_id for model in by_label] == [3]


def test_a_label_is_unique_within_its_set(sdk: Sdk, project: str, version_set: Any) -> None:
    _model(sdk, version_set, version_label="v1")
    other = _model(sdk, version_set, version_label="v2")
    assert refusal(lambda: _model(sdk, version_set, version_label="v1")) == (409, "Conflict")
    update = ds.UpdateModelDetails(version_label="v1")
    assert refusal(lambda: sdk.data_science.update_model(other.id, update)) == (409, "Conflict")
    assert _model(sdk, _create(sdk, project), version_label="v1").version_label == "v1"


def test_a_model_comes_to_a_set_and_stays(sdk: Sdk, project: str, version_set: Any) -> None:
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=project)
    model = sdk.data_science.create_model(details).data.id

    def move(target: str) -> Any:
        update = ds.UpdateModelDetails(model_version_set_id=target)
        return sdk.data_science.update_model(model, update).data

    assert refusal(lambda: move("ocid1.datasciencemodelversionset.oc1..no")) == (
        400,
        "RelatedResourceNotAuthorizedOrNotFound",
    )
    assert move(version_set.id).version_id == 1
    assert move(version_set.id).version_id == 1
    assert refusal(lambda: move(_create(sdk, project).id)) == INVALID


def test_a_set_that_holds_models_is_deleted_only_with_them(sdk: Sdk, version_set: Any) -> None:
    model = _model(sdk, version_set).id
    assert refusal(lambda: sdk.data_science.delete_model_version_set(version_set.id)) == (
        409,
        "Conflict",
    )
    composite = oci.data_science.DataScienceClientCompositeOperations(sdk.data_science)
    finished = composite.delete_model_version_set_and_wait_for_state(
        version_set.id,
        wait_for_states=["SUCCEEDED", "FAILED"],
        operation_kwargs={"is_delete_related_models": True},
    ).data
    assert (finished.status, finished.operation_type) == ("SUCCEEDED", "MODELVERSIONSET_DELETE")
    assert sdk.data_science.get_model(model).data.lifecycle_state == "DELETED"
    state = sdk.data_science.get_model_version_set(version_set.id).data.lifecycle_state
    assert state == "DELETED"


def test_a_set_whose_model_is_deployed_is_not_deleted(
    sdk: Sdk, project: str, version_set: Any
) -> None:
    deployment = sdk.deploy(model := sdk.model(project=project))
    update = ds.UpdateModelDetails(model_version_set_id=version_set.id)
    sdk.data_science.update_model(model, update)

    def delete() -> Any:
        return sdk.data_science.delete_model_version_set(
            version_set.id, is_delete_related_models=True
        )

    assert refusal(delete) == (409, "Conflict")
    sdk.delete(deployment.id)
