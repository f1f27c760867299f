"""The documented limits of a model deployment, checked before anything is made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_oci.catalog.models import ModelState
from local_oci.cloud import Cloud
from local_oci.deployments.models import (
    CategoryLogs,
    Configuration,
    ContainerConfiguration,
    CustomEndpoint,
    InstanceConfiguration,
    ModelConfiguration,
)
from local_oci.deployments.shapes import all_shapes
from local_oci.http.errors import (
    incorrect_state,
    invalid_parameter,
    not_emulated,
    related_resource_not_found,
)
from local_oci.limits import (
    COMMAND_BYTES,
    CUSTOM_ENDPOINT_METHODS,
    ENVIRONMENT_BYTES,
    ENVIRONMENT_KEY,
    ENVIRONMENT_KEY_CHARACTERS,
    MAX_CUSTOM_ENDPOINTS,
    MAX_PORT,
    MIN_PORT,
    RESERVED_ENVIRONMENT,
    RESERVED_PORTS,
)

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
        case {"modelConfigurationDetails": {"scalingPolicy": {"policyType": "AUTOSCALING"}}}:
            raise not_emulated("policyType AUTOSCALING")
        case {
            "deploymentType": "SINGLE_MODEL",
            "environmentConfigurationDetails": {"environmentConfigurationType": "DEFAULT"},
        }:
            raise not_emulated("environmentConfigurationType DEFAULT (conda environments)")


def check_configuration(cloud: Cloud, configuration: Configuration) -> None:
    """Refuse a configuration that the cloud would refuse.

    Raises:
        ServiceError: 400, or 409 if the model is not ACTIVE.
    """
    _check_model(cloud, configuration.model_configuration_details.model_id)
    _check_compute(configuration.model_configuration_details)
    _check_container(cloud, configuration.environment_configuration_details)


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


def _check_compute(configuration: ModelConfiguration) -> None:
    _check_shape(configuration.instance_configuration)
    maximum = configuration.maximum_bandwidth_mbps
    minimum = configuration.bandwidth_mbps
    if maximum is not None and not minimum <= maximum <= 2 * minimum:
        raise invalid_parameter(
            f"maximumBandwidthMbps: {maximum} is not between bandwidthMbps, {minimum}, and twice "
            "that."
        )


def _check_shape(instance: InstanceConfiguration) -> None:
    shape = all_shapes().get(instance.instance_shape_name)
    if shape is None:
        raise invalid_parameter(
            f"instanceShapeName: '{instance.instance_shape_name}' is not a supported shape."
        )
    size = instance.model_deployment_instance_shape_config_details
    if size is None or not shape.flexible:
        return
    if size.ocpus is not None and not 1 <= size.ocpus <= shape.core_count:
        raise invalid_parameter(f"ocpus: {shape.name} has 1 to {shape.core_count}.")
    memory = size.memory_in_gbs
    if memory is not None and not shape.memory_minimum <= memory <= shape.memory_in_gbs:
        raise invalid_parameter(
            f"memoryInGBs: {shape.name} has {shape.memory_minimum} to {shape.memory_in_gbs}."
        )


def _check_container(cloud: Cloud, container: ContainerConfiguration) -> None:
    if not cloud.runner.has_image(container.image):
        raise invalid_parameter(
            f"image: '{container.image}' does not exist or cannot be read. (local_oci: register a "
            "process image with --image REF=DIR, where DIR/bin exists)"
        )
    if container.image_digest is not None and not _DIGEST.fullmatch(container.image_digest):
        raise invalid_parameter(f"imageDigest: '{container.image_digest}' is not sha256:<hex>.")
    check_port("serverPort", container.server_port)
    check_port("healthCheckPort", container.health_check_port)
    check_command(container.entrypoint, container.cmd)
    check_environment(container.environment_variables)
    specification = container.predict_api_specification
    if specification is not None and specification.lower() != "openai":
        raise invalid_parameter(f"predictApiSpecification: '{specification}' is not 'openai'.")
    check_custom_endpoints(container.custom_http_endpoints)


def check_port(name: str, port: int) -> None:
    """Refuse a port outside the documented range, or a reserved one: 400."""
    if not MIN_PORT <= port <= MAX_PORT or port in RESERVED_PORTS:
        reserved = ", ".join(str(number) for number in sorted(RESERVED_PORTS))
        raise invalid_parameter(
            f"{name}: {port} is not between {MIN_PORT} and {MAX_PORT}, or one of {reserved}."
        )


def check_command(entrypoint: Sequence[str], cmd: Sequence[str]) -> None:
    """Refuse a command that is too long: 400."""
    size = sum(len(word.encode()) for word in (*entrypoint, *cmd))
    if size >= COMMAND_BYTES:
        raise invalid_parameter(
            f"cmd and entrypoint: {size} bytes together, must be less than {COMMAND_BYTES}."
        )


def check_environment(variables: Mapping[str, str]) -> None:
    """Refuse names that break a rule, and too much of everything: 400."""
    for name in variables:
        too_long = len(name) >= ENVIRONMENT_KEY_CHARACTERS
        if too_long or not ENVIRONMENT_KEY.fullmatch(name):
            raise invalid_parameter(
                f"environmentVariables: '{name}' is not a valid name: 2 to "
                f"{ENVIRONMENT_KEY_CHARACTERS - 1} letters, digits and underscores, the first a "
                "letter, the last no underscore."
            )
        if name in RESERVED_ENVIRONMENT:
            raise invalid_parameter(f"environmentVariables: '{name}' is reserved by the service.")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size >= ENVIRONMENT_BYTES:
        raise invalid_parameter(
            f"environmentVariables: {size} bytes in all, must be less than {ENVIRONMENT_BYTES}."
        )


def check_custom_endpoints(endpoints: Sequence[CustomEndpoint]) -> None:
    """Refuse too many custom endpoints, other methods, and suffixes that are no paths: 400."""
    if len(endpoints) > MAX_CUSTOM_ENDPOINTS:
        raise invalid_parameter(
            f"customHttpEndpoints: {len(endpoints)} endpoints, at most {MAX_CUSTOM_ENDPOINTS}."
        )
    for endpoint in endpoints:
        suffix = endpoint.endpoint_uri_suffix
        if not suffix.startswith("/"):
            raise invalid_parameter(f"endpointUriSuffix: '{suffix}' does not begin with '/'.")
        if not endpoint.http_methods or not CUSTOM_ENDPOINT_METHODS.issuperset(
            endpoint.http_methods
        ):
            allowed = ", ".join(sorted(CUSTOM_ENDPOINT_METHODS))
            raise invalid_parameter(f"httpMethods of '{suffix}': one or more of {allowed}.")
