"""Limits as they travel (oci 2.189.0, limits.models), their table, and what deployments use."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Literal

from local_oci.http.errors import limit_exceeded
from local_oci.services.deployments.models import Configuration, DeploymentState, ModelDeployment
from local_oci.services.deployments.rules import all_shapes
from local_oci.storage.records import Record, WireModel

SERVICE = "data-science"

_FILE = "limits.toml"
_USES_NOTHING = frozenset(
    {DeploymentState.INACTIVE, DeploymentState.FAILED, DeploymentState.DELETED}
)


class ServiceSummary(Record):
    """A service that has limits."""

    name: str
    description: str


class LimitDefinition(Record):
    """LimitDefinitionSummary. `shapes` and `value` are what this program knows of it besides."""

    INTERNAL = frozenset({"etag", "shapes", "value"})

    name: str
    service_name: str = SERVICE
    description: str
    scope_type: Literal["REGION"] = "REGION"
    are_quotas_supported: bool = True
    is_resource_availability_supported: bool = True
    is_deprecated: bool = False
    is_eligible_for_limit_increase: bool = True
    is_dynamic: bool = False
    shapes: tuple[str, ...]
    value: int


class LimitValue(Record):
    """LimitValueSummary."""

    name: str
    scope_type: Literal["REGION"] = "REGION"
    value: int


class ResourceAvailability(WireModel):
    """How much is used, and how much is left."""

    used: int
    available: int
    fractional_usage: float
    fractional_availability: float


@cache
def all_limits() -> tuple[LimitDefinition, ...]:
    """Every limit, by name."""
    content = tomllib.loads(files(__package__).joinpath(_FILE).read_text())
    limits = (LimitDefinition(**row) for row in content["limit"])
    return tuple(sorted(limits, key=lambda limit: limit.name))


def used(limit: LimitDefinition, deployments: Iterable[ModelDeployment]) -> int:
    """How much of a limit is in use."""
    return sum(
        needed(limit, deployment.model_deployment_configuration_details)
        for deployment in deployments
        if deployment.lifecycle_state not in _USES_NOTHING
    )


def needed(limit: LimitDefinition, configuration: Configuration) -> int:
    """How much of a limit a deployment needs."""
    model = configuration.model_configuration_details
    shape = all_shapes().get(model.instance_configuration.instance_shape_name)
    if shape is None or shape.name not in limit.shapes:
        return 0
    return shape.gpus * model.scaling_policy.first_instance_count


def check_limits(configuration: Configuration, others: Iterable[ModelDeployment]) -> None:
    """Refuse a deployment that is one too many: 400 LimitExceeded (API errors).

    Raises:
        ServiceError: in words of this program's own.
    """
    present = list(others)
    for limit in all_limits():
        need = needed(limit, configuration)
        left = limit.value - used(limit, present)
        if need > left:
            raise limit_exceeded(
                f"The following service limits were exceeded: {limit.name}. It needs {need}, "
                f"{max(left, 0)} of {limit.value} are left. Request a service limit increase."
            )
