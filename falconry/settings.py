"""Profiles: frozen, validated `Settings` from TOML and the command line.

No stage depends on the profile's name; what differs between profiles is a value here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from falconry.data_files import (
    CODE_DIRECTORY,
    Section,
    is_checkout,
    read_toml,
    validate_table,
    with_overrides,
)
from falconry.engine_settings import EngineSettings
from falconry.errors import SettingsError
from falconry.files import path_exists, user_path
from falconry.oci_facts import load_limits

_PROFILES = "profiles"
_CONTAINER = load_limits().container
_BANDWIDTH_FACTOR = load_limits().compute.bandwidth_factor
# Keys that profiles had, with what to do about them.
_GONE = {"serving.route": "is gone: deployments answer generate, streams and infer, so omit it"}
# Oracle, "Creating a Model Deployment with Autoscaling Using a Custom Metric"
# (autoscale-vms-custom-metrics-steps.htm): each query has to name the resource so.
_RESOURCE = re.compile(r'\{\s*resourceId\s*=\s*"MODEL_DEPLOYMENT_OCID"')


def _free_port(port: int) -> int:
    if port in _CONTAINER.reserved_ports:
        raise ValueError(f"{port} is one of the cloud's own ports")
    return port


Port = Annotated[
    int, Field(ge=_CONTAINER.lowest_port, le=_CONTAINER.highest_port), AfterValidator(_free_port)
]
"""A port that a container may listen on."""


def _resource_query(query: str) -> str:
    if not _RESOURCE.search(query):
        raise ValueError('has to contain {resourceId = "MODEL_DEPLOYMENT_OCID"}')
    return query


Query = Annotated[str, AfterValidator(_resource_query)]
"""A condition in the Monitoring query language, for one deployment."""


class RegistrySettings(Section):
    """Where server images are pushed to, and as whom.

    Attributes:
        host: any registry; when left out, the profile's cloud has one: OCIR, or local_oci's.
        region: OCIR's, as `us-ashburn-1` or `iad`; the cloud's own region when left out. The
            variable OCIR_REGION wins over it.
        namespace: the tenancy's Object Storage namespace; read from the cloud when left out.
            The variable OCIR_NAMESPACE wins over it.
        prefix: what repository names begin with.
        compartment_id: where a missing repository is made; the cloud's compartment when left out.
        username: whose auth token OCIR_AUTH_TOKEN is; OCIR_USERNAME wins over it.
    """

    host: str | None = None
    region: str | None = None
    namespace: str | None = None
    prefix: Annotated[str, Field(pattern=r"^[a-z0-9]+([._/-][a-z0-9]+)*$")]
    compartment_id: str | None = None
    username: str | None = None


class ImageSettings(Section):
    """The server image.

    Attributes:
        run: what deployments of the emulator run: containers, process images (which replace them
            without Docker), or containers where possible. Oracle's cloud runs only containers.
        process_image: the name of the process image, for the emulator.
        reference: the user's own image; none is built then.
        base: what the CPU server image is built from; TensorRT-LLM's is the toolchain's image.
        ca_bundle: certificates that downloads during a build trust, for networks with an
            authority of their own; no image keeps them.
        compose: other backends in place of the profile's server: `backends=... repoagents=...`.
        compose_full, compose_min: images in place of the release's that a composed one is made of.
    """

    run: Literal["auto", "container", "process"] = "container"
    process_image: str | None = None
    reference: str | None = None
    base: str | None = None
    ca_bundle: Path | None = None
    compose: str | None = None
    compose_full: str | None = None
    compose_min: str | None = None
    registry: RegistrySettings


class TensorRtLlmServing(Section):
    """Options of NVIDIA's C++ backend.

    Its own defaults, unless said otherwise (TensorRT-LLM 1.0.0, model_config.md of the backend).

    Attributes:
        kv_cache_free_gpu_mem_fraction: of the memory that weights and activations leave free.
        max_tokens_in_kv_cache: a limit of the cache in tokens besides; the smaller one holds.
        kv_cache_reuse: whether equal beginnings of prompts are computed once, where the engine can.
        chunked_context: whether long prompts are computed in several steps, where the engine can;
            the backend's own default is not to.
        scheduler_policy: `guaranteed_no_evict` admits what fits to its end; `max_utilization`
            admits more and pauses requests when the cache is full.
        cancellation_check_period_ms: how soon a disconnect is noticed; the backend's own is 100.
        max_queue_size: waiting requests beyond which new ones are refused; 0 for no limit.
        max_queue_delay_microseconds: how long a request waits for others to be handed over with.
    """

    kv_cache_free_gpu_mem_fraction: Annotated[float, Field(gt=0, le=1)] = 0.9
    max_tokens_in_kv_cache: Annotated[int, Field(ge=1)] | None = None
    kv_cache_reuse: bool = True
    chunked_context: bool = True
    scheduler_policy: Literal["guaranteed_no_evict", "max_utilization"] = "guaranteed_no_evict"
    cancellation_check_period_ms: Annotated[int, Field(ge=1)] = 20
    max_queue_size: Annotated[int, Field(ge=0)] = 0
    max_queue_delay_microseconds: Annotated[int, Field(ge=0)] = 0


class ServingSettings(Section):
    """How requests reach the deployed server.

    Attributes:
        port: of the server inside its container.
        grpc_port: opens Triton's own gRPC, without the front's limits; otherwise it is on loopback.
        tensorrt_llm: for GPU engines.
    """

    port: Port
    grpc_port: Port | None = None
    tensorrt_llm: TensorRtLlmServing = TensorRtLlmServing()

    @model_validator(mode="after")
    def _two_ports(self) -> ServingSettings:
        if self.grpc_port == self.port:
            raise ValueError("grpc_port and port have to be different")
        return self


class EmulatorSettings(Section):
    """The local cloud that emulates Oracle's; a profile without it uses the real one.

    Attributes:
        directory: of its state.
        port: of its endpoint; 0 for any free one, the same again next time.
        isolation: of deployments that run as processes: namespaces, none (`plain`), or namespaces
            where the kernel allows them.
    """

    directory: Path
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    isolation: Literal["auto", "namespaces", "plain"] = "auto"


class UploadSettings(Section):
    """How artifacts are uploaded to the model catalog.

    Attributes:
        bucket: where large ones are staged, created if missing; each is removed when the catalog
            has it, and kept for the next run when the catalog refuses it.
        staged_above_mib: the size above which an artifact is staged. ADS 2.16 has 2 GiB.
        megabytes_per_second: the limit of an upload, in 10^6 bytes; no limit when left out.
    """

    bucket: str = "falconry-staging"
    staged_above_mib: Annotated[int, Field(ge=0)] = 2048
    megabytes_per_second: Annotated[float, Field(gt=0)] | None = None


class CloudSettings(Section):
    """The account and its resources, which are created when missing.

    Attributes:
        auth: how requests are signed: by a user's API key or session token, both of the
            configuration file, or as the instance or the resource that this runs on.
        config_file, config_profile: the SDK's; OCI_CONFIG_FILE replaces `~/.oci/config`.
        compartment_id: of everything that is created; the tenancy's root when left out.
        project: the Data Science project's name.
        model_version_set: which set of the catalog models become versions of; none when left out.
        log_group, log: where the deployment's container logs to (OCI's predict log).
        access_log: where its requests are logged; the same log when left out.
        tags: freeform tags of everything that is created, such as `team=search`. OCI allows ten on
            a resource, and a deployment has seven already.
    """

    auth: Literal["api_key", "session_token", "instance_principal", "resource_principal"] = (
        "api_key"
    )
    config_file: Path = Path("~/.oci/config")
    config_profile: str = "DEFAULT"
    compartment_id: str | None = None
    project: str
    model_version_set: str | None = None
    log_group: str
    log: str
    access_log: str | None = None
    tags: Annotated[
        tuple[Annotated[str, Field(pattern="^[^=]+=.+$")], ...], Field(max_length=3)
    ] = ()
    upload: UploadSettings = UploadSettings()
    emulator: EmulatorSettings | None = None


class CustomEndpoint(Section):
    """A path of the server that clients may call.

    Attributes:
        path: such as `/v2/models/{}/generate`; `{}` is a wildcard for one part of it.
        methods: of HTTP.
    """

    path: Annotated[str, Field(pattern="^/")]
    methods: Annotated[tuple[Literal["GET", "POST", "PUT", "DELETE"], ...], Field(min_length=1)] = (
        "POST",
    )


class ScalingRule(Section):
    """When to add and remove instances: by thresholds or by queries.

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
        name: its display name, which it is found by.
        description: shown in the console.
        shape: of its instances.
        ocpus, memory_gib: of an instance of a flexible shape.
        instances: how many, unless `autoscaling` decides it.
        bandwidth_mbps, maximum_bandwidth_mbps: of the load balancer, scaled up to the maximum.
        subnet_id: for an instance in a network of the user's; it cannot be undone.
        private_endpoint_id: of a Data Science private endpoint.
        internet: whether instances reach the internet; the cloud's default when left out.
        capacity_reservation_ids: reservations that instances are taken from.
        environment: the container's variables; they win over ours.
        custom_endpoints: replace those of Triton; empty for none.
        openai: whether OpenAI's paths are open as well (`predictApiSpecification`).
        timeout_minutes: how long to wait for an operation of the cloud.
        downtime: whether the deployment may be stopped for a change that needs it.
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
        Annotated[tuple[CustomEndpoint, ...], Field(max_length=_CONTAINER.custom_endpoints)] | None
    ) = None
    openai: bool = False
    timeout_minutes: Annotated[int, Field(ge=1)] = 30
    downtime: bool = False

    @model_validator(mode="after")
    def _within_limits(self) -> DeploymentSettings:
        if problem := _CONTAINER.variable_problem(self.environment):
            raise ValueError(f"environment: {problem}")
        least, most = self.bandwidth_mbps, self.maximum_bandwidth_mbps
        if most is not None and not least <= most <= _BANDWIDTH_FACTOR * least:
            raise ValueError("maximum_bandwidth_mbps is one to two times bandwidth_mbps")
        if self.subnet_id is not None and self.internet is not None:
            raise ValueError("internet is for Oracle's network; a subnet has routes of its own")
        return self


class Settings(Section):
    """All settings of a run.

    Attributes:
        profile: the name of the profile; never in the file.
        checkpoint: a directory, or `hub:<repository>@<commit>`; the recipe's model when left out.
        recipe: a name in engine/recipes.
    """

    profile: str
    checkpoint: str | None = None
    recipe: str
    engine: EngineSettings
    image: ImageSettings
    serving: ServingSettings
    cloud: CloudSettings
    deployment: DeploymentSettings

    @property
    def build_directory(self) -> Path:
        """The directory of this profile's outputs and receipts."""
        return Path("build") / self.profile


def load_settings(
    root: Path,
    profile: str = "local",
    *,
    recipe: str | None = None,
    checkpoint: str | None = None,
    overrides: str | None = None,
) -> Settings:
    """Reads `profiles/<profile>.toml` and lays the command line's values over it.

    Args:
        root: the project's directory.
        profile: a profile's name.
        recipe: a recipe's name in place of the profile's.
        checkpoint: one in place of the profile's; relative to the working directory.
        overrides: `section.key=value` words, as `data_files.with_overrides` reads them.

    Raises:
        SettingsError: an unknown profile, TOML that does not parse, or a key or value that is
            not allowed; all wrong keys are named together.
    """
    path = _find_profile(profile, [root], "choose one of")
    # Another text may be meant as a name of the hub, and is refused as it was written.
    if checkpoint and path_exists(directory := user_path(checkpoint).absolute()):
        checkpoint = str(directory)
    named = {"profile": profile, "recipe": recipe, "checkpoint": checkpoint}
    chosen = {key: value for key, value in named.items() if value}
    where = path.relative_to(root)
    values = with_overrides(read_toml(path), overrides or "", "SET") | chosen
    try:
        return validate_table(values, Settings, where, _GONE)
    except SettingsError as error:
        if not overrides:
            raise
        validate_table(read_toml(path) | chosen, Settings, where, _GONE)  # the profile's own fault
        raise SettingsError(error.problem, where="SET", remedy=error.remedy) from None


def load_profile(profile: str | Path) -> Settings:
    """Reads a profile in any directory, with or without a checkout.

    Args:
        profile: a path with a directory or the ending .toml, or a name in `profiles/` of the
            checkout or else of the working directory. Paths in it are relative to the latter.

    Raises:
        SettingsError: there is no such profile, or it is not valid.
    """
    path = Path(profile)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if not path.is_file():
            raise SettingsError("there is no such profile", where=path.absolute())
    else:
        roots = [CODE_DIRECTORY, Path.cwd()] if is_checkout() else [Path.cwd()]
        path = _find_profile(str(path), roots, "give the path of a TOML file, or one of")
    return validate_table({**read_toml(path), "profile": path.stem}, Settings, path, _GONE)


def _find_profile(name: str, roots: Sequence[Path], remedy: str) -> Path:
    directories = dict.fromkeys(root / _PROFILES for root in roots)
    for directory in directories:
        path = directory / f"{name}.toml"
        if path.is_file():
            return path
    known = sorted({path.stem for each in directories for path in each.glob("*.toml")})
    raise SettingsError(
        f"there is no profile '{name}' in {' or '.join(str(each) for each in directories)}",
        remedy=f"{remedy}: {', '.join(known) or 'none yet'}",
    )
