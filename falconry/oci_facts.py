"""What a deployment must keep to, as data: limits.toml beside this module, with its sources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from falconry.data_files import read_toml, validation_problem
from falconry.errors import SettingsError

LIMITS = Path(__file__).with_name("oci_limits.toml")


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ArtifactLimits(_Table):
    """Of a model artifact.

    Attributes:
        most_bytes: of its zip.
        direct_bytes: up to which it is sent to the catalog itself; larger ones go by a bucket.
        mounted_at: the directory that it is unpacked into.
    """

    most_bytes: int
    direct_bytes: int
    mounted_at: str


class ContainerLimits(_Table):
    """Of a container's ports, command, variables and endpoints.

    Attributes:
        command_bytes, environment_bytes: what each has to stay below.
        environment_name: a pattern for the whole of a variable's name.
        custom_endpoints: how many there may be.
        specifications: what `predictApiSpecification` may be, lower case.
    """

    lowest_port: int
    highest_port: int
    reserved_ports: list[int]
    command_bytes: int
    environment_bytes: int
    environment_name: str
    reserved_names: list[str]
    custom_endpoints: int
    custom_methods: list[str]
    specifications: list[str]


class ImageLimits(_Table):
    """Of an image; bytes as the registry keeps them, by the smallest and the largest reading."""

    compressed_bytes: int
    refused_bytes: int


class ComputeLimits(_Table):
    """Of instances; `bandwidth_factor` is what the maximum may be of the minimum."""

    bandwidth_factor: int


class PolicyRule(_Table):
    """A right that a deployment needs.

    Attributes:
        purpose: what happens by it, as a clause.
        pattern: of statements that give it.
        statement: one that gives it.
        large_artifacts_only: whether only artifacts that go by a bucket need it.
    """

    purpose: str
    pattern: str
    statement: str
    large_artifacts_only: bool = False


class AccountLimits(_Table):
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
    policies: list[PolicyRule]

    def limit_of(self, shape: str) -> str | None:
        """The name of the limit that instances of a shape count for; None where not known."""
        for prefix, name in self.limits.items():
            if shape.startswith(f"{prefix}."):
                return name
        return None

    def describes(self, description: str, shape: str) -> bool:
        """Whether a limit's description is for the GPUs of a shape, such as BM.GPU.A100-v2.8."""
        family = shape.partition(".")[2].rpartition(".")[0]  # GPU.A100-v2
        names = {family, family.partition("-")[0]} - {""}
        begins = (self.description.format(family=name).casefold() for name in names)
        return any(description.casefold().startswith(begin) for begin in begins)


class Limits(_Table):
    """All of limits.toml."""

    artifact: ArtifactLimits
    container: ContainerLimits
    image: ImageLimits
    compute: ComputeLimits
    account: AccountLimits


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
