"""A deployment in the SDK's terms, as the checks of falconry.preflight take it."""

from __future__ import annotations

from typing import Any

from falconry.engine.manifest import Manifest
from falconry.engine.toolchain import Toolchain
from falconry.preflight import Account, Artifact, Compute, Container, DeploymentSubject, Image


def subject_of(
    name: str,
    configuration: Any,
    artifact: Artifact,
    image: Image,
    *,
    engine: Manifest | None = None,
    toolchain: Toolchain | None = None,
    account: Account | None = None,
) -> DeploymentSubject:
    """What a deployment would be made with.

    Args:
        name: its display name.
        configuration: oci's SingleModelDeploymentConfigurationDetails; its model need not exist.
        artifact: what would be uploaded.
        image: what is known of the image.
        engine: the manifest of the engine inside the artifact.
        toolchain: the release that the image was made of.
        account: what could be read of the tenancy.
    """
    return DeploymentSubject(
        name=name,
        artifact=artifact,
        container=_container(configuration.environment_configuration_details),
        image=image,
        compute=_compute(configuration.model_configuration_details),
        engine=engine,
        toolchain=toolchain,
        account=account or Account(),
    )


def _container(details: Any) -> Container:
    return Container(
        command=details.cmd or (),
        entrypoint=details.entrypoint or (),
        environment=details.environment_variables or {},
    )


def _compute(details: Any) -> Compute:
    instance = details.instance_configuration
    size = instance.model_deployment_instance_shape_config_details
    return Compute(
        shape=instance.instance_shape_name,
        ocpus=size.ocpus if size else None,
        memory_gib=size.memory_in_gbs if size else None,
        instances=_most_instances(details.scaling_policy),
    )


def _most_instances(policy: Any) -> int:
    """Of a fixed size, or what autoscaling may reach."""
    if policy is None:
        return 1
    if policy.policy_type == "FIXED_SIZE":
        return int(policy.instance_count)
    counts = [each.maximum_instance_count for each in policy.auto_scaling_policies or ()]
    return max((int(count) for count in counts if count is not None), default=1)
