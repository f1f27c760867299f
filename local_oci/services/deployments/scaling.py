"""How many instances a deployment has: the scaling policies (oci 2.189.0, data_science.models)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from local_oci.limits import DEFAULT_COOL_DOWN_SECONDS
from local_oci.storage.records import WireModel


class FixedSizePolicy(WireModel):
    """A number of instances."""

    policy_type: Literal["FIXED_SIZE"] = "FIXED_SIZE"
    instance_count: int = Field(default=1, ge=1)

    @property
    def first_instance_count(self) -> int:
        """How many instances there are at the beginning."""
        return self.instance_count


class ThresholdConfiguration(WireModel):
    """PredefinedExpressionThresholdScalingConfiguration: when to scale, by a percentage."""

    scaling_configuration_type: Literal["THRESHOLD"]
    pending_duration: str | None = None
    instance_count_adjustment: int | None = Field(default=None, ge=1)
    threshold: int = Field(ge=0, le=100)


class QueryConfiguration(WireModel):
    """CustomExpressionQueryScalingConfiguration: when to scale, by a query of metrics."""

    scaling_configuration_type: Literal["QUERY"]
    pending_duration: str | None = None
    instance_count_adjustment: int | None = Field(default=None, ge=1)
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
    minimum_instance_count: int = Field(ge=1)
    maximum_instance_count: int = Field(ge=1)
    initial_instance_count: int = Field(ge=1)


class AutoScalingPolicy(WireModel):
    """A number of instances that follows the load. Here it stays the initial one."""

    policy_type: Literal["AUTOSCALING"]
    auto_scaling_policies: tuple[ThresholdPolicy] = Field(
        description="[inferred] exactly one: there is one kind, and its rules are a list"
    )
    cool_down_in_seconds: int = DEFAULT_COOL_DOWN_SECONDS
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
