"""OCI shapes with NVIDIA GPUs, as data: engine/shapes.toml, each with its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.errors import SettingsError
from falconry.settings import read_toml, validation_problem

SHAPES = Path(__file__).parents[2] / "engine" / "shapes.toml"


class GpuShape(BaseModel):
    """A shape of OCI's with GPUs.

    Attributes:
        gpu: the GPU's name as NVML gives it, such as "NVIDIA A10".
        sm: its architecture, ten times the compute capability.
        gpus: how many there are.
        gpu_memory_gib: of one GPU, in GiB.
        source: where it was read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    gpu: str
    sm: int
    gpus: int
    gpu_memory_gib: float
    source: str


@cache
def load_shapes(path: Path = SHAPES) -> tuple[GpuShape, ...]:
    """All shapes.

    Raises:
        SettingsError: the file is not valid.
    """
    try:
        return tuple(
            GpuShape.model_validate({"name": name, **row})
            for name, row in read_toml(path)["shapes"].items()
        )
    except (ValidationError, KeyError) as error:
        problem = validation_problem(error) if isinstance(error, ValidationError) else "no shapes"
        raise SettingsError(problem, where=path) from None


def gpu_shape(name: str) -> GpuShape:
    """A shape by its name, such as "VM.GPU.A10.1".

    Raises:
        SettingsError: it is no GPU shape that is known here.
    """
    shapes = load_shapes()
    for shape in shapes:
        if shape.name.casefold() == name.casefold():  # Oracle writes A100-v2.8 and A100-V2.8
            return shape
    raise SettingsError(
        f"{name!r} is no GPU shape that is known here",
        where="deployment.shape",
        remedy=f"choose one of {', '.join(shape.name for shape in shapes)}",
    )
