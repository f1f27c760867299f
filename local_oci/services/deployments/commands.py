"""What clients ask of deployments: checked, recorded, and handed to a work request."""

from __future__ import annotations

from collections.abc import Set

from local_oci.http.errors import incorrect_state
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.configuration_rules import (
    check_capacity,
    check_configuration,
    check_logs,
)
from local_oci.services.deployments.fleet import service_variables
from local_oci.services.deployments.models import (
    DEPLOYMENT_TYPE,
    Configuration,
    CreateDeploymentDetails,
    DeploymentState,
    ModelDeployment,
    UpdateDeploymentDetails,
)
from local_oci.services.deployments.rules import check_network_change
from local_oci.services.deployments.updates import changed_groups, check_groups, plan
from local_oci.services.work_requests.models import Operation, WorkRequest, WorkRequestResource
from local_oci.storage.ids import new_ocid, now

_SERVING = frozenset({DeploymentState.ACTIVE, DeploymentState.NEEDS_ATTENTION})
_UPDATABLE = _SERVING | {DeploymentState.INACTIVE}
_DELETABLE = _UPDATABLE | {DeploymentState.FAILED}


def create(cloud: Cloud, details: CreateDeploymentDetails) -> tuple[ModelDeployment, WorkRequest]:
    """Begin a deployment.

    Raises:
        ServiceError: 400 or 409, see `rules`.
    """
    cloud.catalog.check_project(details.project_id)
    check_configuration(cloud, details.model_deployment_configuration_details)
    check_capacity(cloud, details.model_deployment_configuration_details)
    check_logs(cloud, details.category_log_details)
    deployment_id = new_ocid(DEPLOYMENT_TYPE)
    fields = details.model_dump(exclude={"display_name", "model_deployment_configuration_details"})
    deployment = ModelDeployment(
        **fields,
        id=deployment_id,
        display_name=details.display_name or f"modeldeployment{now():%Y%m%d%H%M%S}",
        created_by=cloud.identity.user,
        model_deployment_configuration_details=_with_service_variables(
            cloud, deployment_id, details.model_deployment_configuration_details
        ),
    )
    cloud.deployments.put(deployment)
    return deployment, _accept(cloud, Operation.CREATE_DEPLOYMENT, deployment)


def update(
    cloud: Cloud, deployment: ModelDeployment, details: UpdateDeploymentDetails
) -> WorkRequest:
    """Begin an update.

    Raises:
        ServiceError: 400 or 409, see `rules` and `updates`.
    """
    _check_state(deployment, _UPDATABLE)
    target = plan(deployment, details)
    check_groups(deployment, changed_groups(deployment, target))
    configuration = target.model_deployment_configuration_details
    check_configuration(cloud, configuration)
    check_network_change(deployment.instance, target.instance)
    if deployment.lifecycle_state in _SERVING:
        check_capacity(cloud, configuration, deployment.id)
    check_logs(cloud, target.category_log_details)
    target = target.model_copy(
        update={
            "model_deployment_configuration_details": _with_service_variables(
                cloud, deployment.id, configuration
            )
        }
    )
    cloud.deployments.change(deployment, lifecycle_state=DeploymentState.UPDATING)
    parameters = target.model_dump_json(by_alias=True)
    return _accept(cloud, Operation.UPDATE_DEPLOYMENT, deployment, parameters)


def activate(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin INACTIVE to ACTIVE.

    Raises:
        ServiceError: 400 or 409.
    """
    _check_state(deployment, {DeploymentState.INACTIVE})
    check_configuration(cloud, deployment.model_deployment_configuration_details)
    check_capacity(cloud, deployment.model_deployment_configuration_details, deployment.id)
    cloud.deployments.change(deployment, lifecycle_state=DeploymentState.UPDATING)
    return _accept(cloud, Operation.ACTIVATE_DEPLOYMENT, deployment)


def deactivate(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin ACTIVE to INACTIVE.

    Raises:
        ServiceError: 409.
    """
    _check_state(deployment, _SERVING)
    cloud.deployments.change(deployment, lifecycle_state=DeploymentState.UPDATING)
    return _accept(cloud, Operation.DEACTIVATE_DEPLOYMENT, deployment)


def delete(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin the end.

    Raises:
        ServiceError: 409.
    """
    _check_state(deployment, _DELETABLE)
    cloud.deployments.change(deployment, lifecycle_state=DeploymentState.DELETING)
    return _accept(cloud, Operation.DELETE_DEPLOYMENT, deployment)


def _check_state(deployment: ModelDeployment, allowed: Set[DeploymentState]) -> None:
    if deployment.lifecycle_state not in allowed:
        names = " or ".join(sorted(allowed))
        raise incorrect_state(
            f"The model deployment is {deployment.lifecycle_state}; it must be {names}."
        )


def _with_service_variables(
    cloud: Cloud, deployment_id: str, configuration: Configuration
) -> Configuration:
    """Show, read-only, the variables that the service adds."""
    container = configuration.environment_configuration_details
    variables = service_variables(deployment_id, cloud.identity.tenancy, container)
    shown = container.model_copy(update={"default_environment_variables": variables})
    return configuration.model_copy(update={"environment_configuration_details": shown})


def _accept(
    cloud: Cloud, operation: Operation, deployment: ModelDeployment, parameters: str = "{}"
) -> WorkRequest:
    resource = WorkRequestResource(
        action_type="IN_PROGRESS",
        entity_type=DEPLOYMENT_TYPE,
        identifier=deployment.id,
        entity_uri=f"/20190101/modelDeployments/{deployment.id}",
    )
    return cloud.work_requests.accept(operation, deployment.compartment_id, [resource], parameters)
