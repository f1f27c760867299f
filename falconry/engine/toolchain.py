"""Toolchains: releases of NVIDIA's image that build and serve engines.

The rows are in engine/toolchains.toml, each with its source, and so are the command lines that the
releases understand, and what a server of chosen backends is composed with.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from falconry.data_files import Table, named_rows, project_file, read_toml, validate_table
from falconry.errors import SettingsError

TOOLCHAINS = "engine/toolchains.toml"

_Version = Annotated[str, Field(pattern=r"^[0-9]{1,5}(\.[0-9]{1,5})*$")]
_Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class Needs(Table):
    """What an image needs beside the directories of Triton itself.

    Attributes:
        python_packages: requirements as pip takes them.
        environment: variables; a value may name others, as in a Dockerfile.
        libraries: shared libraries of the full image that Triton links to, as shell patterns.
    """

    packages: tuple[str, ...] = ()
    python_packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    libraries: tuple[str, ...] = ()


class Composable(Table):
    """The release's images that a server of chosen backends is composed from.

    Attributes:
        full: the image that the chosen parts are taken from; its reference without digest.
        minimum: the image that they are put onto; its reference without digest.
        full_digest: `sha256:...` of the verified image; None until it has been pulled once.
        minimum_digest: the same of the other.
        backends: what is under /opt/tritonserver/backends in `full`.
        repoagents: what is under /opt/tritonserver/repoagents there.
        caches: what is under /opt/tritonserver/caches there.
        needs: what backends need in this release alone, beyond the preparation.
    """

    full: str
    minimum: str
    full_digest: _Digest | None = None
    minimum_digest: _Digest | None = None
    backends: tuple[str, ...]
    repoagents: tuple[str, ...]
    caches: tuple[str, ...]
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


class Converters(Table):
    """Programs by the family of checkpoints that they convert; the first that exists counts.

    Attributes:
        llama: that of LlamaForCausalLM, and so of Falcon3.
    """

    falcon: tuple[str, ...]
    llama: tuple[str, ...]


class Toolchain(Table):
    """One release; sizes in GB as the registry lists them.

    Attributes:
        image: the image's reference without digest.
        digest: `sha256:...` of the verified image; None until it has been pulled once.
        driver: the lowest driver for CUDA's minor version.
        data_center_drivers: lower driver branches that data-centre GPUs may have as well
            (CUDA's forward compatibility).
        sm: GPU architectures, ten times the compute capability: 86 for 8.6.
        converter: where the converters of the families are in the image.
        tensor_names: `seed` and `min_tokens`, or the older `random_seed` and `min_length`.
        compose: what a server without TensorRT-LLM is composed from.
    """

    release: str
    image: str
    digest: _Digest | None = None
    tensorrt_llm: str
    tensorrt: str
    cuda: str
    python: str
    driver: _Version
    data_center_drivers: tuple[_Version, ...]
    sm: tuple[int, ...]
    converter: Converters
    quantizer: str
    tensor_names: Literal["random_seed", "seed"]
    listed_gb: float
    compose: Composable
    notes: str = ""
    source: str

    @property
    def reference(self) -> str:
        """The image's reference, with its digest where one was verified."""
        return _pinned(self.image, self.digest)


class ConvertFlags(Table):
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


class QuantizeFlags(Table):
    """The quantiser's flags, by what they set.

    Attributes:
        formats: what the recipe's `quantization` is called here; what is absent is not its work.
    """

    checkpoint: str
    output: str
    dtype: str
    format: str
    samples: str
    dataset: str
    cache_dtype: str
    awq_block_size: str
    tensor_parallel: str
    pipeline_parallel: str
    formats: Mapping[str, str]


class BuildFlags(Table):
    """The builder's flags, by what they set."""

    checkpoint: str
    output: str
    max_batch_size: str
    max_input_len: str
    max_seq_len: str
    max_num_tokens: str
    max_beam_width: str
    tokens_per_block: str
    kv_cache_type: str
    gemm_plugin: str
    gpt_attention_plugin: str
    remove_input_padding: str
    context_fmha: str
    paged_context_fmha: str
    timing_cache_input: str
    timing_cache_output: str
    workers: str


class Commands(Table):
    """The programs of all releases, and their flags.

    Attributes:
        builder: the program that builds, found on the container's PATH.
    """

    builder: str
    convert: ConvertFlags
    quantize: QuantizeFlags
    build: BuildFlags


class Preparation(Needs):
    """What every composed image needs, and what its backends need more."""

    backends: Mapping[str, Needs] = {}


class Retired(Table):
    """Why a release is unsupported, and the row to use instead."""

    reason: str
    take: str


class Toolchains(Table):
    """The file: `default` names a row."""

    default: str
    rows: tuple[Toolchain, ...]
    retired: Mapping[str, Retired]
    commands: Commands
    preparation: Preparation

    def row(self, release: str | None) -> Toolchain:
        """A row by its release, such as "25.10"; the default for None."""
        wanted = release or self.default
        for row in self.rows:
            if row.release == wanted:
                return row
        if retired := self.retired.get(wanted):
            raise SettingsError(
                f"the toolchain {wanted} is retired: {retired.reason}",
                where="engine.toolchain",
                remedy=f"set it to {retired.take}",
            )
        known = ", ".join(row.release for row in self.rows)
        raise SettingsError(
            f"there is no toolchain {wanted!r}",
            where="engine.toolchain",
            remedy=f"choose one of {known}",
        )


@cache
def load_toolchains(path: Path | None = None) -> Toolchains:
    """The rows there are, in the file's order, oldest first."""
    path = path or project_file(TOOLCHAINS)
    values = read_toml(path)
    rows = named_rows(values.pop("toolchains", {}), "release")
    return validate_table({**values, "rows": rows}, Toolchains, path)


def _pinned(image: str, digest: str | None) -> str:
    return f"{image}@{digest}" if digest else image
