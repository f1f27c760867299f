"""What an update changes, and the rule that an ACTIVE deployment's groups change one at a time.

The groups are those of model-dep-edit.htm; the load balancer and the container, which it names in
one breath, are kept apart here, the stricter reading. Tags are in no group [inferred].
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from local_oci.http.errors import invalid_parameter
from local_oci.http.messages import validate_details
from local_oci.services.deployments.models import (
    CategoryLogs,
    Configuration,
    DeploymentState,
    InstanceConfiguration,
    ModelDeployment,
    UpdateDeploymentDetails,
)
from local_oci.storage.records import WireModel

_SECTIONS = ("modelConfigurationDetails", "environmentConfigurationDetails")


class Group(StrEnum):
    """Options that change together."""

    NAME = "name and description"
    ENVIRONMENT = "environment variables"
    MODEL = "model"
    COMPUTE = "compute"
    LOGGING = "logging"
    LOAD_BALANCER = "load balancer"
    CONTAINER = "container"


# A change in one of these needs another container; the others are changed in place.
NEEDS_NEW_CONTAINER = frozenset({Group.ENVIRONMENT, Group.MODEL, Group.CONTAINER})


class Target(WireModel):
    """What a deployment shall be after an update."""

    FIELDS: ClassVar[tuple[str, ...]] = (
        "display_name",
        "description",
        "model_deployment_configuration_details",
        "category_log_details",
        "freeform_tags",
        "defined_tags",
    )

    display_name: str
    description: str | None
    model_deployment_configuration_details: Configuration
    category_log_details: CategoryLogs | None
    freeform_tags: dict[str, str]
    defined_tags: dict[str, dict[str, Any]]

    @property
    def instance(self) -> InstanceConfiguration:
        """The shape and the network."""
        model = self.model_deployment_configuration_details.model_configuration_details
        return model.instance_configuration

    def fields(self) -> dict[str, Any]:
        """The values to give the deployment."""
        return {name: getattr(self, name) for name in self.FIELDS}


def plan(current: ModelDeployment, details: UpdateDeploymentDetails) -> Target:
    """Lay an update over what there is; an absent field stays.

    Raises:
        ServiceError: 400 if the result is no valid configuration.
    """
    given = {name: getattr(details, name) for name in Target.FIELDS}
    fields = {
        name: getattr(current, name) if value is None else value for name, value in given.items()
    }
    fields["model_deployment_configuration_details"] = _merge(
        current.model_deployment_configuration_details,
        details.model_deployment_configuration_details or {},
    )
    return Target(**fields)


def _merge(current: Configuration, update: dict[str, Any]) -> Configuration:
    merged = current.model_dump(mode="json", by_alias=True)
    if update.get("deploymentType", merged["deploymentType"]) != merged["deploymentType"]:
        raise invalid_parameter("deploymentType: it cannot be changed.")
    for section in _SECTIONS:
        given = update.get(section) or {}
        merged[section] |= {name: value for name, value in given.items() if value is not None}
    return validate_details(Configuration, merged)


def changed_groups(current: ModelDeployment, target: Target) -> set[Group]:
    """The groups in which an update differs from what there is."""
    old = current.model_deployment_configuration_details
    new = target.model_deployment_configuration_details
    old_model, new_model = old.model_configuration_details, new.model_configuration_details
    old_container = old.environment_configuration_details
    new_container = new.environment_configuration_details
    unvaried: dict[str, dict[str, str]] = {"environment_variables": {}}
    differs = {
        Group.NAME: (current.display_name, current.description)
        != (target.display_name, target.description),
        Group.ENVIRONMENT: old_container.environment_variables
        != new_container.environment_variables,
        Group.MODEL: old_model.model_id != new_model.model_id,
        Group.COMPUTE: (old_model.instance_configuration, old_model.scaling_policy)
        != (new_model.instance_configuration, new_model.scaling_policy),
        Group.LOGGING: current.category_log_details != target.category_log_details,
        Group.LOAD_BALANCER: (old_model.bandwidth_mbps, old_model.maximum_bandwidth_mbps)
        != (new_model.bandwidth_mbps, new_model.maximum_bandwidth_mbps),
        Group.CONTAINER: old_container.model_copy(update=unvaried)
        != new_container.model_copy(update=unvaried),
    }
    return {group for group, changed in differs.items() if changed}


def check_groups(current: ModelDeployment, groups: set[Group]) -> None:
    """Refuse changes in several groups of a deployment that serves: 400 [inferred status]."""
    if len(groups) > 1 and current.lifecycle_state is not DeploymentState.INACTIVE:
        names = ", ".join(sorted(groups))
        raise invalid_parameter(
            "An active model deployment's options change one group at a time, and this update "
            f"changes: {names}. Deactivate it to change them together."
        )
