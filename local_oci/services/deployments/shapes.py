"""The shapes of `shapes.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import Field

from local_oci.storage.records import Record

_FILE = "shapes.toml"


class Shape(Record):
    """ModelDeploymentShapeSummary, with what it does not tell.

    Args:
        flexible: whether its size can be chosen.
        gpus: how many GPUs it has.
    """

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
