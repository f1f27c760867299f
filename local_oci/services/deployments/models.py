"""Model deployments as they travel and as they are stored (oci 2.189.0, data_science.models)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from local_oci.limits import DEFAULT_COOL_DOWN_SECONDS
from local_oci.storage.records import FreeformTags, Int32, NamedResource, Tagged, WireModel

DEPLOYMENT_TYPE = "datasciencemodeldeployment"


class FixedSizePolicy(WireModel):
    """A number of instances."""

    policy_type: Literal["FIXED_SIZE"] = "FIXED_SIZE"
    instance_count: Int32 = Field(default=1, ge=1)

    @property
    def first_instance_count(self) -> int:
        """How many instances there are at the beginning."""
        return self.instance_count


class ThresholdConfiguration(WireModel):
    """PredefinedExpressionThresholdScalingConfiguration: when to scale, by a percentage."""

    scaling_configuration_type: Literal["THRESHOLD"]
    pending_duration: str | None = None
    instance_count_adjustment: Int32 | None = Field(default=None, ge=1)
    threshold: Int32 = Field(ge=0, le=100)


class QueryConfiguration(WireModel):
    """CustomExpressionQueryScalingConfiguration: when to scale, by a query of metrics."""

    scaling_configuration_type: Literal["QUERY"]
    pending_duration: str | None = None
    instance_count_adjustment: Int32 | None = Field(default=None, ge=1)
    query: str


class PredefinedRule(WireModel):
    """PredefinedMetricExpressionRule: both thresholds of one of the service's metrics."""

    metric_expression_rule_type: Literal["PREDEFINED_EXPRESSION"]
    metric_type: Literal["CPU_UTILIZATION", "MEMORY_UTILIZATION"]
    scale_in_configuration: ThresholdConfiguration
    scale_out_configuration: ThresholdConfiguration


class CustomRule(WireModel):
    """CustomMetricExpressionRule: both queries."""

    metric_expression_rule_type: Literal["CUSTOM_EXPRESSION"]
    scale_in_configuration: QueryConfiguration
    scale_out_configuration: QueryConfiguration


class ThresholdPolicy(WireModel):
    """ThresholdBasedAutoScalingPolicyDetails: between how many instances, and by which rules."""

    auto_scaling_policy_type: Literal["THRESHOLD"]
    rules: tuple[
        Annotated[PredefinedRule | CustomRule, Field(discriminator="metric_expression_rule_type")],
        ...,
    ] = Field(min_length=1)
    minimum_instance_count: Int32 = Field(ge=1)
    maximum_instance_count: Int32 = Field(ge=1)
    initial_instance_count: Int32 = Field(ge=1)


class AutoScalingPolicy(WireModel):
    """A number of instances that follows the load. Here it stays the initial one."""

    policy_type: Literal["AUTOSCALING"]
    auto_scaling_policies: tuple[ThresholdPolicy] = Field(
        description="[inferred] exactly one: there is one kind, and its rules are a list"
    )
    cool_down_in_seconds: Int32 = DEFAULT_COOL_DOWN_SECONDS
    is_enabled: bool = True

    @property
    def first_instance_count(self) -> int:
        """How many instances there are at the beginning."""
        return self.auto_scaling_policies[0].initial_instance_count


def _kind(value: Any) -> str:
    """The policy type of plain JSON or of a policy; a fixed size where none is named."""
    if isinstance(value, dict):
        return str(value.get("policyType", "FIXED_SIZE"))
    return str(getattr(value, "policy_type", "FIXED_SIZE"))


ScalingPolicy: TypeAlias = Annotated[
    Annotated[FixedSizePolicy, Tag("FIXED_SIZE")]
    | Annotated[AutoScalingPolicy, Tag("AUTOSCALING")],
    Discriminator(_kind),
]


class DeploymentState(StrEnum):
    """Values of ModelDeployment.lifecycleState."""

    CREATING = "CREATING"
    ACTIVE = "ACTIVE"
    UPDATING = "UPDATING"
    NEEDS_ATTENTION = "NEEDS_ATTENTION"
    INACTIVE = "INACTIVE"
    FAILED = "FAILED"
    DELETING = "DELETING"
    DELETED = "DELETED"


class ShapeConfig(WireModel):
    """Size of a flexible shape."""

    ocpus: float | None = None
    memory_in_gbs: float | None = Field(default=None, alias="memoryInGBs")
    cpu_baseline: str | None = None


class InstanceConfiguration(WireModel):
    """Shape and network."""

    instance_shape_name: str
    model_deployment_instance_shape_config_details: ShapeConfig | None = None
    subnet_id: str | None = None
    private_endpoint_id: str | None = None
    network_access_type: (
        Literal[
            "MANAGED_NETWORKING_NO_INTERNET_ACCESS",
            "MANAGED_NETWORKING_INTERNET_ACCESS",
            "CUSTOM_NETWORKING",
        ]
        | None
    ) = None
    capacity_reservation_ids: tuple[str, ...] | None = None


class ModelConfiguration(WireModel):
    """Which model runs, on what."""

    model_id: str
    model_artifact_signature_id: str | None = None
    instance_configuration: InstanceConfiguration
    scaling_policy: ScalingPolicy = FixedSizePolicy()
    bandwidth_mbps: Int32 = Field(default=10, ge=1)
    maximum_bandwidth_mbps: Int32 | None = None


class CustomEndpoint(WireModel):
    """A path of the container that clients may call below the deployment's URL."""

    endpoint_uri_suffix: str
    http_methods: tuple[str, ...]


class ContainerConfiguration(WireModel):
    """What runs: image, command, ports, variables."""

    environment_configuration_type: Literal["OCIR_CONTAINER"]
    image: str
    image_digest: str | None = None
    image_signature_id: str | None = None
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    server_port: Int32 = 8080
    health_check_port: Int32 = 8080
    environment_variables: dict[str, str] = Field(default_factory=dict)
    default_environment_variables: dict[str, str] = Field(default_factory=dict)
    predict_api_specification: str | None = None
    custom_http_endpoints: tuple[CustomEndpoint, ...] = ()


class Configuration(WireModel):
    """SingleModelDeploymentConfigurationDetails with a custom container."""

    deployment_type: Literal["SINGLE_MODEL"]
    model_configuration_details: ModelConfiguration
    environment_configuration_details: ContainerConfiguration


class LogReference(WireModel):
    """A log of the Logging service."""

    log_id: str
    log_group_id: str


class CategoryLogs(WireModel):
    """Where access and container output are logged."""

    access: LogReference | None = None
    predict: LogReference | None = None


class CreateDeploymentDetails(Tagged):
    """Body of create_model_deployment."""

    compartment_id: str
    project_id: str
    display_name: str | None = None
    description: str | None = None
    model_deployment_configuration_details: Configuration
    category_log_details: CategoryLogs | None = None


class UpdateDeploymentDetails(WireModel):
    """Body of update_model_deployment; a field that is absent stays as it is."""

    display_name: str | None = None
    description: str | None = None
    model_deployment_configuration_details: dict[str, Any] | None = None
    category_log_details: CategoryLogs | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class SystemData(WireModel):
    """InstancePoolModelDeploymentSystemData. One process runs, whatever the count says."""

    system_infra_type: Literal["INSTANCE_POOL"] = "INSTANCE_POOL"
    current_instance_count: int = 0


class ModelDeployment(NamedResource):
    """A deployment.

    Args:
        serving: whether its container should run, whatever the state is.
        restarts: how many containers were replaced since the last change.
        last_failure: when the last of them failed, and how.
    """

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "serving", "restarts", "last_failure"})

    project_id: str
    model_deployment_configuration_details: Configuration
    category_log_details: CategoryLogs | None = None
    model_deployment_system_data: SystemData = SystemData()
    lifecycle_state: DeploymentState = DeploymentState.CREATING
    lifecycle_details: str | None = None
    model_deployment_url: str | None = None
    serving: bool = False
    restarts: int = 0
    last_failure: str | None = None

    @property
    def active_details(self) -> str | None:
        """The lifecycle details while it is ACTIVE [inferred]."""
        if not self.restarts:
            return None
        return f"Containers replaced: {self.restarts}. The last one {self.last_failure}."

    @property
    def container(self) -> ContainerConfiguration:
        """The container's part of the configuration."""
        return self.model_deployment_configuration_details.environment_configuration_details

    @property
    def model_id(self) -> str:
        """OCID of the deployed model."""
        return self.model_deployment_configuration_details.model_configuration_details.model_id

    @property
    def instance(self) -> InstanceConfiguration:
        """The shape and the network."""
        model = self.model_deployment_configuration_details.model_configuration_details
        return model.instance_configuration

    @property
    def instance_count(self) -> int:
        """How many instances there are; none while it does not serve [inferred]."""
        model = self.model_deployment_configuration_details.model_configuration_details
        return model.scaling_policy.first_instance_count if self.serving else 0

    @property
    def exists(self) -> bool:
        """Whether it is more than a memory of a deleted deployment."""
        return self.lifecycle_state is not DeploymentState.DELETED


def uses_model(deployment: ModelDeployment, model_id: str) -> bool:
    """Whether deleting a model would take it from under a deployment."""
    gone = {DeploymentState.DELETED, DeploymentState.FAILED}
    return deployment.model_id == model_id and deployment.lifecycle_state not in gone
