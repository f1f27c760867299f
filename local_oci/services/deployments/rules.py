"""The documented limits of a deployment's shape, network, instances and bandwidth. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from local_oci.http.errors import invalid_parameter
from local_oci.limits import (
    MAX_MEMORY_PER_OCPU,
    MAX_PENDING,
    MIN_COOL_DOWN_SECONDS,
    MIN_MEMORY_PER_OCPU,
    MIN_PENDING,
    SCALING_QUERY_SUBJECT,
)
from local_oci.services.deployments.models import InstanceConfiguration, ModelConfiguration
from local_oci.services.deployments.scaling import (
    AutoScalingPolicy,
    CustomRule,
    PredefinedRule,
    QueryConfiguration,
    ThresholdConfiguration,
)
from local_oci.services.deployments.shapes import Shape, all_shapes

_CUSTOM_NETWORKING = "CUSTOM_NETWORKING"
# Whole hours, minutes and seconds of an ISO 8601 duration, as in PT5M.
_DURATION = re.compile(r"PT(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")


def check_compute(configuration: ModelConfiguration) -> None:
    """Refuse what no deployment can have: 400."""
    instance = configuration.instance_configuration
    _check_shape(instance)
    _check_network(instance)
    for reservation in instance.capacity_reservation_ids or ():
        _check_ocid("capacityReservationIds", reservation, "capacityreservation")
    _check_bandwidth(configuration)
    if isinstance(configuration.scaling_policy, AutoScalingPolicy):
        _check_scaling(configuration.scaling_policy)


def check_network_change(old: InstanceConfiguration, new: InstanceConfiguration) -> None:
    """Refuse to leave custom networking: 400 (model-dep-edit.htm; the status is [inferred])."""
    was, is_now = (each.network_access_type == _CUSTOM_NETWORKING for each in (old, new))
    if was and not is_now:
        raise invalid_parameter(
            "networkAccessType: a deployment with custom networking cannot change back."
        )


def _check_shape(instance: InstanceConfiguration) -> None:
    shape = all_shapes().get(instance.instance_shape_name)
    if shape is None:
        raise invalid_parameter(
            f"instanceShapeName: '{instance.instance_shape_name}' is not a supported shape."
        )
    size = instance.model_deployment_instance_shape_config_details
    if size is None or not shape.flexible:
        return
    if size.ocpus is not None and not 1 <= size.ocpus <= shape.core_count:
        raise invalid_parameter(f"ocpus: {shape.name} has 1 to {shape.core_count}.")
    if size.memory_in_gbs is not None:
        _check_memory(shape, size.ocpus or 1, size.memory_in_gbs)


def _check_memory(shape: Shape, ocpus: float, memory: float) -> None:
    least = MIN_MEMORY_PER_OCPU * ocpus
    most = min(MAX_MEMORY_PER_OCPU * ocpus, shape.memory_in_gbs)
    if not least <= memory <= most:
        raise invalid_parameter(
            f"memoryInGBs: {shape.name} with {ocpus:g} OCPUs has {least:g} to {most:g}."
        )


def _check_network(instance: InstanceConfiguration) -> None:
    """That custom networking and a subnet go together is [inferred]."""
    if instance.subnet_id is not None:
        _check_ocid("subnetId", instance.subnet_id, "subnet")
        if instance.network_access_type not in (None, _CUSTOM_NETWORKING):
            raise invalid_parameter(
                f"subnetId: it needs the networkAccessType {_CUSTOM_NETWORKING}, not "
                f"{instance.network_access_type}."
            )
    elif instance.network_access_type == _CUSTOM_NETWORKING:
        raise invalid_parameter(f"networkAccessType: {_CUSTOM_NETWORKING} needs a subnetId.")
    if instance.private_endpoint_id is not None:
        _check_ocid("privateEndpointId", instance.private_endpoint_id, "datascienceprivateendpoint")


def _check_bandwidth(configuration: ModelConfiguration) -> None:
    maximum = configuration.maximum_bandwidth_mbps
    minimum = configuration.bandwidth_mbps
    if maximum is not None and not minimum <= maximum <= 2 * minimum:
        raise invalid_parameter(
            f"maximumBandwidthMbps: {maximum} is not between bandwidthMbps, {minimum}, and twice "
            "that."
        )


def _check_scaling(policy: AutoScalingPolicy) -> None:
    if policy.cool_down_in_seconds < MIN_COOL_DOWN_SECONDS:
        raise invalid_parameter(
            f"coolDownInSeconds: {policy.cool_down_in_seconds} is less than "
            f"{MIN_COOL_DOWN_SECONDS}."
        )
    details = policy.auto_scaling_policies[0]
    least, most = details.minimum_instance_count, details.maximum_instance_count
    if not least <= details.initial_instance_count <= most:
        raise invalid_parameter(
            f"initialInstanceCount: {details.initial_instance_count} is not between "
            f"minimumInstanceCount, {least}, and maximumInstanceCount, {most}."
        )
    for rule in details.rules:
        _check_rule(rule)


def _check_rule(rule: PredefinedRule | CustomRule) -> None:
    scale_in, scale_out = rule.scale_in_configuration, rule.scale_out_configuration
    for configuration in (scale_in, scale_out):
        _check_pending(configuration.pending_duration)
        if isinstance(configuration, QueryConfiguration):
            _check_query(configuration.query)
    if (
        isinstance(scale_in, ThresholdConfiguration)
        and isinstance(scale_out, ThresholdConfiguration)
        and scale_in.threshold >= scale_out.threshold
    ):
        raise invalid_parameter(
            f"threshold: {scale_in.threshold} to scale in is not below {scale_out.threshold} to "
            "scale out."
        )


def _check_query(query: str) -> None:
    if not SCALING_QUERY_SUBJECT.search(query):
        raise invalid_parameter(
            f'query: "{query}" does not contain {{resourceId = "MODEL_DEPLOYMENT_OCID"}}.'
        )


def _check_pending(duration: str | None) -> None:
    if duration is None:
        return
    match = _DURATION.fullmatch(duration)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    value = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    if not MIN_PENDING <= value <= MAX_PENDING:
        raise invalid_parameter(f"pendingDuration: '{duration}' is not between PT3M and PT1H.")


def _check_ocid(name: str, value: str, resource_type: str) -> None:
    if not re.fullmatch(rf"ocid1\.{resource_type}\.[^.]*\.[^.]*\..+", value):
        raise invalid_parameter(f"{name}: '{value}' is not the OCID of a {resource_type}.")
