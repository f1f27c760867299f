"""Compares a deployment with its target and makes updates.

Pure: the next update follows from the current deployment and the target, so any run resumes where
another one ended.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any

import oci
from oci.data_science import models as oci_models

from falconry.deployment.target import KEY_TAG, DeploymentSpec


class Group(StrEnum):
    """Options that one update of a running deployment may change.

    They are those of Oracle's "Editing a Model Deployment" (model-dep-edit.htm). It names the
    load balancer and the container together; here they are two groups, the stricter reading.
    """

    LOGGING = "logs"
    BANDWIDTH = "bandwidth"
    COMPUTE = "shape, network or number of instances"
    CONTAINER = "image, command or endpoints"
    ENVIRONMENT = "environment"
    MODEL = "model"
    DESCRIPTION = "description"


_MODEL_FIELDS = {
    Group.MODEL: ("model_id",),
    Group.COMPUTE: ("instance_configuration", "scaling_policy"),
    Group.BANDWIDTH: ("bandwidth_mbps", "maximum_bandwidth_mbps"),
}
_CONTAINER_FIELDS = {
    Group.CONTAINER: (
        "image",
        "image_digest",
        "cmd",
        "entrypoint",
        "server_port",
        "health_check_port",
        "predict_api_specification",
        "custom_http_endpoints",
    ),
    Group.ENVIRONMENT: ("environment_variables",),
}
# The last word of a variable whose value is not shown.
_SECRET = re.compile(
    r"(AUTH|CREDENTIALS?|KEY|PASSPHRASE|PASSWD|PASSWORD|SECRETS?|TOKEN)$", re.IGNORECASE
)
# The default of ADS and the console; the API's is not published [inferred].
_DEFAULT_MBPS = 10

MAY_NEED_STOP = frozenset({Group.BANDWIDTH, Group.COMPUTE})
"""Oracle contradicts itself on these: `update_model_deployment` changes them on a running
deployment, `UpdateModelDeploymentDetails` only on an inactive one (oci 2.189.0). So the cloud's
answer decides."""


def differences(current: Any, target: DeploymentSpec) -> list[Group]:
    """Returns the groups that differ from the target, in order of change.

    The image and its variables come before the model, which older images may not serve in full.
    More memory and storage come before the model that may need it, less memory after.
    """
    differ = {
        group for group, _, now, new in _options(current, target) if any(_unlike("", now, new))
    }
    return [group for group in _order(current, target) if group in differ]


def differing_fields(
    current: Any, target: DeploymentSpec, groups: Collection[Group]
) -> list[tuple[str, str, str]]:
    """Returns the name, the current and the target's value of each field of these groups.

    Values of variables that are called as secrets are left out.
    """
    return [
        (field, _shown(field, now), _shown(field, new))
        for group, name, old, wanted in _options(current, target)
        if group in groups
        for field, now, new in _unlike(name, old, wanted)
    ]


def must_change_together(current: Any, target: DeploymentSpec) -> bool:
    """Whether a running deployment would fail with only one of its changes.

    An engine for GPUs runs with the TensorRT-LLM release and on the GPU that it was built for.
    """
    if not target.engine_bound:
        return False
    (old_model, old_container) = _parts(current.model_deployment_configuration_details)
    (new_model, new_container) = _parts(target.configuration)
    changes = [
        old_model.model_id != new_model.model_id,
        (old_container.image, old_container.image_digest)
        != (new_container.image, new_container.image_digest),
        old_model.instance_configuration.instance_shape_name
        != new_model.instance_configuration.instance_shape_name,
    ]
    return sum(bool(change) for change in changes) > 1


def irreversible_changes(current: Any, target: DeploymentSpec) -> list[str]:
    """Returns the settings to remove that no update can remove."""
    (old_model, old_container) = _parts(current.model_deployment_configuration_details)
    (new_model, new_container) = _parts(target.configuration)
    pairs = {
        "subnet_id": (old_model.instance_configuration, new_model.instance_configuration),
        "private_endpoint_id": (old_model.instance_configuration, new_model.instance_configuration),
        "maximum_bandwidth_mbps": (old_model, new_model),
        "predict_api_specification": (old_container, new_container),
    }
    return [
        name
        for name, (old, new) in pairs.items()
        if getattr(old, name) is not None and getattr(new, name) is None
    ]


def update_of(current: Any, target: DeploymentSpec, groups: Collection[Group]) -> Any:
    """Makes the update of these groups, which removes the key's tag."""
    now, new = _parts(current.model_deployment_configuration_details), _parts(target.configuration)
    model = _mixed(now[0], new[0], _MODEL_FIELDS, groups)
    container = _mixed(now[1], new[1], _CONTAINER_FIELDS, groups)
    logs = target.logs if Group.LOGGING in groups else None
    tags = dict(current.freeform_tags or {})
    configuration = oci_models.UpdateSingleModelDeploymentConfigurationDetails(
        model_configuration_details=(
            oci_models.UpdateModelConfigurationDetails(**model) if model else None
        ),
        environment_configuration_details=(
            oci_models.UpdateOcirModelDeploymentEnvironmentConfigurationDetails(**container)
            if container
            else None
        ),
    )
    return oci_models.UpdateModelDeploymentDetails(
        description=target.description if Group.DESCRIPTION in groups else None,
        category_log_details=logs
        and oci_models.UpdateCategoryLogDetails(access=logs.access, predict=logs.predict),
        model_deployment_configuration_details=configuration if model or container else None,
        freeform_tags={name: value for name, value in tags.items() if name != KEY_TAG},
    )


def _order(current: Any, target: DeploymentSpec) -> list[Group]:
    container = [Group.CONTAINER, Group.ENVIRONMENT, Group.MODEL]
    before, after = [Group.LOGGING, Group.BANDWIDTH], [Group.DESCRIPTION]
    (before if not _shrinks(current, target) else after).append(Group.COMPUTE)
    return [*before, *container, *after]


def _shrinks(current: Any, target: DeploymentSpec) -> bool:
    """Whether a flexible shape gets less memory."""
    sizes = [
        configuration.model_configuration_details.instance_configuration.model_deployment_instance_shape_config_details
        for configuration in (
            current.model_deployment_configuration_details,
            target.configuration,
        )
    ]
    old, new = (size.memory_in_gbs if size else None for size in sizes)
    return old is not None and new is not None and new < old


def _parts(configuration: Any) -> tuple[Any, Any]:
    return (
        configuration.model_configuration_details,
        configuration.environment_configuration_details,
    )


def _mixed(
    old: Any, new: Any, fields: Mapping[Group, tuple[str, ...]], groups: Collection[Group]
) -> dict[str, Any]:
    """Returns new values for the groups and old ones for the others."""
    if not any(group in groups for group in fields):
        return {}
    return {
        name: getattr(new if group in groups else old, name)
        for group, names in fields.items()
        for name in names
    }


def _stated(configuration: Any, name: str) -> Any:
    """Returns an option as the cloud shows it, or its default."""
    value = getattr(configuration, name)
    if value is None and name == "scaling_policy":
        return oci_models.FixedSizeScalingPolicy(instance_count=1)
    return _DEFAULT_MBPS if value is None and name == "bandwidth_mbps" else value


def _options(current: Any, target: DeploymentSpec) -> Iterator[tuple[Group, str, Any, Any]]:
    """Yields each option's group, name, current and target's value."""
    now, new = _parts(current.model_deployment_configuration_details), _parts(target.configuration)
    for fields, old, wanted in zip((_MODEL_FIELDS, _CONTAINER_FIELDS), now, new, strict=True):
        for group, names in fields.items():
            for name in names:
                yield group, name, _stated(old, name), getattr(wanted, name)
    yield Group.LOGGING, "category_log_details", current.category_log_details, target.logs
    yield Group.DESCRIPTION, "description", current.description, target.description


def _unlike(name: str, now: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields what differs of a value, with the names of its parts; None matches anything."""
    if new is None:
        return
    if hasattr(new, "swagger_types") and type(now) is type(new):
        for part in new.swagger_types:
            yield from _unlike(f"{name}.{part}", getattr(now, part), getattr(new, part))
    elif isinstance(new, dict):
        old = now or {}
        for part in sorted({*old, *new}):
            if old.get(part) != new.get(part):
                yield f"{name}.{part}", old.get(part), new.get(part)
    elif isinstance(new, list):
        old = now or []
        pairs = zip(old, new, strict=False)
        if len(old) != len(new) or any(any(_unlike("", *pair)) for pair in pairs):
            yield name, now, new
    elif now != new:
        yield name, now, new


def _shown(field: str, value: Any) -> str:
    if field.startswith("environment_variables.") and _SECRET.search(field):
        return "another value (not shown)"
    return json.dumps(oci.util.to_dict(value), ensure_ascii=False)
