"""A model's metadata and tags: what is kept, what is refused, and the files that belong to it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local_oci.support import Sdk, ds, refusal

INVALID = (400, "InvalidParameter")


@pytest.fixture(scope="module")
def project(sdk: Sdk) -> str:
    return sdk.project()


def _create(sdk: Sdk, project: str, **details: Any) -> Any:
    details = {"compartment_id": sdk.compartment, "project_id": project, **details}
    return sdk.data_science.create_model(ds.CreateModelDetails(**details)).data


def _item(**fields: Any) -> Any:
    return ds.Metadata(**{"key": "engine", "value": "1", "category": "Other", **fields})


# The limits are those of ads/model/model_metadata.py; the categories those of the SDK's Metadata.
@pytest.mark.parametrize(
    "items",
    [
        [_item(value="x" * 256)],
        [_item(description="x" * 256)],
        [_item(category="Engine")],
        [_item(key=None)],
        [_item(), _item(value="2")],
        [_item(key=f"key{number}", value="x" * 255) for number in range(120)],
    ],
)
def test_custom_metadata_beyond_its_limits_is_refused(
    sdk: Sdk, project: str, items: list[Any]
) -> None:
    assert refusal(lambda: _create(sdk, project, custom_metadata_list=items)) == INVALID


def test_custom_metadata_within_its_limits_is_kept(sdk: Sdk, project: str) -> None:
    items = [_item(key=f"key{number}", value="x" * 255) for number in range(90)]
    created = _create(sdk, project, custom_metadata_list=items)
    assert sdk.data_science.get_model(created.id).data.custom_metadata_list == items


@pytest.mark.parametrize(
    "tags",
    [{f"key{number}": "x" for number in range(11)}, {"k" * 101: "x"}, {"key": "x" * 257}],
)
def test_tags_beyond_their_limits_are_refused(sdk: Sdk, project: str, tags: dict[str, str]) -> None:
    assert refusal(lambda: _create(sdk, project, freeform_tags=tags)) == INVALID
    model = _create(sdk, project).id
    update = ds.UpdateModelDetails(freeform_tags=tags)
    assert refusal(lambda: sdk.data_science.update_model(model, update)) == INVALID


@pytest.mark.parametrize("kind", ["custom", "defined"])
def test_a_metadata_item_has_a_file(sdk: Sdk, project: str, kind: str) -> None:
    client = sdk.data_science
    item = _item(key="license", category=None)
    model = _create(sdk, project, **{f"{kind}_metadata_list": [item]}).id

    def call(verb: str, *arguments: Any, ending: str = "") -> Any:
        method = getattr(client, f"{verb}_model_{kind}_metadatum_artifact{ending}")
        return method(model, "license", *arguments)

    def has_artifact() -> Any:
        (read,) = getattr(client.get_model(model).data, f"{kind}_metadata_list")
        return read.has_artifact

    assert refusal(lambda: call("get", ending="_content"))[0] == 404
    call("create", b"Apache-2.0")
    assert has_artifact() is True
    assert call("get", ending="_content").data.content == b"Apache-2.0"
    assert call("head").headers["content-length"] == "10"
    assert refusal(lambda: call("create", b"again")) == (409, "Conflict")
    call("update", b"MIT")
    assert call("get", ending="_content").data.content == b"MIT"
    call("delete")
    assert has_artifact() is False
    assert refusal(lambda: call("update", b"MIT"))[0] == 404


def test_an_item_that_is_not_there_has_no_file(sdk: Sdk, project: str) -> None:
    model = _create(sdk, project).id

    def create() -> Any:
        return sdk.data_science.create_model_custom_metadatum_artifact(model, "no", b"x")

    assert refusal(create) == (404, "NotAuthorizedOrNotFound")


def test_a_project_is_updated_for_its_version_only(sdk: Sdk) -> None:
    project = sdk.project()
    etag = sdk.data_science.get_project(project).headers["etag"]
    update = ds.UpdateProjectDetails(display_name="new")
    changed = sdk.data_science.update_project(project, update, if_match=etag).data
    assert changed.display_name == "new"
    assert refusal(lambda: sdk.data_science.update_project(project, update, if_match=etag)) == (
        412,
        "NoEtagMatch",
    )


def test_provenance_that_is_sent_twice_is_said_once(sdk: Sdk) -> None:
    model = sdk.model()
    given = ds.CreateModelProvenanceDetails(git_commit="abc")
    for _ in range(2):
        sdk.data_science.create_model_provenance(model, given, opc_retry_token=f"p-{model}")
    other = ds.CreateModelProvenanceDetails(git_commit="def")
    assert refusal(
        lambda: sdk.data_science.create_model_provenance(model, other, opc_retry_token=f"p-{model}")
    ) == (409, "InvalidatedRetryToken")
