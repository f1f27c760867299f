"""A profile's deployment in the SDK's terms, and a rollback's.

The freeform tags tell any runner what a deployment is; OCI allows ten tags on a resource.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from oci.data_science import models as oci_models

from falconry.image.output import ImageOutput
from falconry.oci_facts import find_shape
from falconry.repository import FRONT_MODEL, MODEL_REPOSITORY
from falconry.settings import (
    CustomEndpoint,
    DeploymentSettings,
    ScalingRule,
    ServingSettings,
)

if TYPE_CHECKING:
    from falconry.deployment.logs import LogIds

ARTIFACT_TAG = "falconry-artifact"
"""The digest of the deployed artifact; on models, of the artifact that they hold."""

IMAGE_TAG = "falconry-image"
"""The digest of the image."""

ENGINE_TAG = "falconry-engine"
"""The key of the engine in the artifact."""

KEY_TAG = "falconry-key"
"""The deployment stage's key, written once the deployment has answered."""

MODEL_TAG = "falconry-model"
"""The OCID of the model that last answered, which a rollback returns to."""

REFERENCE_TAG = "falconry-reference"
"""The reference of the image that last answered."""
# The model's name in OpenAI's API (docker/server/settings.py).
MODEL_NAME = "FALCONRY_MODEL_NAME"
_DEFAULT_TRITON_PORT = 8000
# Triton's HTTP paths (triton-inference-server/server, docs/protocol/extension_generate.md); `{}` is
# OCI's wildcard for one part of a path (samples, multiple_inference_endpoints).
# The paths with GET are what Triton's own client asks besides (tritonclient 2.73, http/_client.py).
_ENDPOINTS = (
    CustomEndpoint(path="/v2/models/{}/generate"),
    CustomEndpoint(path="/v2/models/{}/generate_stream"),
    CustomEndpoint(path="/v2/models/{}/infer"),
    *(
        CustomEndpoint(path=path, methods=("GET",))
        for path in (
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/{}",
            "/v2/models/{}/ready",
            "/v2/models/{}/config",
        )
    ),
)


# --- targets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A deployment as the profile describes it.

    Attributes:
        tags: written once it has answered.
        variables: of the container; the profile's win over them.
        engine_bound: whether the engine runs only with the image and the GPU that it was built
            for, so that none of the three can change without the others.
    """

    settings: DeploymentSettings
    serving: ServingSettings
    image: ImageOutput
    model_id: str
    project_id: str
    log: LogIds
    tags: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    engine_bound: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """A deployment in the SDK's terms.

    Attributes:
        name: the display name, which it is found by.
        configuration: SingleModelDeploymentConfigurationDetails.
        logs: CategoryLogDetails.
        timeout_s: of each operation of the cloud.
        downtime: whether it may be stopped for a change.
    """

    name: str
    description: str | None
    project_id: str
    configuration: Any
    logs: Any
    tags: Mapping[str, str]
    timeout_s: float
    downtime: bool
    engine_bound: bool

    @property
    def model_id(self) -> str:
        """The OCID of the model."""
        return str(self.configuration.model_configuration_details.model_id)

    @property
    def image(self) -> str:
        """The reference of the image."""
        return str(self.configuration.environment_configuration_details.image)


def target_of(request: DeploymentRequest) -> DeploymentSpec:
    """Translates a request into the SDK's terms."""
    settings = request.settings
    return DeploymentSpec(
        name=settings.name,
        description=settings.description,
        project_id=request.project_id,
        configuration=oci_models.SingleModelDeploymentConfigurationDetails(
            model_configuration_details=_model_configuration(request),
            environment_configuration_details=_container(request),
        ),
        logs=_logs(request.log),
        tags={
            **request.tags,
            MODEL_TAG: request.model_id,
            REFERENCE_TAG: request.image.reference,
        },
        timeout_s=settings.timeout_minutes * 60,
        downtime=settings.downtime,
        engine_bound=request.engine_bound,
    )


def creation_of(target: DeploymentSpec, compartment: str) -> Any:
    """Makes a creation's details, without tags of the first answer."""
    later = {KEY_TAG, MODEL_TAG, REFERENCE_TAG}
    return oci_models.CreateModelDeploymentDetails(
        display_name=target.name,
        description=target.description,
        project_id=target.project_id,
        compartment_id=compartment,
        model_deployment_configuration_details=target.configuration,
        category_log_details=target.logs,
        freeform_tags={name: value for name, value in target.tags.items() if name not in later},
    )


def previous_target(deployment: Any, target: DeploymentSpec) -> DeploymentSpec | None:
    """Returns what a deployment was when it last answered, if ever.

    Args:
        deployment: as it is now; a run that ended early may have changed a part of it.
        target: whose timeout and downtime are kept.
    """
    tags = deployment.freeform_tags or {}
    if MODEL_TAG not in tags or REFERENCE_TAG not in tags:
        return None
    configuration = copy.deepcopy(deployment.model_deployment_configuration_details)
    configuration.model_configuration_details.model_id = tags[MODEL_TAG]
    container = configuration.environment_configuration_details
    container.image = tags[REFERENCE_TAG]
    if container.image_digest is not None:
        container.image_digest = tags.get(IMAGE_TAG)
    return DeploymentSpec(
        name=deployment.display_name,
        description=deployment.description,
        project_id=deployment.project_id,
        configuration=configuration,
        logs=deployment.category_log_details,
        tags=tags,
        timeout_s=target.timeout_s,
        downtime=target.downtime,
        engine_bound=target.engine_bound,
    )


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Makes the variables that map OCI's paths to Triton's.

    Those of Oracle's sample for TensorRT-LLM images (oci-data-science-ai-samples, Triton_TensorRT).
    `CONTAINER_TYPE=TRITON`, for whoever sets it, is a mapping of its own: to `/infer`, which takes
    the same bodies.

    Args:
        more: the user's variables, which override ours.
    """
    if more.get("CONTAINER_TYPE") == "TRITON":
        return dict(more)
    return {
        "MODEL_DEPLOY_PREDICT_ENDPOINT": f"/v2/models/{FRONT_MODEL}/versions/1/generate",
        "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
        **more,
    }


def command(serving: ServingSettings) -> list[str]:
    """Returns the container's command line."""
    words = ["tritonserver", f"--model-repository={MODEL_REPOSITORY}"]
    if serving.port != _DEFAULT_TRITON_PORT:
        words.append(f"--http-port={serving.port}")
    if serving.grpc_port is not None:
        words += [f"--grpc-port={serving.grpc_port}", "--grpc-address=0.0.0.0"]
    return words


def _model_configuration(request: DeploymentRequest) -> Any:
    settings = request.settings
    return oci_models.ModelConfigurationDetails(
        model_id=request.model_id,
        bandwidth_mbps=settings.bandwidth_mbps,
        maximum_bandwidth_mbps=settings.maximum_bandwidth_mbps,
        instance_configuration=_instance(settings),
        scaling_policy=_scaling(settings),
    )


def _instance(settings: DeploymentSettings) -> Any:
    flexible = None
    if settings.ocpus is not None:
        flexible = oci_models.ModelDeploymentInstanceShapeConfigDetails(
            ocpus=settings.ocpus, memory_in_gbs=settings.memory_gib
        )
    shape = find_shape(settings.shape)
    return oci_models.InstanceConfiguration(
        instance_shape_name=shape.name if shape else settings.shape,  # in the cloud's spelling
        model_deployment_instance_shape_config_details=flexible,
        subnet_id=settings.subnet_id,
        private_endpoint_id=settings.private_endpoint_id,
        network_access_type=_network(settings),
        capacity_reservation_ids=list(settings.capacity_reservation_ids) or None,
    )


def _network(settings: DeploymentSettings) -> str | None:
    if settings.subnet_id is not None:
        return "CUSTOM_NETWORKING"
    if settings.internet is None:
        return None
    reach = "INTERNET_ACCESS" if settings.internet else "NO_INTERNET_ACCESS"
    return f"MANAGED_NETWORKING_{reach}"


def _scaling(deployment: DeploymentSettings) -> Any:
    settings = deployment.autoscaling
    if settings is None:
        return oci_models.FixedSizeScalingPolicy(instance_count=deployment.instances)
    return oci_models.AutoScalingPolicy(
        cool_down_in_seconds=settings.cooldown_seconds,
        is_enabled=True,
        auto_scaling_policies=[
            oci_models.ThresholdBasedAutoScalingPolicyDetails(
                rules=[_rule(rule) for rule in settings.rules],
                minimum_instance_count=settings.minimum,
                maximum_instance_count=settings.maximum,
                initial_instance_count=settings.first,
            )
        ],
    )


def _rule(rule: ScalingRule) -> Any:
    common = {
        "pending_duration": f"PT{rule.pending_minutes}M",
        "instance_count_adjustment": rule.step,
    }
    if rule.metric is None:
        return oci_models.CustomMetricExpressionRule(
            scale_in_configuration=oci_models.CustomExpressionQueryScalingConfiguration(
                query=rule.scale_in_query, **common
            ),
            scale_out_configuration=oci_models.CustomExpressionQueryScalingConfiguration(
                query=rule.scale_out_query, **common
            ),
        )
    return oci_models.PredefinedMetricExpressionRule(
        metric_type=rule.metric,
        scale_in_configuration=oci_models.PredefinedExpressionThresholdScalingConfiguration(
            threshold=rule.scale_in, **common
        ),
        scale_out_configuration=oci_models.PredefinedExpressionThresholdScalingConfiguration(
            threshold=rule.scale_out, **common
        ),
    )


def _container(request: DeploymentRequest) -> Any:
    return oci_models.OcirModelDeploymentEnvironmentConfigurationDetails(
        image=request.image.reference,
        # The digest pins the image even if its tag moves. A process image comes from no registry
        # and has no digest there.
        image_digest=request.image.digest if request.image.kind == "container" else None,
        cmd=command(request.serving),
        server_port=request.serving.port,
        health_check_port=request.serving.port,
        environment_variables=environment(
            {
                **request.variables,
                MODEL_NAME: request.settings.name,
                **request.settings.environment,
            }
        ),
        predict_api_specification="openai" if request.settings.openai else None,
        custom_http_endpoints=_endpoints(request),
    )


def _endpoints(request: DeploymentRequest) -> list[Any]:
    chosen = request.settings.custom_endpoints
    if chosen is None:
        chosen = _ENDPOINTS
    return [
        oci_models.InferenceHttpEndpoint(
            endpoint_uri_suffix=endpoint.path, http_methods=list(endpoint.methods)
        )
        for endpoint in chosen
    ]


def _logs(logs: LogIds) -> Any:
    def details(log_id: str) -> Any:
        return oci_models.LogDetails(log_id=log_id, log_group_id=logs.group_id)

    return oci_models.CategoryLogDetails(
        access=details(logs.access_log_id), predict=details(logs.log_id)
    )
