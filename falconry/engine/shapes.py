"""OCI shapes, with NVIDIA GPUs and without, as data: engine/shapes.toml, each with its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.data_files import project_file, read_toml, validation_problem
from falconry.errors import SettingsError

SHAPES = "engine/shapes.toml"


class GpuShape(BaseModel):
    """A shape of OCI's with GPUs.

    Attributes:
        gpu: the GPU's name as NVML gives it, such as "NVIDIA A10".
        sm: its architecture, ten times the compute capability.
        gpus: how many there are.
        gpu_memory_gib: of one GPU, in GiB.
        usable_gib: what CUDA gives of it, where that was read.
        source: where it was read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    gpu: str
    sm: int
    gpus: int
    gpu_memory_gib: float
    usable_gib: float | None = None
    source: str


class CpuShape(BaseModel):
    """A shape of OCI's without GPUs.

    Attributes:
        ocpus: how many there are, or the most that may be asked for; an OCPU is two vCPUs.
        memory_gib: likewise, in GiB.
        flexible: whether a deployment says how much of both it wants.
        source: where it was read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    ocpus: int
    memory_gib: float
    flexible: bool
    source: str


# GiB an OCPU of a flexible shape of model deployments (Oracle, supported-shapes.htm).
LEAST_GIB_PER_OCPU, MOST_GIB_PER_OCPU = 6, 64


@cache
def load_shapes(path: Path | None = None) -> tuple[GpuShape, ...]:
    """All shapes.

    Raises:
        SettingsError: the file is not valid.
    """
    return _rows(path, "shapes", GpuShape)


@cache
def load_cpu_shapes(path: Path | None = None) -> tuple[CpuShape, ...]:
    """All shapes without GPUs, the ones to prefer first.

    Raises:
        SettingsError: the file is not valid.
    """
    return _rows(path, "cpu_shapes", CpuShape)


def find_shape(name: str) -> GpuShape | CpuShape | None:
    """A shape of either kind by its name; None where it is not known here."""
    shapes: tuple[GpuShape | CpuShape, ...] = (*load_shapes(), *load_cpu_shapes())
    for shape in shapes:
        if shape.name.casefold() == name.casefold():  # Oracle writes A100-v2.8 and A100-V2.8
            return shape
    return None


def gpu_shape(name: str) -> GpuShape:
    """A shape by its name, such as "VM.GPU.A10.1".

    Raises:
        SettingsError: it is no GPU shape that is known here.
    """
    shape = find_shape(name)
    if isinstance(shape, GpuShape):
        return shape
    raise SettingsError(
        f"{name!r} is no GPU shape that is known here",
        where="deployment.shape",
        remedy=f"choose one of {', '.join(shape.name for shape in load_shapes())}",
    )


_Shape = TypeVar("_Shape", GpuShape, CpuShape)


def _rows(path: Path | None, table: str, kind: type[_Shape]) -> tuple[_Shape, ...]:
    path = path or project_file(SHAPES)
    try:
        rows = read_toml(path)[table].items()
        return tuple(kind.model_validate({"name": name, **row}) for name, row in rows)
    except (ValidationError, KeyError) as error:
        problem = validation_problem(error) if isinstance(error, ValidationError) else "no shapes"
        raise SettingsError(problem, where=path) from None
