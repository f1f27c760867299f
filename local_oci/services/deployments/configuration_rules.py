"""The documented limits of a model deployment, checked before anything is made."""

from __future__ import annotations

import re
from typing import Any

from local_oci.http.errors import (
    incorrect_state,
    invalid_parameter,
    not_emulated,
    related_resource_not_found,
)
from local_oci.services.catalog.models import ModelState
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.container_rules import (
    check_command,
    check_custom_endpoints,
    check_environment,
    check_port,
)
from local_oci.services.deployments.models import (
    CategoryLogs,
    Configuration,
    ContainerConfiguration,
)
from local_oci.services.deployments.rules import check_compute
from local_oci.services.service_limits.usage import check_limits

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_emulated(body: Any) -> None:
    """Tell apart what the cloud refuses and what this program does not have.

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
        configuration: what is asked for.
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
        raise incorrect_state(f"Model {model_id} is {model.lifecycle_state}, not ACTIVE.")
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
