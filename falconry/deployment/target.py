"""The deployment we want, in the SDK's terms: from a profile, or from an earlier deployment.

Any runner knows by the freeform tags what a deployment is; OCI allows ten a resource.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from oci.data_science import models as oci_models

from falconry.image.output import ImageOutput
from falconry.repository import FRONT_MODEL, MODEL_REPOSITORY
from falconry.settings import (
    AutoscalingSettings,
    CustomEndpoint,
    DeploymentSettings,
    ScalingRule,
    ServingSettings,
)

if TYPE_CHECKING:
    from falconry.deployment.logs import LogPlace

ARTIFACT_TAG = "falconry-artifact"
"""The digest of the artifact that is deployed; on models, of the artifact that they hold."""

IMAGE_TAG = "falconry-image"
"""The digest of the image."""

ENGINE_TAG = "falconry-engine"
"""The key of the engine in the artifact."""

KEY_TAG = "falconry-key"
"""The deployment stage's key, once the deployment has answered a question as it then was."""

MODEL_TAG = "falconry-model"
"""The OCID of the model that last answered: what a failed change returns to."""

REFERENCE_TAG = "falconry-reference"
"""The reference of the image that last answered."""
# What the model is called in OpenAI's API (docker/server/settings.py).
MODEL_NAME = "FALCONRY_MODEL_NAME"
_DEFAULT_TRITON_PORT = 8000
# Triton's HTTP paths (triton-inference-server/server, docs/protocol/extension_generate.md); `{}` is
# OCI's wildcard for one part of a path (samples, multiple_inference_endpoints).
_READY = CustomEndpoint(path="/v2/health/ready", methods=("GET",))
_ROUTE_ENDPOINTS = {
    "generate": (
        CustomEndpoint(path="/v2/models/{}/generate"),
        CustomEndpoint(path="/v2/models/{}/generate_stream"),
        _READY,
    ),
    "infer": (CustomEndpoint(path="/v2/models/{}/infer"), _READY),
}


# --- targets ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """What a deployment shall be.

    Attributes:
        tags: those that say so, once it has answered.
        engine_bound: whether the engine runs with the image and the GPU that it was built for
            alone, so that none of the three can change without the others.
    """

    settings: DeploymentSettings
    serving: ServingSettings
    image: ImageOutput
    model_id: str
    project_id: str
    log: LogPlace
    tags: Mapping[str, str]
    engine_bound: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """The same in the SDK's terms.

    Attributes:
        name: the display name, by which it is found.
        configuration: SingleModelDeploymentConfigurationDetails.
        logs: CategoryLogDetails.
        timeout_s: how long each of the cloud's operations is waited for.
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


def target_of(wanted: DeploymentRequest) -> DeploymentSpec:
    """What a profile asks for."""
    settings = wanted.settings
    return DeploymentSpec(
        name=settings.name,
        description=settings.description,
        project_id=wanted.project_id,
        configuration=oci_models.SingleModelDeploymentConfigurationDetails(
            model_configuration_details=_model_configuration(wanted),
            environment_configuration_details=_container(wanted),
        ),
        logs=_logs(wanted.log),
        tags={
            **wanted.tags,
            MODEL_TAG: wanted.model_id,
            REFERENCE_TAG: wanted.image.reference,
        },
        timeout_s=settings.timeout_minutes * 60,
        downtime=settings.downtime,
        engine_bound=wanted.engine_bound,
    )


def previous_target(standing: Any, target: DeploymentSpec) -> DeploymentSpec | None:
    """What a deployment was when it last answered; None when it never did.

    Args:
        standing: the deployment as it is; a run that ended early may have changed a part of it.
        target: whose limits of time and downtime are kept.
    """
    tags = standing.freeform_tags or {}
    if MODEL_TAG not in tags or REFERENCE_TAG not in tags:
        return None
    configuration = copy.deepcopy(standing.model_deployment_configuration_details)
    configuration.model_configuration_details.model_id = tags[MODEL_TAG]
    container = configuration.environment_configuration_details
    container.image = tags[REFERENCE_TAG]
    if container.image_digest is not None:
        container.image_digest = tags.get(IMAGE_TAG)
    return DeploymentSpec(
        name=standing.display_name,
        description=standing.description,
        project_id=standing.project_id,
        configuration=configuration,
        logs=standing.category_log_details,
        tags=tags,
        timeout_s=target.timeout_s,
        downtime=target.downtime,
        engine_bound=target.engine_bound,
    )


def environment(serving: ServingSettings, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that map OCI's `/predict` and health probe to Triton's routes.

    `CONTAINER_TYPE=TRITON` maps to `/infer` alone; the other two are those of Oracle's sample for
    TensorRT-LLM images (oci-data-science-ai-samples, Triton_TensorRT). It takes the same body as
    that sample's model `ensemble`.

    Args:
        serving: decides the route.
        more: the user's own, which win.
    """
    routes = {
        "infer": {"CONTAINER_TYPE": "TRITON"},
        "generate": {
            "MODEL_DEPLOY_PREDICT_ENDPOINT": f"/v2/models/{FRONT_MODEL}/versions/1/generate",
            "MODEL_DEPLOY_HEALTH_ENDPOINT": "/v2/health/ready",
        },
    }
    return {**routes[serving.route], **(more or {})}


def route_of(deployment: Any) -> Literal["generate", "infer"]:
    """What a standing deployment maps `/predict` to, whatever the profile says by now."""
    return configured_route(deployment.model_deployment_configuration_details)


def configured_route(configuration: Any) -> Literal["generate", "infer"]:
    """What a configuration maps `/predict` to."""
    variables = configuration.environment_configuration_details.environment_variables or {}
    return "infer" if variables.get("CONTAINER_TYPE") == "TRITON" else "generate"


def command(serving: ServingSettings) -> list[str]:
    """What the container runs; 8000 is Triton's own default and needs no word."""
    words = ["tritonserver", f"--model-repository={MODEL_REPOSITORY}"]
    if serving.port != _DEFAULT_TRITON_PORT:
        words.append(f"--http-port={serving.port}")
    return words


def _model_configuration(wanted: DeploymentRequest) -> Any:
    settings = wanted.settings
    return oci_models.ModelConfigurationDetails(
        model_id=wanted.model_id,
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
    return oci_models.InstanceConfiguration(
        instance_shape_name=settings.shape,
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


def _scaling(settings: DeploymentSettings) -> Any:
    if settings.autoscaling is None:
        return oci_models.FixedSizeScalingPolicy(instance_count=settings.instances)
    return _autoscaling(settings.autoscaling)


def _autoscaling(settings: AutoscalingSettings) -> Any:
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


def _container(wanted: DeploymentRequest) -> Any:
    return oci_models.OcirModelDeploymentEnvironmentConfigurationDetails(
        image=wanted.image.reference,
        # The cloud then runs these very bytes, whatever the tag means by then. A process image
        # comes from no registry and has no digest there.
        image_digest=wanted.image.digest if wanted.image.kind == "container" else None,
        cmd=command(wanted.serving),
        server_port=wanted.serving.port,
        health_check_port=wanted.serving.port,
        environment_variables=environment(
            wanted.serving, {MODEL_NAME: wanted.settings.name, **wanted.settings.environment}
        ),
        predict_api_specification="openai" if wanted.settings.openai else None,
        custom_http_endpoints=_endpoints(wanted),
    )


def _endpoints(wanted: DeploymentRequest) -> list[Any]:
    chosen = wanted.settings.custom_endpoints
    if chosen is None:
        chosen = _ROUTE_ENDPOINTS[wanted.serving.route]
    return [
        oci_models.InferenceHttpEndpoint(
            endpoint_uri_suffix=endpoint.path, http_methods=list(endpoint.methods)
        )
        for endpoint in chosen
    ]


def _logs(place: LogPlace) -> Any:
    def details(log_id: str) -> Any:
        return oci_models.LogDetails(log_id=log_id, log_group_id=place.group_id)

    return oci_models.CategoryLogDetails(
        access=details(place.access_log_id), predict=details(place.log_id)
    )
