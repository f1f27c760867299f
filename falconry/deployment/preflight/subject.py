"""What is to be deployed: the input of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from falconry.deployment.policies import DynamicGroup, Scope
from falconry.engine.manifest import Manifest
from falconry.engine.toolchain import Toolchain
from falconry.oci_facts import Shape, find_shape


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model artifact: names of the zip's entries, size in bytes."""

    names: Sequence[str]
    size: int


@dataclass(frozen=True, slots=True)
class Container:
    """How the container runs.

    Attributes:
        command, entrypoint: override the image's unless empty.
        environment: its variables.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    entrypoint: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """The image.

    Attributes:
        compressed_bytes: in its registry; None if not known.
        labels: None if they were not read.
    """

    reference: str
    compressed_bytes: int | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """The instances.

    Attributes:
        ocpus, memory_gib: of an instance of a flexible shape.
        instances: the most that there will be.
    """

    shape: str
    ocpus: float | None = None
    memory_gib: float | None = None
    instances: int = 1


@dataclass(frozen=True, slots=True)
class ServiceLimit:
    """A limit of the tenancy."""

    name: str
    available: float | None  # None if it could not be read, for the reason
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the service's list says of a shape.

    Attributes:
        shape: None if the region does not offer it, or the list could not be read.
        reason: why it could not.
    """

    shape: Shape | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """What could be read of the tenancy.

    Attributes:
        offer: of a shape that the table does not know or is not sure of; None for others.
        limit: of the shape; None if its name is not known.
        statements: of all visible policies; None if they could not be read.
        groups: all dynamic groups; None if they could not be read.
        scope: what the statements have to be for.
        reason: why the statements could not be read.
    """

    limit: ServiceLimit | None = None
    statements: Sequence[str] | None = None
    reason: str = ""
    groups: Sequence[DynamicGroup] | None = None
    scope: Scope | None = None
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class DeploymentSubject:
    """What is to be deployed. None is not checked.

    Attributes:
        engine: the manifest of the engine in the artifact.
        toolchain: the release that the image was built from, for GPU engines.
    """

    name: str
    artifact: Artifact
    container: Container
    image: Image
    compute: Compute
    engine: Manifest | None = None
    toolchain: Toolchain | None = None
    account: Account = field(default_factory=Account)

    @property
    def shape(self) -> Shape | None:
        """The shape by the table, or else by the service's list."""
        offer = self.account.offer
        return find_shape(self.compute.shape) or (offer.shape if offer else None)
