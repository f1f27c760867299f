"""What an image must keep to, as data: limits.toml beside this module, with its sources."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.errors import SettingsError
from falconry.settings import read_toml, validation_problem

LIMITS = Path(__file__).with_name("limits.toml")


class Limits(BaseModel):
    """Limits of an image.

    Attributes:
        compressed_bytes: of all layers as the registry keeps them, by the smallest reading.
        refused_bytes: the same by the largest reading.
        pull_minutes: within which a deployment must have pulled it.
        pull_bytes_per_second: at which it is assumed to.
        layers: how many Docker stacks.
        os: of the platform, such as "linux".
        architecture: of the platform, as Go names it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    compressed_bytes: int
    refused_bytes: int
    pull_minutes: int
    pull_bytes_per_second: int
    layers: int
    os: str
    architecture: str


@cache
def load_limits(path: Path = LIMITS) -> Limits:
    """The limits.

    Raises:
        SettingsError: the file is not valid.
    """
    try:
        return Limits.model_validate(read_toml(path))
    except ValidationError as error:
        raise SettingsError(validation_problem(error), where=path) from None
