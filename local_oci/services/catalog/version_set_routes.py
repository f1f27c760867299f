"""HTTP of model version sets, under the Data Science base path."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import conflict, not_found
from local_oci.http.messages import (
    WORK_REQUEST_HEADER,
    check_if_match,
    empty_response,
    given_fields,
    parse_details,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.pages import list_response
from local_oci.http.retry_tokens import once
from local_oci.services.catalog.models import (
    VERSION_SET_TYPE,
    CreateVersionSetDetails,
    UpdateVersionSetDetails,
    VersionSet,
    VersionSetState,
)
from local_oci.services.catalog.workflows import check_unused
from local_oci.services.cloud import cloud_of
from local_oci.services.work_requests.models import Operation
from local_oci.storage.records import new_ocid, now


@once
def create_model_version_set(request: Request, body: bytes) -> Response:
    """Make a version set; its name is unique in its compartment [inferred]."""
    details = parse_details(CreateVersionSetDetails, body)
    cloud = cloud_of(request)
    cloud.catalog.check_project(details.project_id)
    if any(
        (other.name, other.compartment_id) == (details.name, details.compartment_id)
        and other.lifecycle_state is VersionSetState.ACTIVE
        for other in cloud.catalog.version_sets.scan()
    ):
        raise conflict(f"A model version set named '{details.name}' exists already.")
    version_set = VersionSet(
        **details.model_dump(), id=new_ocid(VERSION_SET_TYPE), created_by=cloud.identity.user
    )
    return record_response(cloud.catalog.version_sets.put(version_set))


async def get_model_version_set(request: Request) -> Response:
    """One version set, also a deleted one."""
    return record_response(_version_set(request))


async def list_model_version_sets(request: Request) -> Response:
    """Version sets of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).catalog.version_sets.scan(),
        filters={
            "compartmentId": lambda version_set: version_set.compartment_id,
            "id": lambda version_set: version_set.id,
            "projectId": lambda version_set: version_set.project_id,
            "name": lambda version_set: version_set.name,
            "lifecycleState": lambda version_set: version_set.lifecycle_state,
            "createdBy": lambda version_set: version_set.created_by,
            "category": lambda version_set: version_set.category,
        },
        sort_fields={
            "timeCreated": lambda version_set: version_set.time_created.isoformat(),
            "name": lambda version_set: version_set.name,
            "lifecycleState": lambda version_set: version_set.lifecycle_state,
        },
    )


async def update_model_version_set(request: Request) -> Response:
    """Change a version set's description and tags."""
    details = await read_details(request, UpdateVersionSetDetails)
    version_set = _existing(request)
    check_if_match(request, version_set)
    changed = cloud_of(request).catalog.version_sets.change(
        version_set, time_updated=now(), **given_fields(details)
    )
    return record_response(changed)


async def delete_model_version_set(request: Request) -> Response:
    """Delete a version set; with `isDeleteRelatedModels` its models as well."""
    cloud = cloud_of(request)
    version_set = _existing(request)
    check_if_match(request, version_set)
    models = cloud.catalog.models_of(version_set.id)
    if models and request.query_params.get("isDeleteRelatedModels", "").lower() != "true":
        raise conflict("The model version set holds models; delete them first.")
    for model in models:
        check_unused(cloud, model)
    cloud.catalog.version_sets.change(version_set, lifecycle_state=VersionSetState.DELETED)
    work_request = cloud.work_requests.accept(
        Operation.DELETE_VERSION_SET,
        version_set,
        VERSION_SET_TYPE,
        "modelVersionSets",
    )
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


def _version_set(request: Request) -> VersionSet:
    return cloud_of(request).catalog.version_set(request.path_params["version_set_id"])


def _existing(request: Request) -> VersionSet:
    version_set = _version_set(request)
    if version_set.lifecycle_state is not VersionSetState.ACTIVE:
        raise not_found()
    return version_set


_ALL = "/20190101/modelVersionSets"
_ONE = f"{_ALL}/{{version_set_id}}"
ROUTES = [
    Route(_ALL, create_model_version_set, methods=["POST"]),
    Route(_ALL, list_model_version_sets, methods=["GET"]),
    Route(_ONE, get_model_version_set, methods=["GET"]),
    Route(_ONE, update_model_version_set, methods=["PUT"]),
    Route(_ONE, delete_model_version_set, methods=["DELETE"]),
]
