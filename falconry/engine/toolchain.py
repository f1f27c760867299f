"""Toolchains: the releases of NVIDIA's image that build and serve engines, as data.

The rows are in engine/toolchains.toml, each with its source, and so are the dialects of the command
lines that the releases understand, and what a server of chosen backends is composed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from falconry.data_files import project_file
from falconry.errors import SettingsError
from falconry.settings import read_toml, validation_problem

TOOLCHAINS = "engine/toolchains.toml"

_Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


_Kind = TypeVar("_Kind", bound=_Table)


class Needs(_Table):
    """What has to be in an image beside the directories of Triton itself.

    Attributes:
        packages: of the distribution.
        python_packages: requirements as pip takes them.
        environment: variables; a value may name others, as in a Dockerfile.
        libraries: shared libraries of the full image that Triton links to, as shell patterns.
    """

    packages: tuple[str, ...] = Field((), strict=False)
    python_packages: tuple[str, ...] = Field((), strict=False)
    environment: Mapping[str, str] = {}
    libraries: tuple[str, ...] = Field((), strict=False)


class Composable(_Table):
    """The release's images that a server of chosen backends is composed from.

    Attributes:
        full: the image that the chosen parts are taken from; its reference without digest.
        minimum: the image that they are put onto; its reference without digest.
        full_digest: `sha256:...` of the one that was verified; None until somebody has pulled it.
        minimum_digest: the same of the other.
        preparation: what the composed image needs; a table of `preparations` in the same file.
        backends: what is under /opt/tritonserver/backends in `full`.
        repoagents: what is under /opt/tritonserver/repoagents there.
        caches: what is under /opt/tritonserver/caches there.
        needs: what backends need in this release alone, beyond the preparation.
        source: where all this was read.
    """

    full: str
    minimum: str
    full_digest: _Digest | None = None
    minimum_digest: _Digest | None = None
    preparation: str
    backends: tuple[str, ...] = Field(strict=False)
    repoagents: tuple[str, ...] = Field(strict=False)
    caches: tuple[str, ...] = Field(strict=False)
    needs: Mapping[str, Needs] = {}
    source: str

    @property
    def full_reference(self) -> str:
        """The full image's reference, with its digest where one was verified."""
        return _pinned(self.full, self.full_digest)

    @property
    def minimum_reference(self) -> str:
        """The minimum image's, likewise."""
        return _pinned(self.minimum, self.minimum_digest)


class Toolchain(_Table):
    """One release; sizes in GB as the registry lists them.

    Attributes:
        image: the image's reference without digest.
        digest: `sha256:...` of the image that was verified; None until somebody has pulled it.
        driver: the lowest driver for CUDA's minor version.
        data_center_drivers: lower driver branches that data-centre GPUs may have as well
            (CUDA's forward compatibility).
        sm: GPU architectures, ten times the compute capability: 86 for 8.6.
        converter: where the Falcon converter is in the image, first match counts; for `build.py`
            flags this is the script that builds straight from the checkpoint.
        quantizer: the quantisation script; None where there is none for Falcon.
        flags: the dialect of the command lines; a table of `dialects` in the same file.
        layout: of the engine's config.json and file names.
        tensor_names: `seed` and `min_tokens`, or the older `random_seed` and `min_length`.
        python_package: whether the image holds the tensorrt_llm package that builds engines.
        falcon2: whether Falcon2-11B can be built.
        engine_backend: whether engines are still built and served (gone after 1.2).
        compose: what a server without TensorRT-LLM is composed from; None where there is nothing.
        notes: what a user of this row should know.
        source: where all this was read.
    """

    release: str
    image: str
    digest: _Digest | None = None
    tensorrt_llm: str
    tensorrt: str
    cuda: str
    python: str
    driver: str
    data_center_drivers: tuple[str, ...] = Field(strict=False)
    sm: tuple[int, ...] = Field(strict=False)
    converter: tuple[str, ...] = Field(strict=False)
    quantizer: str | None = None
    flags: str
    layout: Literal["builder_config", "pretrained_config"]
    tensor_names: Literal["random_seed", "seed"]
    python_package: bool
    falcon2: bool
    engine_backend: bool
    listed_gb: float
    compose: Composable | None = None
    notes: str = ""
    source: str

    @property
    def reference(self) -> str:
        """The image's reference, with its digest where one was verified."""
        return _pinned(self.image, self.digest)


class ConvertFlags(_Table):
    """The converter's flags, by what they set; `weight_only` is a switch."""

    checkpoint: str
    output: str
    dtype: str
    tensor_parallel: str
    pipeline_parallel: str
    workers: str
    load_by_shard: str
    weight_only: str
    weight_only_precision: str


class QuantizeFlags(_Table):
    """The quantiser's flags, by what they set; None for what a dialect cannot be told.

    Attributes:
        formats: what the recipe's `quantization` is called here; what is absent is not its work.
        scales: the file with the scaling factors that it leaves in its output, where the builder
            takes those instead of a whole checkpoint.
    """

    checkpoint: str
    output: str
    dtype: str
    format: str
    samples: str
    dataset: str | None = None
    cache_dtype: str | None = None
    awq_block_size: str | None = None
    tensor_parallel: str | None = None
    pipeline_parallel: str | None = None
    formats: Mapping[str, str]
    scales: str | None = None


class BuildFlags(_Table):
    """The builder's flags, by what they set; None for what a dialect cannot be told.

    Attributes:
        max_seq_len: prompt and answer together; where it is None, `max_output_len` is the answer.
        kv_cache_type: takes the type's name; where it is None, `paged_kv_cache` says yes or no.
        workers: how many ranks are built at a time; where it is None, the switch `parallel` builds
            all of them at a time.
        max_num_tokens_needs_context_fmha: the size is refused without fused attention.
    """

    checkpoint: str
    output: str
    max_batch_size: str
    max_input_len: str
    max_seq_len: str | None = None
    max_output_len: str | None = None
    max_num_tokens: str
    max_num_tokens_needs_context_fmha: bool = False
    max_beam_width: str
    tokens_per_block: str
    kv_cache_type: str | None = None
    paged_kv_cache: str | None = None
    in_flight_batching: str | None = None
    gemm_plugin: str
    gpt_attention_plugin: str
    remove_input_padding: str
    context_fmha: str
    paged_context_fmha: str | None = None
    timing_cache_input: str
    timing_cache_output: str | None = None
    workers: str | None = None
    parallel: str | None = None
    dtype: str | None = None
    world_size: str | None = None
    tensor_parallel: str | None = None
    pipeline_parallel: str | None = None
    load_by_shard: str | None = None
    fp8: str | None = None
    fp8_scales: str | None = None
    fp8_cache: str | None = None


class Dialect(_Table):
    """How a line of releases wants its command lines.

    Attributes:
        builder: the program that builds, found on the container's PATH; None: the row's converter
            builds straight from the checkpoint, and nothing is converted before.
        choices: how yes and no are said: by the words `enable` and `disable` after the flag, or by
            a switch that is there or not.
        convert: None where `builder` is.
    """

    builder: str | None = None
    choices: Literal["words", "switches"]
    convert: ConvertFlags | None = None
    quantize: QuantizeFlags
    build: BuildFlags


class Preparation(Needs):
    """What every composed image of a line of releases needs, and what its backends need more."""

    backends: Mapping[str, Needs] = {}


class Toolchains(_Table):
    """The file: `default` names a row."""

    default: str
    rows: tuple[Toolchain, ...]
    dialects: Mapping[str, Dialect] = {}
    preparations: Mapping[str, Preparation] = {}

    def row(self, release: str | None) -> Toolchain:
        """A row by its release, such as "25.10"; the default for None.

        Raises:
            SettingsError: there is no such row.
        """
        wanted = release or self.default
        for row in self.rows:
            if row.release == wanted:
                return row
        known = ", ".join(row.release for row in self.rows)
        raise SettingsError(
            f"there is no toolchain {wanted!r}",
            where="engine.toolchain",
            remedy=f"choose one of {known}",
        )

    def with_capability(self, capability: Literal["falcon2", "engine_backend"]) -> Toolchain:
        """The row to recommend when another one lacks a capability: the default if it has it."""
        capable = [row for row in self.rows if getattr(row, capability)]
        return next((row for row in capable if row.release == self.default), capable[-1])


@cache
def load_toolchains(path: Path | None = None) -> Toolchains:
    """The rows there are, in the file's order, oldest first.

    Raises:
        SettingsError: the file is not valid.
    """
    path = path or project_file(TOOLCHAINS)
    values = read_toml(path)
    rows = [{"release": release, **row} for release, row in values.pop("toolchains", {}).items()]
    try:
        return Toolchains.model_validate({**values, "rows": tuple(rows)})
    except ValidationError as error:
        raise SettingsError(validation_problem(error), where=path) from None


def load_dialect(toolchain: Toolchain, path: Path | None = None) -> Dialect:
    """The dialect of a row's command lines.

    Raises:
        SettingsError: the file does not describe it.
    """
    dialects = load_toolchains(path).dialects
    wanted_by = f"the toolchain {toolchain.release}"
    return _described("dialect", dialects, toolchain.flags, wanted_by, path)


def load_preparation(composable: Composable, path: Path | None = None) -> Preparation:
    """What images composed from a row's parts need.

    Raises:
        SettingsError: the file does not describe it.
    """
    preparations = load_toolchains(path).preparations
    return _described("preparation", preparations, composable.preparation, composable.full, path)


def _described(
    kind: str, tables: Mapping[str, _Kind], name: str, wanted_by: str, path: Path | None
) -> _Kind:
    if name not in tables:
        raise SettingsError(
            f"there is no {kind} {name!r} for {wanted_by}",
            where=path or project_file(TOOLCHAINS),
            remedy=f"choose one of {', '.join(tables)}",
        )
    return tables[name]


def _pinned(image: str, digest: str | None) -> str:
    return f"{image}@{digest}" if digest else image
