"""HTTP of model deployments and their shapes, under the Data Science base path."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import invalid_parameter, not_found
from local_oci.http.messages import (
    WORK_REQUEST_HEADER,
    check_if_match,
    empty_response,
    parse_json,
    record_response,
    required_query,
    validate_details,
)
from local_oci.http.pages import list_response, page_response
from local_oci.http.retry_tokens import once
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.deployments import commands
from local_oci.services.deployments.commands import check_emulated, check_image
from local_oci.services.deployments.models import (
    ContainerConfiguration,
    CreateDeploymentDetails,
    ModelDeployment,
    SystemData,
    UpdateDeploymentDetails,
)
from local_oci.services.deployments.rules import all_shapes
from local_oci.services.deployments.updates import Target, plan
from local_oci.services.work_requests.models import WorkRequest

_CONFIGURATION = "modelDeploymentConfigurationDetails"
_PAGING = frozenset({"compartmentId", "limit", "page", "sortBy", "sortOrder"})


async def create_model_deployment(request: Request) -> Response:
    """Begin a deployment."""
    details = _create_details(await request.body())
    await check_image(cloud_of(request), _container(details))
    return await _create(request)


@once
def _create(request: Request, body: bytes) -> Response:
    cloud = cloud_of(request)
    deployment, work_request = commands.create(cloud, _create_details(body))
    shown = _addressed(cloud, deployment)
    return record_response(shown, 202, {WORK_REQUEST_HEADER: work_request.id})


async def get_model_deployment(request: Request) -> Response:
    """One deployment, also a deleted one."""
    return record_response(_addressed(cloud_of(request), _deployment(request)))


async def list_model_deployments(request: Request) -> Response:
    """Deployments of a compartment. The SDK says: compartmentId and one more filter at most."""
    required_query(request, "compartmentId")
    if len(set(request.query_params) - _PAGING) > 1:
        raise invalid_parameter(
            "Only one parameter other than compartmentId may be included in a query."
        )
    cloud = cloud_of(request)
    return list_response(
        request,
        [_addressed(cloud, deployment) for deployment in cloud.deployments.scan()],
        filters={
            "compartmentId": lambda deployment: deployment.compartment_id,
            "id": lambda deployment: deployment.id,
            "projectId": lambda deployment: deployment.project_id,
            "displayName": lambda deployment: deployment.display_name,
            "lifecycleState": lambda deployment: deployment.lifecycle_state,
            "createdBy": lambda deployment: deployment.created_by,
        },
        sort_fields={
            "timeCreated": lambda deployment: deployment.time_created.isoformat(),
            "displayName": lambda deployment: deployment.display_name,
        },
    )


async def update_model_deployment(request: Request) -> Response:
    """Begin an update; a serving deployment answers all the while."""
    content = parse_json(await request.body())
    if isinstance(content, dict):
        check_emulated(content.get(_CONFIGURATION))
    details = validate_details(UpdateDeploymentDetails, content)
    await check_image(cloud_of(request), _container(plan(_existing(request), details)))
    return _accepted(request, partial(commands.update, details=details))


async def activate_model_deployment(request: Request) -> Response:
    """Begin INACTIVE to ACTIVE."""
    await check_image(cloud_of(request), _existing(request).container)
    return _accepted(request, commands.activate)


async def deactivate_model_deployment(request: Request) -> Response:
    """Begin ACTIVE to INACTIVE."""
    return _accepted(request, commands.deactivate)


async def delete_model_deployment(request: Request) -> Response:
    """Begin the end."""
    return _accepted(request, commands.delete)


async def list_model_deployment_shapes(request: Request) -> Response:
    """All shapes, by name."""
    required_query(request, "compartmentId")
    shapes = sorted(all_shapes().values(), key=lambda shape: shape.name)
    return page_response(request, shapes, key=lambda shape: (shape.name, ""))


def _deployment(request: Request) -> ModelDeployment:
    deployment = cloud_of(request).deployments.get(request.path_params["deployment_id"])
    if deployment is None:
        raise not_found()
    return deployment


def _existing(request: Request) -> ModelDeployment:
    deployment = _deployment(request)
    if not deployment.exists:
        raise not_found()
    return deployment


def _container(configured: CreateDeploymentDetails | Target) -> ContainerConfiguration:
    return configured.model_deployment_configuration_details.environment_configuration_details


def _create_details(body: bytes) -> CreateDeploymentDetails:
    content = parse_json(body)
    if isinstance(content, dict):
        check_emulated(content.get(_CONFIGURATION))
    return validate_details(CreateDeploymentDetails, content)


def _accepted(
    request: Request, command: Callable[[Cloud, ModelDeployment], WorkRequest]
) -> Response:
    deployment = _existing(request)
    check_if_match(request, deployment)
    work_request = command(cloud_of(request), deployment)
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


def _addressed(cloud: Cloud, deployment: ModelDeployment) -> ModelDeployment:
    """With what is not stored: its URL, for the cloud may listen on another port next time."""
    return deployment.model_copy(
        update={
            "model_deployment_url": f"{cloud.endpoint}/{deployment.id}",
            "model_deployment_system_data": SystemData(
                current_instance_count=deployment.instance_count
            ),
        }
    )


_ONE = "/20190101/modelDeployments/{deployment_id}"
ROUTES = [
    Route("/20190101/modelDeployments", create_model_deployment, methods=["POST"]),
    Route("/20190101/modelDeployments", list_model_deployments, methods=["GET"]),
    Route(_ONE, get_model_deployment, methods=["GET"]),
    Route(_ONE, update_model_deployment, methods=["PUT"]),
    Route(_ONE, delete_model_deployment, methods=["DELETE"]),
    Route(f"{_ONE}/actions/activate", activate_model_deployment, methods=["POST"]),
    Route(f"{_ONE}/actions/deactivate", deactivate_model_deployment, methods=["POST"]),
    Route("/20190101/modelDeploymentShapes", list_model_deployment_shapes, methods=["GET"]),
]
