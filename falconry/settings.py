"""Profiles: a TOML file and the command line's overrides become one frozen, validated `Settings`.

No stage asks which profile it is in; what differs between profiles is a value here.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from falconry.data_files import CODE_DIRECTORY, is_checkout, read_toml, validate_table
from falconry.deployment_settings import DeploymentSettings, Port
from falconry.errors import SettingsError
from falconry.sections import Section

_PROFILES = "profiles"


class MirrorSettings(Section):
    """An Object Storage bucket that build runners share engines through."""

    bucket: str
    prefix: str = "engines"


class EngineSettings(Section):
    """How engines are built and where they are kept.

    Attributes:
        builder: for what they are built: a CPU by OpenVINO, NVIDIA GPUs by TensorRT-LLM.
        store: the directory of finished engines.
        toolchain: TensorRT-LLM's row in engine/toolchains.toml; its default when left out.
        image: an image of the user's in place of the row's.
        verify: whether a new GPU engine must answer as its checkpoint does to enter the store.
        mirror: where other runners' engines are fetched from, and this one's put.
    """

    builder: Literal["openvino", "tensorrt_llm"]
    store: Path
    toolchain: str | None = None
    image: str | None = None
    verify: Literal["on", "off"] = "on"
    mirror: MirrorSettings | None = None


class RegistrySettings(Section):
    """Where server images are pushed to, and as whom.

    Attributes:
        host: any registry; when left out, the profile's cloud has one: OCIR, or local_oci's.
        region: OCIR's, as `us-ashburn-1` or `iad`; the cloud's own region when left out. The
            variable OCIR_REGION wins over it.
        namespace: the tenancy's Object Storage namespace; asked of the cloud when left out. The
            variable OCIR_NAMESPACE wins over it.
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
        run: what deployments of the emulator run: containers, process images (a stand-in that
            needs no Docker engine), or containers where this machine has all that they need.
            Oracle's cloud knows containers only.
        process_image: the name of the process image, for the emulator.
        reference: an image of the user's own, in place of one that is built.
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
    """What NVIDIA's C++ backend is told about serving an engine.

    Its own defaults, unless said otherwise (TensorRT-LLM 1.0.0, model_config.md of the backend).

    Attributes:
        kv_cache_free_gpu_mem_fraction: of the memory that weights and activations leave free.
        max_tokens_in_kv_cache: a limit of the cache in tokens besides; the smaller one holds.
        kv_cache_reuse: whether equal beginnings of prompts are computed once, where the engine can.
        chunked_context: whether long prompts are computed in several steps, where the engine can;
            the backend's own default is not to.
        scheduler_policy: `guaranteed_no_evict` admits what fits to its end; `max_utilization`
            admits more and pauses requests when the cache is full.
        cancellation_check_period_ms: how soon a client that has gone is noticed. The backend's
            default, 100, is several tokens' time.
        max_queue_size: waiting requests beyond which new ones are refused; 0 for no limit.
        max_queue_delay_microseconds: how long a request waits for others to be handed over with;
            they are batched in flight anyway.
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
    """How the deployed server is asked.

    `route` decides what OCI's `/predict` is mapped to. `generate` (with `generate_stream` for
    streams) needs decoupled models, and Triton refuses `/infer` on those, so it is one or the
    other for a deployment (Triton 2.51, `http_server.cc`). `tensorrt_llm` is for GPU engines.
    """

    route: Literal["generate", "infer"]
    port: Port
    tensorrt_llm: TensorRtLlmServing = TensorRtLlmServing()


class EmulatorSettings(Section):
    """The local cloud that stands in for Oracle's; absent from a profile of the real one."""

    directory: Path
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    isolation: Literal["auto", "namespaces", "plain"] = "auto"


class UploadSettings(Section):
    """How artifacts get into the model catalog.

    Attributes:
        bucket: where large ones are staged, made when there is none; each is removed when the
            catalog has it, and kept for the next run when the catalog refuses it.
        staged_above_mib: the size from which on one is staged. ADS 2.16 does so above 2 GiB.
        megabytes_per_second: how fast an upload may be, in 10^6 bytes; as fast as it can be when
            left out.
    """

    bucket: str = "falconry-staging"
    staged_above_mib: Annotated[int, Field(ge=0)] = 2048
    megabytes_per_second: Annotated[float, Field(gt=0)] | None = None


class CloudSettings(Section):
    """Whose cloud, and where in it. Names are looked up, and created when missing.

    Attributes:
        auth: how requests are signed: by a user's API key or session token, both of the
            configuration file, or as the instance or the resource that this runs on.
        config_file, config_profile: the SDK's configuration; principals need none.
        compartment_id: of everything that is made; the tenancy's root when left out.
        model_version_set: which set of the catalog models become versions of; none when left out.
        log_group, log: where the deployment's container logs to (OCI's predict log).
        access_log: where its requests are logged; the same log when left out.
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
    upload: UploadSettings = UploadSettings()
    emulator: EmulatorSettings | None = None


class Settings(Section):
    """Everything that a run is told.

    Attributes:
        checkpoint: a directory, or `hub:<repository>@<commit>`; the recipe's model when left out.
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
        """Where this profile's outputs and receipts stand."""
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
        checkpoint: a checkpoint in place of the profile's; a directory is relative to the working
            directory.
        overrides: `section.key=value` words, quoted as in a shell; a value is read as TOML where
            it is a list, a truth value or a quoted text, and as it stands otherwise.

    Raises:
        SettingsError: an unknown profile, TOML that does not parse, or a key or value that is
            not allowed; all wrong keys are named together.
    """
    path = root / _PROFILES / f"{profile}.toml"
    if not path.is_file():
        raise _no_profile(profile, [path.parent], "choose one of")
    values = _with_overrides(read_toml(path), overrides)
    if recipe:
        values["recipe"] = recipe
    if checkpoint:
        values["checkpoint"] = (
            checkpoint if checkpoint.startswith("hub:") else _absolute(checkpoint)
        )
    return _settings(values, profile, path.relative_to(root))


def _absolute(directory: str) -> str:
    return str(Path(directory).expanduser().absolute())


def load_profile(profile: str | Path) -> Settings:
    """Reads a profile for a program that runs in any directory, with or without a checkout.

    Args:
        profile: a path with a directory or the ending .toml, or a name in `profiles/` of the
            checkout or else of the working directory. Paths in it are relative to the latter.

    Raises:
        SettingsError: there is no such profile, or it is not valid.
    """
    path = _find_profile(profile)
    return _settings(read_toml(path), path.stem, path)


def _find_profile(profile: str | Path) -> Path:
    given = Path(profile)
    if given.suffix == ".toml" or len(given.parts) > 1:
        if not given.is_file():
            raise SettingsError("there is no such profile", where=given.absolute())
        return given
    roots = [CODE_DIRECTORY] if is_checkout() else []
    directories = [root / _PROFILES for root in (*roots, Path.cwd())]
    for directory in directories:
        path = directory / f"{given}.toml"
        if path.is_file():
            return path
    raise _no_profile(
        str(given), list(dict.fromkeys(directories)), "give the path of a TOML file, or one of"
    )


def _no_profile(profile: str, directories: Sequence[Path], remedy: str) -> SettingsError:
    known = sorted({path.stem for each in directories for path in each.glob("*.toml")})
    return SettingsError(
        f"there is no profile '{profile}' in {' or '.join(str(each) for each in directories)}",
        remedy=f"{remedy}: {', '.join(known) or 'none yet'}",
    )


def _with_overrides(values: dict[str, Any], overrides: str | None) -> dict[str, Any]:
    for name, text in _words(overrides or ""):
        _put(values, name, _toml_value(text))
    return values


def _settings(values: Mapping[str, Any], profile: str, path: Path) -> Settings:
    return validate_table({**values, "profile": profile}, Settings, path)


def _words(overrides: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(overrides)
    except ValueError as error:
        raise SettingsError(f"cannot be split into words ({error})", where="SET") from None
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingsError(f"'{word}' is not of the form section.key=value", where="SET")
        pairs.append((name, value))
    return pairs


def _toml_value(text: str) -> Any:
    """A list, a table, a quoted text or a truth value; the rest as it stands.

    What is a number its field says: `25.10` is a toolchain's name.
    """
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value if isinstance(value, bool | str | list | dict) else text


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    table: Any = values
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, Mapping):
            raise SettingsError(f"'{section}' in '{name}' is a value, not a section", where="SET")
    table[key] = value
