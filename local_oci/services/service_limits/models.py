"""Limits as they travel (oci 2.189.0, limits.models), and the table of them."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Literal

from local_oci.storage.records import Record, WireModel

SERVICE = "data-science"

_FILE = "limits.toml"


class ServiceSummary(Record):
    """A service that has limits."""

    name: str
    description: str


class LimitDefinition(Record):
    """LimitDefinitionSummary. `shapes` and `value` are what this program knows of it besides."""

    INTERNAL = frozenset({"etag", "shapes", "value"})

    name: str
    service_name: str = SERVICE
    description: str
    scope_type: Literal["REGION"] = "REGION"
    are_quotas_supported: bool = True
    is_resource_availability_supported: bool = True
    is_deprecated: bool = False
    is_eligible_for_limit_increase: bool = True
    is_dynamic: bool = False
    shapes: tuple[str, ...]
    value: int


class LimitValue(Record):
    """LimitValueSummary."""

    name: str
    scope_type: Literal["REGION"] = "REGION"
    value: int


class ResourceAvailability(WireModel):
    """How much is used, and how much is left."""

    used: int
    available: int
    fractional_usage: float
    fractional_availability: float


@cache
def all_limits() -> tuple[LimitDefinition, ...]:
    """Every limit, by name."""
    content = tomllib.loads(files(__package__).joinpath(_FILE).read_text())
    limits = (LimitDefinition(**row) for row in content["limit"])
    return tuple(sorted(limits, key=lambda limit: limit.name))
