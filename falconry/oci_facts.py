"""Facts that Oracle publishes: limits (oci_limits.toml) and shapes (engine/shapes.toml).

Each fact is in one of the two files, with its source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from falconry.data_files import (
    Table,
    load_table,
    named_rows,
    project_file,
    read_toml,
    validate_table,
)
from falconry.errors import SettingsError

SHAPES = "engine/shapes.toml"
LIMITS = Path(__file__).with_name("oci_limits.toml")


class ArtifactLimits(Table):
    """Of a model artifact.

    Attributes:
        most_bytes: of its zip.
        direct_bytes: up to which it is sent to the catalog directly; larger ones need a bucket.
        mounted_at: the directory that it is unpacked into.
    """

    most_bytes: int
    direct_bytes: int
    mounted_at: str


class ContainerLimits(Table):
    """Of a container's ports, command, variables and endpoints.

    Attributes:
        command_bytes, environment_bytes: what each has to stay below.
        environment_name: a pattern for a variable's complete name.
        custom_endpoints: how many there may be.
    """

    lowest_port: int
    highest_port: int
    reserved_ports: tuple[int, ...]
    command_bytes: int
    environment_bytes: int
    environment_name: str
    reserved_names: tuple[str, ...]
    custom_endpoints: int

    def variable_problem(self, variables: Mapping[str, str]) -> str | None:
        """Returns why the cloud would refuse a container's variables, if it would."""
        for name in variables:
            if not re.fullmatch(self.environment_name, name):
                return (
                    f"'{name}' is no name: 2 to 31 letters, digits and underscores, the first a"
                    " letter, the last no underscore"
                )
            if name in self.reserved_names:
                return f"'{name}' is the cloud's own"
        size = variable_bytes(variables)
        if size < self.environment_bytes:
            return None
        return f"{size} bytes, less than {self.environment_bytes} are allowed"


class ImageLimits(Table):
    """Of an image.

    Attributes:
        compressed_bytes: of all layers as the registry keeps them, by the smallest reading.
        refused_bytes: the same by the largest reading.
        pull_minutes: within which a deployment must have pulled it.
        pull_bytes_per_second: at which it is assumed to.
        layers: how many Docker stacks.
        os: of the platform, such as "linux".
        architecture: of the platform, as Go names it.
    """

    compressed_bytes: int
    refused_bytes: int
    pull_minutes: int
    pull_bytes_per_second: int
    layers: int
    os: str
    architecture: str


class ComputeLimits(Table):
    """Of instances and their load balancer.

    Attributes:
        bandwidth_factor: what the maximum may be of the minimum.
        least_gib_per_ocpu, most_gib_per_ocpu: memory of a flexible shape.
    """

    bandwidth_factor: int
    least_gib_per_ocpu: int
    most_gib_per_ocpu: int


class PolicyRule(Table):
    """A right that a deployment needs.

    Attributes:
        purpose: what needs it, as a clause.
        pattern: of statements that give it.
        statement: an example of these.
        large_artifacts_only: whether only artifacts that need a bucket need it.
    """

    purpose: str
    pattern: str
    statement: str
    large_artifacts_only: bool = False


class AccountLimits(Table):
    """Of a tenancy.

    Attributes:
        service: the name that Oracle's limits know the service by.
        description: how the descriptions of limits for GPUs begin, with a `{family}` such as
            `GPU.H100`.
        limits: a limit's name, by what the names of the shapes begin with.
        policies: the rights that a deployment needs.
    """

    service: str
    description: str
    limits: Mapping[str, str]
    policies: tuple[PolicyRule, ...]

    def limit_of(self, shape: str) -> str | None:
        """Returns the name of a shape's limit, if it is known."""
        for prefix, name in self.limits.items():
            if shape.startswith(f"{prefix}."):
                return name
        return None

    def describes(self, description: str, shape: str) -> bool:
        """Whether a limit's description is for a shape such as BM.GPU.A100-v2.8."""
        family = shape.partition(".")[2].rpartition(".")[0]  # GPU.A100-v2
        names = {family, family.partition("-")[0]} - {""}
        begins = (self.description.format(family=name).casefold() for name in names)
        return any(description.casefold().startswith(begin) for begin in begins)


class Limits(Table):
    """All of oci_limits.toml."""

    artifact: ArtifactLimits
    container: ContainerLimits
    image: ImageLimits
    compute: ComputeLimits
    account: AccountLimits


class GpuShape(Table):
    """A shape of OCI's with GPUs.

    Attributes:
        gpu: the GPU's name as NVML gives it, such as "NVIDIA A10".
        sm: its architecture, ten times the compute capability.
        gpus: how many there are.
        gpu_memory_gib: of one GPU, in GiB.
        usable_gib: what CUDA gives of it, where that was read.
        source: where it was read.
    """

    name: str
    gpu: str
    sm: int
    gpus: int
    gpu_memory_gib: float
    usable_gib: float | None = None
    source: str


class CpuShape(Table):
    """A shape of OCI's without GPUs.

    Attributes:
        ocpus: how many there are, or the most of a flexible shape; an OCPU is two vCPUs.
        memory_gib: likewise, in GiB.
        flexible: whether a deployment chooses how much of both it gets.
        source: where it was read.
    """

    name: str
    ocpus: int
    memory_gib: float
    flexible: bool
    source: str


class _Shapes(Table):
    """All of engine/shapes.toml."""

    shapes: tuple[GpuShape, ...]
    cpu_shapes: tuple[CpuShape, ...]


def variable_bytes(variables: Mapping[str, str]) -> int:
    """Returns the bytes that count towards the limit of a container's variables."""
    return sum(len(f"{name}{value}".encode()) for name, value in variables.items())


@cache
def load_limits() -> Limits:
    """Reads the limits."""
    return load_table(LIMITS, Limits)


def load_shapes() -> tuple[GpuShape, ...]:
    """Reads all shapes with GPUs."""
    return _load_shapes().shapes


def load_cpu_shapes() -> tuple[CpuShape, ...]:
    """Reads all shapes without GPUs, the preferred ones first."""
    return _load_shapes().cpu_shapes


def find_shape(name: str) -> GpuShape | CpuShape | None:
    """Finds a shape of either kind by its name."""
    shapes: tuple[GpuShape | CpuShape, ...] = (*load_shapes(), *load_cpu_shapes())
    for shape in shapes:
        if shape.name.casefold() == name.casefold():  # Oracle writes A100-v2.8 and A100-V2.8
            return shape
    return None


def gpu_shape(name: str) -> GpuShape:
    """Finds a GPU shape by its name, such as "VM.GPU.A10.1".

    Raises:
        SettingsError: it is not known here.
    """
    shape = find_shape(name)
    if isinstance(shape, GpuShape):
        return shape
    raise SettingsError(
        f"{name!r} is no GPU shape that is known here",
        where="deployment.shape",
        remedy=f"choose one of {', '.join(shape.name for shape in load_shapes())}",
    )


@cache
def _load_shapes() -> _Shapes:
    path = project_file(SHAPES)
    tables = {table: named_rows(rows, "name") for table, rows in read_toml(path).items()}
    return validate_table(tables, _Shapes, path)
