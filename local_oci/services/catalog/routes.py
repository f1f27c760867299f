"""HTTP of projects and of the model catalog, under the Data Science base path."""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.bodies import blob_response, receive_blob
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
from local_oci.http.middleware import UnsignedBody
from local_oci.http.pages import list_response
from local_oci.http.retry_tokens import once
from local_oci.services.catalog.models import (
    MODEL_TYPE,
    PROJECT_TYPE,
    CreateModelDetails,
    CreateProjectDetails,
    ExportArtifactDetails,
    ImportArtifactDetails,
    Model,
    ModelState,
    Project,
    ProjectState,
    Provenance,
    UpdateModelDetails,
    UpdateProjectDetails,
)
from local_oci.services.catalog.store import add_to_version_set, with_changes
from local_oci.services.catalog.workflows import (
    accept_export,
    accept_import,
    attach_artifact,
    check_unused,
    remove_model,
)
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.work_requests.models import Operation
from local_oci.storage.records import new_ocid, now

UNSIGNED_BODIES = [UnsignedBody("POST", re.compile(r"/20190101/models/[^/]+/artifact"))]
_QUOTED_NAME = re.compile(r'filename="([\w.+-]+)"', re.ASCII)


# --- projects ---------------------------------------------------------------------------------


@once
def create_project(request: Request, body: bytes) -> Response:
    """Make a project."""
    details = parse_details(CreateProjectDetails, body)
    cloud = cloud_of(request)
    project = Project(
        **details.model_dump(exclude={"display_name"}),
        id=new_ocid(PROJECT_TYPE),
        display_name=details.display_name or _default_name(PROJECT_TYPE),
        created_by=cloud.identity.user,
    )
    return record_response(cloud.catalog.projects.put(project))


async def get_project(request: Request) -> Response:
    """One project."""
    return record_response(_project(request))


async def list_projects(request: Request) -> Response:
    """Projects of a compartment."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).catalog.projects.scan(),
        filters={
            "compartmentId": lambda project: project.compartment_id,
            "id": lambda project: project.id,
            "displayName": lambda project: project.display_name,
            "lifecycleState": lambda project: project.lifecycle_state,
            "createdBy": lambda project: project.created_by,
        },
        sort_fields={
            "timeCreated": lambda project: project.time_created.isoformat(),
            "displayName": lambda project: project.display_name,
        },
    )


async def update_project(request: Request) -> Response:
    """Change a project's names and tags."""
    details = await read_details(request, UpdateProjectDetails)
    project = _project(request)
    check_if_match(request, project)
    if project.lifecycle_state is not ProjectState.ACTIVE:
        raise not_found()
    changed = cloud_of(request).catalog.projects.change(project, **given_fields(details))
    return record_response(changed)


async def delete_project(request: Request) -> Response:
    """Delete a project that holds nothing any more."""
    cloud = cloud_of(request)
    project = _project(request)
    check_if_match(request, project)
    if project.lifecycle_state is not ProjectState.ACTIVE:
        raise not_found()
    if _holds_something(cloud, project):
        raise conflict("The project holds models or model deployments; delete them first.")
    cloud.catalog.projects.change(project, lifecycle_state=ProjectState.DELETED)
    work_request = cloud.work_requests.accept(
        Operation.DELETE_PROJECT, project, PROJECT_TYPE, "projects"
    )
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


def _project(request: Request) -> Project:
    return cloud_of(request).catalog.project(request.path_params["project_id"])


def _holds_something(cloud: Cloud, project: Project) -> bool:
    models = (
        model.project_id == project.id and model.lifecycle_state is not ModelState.DELETED
        for model in cloud.catalog.models.scan()
    )
    deployments = (
        deployment.project_id == project.id and deployment.exists
        for deployment in cloud.deployments.scan()
    )
    return any(models) or any(deployments)


# --- models -----------------------------------------------------------------------------------


@once
def create_model(request: Request, body: bytes) -> Response:
    """Make a model; its artifact comes afterwards."""
    details = parse_details(CreateModelDetails, body)
    cloud = cloud_of(request)
    cloud.catalog.check_project(details.project_id)
    model = Model(
        **details.model_dump(exclude={"display_name"}),
        id=new_ocid(MODEL_TYPE),
        display_name=details.display_name or _default_name(MODEL_TYPE),
        created_by=cloud.identity.user,
    )
    return record_response(cloud.catalog.models.put(add_to_version_set(cloud.catalog, model)))


async def get_model(request: Request) -> Response:
    """One model, also a deleted one: ADS 2.16.1 looks at what it has just deleted."""
    model = cloud_of(request).catalog.models.get(request.path_params["model_id"])
    if model is None:
        raise not_found()
    return record_response(model)


async def list_models(request: Request) -> Response:
    """Models of a compartment, deleted ones left out."""
    required_query(request, "compartmentId")
    models = (
        model
        for model in cloud_of(request).catalog.models.scan()
        if model.lifecycle_state is not ModelState.DELETED
    )
    return list_response(
        request,
        models,
        filters={
            "compartmentId": lambda model: model.compartment_id,
            "id": lambda model: model.id,
            "projectId": lambda model: model.project_id,
            "displayName": lambda model: model.display_name,
            "lifecycleState": lambda model: model.lifecycle_state,
            "createdBy": lambda model: model.created_by,
            "modelVersionSetName": lambda model: model.model_version_set_name,
            "versionLabel": lambda model: model.version_label,
            "category": lambda model: model.category,
        },
        sort_fields={
            "timeCreated": lambda model: model.time_created.isoformat(),
            "displayName": lambda model: model.display_name,
            "lifecycleState": lambda model: model.lifecycle_state,
        },
    )


async def update_model(request: Request) -> Response:
    """Change a model's names, tags and metadata; never its artifact."""
    details = await read_details(request, UpdateModelDetails)
    model = _model(request)
    check_if_match(request, model)
    catalog = cloud_of(request).catalog
    return record_response(
        catalog.models.change(with_changes(catalog, model, given_fields(details)))
    )


async def delete_model(request: Request) -> Response:
    """Delete a model and its artifact."""
    cloud = cloud_of(request)
    model = _model(request)
    check_if_match(request, model)
    check_unused(cloud, model)
    await remove_model(cloud, model)
    return empty_response()


async def activate_model(request: Request) -> Response:
    """INACTIVE to ACTIVE."""
    return _change_state(request, ModelState.INACTIVE, ModelState.ACTIVE)


async def deactivate_model(request: Request) -> Response:
    """ACTIVE to INACTIVE."""
    return _change_state(request, ModelState.ACTIVE, ModelState.INACTIVE)


def _model(request: Request) -> Model:
    return cloud_of(request).catalog.model(request.path_params["model_id"])


def _change_state(request: Request, before: ModelState, after: ModelState) -> Response:
    model = _model(request)
    check_if_match(request, model)
    if model.lifecycle_state is not before:
        raise conflict(f"The model is {model.lifecycle_state}, not {before}.")
    return record_response(cloud_of(request).catalog.models.change(model, lifecycle_state=after))


# --- artifacts --------------------------------------------------------------------------------


async def create_model_artifact(request: Request) -> Response:
    """Store a model's artifact as it arrives."""
    cloud = cloud_of(request)
    model = _model(request)
    check_if_match(request, model)
    blob = await receive_blob(request, cloud.blobs)
    given = request.headers.get("content-disposition", "attachment; filename=artifact.zip")
    # The service quotes no name, and ADS takes the quotes for a part of it (2.16.1,
    # ads/model/service/oci_datascience_model.py and artifact_downloader.py).
    disposition = _QUOTED_NAME.sub(r"filename=\1", given)
    artifact = attach_artifact(cloud, model.id, blob, disposition)
    return empty_response(204, {"etag": artifact.etag})


async def get_model_artifact_content(request: Request) -> Response:
    """Send a model's artifact or a range of it; a HEAD gets the headers only."""
    cloud = cloud_of(request)
    artifact = cloud.catalog.artifact(request.path_params["model_id"])
    return blob_response(request, cloud.blobs, artifact.blob, artifact.size, artifact.headers)


@once
def export_model_artifact(request: Request, body: bytes) -> Response:
    """From a bucket into the catalog."""
    details = parse_details(ExportArtifactDetails, body)
    model = _model(request)
    check_if_match(request, model)
    work_request = accept_export(cloud_of(request), model, details.artifact_export_details)
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


async def import_model_artifact(request: Request) -> Response:
    """From the catalog into a bucket."""
    details = await read_details(request, ImportArtifactDetails)
    model = _model(request)
    check_if_match(request, model)
    work_request = accept_import(cloud_of(request), model, details.artifact_import_details)
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


# --- provenance -------------------------------------------------------------------------------


async def get_model_provenance(request: Request) -> Response:
    """Where a model comes from; 404 if that is unknown."""
    model = _model(request)
    if model.provenance is None:
        raise not_found()
    return _provenance_response(model)


@once
def create_model_provenance(request: Request, body: bytes) -> Response:
    """Say where a model comes from; a second time is an update [inferred]."""
    return _put_provenance(request, parse_details(Provenance, body))


async def update_model_provenance(request: Request) -> Response:
    """Say it anew."""
    return _put_provenance(request, await read_details(request, Provenance))


def _put_provenance(request: Request, provenance: Provenance) -> Response:
    model = _model(request)
    check_if_match(request, model)
    return _provenance_response(
        cloud_of(request).catalog.models.change(model, provenance=provenance)
    )


def _provenance_response(model: Model) -> Response:
    body = (model.provenance or Provenance()).model_dump_json(by_alias=True, exclude_none=True)
    return Response(body, headers={"etag": model.etag}, media_type="application/json")


def _default_name(resource_type: str) -> str:
    return f"{resource_type}{now():%Y%m%d%H%M%S}"


_MODEL = "/20190101/models/{model_id}"
ROUTES = [
    Route("/20190101/projects", create_project, methods=["POST"]),
    Route("/20190101/projects", list_projects, methods=["GET"]),
    Route("/20190101/projects/{project_id}", get_project, methods=["GET"]),
    Route("/20190101/projects/{project_id}", update_project, methods=["PUT"]),
    Route("/20190101/projects/{project_id}", delete_project, methods=["DELETE"]),
    Route("/20190101/models", create_model, methods=["POST"]),
    Route("/20190101/models", list_models, methods=["GET"]),
    Route(_MODEL, get_model, methods=["GET"]),
    Route(_MODEL, update_model, methods=["PUT"]),
    Route(_MODEL, delete_model, methods=["DELETE"]),
    Route(f"{_MODEL}/actions/activate", activate_model, methods=["POST"]),
    Route(f"{_MODEL}/actions/deactivate", deactivate_model, methods=["POST"]),
    Route(f"{_MODEL}/artifact", create_model_artifact, methods=["POST"]),
    Route(f"{_MODEL}/artifact/content", get_model_artifact_content, methods=["GET", "HEAD"]),
    Route(f"{_MODEL}/actions/exportArtifact", export_model_artifact, methods=["POST"]),
    Route(f"{_MODEL}/actions/importArtifact", import_model_artifact, methods=["POST"]),
    Route(f"{_MODEL}/provenance", get_model_provenance, methods=["GET"]),
    Route(f"{_MODEL}/provenance", create_model_provenance, methods=["POST"]),
    Route(f"{_MODEL}/provenance", update_model_provenance, methods=["PUT"]),
]
