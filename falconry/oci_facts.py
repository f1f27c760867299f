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
# More GPUs than any shape has; a larger number in a name counts something else.
_MOST_GPUS = 16
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
                    f"'{name}' is not a valid name: 2 to 31 letters, digits and underscores, the"
                    " first a letter, the last not an underscore"
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


class InstanceLimits(Table):
    """Of an instance's storage, shared memory and time to start.

    Attributes:
        least_timeout_minutes, most_timeout_minutes: of an operation that starts a container.
        start_minutes: within which a container must become healthy.
        least_shm_gib, shm_gib_per_gpu: of /dev/shm where several GPUs share an engine.
        least_storage_gb: of a boot volume.
        system_storage_gb: what everything but image and artifact takes of it.
        storage_margin: a factor that leaves some of it free.
        image_unpacked_factor: an image's unpacked size by its compressed one.
        artifact_bytes_per_second: at which an artifact is assumed to be moved.
    """

    least_timeout_minutes: int
    most_timeout_minutes: int
    start_minutes: int
    least_shm_gib: int
    shm_gib_per_gpu: int
    least_storage_gb: int
    system_storage_gb: int
    storage_margin: float
    image_unpacked_factor: float
    artifact_bytes_per_second: int


class ComputeLimits(Table):
    """Of instances and their load balancer.

    Attributes:
        bandwidth_factor: what the maximum may be of the minimum.
        least_gib_per_ocpu, most_gib_per_ocpu: memory of a flexible shape.
    """

    bandwidth_factor: int
    least_gib_per_ocpu: int
    most_gib_per_ocpu: int


class AccountLimits(Table):
    """Of a tenancy.

    Attributes:
        service: the name that Oracle's limits know the service by.
        description: how the descriptions of limits for GPUs begin, with a `{family}` such as
            `GPU.H100`.
        limits: a limit's name, by what the names of the shapes begin with.
    """

    service: str
    description: str
    limits: Mapping[str, str]

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
    instance: InstanceLimits
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
        confirmed: whether more than one source says that model deployments offer it. Others are
            looked up in the service's list, and never recommended.
        source: where it was read.
    """

    name: str
    gpu: str
    sm: int
    gpus: int
    gpu_memory_gib: float
    usable_gib: float | None = None
    confirmed: bool = True
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


class UnusableShape(Table):
    """A shape of OCI's that no server image runs on.

    Attributes:
        why: a clause about the shape.
        source: where it was read.
    """

    name: str
    why: str
    source: str


Shape = GpuShape | CpuShape | UnusableShape


class _Shapes(Table):
    """All of engine/shapes.toml."""

    shapes: tuple[GpuShape, ...]
    cpu_shapes: tuple[CpuShape, ...]
    unusable_shapes: tuple[UnusableShape, ...]


def variable_bytes(variables: Mapping[str, str]) -> int:
    """Returns the bytes that count towards the limit of a container's variables."""
    return sum(len(f"{name}{value}".encode()) for name, value in variables.items())


@cache
def load_limits() -> Limits:
    """Reads the limits."""
    return load_table(LIMITS, Limits)


def load_shapes() -> tuple[GpuShape, ...]:
    """Reads the shapes with GPUs that server images run on."""
    return tuple(shape for shape in _load_shapes().shapes if shape.confirmed)


def load_cpu_shapes() -> tuple[CpuShape, ...]:
    """Reads the shapes without GPUs that server images run on, the preferred ones first."""
    return _load_shapes().cpu_shapes


def find_shape(name: str) -> Shape | None:
    """Finds a shape of any kind by its name, whose capitals do not matter."""
    table = _load_shapes()
    shapes: tuple[Shape, ...] = (*table.shapes, *table.cpu_shapes, *table.unusable_shapes)
    for shape in shapes:
        if shape.name.casefold() == name.casefold():  # ADS has A100-V2.8 for A100-v2.8
            return shape
    return None


def shape_of_family(name: str) -> GpuShape | None:
    """Infers a GPU shape that is not in the table from the shapes of its family.

    The last part of a name is the number of GPUs, and the one before is the GPU: VM.GPU.H100.1
    would have one GPU of those of BM.GPU.H100.8.
    """
    family, _, count = name.partition(".")[2].rpartition(".")
    if not family or not count.isdecimal() or not 0 < int(count) <= _MOST_GPUS:
        return None
    for shape in _load_shapes().shapes:
        if shape.name.partition(".")[2].rpartition(".")[0].casefold() == family.casefold():
            source = f"the service's list; its GPUs as those of {shape.name}"
            return shape.model_copy(update={"name": name, "gpus": int(count), "source": source})
    return None


def gpu_shape(name: str) -> GpuShape:
    """Finds a GPU shape by its name, such as "VM.GPU.A10.1".

    Raises:
        SettingsError: it is not known here.
    """
    shape = find_shape(name)
    if isinstance(shape, GpuShape):
        return shape
    raise no_gpu_shape(name, shape)


def no_gpu_shape(name: str, shape: Shape | None, why: str = "is not known here") -> SettingsError:
    """Makes the error for a shape that GPU engines cannot run on.

    Args:
        name: the shape's.
        shape: what is known of it.
        why: a clause about a shape of which nothing is known.
    """
    if isinstance(shape, CpuShape):
        why = "has no GPU"
    elif isinstance(shape, UnusableShape):
        why = shape.why
    return SettingsError(
        f"engines for GPUs cannot run on {name!r}, which {why}",
        where="deployment.shape",
        remedy=f"choose one of {', '.join(shape.name for shape in load_shapes())}",
    )


@cache
def _load_shapes() -> _Shapes:
    path = project_file(SHAPES)
    tables = {table: named_rows(rows, "name") for table, rows in read_toml(path).items()}
    return validate_table(tables, _Shapes, path)
