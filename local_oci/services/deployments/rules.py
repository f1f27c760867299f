"""The documented limits of a deployment, its shapes, and its container's paths. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from importlib.resources import files

from pydantic import Field

from local_oci.http.errors import invalid_parameter
from local_oci.limits import (
    COMMAND_BYTES,
    CUSTOM_ENDPOINT_METHODS,
    ENVIRONMENT_BYTES,
    ENVIRONMENT_KEY,
    ENVIRONMENT_KEY_CHARACTERS,
    MAX_CUSTOM_ENDPOINTS,
    MAX_MEMORY_PER_OCPU,
    MAX_PENDING,
    MAX_PORT,
    MIN_COOL_DOWN_SECONDS,
    MIN_MEMORY_PER_OCPU,
    MIN_PENDING,
    MIN_PORT,
    RESERVED_ENVIRONMENT,
    RESERVED_PORTS,
    SCALING_QUERY_SUBJECT,
)
from local_oci.services.deployments.models import (
    AutoScalingPolicy,
    CustomEndpoint,
    CustomRule,
    InstanceConfiguration,
    ModelConfiguration,
    PredefinedRule,
    QueryConfiguration,
    ThresholdConfiguration,
)
from local_oci.storage.records import Record

_FILE = "shapes.toml"
_CUSTOM_NETWORKING = "CUSTOM_NETWORKING"
# Hours, minutes and seconds of an ISO 8601 duration, as in PT5M.
_DURATION = re.compile(r"PT(?=\d)(?:(\d{1,5})H)?(?:(\d{1,5})M)?(?:(\d{1,5})S)?", re.ASCII)
_SIZE = re.compile(r"[0-9]{1,15}[kmgKMG]?")
_PATH_VARIABLES = frozenset({"MODEL_DEPLOY_HEALTH_ENDPOINT", "MODEL_DEPLOY_PREDICT_ENDPOINT"})
_DEFAULT_PREDICT_PATH = "/predict"
_DEFAULT_HEALTH_PATH = "/health"
_TRITON_HEALTH_PATH = "/v2/health/ready"


class Shape(Record):
    """ModelDeploymentShapeSummary, with what it does not show."""

    INTERNAL = frozenset({"etag", "flexible", "gpus"})

    name: str
    core_count: int
    memory_in_gbs: int = Field(alias="memoryInGBs")
    shape_series: str
    flexible: bool = False
    gpus: int = 0


@cache
def all_shapes() -> dict[str, Shape]:
    """Every shape, by name, in the order of the file."""
    content = tomllib.loads(files(__package__).joinpath(_FILE).read_text())
    shapes = (Shape(shape_series=row.pop("series"), **row) for row in content["shape"])
    return {shape.name: shape for shape in shapes}


# --- shape, network, instances, bandwidth -----------------------------------------------------


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
    groups = (part.partition("{")[2] for part in query.split("}")[:-1])
    if not any(SCALING_QUERY_SUBJECT.search(group) for group in groups):
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
    parts = value.split(".", 4)
    if parts[:2] != ["ocid1", resource_type] or len(parts) < 5 or not parts[4]:
        raise invalid_parameter(f"{name}: '{value}' is not the OCID of a {resource_type}.")


# --- command, ports, variables, endpoints -----------------------------------------------------


def is_allowed_port(port: int) -> bool:
    """Whether a container may listen on a port."""
    return MIN_PORT <= port <= MAX_PORT and port not in RESERVED_PORTS


def check_port(name: str, port: int) -> None:
    """Refuse a port outside the documented range, or a reserved one: 400."""
    if not is_allowed_port(port):
        reserved = ", ".join(str(number) for number in sorted(RESERVED_PORTS))
        raise invalid_parameter(
            f"{name}: {port} is not between {MIN_PORT} and {MAX_PORT}, or one of {reserved}."
        )


def check_command(entrypoint: Sequence[str], cmd: Sequence[str]) -> None:
    """Refuse a command that is too long: 400."""
    if any("\0" in word for word in (*entrypoint, *cmd)):
        raise invalid_parameter("cmd and entrypoint: no program can have a NUL as an argument.")
    size = sum(len(word.encode()) for word in (*entrypoint, *cmd))
    if size >= COMMAND_BYTES:
        raise invalid_parameter(
            f"cmd and entrypoint: {size} bytes together, must be less than {COMMAND_BYTES}."
        )


def check_environment(variables: Mapping[str, str]) -> None:
    """Refuse names that break a rule, and too much of everything: 400."""
    for name, value in variables.items():
        if "\0" in value:
            raise invalid_parameter(f"environmentVariables: '{name}' holds a NUL.")
        if name in _PATH_VARIABLES and not (value.isascii() and value.isprintable()):
            raise invalid_parameter(f"environmentVariables: '{name}' is not a path of a URL.")
        if name == "SHM_SIZE" and not _SIZE.fullmatch(value):
            raise invalid_parameter(
                f"environmentVariables: SHM_SIZE '{value}' is not a size such as 5g."
            )
        too_long = len(name) >= ENVIRONMENT_KEY_CHARACTERS
        if too_long or not ENVIRONMENT_KEY.fullmatch(name):
            raise invalid_parameter(
                f"environmentVariables: '{name}' is not a valid name: 2 to "
                f"{ENVIRONMENT_KEY_CHARACTERS - 1} letters, digits and underscores, the first a "
                "letter, the last not an underscore."
            )
        if name in RESERVED_ENVIRONMENT:
            raise invalid_parameter(f"environmentVariables: '{name}' is reserved by the service.")
    size = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size >= ENVIRONMENT_BYTES:
        raise invalid_parameter(
            f"environmentVariables: {size} bytes in all, must be less than {ENVIRONMENT_BYTES}."
        )


def check_custom_endpoints(endpoints: Sequence[CustomEndpoint]) -> None:
    """Refuse too many custom endpoints, other methods, and suffixes that are no paths: 400."""
    if len(endpoints) > MAX_CUSTOM_ENDPOINTS:
        raise invalid_parameter(
            f"customHttpEndpoints: {len(endpoints)} endpoints, at most {MAX_CUSTOM_ENDPOINTS}."
        )
    for endpoint in endpoints:
        suffix = endpoint.endpoint_uri_suffix
        if not suffix.startswith("/"):
            raise invalid_parameter(f"endpointUriSuffix: '{suffix}' does not begin with '/'.")
        if not endpoint.http_methods or not CUSTOM_ENDPOINT_METHODS.issuperset(
            endpoint.http_methods
        ):
            allowed = ", ".join(sorted(CUSTOM_ENDPOINT_METHODS))
            raise invalid_parameter(f"httpMethods of '{suffix}': one or more of {allowed}.")


# --- paths that a container's variables decide ------------------------------------------------


def is_triton(variables: Mapping[str, str]) -> bool:
    """Whether the service maps its endpoints to Triton's on its own."""
    return variables.get("CONTAINER_TYPE") == "TRITON"


def health_path(variables: Mapping[str, str]) -> str:
    """Where the container says that it is healthy."""
    configured = variables.get("MODEL_DEPLOY_HEALTH_ENDPOINT")
    if configured:
        return _rooted(configured)
    return _TRITON_HEALTH_PATH if is_triton(variables) else _DEFAULT_HEALTH_PATH


def predict_path(variables: Mapping[str, str]) -> str | None:
    """Where the container answers `/predict`; None where Triton's model headers decide."""
    configured = variables.get("MODEL_DEPLOY_PREDICT_ENDPOINT")
    if configured:
        return _rooted(configured)
    return None if is_triton(variables) else _DEFAULT_PREDICT_PATH


def _rooted(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
