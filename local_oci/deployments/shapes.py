"""The shapes of `shapes.toml`."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import Field

from local_oci.storage.records import Record

_FILE = "shapes.toml"


class Shape(Record):
    """ModelDeploymentShapeSummary, and whether its size can be chosen."""

    INTERNAL = frozenset({"etag", "flexible", "memory_minimum"})

    name: str
    core_count: int
    memory_in_gbs: int = Field(alias="memoryInGBs")
    shape_series: str
    flexible: bool = False
    memory_minimum: int


@cache
def all_shapes() -> dict[str, Shape]:
    """Every shape, by name, in the order of the file."""
    content = tomllib.loads(files(__package__).joinpath(_FILE).read_text())
    minimum = content["defaults"]["memory_minimum"]
    shapes = (
        Shape(shape_series=row.pop("series"), memory_minimum=minimum, **row)
        for row in content["shape"]
    )
    return {shape.name: shape for shape in shapes}
