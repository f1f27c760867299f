"""What deployments use of their limits."""

from __future__ import annotations

from collections.abc import Iterable

from local_oci.http.errors import limit_exceeded
from local_oci.services.deployments.models import Configuration, DeploymentState, ModelDeployment
from local_oci.services.deployments.shapes import all_shapes
from local_oci.services.service_limits.models import LimitDefinition, all_limits

_USES_NOTHING = frozenset(
    {DeploymentState.INACTIVE, DeploymentState.FAILED, DeploymentState.DELETED}
)


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

    Args:
        configuration: what is asked for.
        others: all other deployments.

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
