"""What clients ask of deployments: checked, recorded, and handed to a work request."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any

from local_oci.http.errors import (
    conflict,
    incorrect_state,
    invalid_parameter,
    not_emulated,
    related_resource_not_found,
)
from local_oci.services.catalog.models import ModelState
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.fleet import service_variables
from local_oci.services.deployments.models import (
    DEPLOYMENT_TYPE,
    CategoryLogs,
    Configuration,
    ContainerConfiguration,
    CreateDeploymentDetails,
    DeploymentState,
    ModelDeployment,
    UpdateDeploymentDetails,
)
from local_oci.services.deployments.rules import (
    check_command,
    check_compute,
    check_custom_endpoints,
    check_environment,
    check_network_change,
    check_port,
)
from local_oci.services.deployments.updates import changed_groups, check_groups, plan
from local_oci.services.service_limits.usage import check_limits
from local_oci.services.work_requests.models import Operation, WorkRequest
from local_oci.storage.records import new_ocid, now

_SERVING = frozenset({DeploymentState.ACTIVE, DeploymentState.NEEDS_ATTENTION})
_MOVING = frozenset({DeploymentState.CREATING, DeploymentState.UPDATING, DeploymentState.DELETING})
_UPDATABLE = _SERVING | {DeploymentState.INACTIVE}
_DELETABLE = _UPDATABLE | {DeploymentState.FAILED}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def create(cloud: Cloud, details: CreateDeploymentDetails) -> tuple[ModelDeployment, WorkRequest]:
    """Begin a deployment."""
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
    with cloud.database.transaction():
        cloud.deployments.put(deployment)
        return deployment, _accept(cloud, Operation.CREATE_DEPLOYMENT, deployment)


def update(
    cloud: Cloud, deployment: ModelDeployment, details: UpdateDeploymentDetails
) -> WorkRequest:
    """Begin an update."""
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
    parameters = target.model_dump_json(by_alias=True)
    return _begin(cloud, Operation.UPDATE_DEPLOYMENT, deployment, parameters)


def activate(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin INACTIVE to ACTIVE."""
    _check_state(deployment, {DeploymentState.INACTIVE})
    check_configuration(cloud, deployment.model_deployment_configuration_details)
    check_capacity(cloud, deployment.model_deployment_configuration_details, deployment.id)
    return _begin(cloud, Operation.ACTIVATE_DEPLOYMENT, deployment)


def deactivate(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin ACTIVE to INACTIVE."""
    _check_state(deployment, _SERVING)
    return _begin(cloud, Operation.DEACTIVATE_DEPLOYMENT, deployment)


def delete(cloud: Cloud, deployment: ModelDeployment) -> WorkRequest:
    """Begin the deletion."""
    _check_state(deployment, _DELETABLE)
    return _begin(cloud, Operation.DELETE_DEPLOYMENT, deployment, state=DeploymentState.DELETING)


def _check_state(deployment: ModelDeployment, allowed: Set[DeploymentState]) -> None:
    if deployment.lifecycle_state not in allowed:
        names = " or ".join(sorted(allowed))
        text = f"The model deployment is {deployment.lifecycle_state}; it must be {names}."
        raise incorrect_state(text) if deployment.lifecycle_state in _MOVING else conflict(text)


def _with_service_variables(
    cloud: Cloud, deployment_id: str, configuration: Configuration
) -> Configuration:
    """Show, read-only, the variables that the service adds."""
    container = configuration.environment_configuration_details
    variables = service_variables(deployment_id, cloud.identity.tenancy, container)
    shown = container.model_copy(update={"default_environment_variables": variables})
    return configuration.model_copy(update={"environment_configuration_details": shown})


def _begin(
    cloud: Cloud,
    operation: Operation,
    deployment: ModelDeployment,
    parameters: str = "{}",
    state: DeploymentState = DeploymentState.UPDATING,
) -> WorkRequest:
    """Put a deployment into a moving state and accept the operation on it: both or neither."""
    with cloud.database.transaction():
        cloud.deployments.change(deployment, lifecycle_state=state)
        return _accept(cloud, operation, deployment, parameters)


def _accept(
    cloud: Cloud, operation: Operation, deployment: ModelDeployment, parameters: str = "{}"
) -> WorkRequest:
    return cloud.work_requests.accept(
        operation, deployment, DEPLOYMENT_TYPE, "modelDeployments", parameters=parameters
    )


# --- checks against what the cloud holds ------------------------------------------------------


def check_emulated(body: Any) -> None:
    """Refuse what the cloud has and this program does not emulate.

    Args:
        body: modelDeploymentConfigurationDetails as parsed JSON, not validated yet.

    Raises:
        ServiceError: 501 for a kind of deployment that is not emulated.
    """
    match body:
        case {"deploymentType": "MODEL_GROUP" | "SINGLE_MODEL_FLEX" as kind}:
            raise not_emulated(f"deploymentType {kind}")
        case {
            "deploymentType": "SINGLE_MODEL",
            "environmentConfigurationDetails": {"environmentConfigurationType": "DEFAULT"},
        }:
            raise not_emulated("environmentConfigurationType DEFAULT (conda environments)")


def check_configuration(cloud: Cloud, configuration: Configuration) -> None:
    """Refuse a configuration that the cloud would refuse, whatever its image.

    Raises:
        ServiceError: 400, or 409 if the model is not ACTIVE.
    """
    _check_model(cloud, configuration.model_configuration_details.model_id)
    check_compute(configuration.model_configuration_details)
    _check_container(configuration.environment_configuration_details)


async def check_image(cloud: Cloud, container: ContainerConfiguration) -> None:
    """Refuse an image that is not there, or is another one than its digest says: 400.

    That a digest is compared with what the reference means is inferred.
    """
    digest = container.image_digest
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise invalid_parameter(f"imageDigest: '{digest}' is not sha256:<hex>.")
    image = await cloud.runner.find_image(container.image)
    if image is None:
        raise invalid_parameter(
            f"image: '{container.image}' does not exist or cannot be read. (local_oci: push it to "
            "this cloud's registry, or register a process image with --image REF=DIR, where "
            "DIR/bin exists)"
        )
    if None not in (digest, image.digest) and digest != image.digest:
        raise invalid_parameter(
            f"imageDigest: '{container.image}' is {image.digest}, not {digest}."
        )


def check_capacity(
    cloud: Cloud, configuration: Configuration, deployment_id: str | None = None
) -> None:
    """Refuse what is beyond the tenancy's limits: 400.

    Args:
        cloud: the cloud.
        configuration: of the deployment.
        deployment_id: the deployment that it is for, if that is there already.
    """
    others = (other for other in cloud.deployments.scan() if other.id != deployment_id)
    check_limits(configuration, others)


def check_logs(cloud: Cloud, logs: CategoryLogs | None) -> None:
    """Refuse references to logs that are not there: 400."""
    if logs is None:
        return
    for reference in (logs.access, logs.predict):
        if reference is None:
            continue
        log = cloud.logs.logs.get(reference.log_id)
        if log is None or log.log_group_id != reference.log_group_id:
            raise related_resource_not_found(f"log {reference.log_id}")


def _check_model(cloud: Cloud, model_id: str) -> None:
    model = cloud.catalog.models.get(model_id)
    if model is None or model.lifecycle_state is ModelState.DELETED:
        raise related_resource_not_found(f"model {model_id}")
    if model.lifecycle_state is not ModelState.ACTIVE:
        raise conflict(f"Model {model_id} is {model.lifecycle_state}, not ACTIVE.")
    if cloud.catalog.artifacts.get(model_id) is None:
        raise invalid_parameter(f"modelId: model {model_id} has no artifact.")


def _check_container(container: ContainerConfiguration) -> None:
    check_port("serverPort", container.server_port)
    check_port("healthCheckPort", container.health_check_port)
    check_command(container.entrypoint, container.cmd)
    check_environment(container.environment_variables)
    specification = container.predict_api_specification
    if specification is not None and specification.lower() != "openai":
        raise invalid_parameter(f"predictApiSpecification: '{specification}' is not 'openai'.")
    check_custom_endpoints(container.custom_http_endpoints)
