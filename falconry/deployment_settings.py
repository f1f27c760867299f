"""The `[deployment]` table of a profile: what Oracle lets a model deployment be, with its limits.

Limits are those of the SDK's models (oci 2.189.0, data_science/models) and of Oracle's documents,
each named where it is checked. What Oracle does not publish the cloud itself refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from falconry.sections import Section

# OcirModelDeploymentEnvironmentConfigurationDetails.environment_variables: a letter first, no
# underscore last, 2 to 31 characters, and less than 2048 bytes in all.
_VARIABLE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,29}[A-Za-z0-9]")
ENVIRONMENT_BYTES = 2048
# Oracle, "BYOC environment variables" (mod-dep-byoc-variables.htm).
_RESERVED = frozenset(
    {
        "MODEL_DEPLOYMENT_OCID",
        "MODEL_SERVING_PYTHON_VERSION",
        "TENANCY_OCID",
        "CONTAINER_CUSTOM_IMAGE",
    }
)
# OcirModelDeploymentEnvironmentConfigurationDetails.server_port.
_RESERVED_PORTS = frozenset({24224, 8446, 8447})
# oci-data-science-ai-samples, model-deployment/multiple_inference_endpoints: 15 at most.
_MOST_ENDPOINTS = 15
# Oracle, "Creating a Model Deployment with Autoscaling Using a Custom Metric"
# (autoscale-vms-custom-metrics-steps.htm): each query has to name the resource so.
_RESOURCE = re.compile(r'\{\s*resourceId\s*=\s*"MODEL_DEPLOYMENT_OCID"')


def _free_port(port: int) -> int:
    if port in _RESERVED_PORTS:
        raise ValueError(f"{port} is one of the cloud's own ports")
    return port


Port = Annotated[int, Field(ge=1024, le=65535), AfterValidator(_free_port)]
"""A port that a container may listen on."""


def _resource_query(query: str) -> str:
    if not _RESOURCE.search(query):
        raise ValueError('has to contain {resourceId = "MODEL_DEPLOYMENT_OCID"}')
    return query


Query = Annotated[str, AfterValidator(_resource_query)]
"""A condition in the Monitoring query language, for one deployment."""


class CustomEndpoint(Section):
    """A path of the server that clients may call below the deployment's URL.

    Attributes:
        path: such as `/v2/models/{}/generate`; `{}` stands for one part of it.
        methods: of HTTP.
    """

    path: Annotated[str, Field(pattern="^/")]
    methods: Annotated[tuple[Literal["GET", "POST", "PUT", "DELETE"], ...], Field(min_length=1)] = (
        "POST",
    )


class ScalingRule(Section):
    """When instances are added and removed: by a metric's thresholds, or by two queries.

    Attributes:
        metric: in percent of its instances' average.
        scale_in, scale_out: below and above which of its values.
        scale_in_query, scale_out_query: conditions in the Monitoring query language instead.
        step: how many instances at a time.
        pending_minutes: how long the condition must hold (ScalingConfiguration.pending_duration:
            3 minutes to an hour).
    """

    metric: Literal["CPU_UTILIZATION", "MEMORY_UTILIZATION"] | None = None
    scale_in: Annotated[int, Field(ge=1, le=99)] | None = None
    scale_out: Annotated[int, Field(ge=1, le=99)] | None = None
    scale_in_query: Query | None = None
    scale_out_query: Query | None = None
    step: Annotated[int, Field(ge=1)] = 1
    pending_minutes: Annotated[int, Field(ge=3, le=60)] = 3

    @model_validator(mode="after")
    def _one_kind(self) -> ScalingRule:
        thresholds = (self.metric, self.scale_in, self.scale_out)
        queries = (self.scale_in_query, self.scale_out_query)
        by_metric = None not in thresholds and queries == (None, None)
        by_query = None not in queries and thresholds == (None, None, None)
        if by_metric is by_query:
            raise ValueError(
                "a rule has metric, scale_in and scale_out, or scale_in_query and scale_out_query"
            )
        if by_metric and (self.scale_in or 0) >= (self.scale_out or 0):
            raise ValueError("scale_in has to be less than scale_out")
        return self


class AutoscalingSettings(Section):
    """How many instances there may be, and what decides it.

    Attributes:
        minimum, maximum, initial: instances; `initial` is the minimum when left out.
        cooldown_seconds: between two actions; the cloud's default when left out. The least is 600
            in AutoScalingPolicy of Oracle's .NET SDK 90.3.0 and TypeScript SDK 2.88.2, and 300 in
            oci 2.189.0. The stricter one holds: every release of the cloud takes it [inferred].
        rules: of which any one suffices.
    """

    minimum: Annotated[int, Field(ge=1)]
    maximum: Annotated[int, Field(ge=1)]
    initial: Annotated[int, Field(ge=1)] | None = None
    cooldown_seconds: Annotated[int, Field(ge=600)] | None = None
    rules: Annotated[tuple[ScalingRule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> AutoscalingSettings:
        if not self.minimum <= self.first <= self.maximum:
            raise ValueError("minimum, initial and maximum have to be in this order")
        return self

    @property
    def first(self) -> int:
        """The number of instances to begin with."""
        return self.minimum if self.initial is None else self.initial


class DeploymentSettings(Section):
    """The OCI model deployment.

    Attributes:
        name: its display name, by which it is found again.
        shape: of its instances.
        ocpus, memory_gib: of an instance of a flexible shape.
        instances: how many, unless `autoscaling` decides it.
        bandwidth_mbps, maximum_bandwidth_mbps: of the load balancer; with a maximum it is scaled
            too (Oracle, autoscale-vms-create-deployment.htm: up to twice the other).
        subnet_id: for an instance in a network of the user's, of which there is no way back.
        private_endpoint_id: of a Data Science private endpoint.
        internet: whether instances in Oracle's network reach the internet; the cloud's default
            when left out.
        capacity_reservation_ids: reservations that instances are taken from.
        environment: the container's variables beside ours, which they win over.
        custom_endpoints: in place of those of the route; empty for none.
        openai: whether OpenAI's paths are open as well (`predictApiSpecification`).
        timeout_minutes: how long an operation of the cloud is waited for.
        downtime: whether a change that a running deployment does not take may stop it for a while.
    """

    name: str
    description: str = "Falcon on Triton, deployed by Falconry"
    shape: str
    ocpus: Annotated[float, Field(gt=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    instances: Annotated[int, Field(ge=1)] = 1
    autoscaling: AutoscalingSettings | None = None
    bandwidth_mbps: Annotated[int, Field(ge=10)] = 10
    maximum_bandwidth_mbps: Annotated[int, Field(ge=10)] | None = None
    subnet_id: str | None = None
    private_endpoint_id: str | None = None
    internet: bool | None = None
    capacity_reservation_ids: tuple[str, ...] = ()
    environment: Mapping[str, str] = Field(default_factory=dict)
    custom_endpoints: (
        Annotated[tuple[CustomEndpoint, ...], Field(max_length=_MOST_ENDPOINTS)] | None
    ) = None
    openai: bool = False
    timeout_minutes: Annotated[int, Field(ge=1)] = 30
    downtime: bool = False

    @model_validator(mode="after")
    def _within_limits(self) -> DeploymentSettings:
        _check_variables(self.environment)
        maximum = self.maximum_bandwidth_mbps
        if maximum is not None and not self.bandwidth_mbps <= maximum <= 2 * self.bandwidth_mbps:
            raise ValueError("maximum_bandwidth_mbps is one to two times bandwidth_mbps")
        if self.subnet_id is not None and self.internet is not None:
            raise ValueError("internet is for Oracle's network; a subnet has routes of its own")
        return self


def _check_variables(variables: Mapping[str, str]) -> None:
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(
                f"environment: '{name}' is no name: 2 to 31 letters, digits and underscores, the"
                " first a letter, the last no underscore"
            )
        if name in _RESERVED:
            raise ValueError(f"environment: '{name}' is the cloud's own")
    size = sum(len(f"{name}{value}".encode()) for name, value in variables.items())
    if size >= ENVIRONMENT_BYTES:
        raise ValueError(f"environment: {size} bytes, less than {ENVIRONMENT_BYTES} are allowed")
