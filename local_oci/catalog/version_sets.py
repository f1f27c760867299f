"""HTTP of sets of model versions, under the Data Science base path.

A name is unique in its compartment (oci 2.189.0, CreateModelVersionSetDetails.name: "must be
unique"); the status of the refusal is inferred.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.catalog.models import (
    VERSION_SET_TYPE,
    CreateModelVersionSetDetails,
    ModelVersionSet,
)
from local_oci.cloud import cloud_of
from local_oci.http.errors import conflict, not_found
from local_oci.http.pages import list_response
from local_oci.http.requests import parse_details, required_query
from local_oci.http.responses import record_response
from local_oci.http.retry_tokens import once
from local_oci.storage.ids import new_ocid


@once
def create_model_version_set(request: Request, body: bytes) -> Response:
    """Make a set."""
    details = parse_details(CreateModelVersionSetDetails, body)
    cloud = cloud_of(request)
    cloud.catalog.check_project(details.project_id)
    if any(
        (known.name, known.compartment_id) == (details.name, details.compartment_id)
        for known in cloud.catalog.version_sets.scan()
    ):
        raise conflict(f"A model version set named '{details.name}' exists already.")
    made = ModelVersionSet(
        **details.model_dump(), id=new_ocid(VERSION_SET_TYPE), created_by=cloud.identity.user
    )
    return record_response(cloud.catalog.version_sets.put(made))


async def get_model_version_set(request: Request) -> Response:
    """One set."""
    found = cloud_of(request).catalog.version_sets.get(request.path_params["version_set_id"])
    if found is None:
        raise not_found()
    return record_response(found)


async def list_model_version_sets(request: Request) -> Response:
    """Sets of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).catalog.version_sets.scan(),
        filters={
            "compartmentId": lambda each: each.compartment_id,
            "id": lambda each: each.id,
            "projectId": lambda each: each.project_id,
            "name": lambda each: each.name,
            "lifecycleState": lambda each: each.lifecycle_state,
            "createdBy": lambda each: each.created_by,
        },
        sort_fields={
            "timeCreated": lambda each: each.time_created.isoformat(),
            "name": lambda each: each.name,
        },
    )


ROUTES = [
    Route("/20190101/modelVersionSets", create_model_version_set, methods=["POST"]),
    Route("/20190101/modelVersionSets", list_model_version_sets, methods=["GET"]),
    Route("/20190101/modelVersionSets/{version_set_id}", get_model_version_set, methods=["GET"]),
]
