"""What is to be deployed, as plain values: everything that the checks look at, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from falconry.engine.manifest import Manifest
from falconry.engine.tensorrt_llm.memory import MemoryEstimate
from falconry.engine.toolchain import Toolchain


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model artifact.

    Attributes:
        names: of the zip's entries.
        size: of the zip in bytes.
    """

    names: Sequence[str]
    size: int


@dataclass(frozen=True, slots=True)
class Container:
    """How the container is run.

    Attributes:
        command, entrypoint: in place of the image's own; empty for those.
        environment: its variables.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    entrypoint: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """The image.

    Attributes:
        reference: its name.
        compressed_bytes: in its registry; None where that is not known.
        labels: what it says of itself; None where they were not read.
    """

    reference: str
    compressed_bytes: int | None = None
    labels: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """The instances.

    Attributes:
        ocpus, memory_gib: of an instance of a flexible shape.
        instances: the most there will be.
    """

    shape: str
    ocpus: float | None = None
    memory_gib: float | None = None
    instances: int = 1


@dataclass(frozen=True, slots=True)
class ServiceLimit:
    """A limit of the tenancy.

    Attributes:
        name: Oracle's.
        available: how much of it is left; None where it could not be read.
        reason: why not.
    """

    name: str
    available: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """What could be read of the tenancy.

    Attributes:
        limit: the one that the shape counts for; None where its name is not known.
        statements: of all policies that could be seen; None where none could.
        reason: why not.
    """

    limit: ServiceLimit | None = None
    statements: Sequence[str] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentSubject:
    """What is to be deployed. What is None is not looked at.

    Attributes:
        name: of the deployment.
        engine: the manifest of the engine inside the artifact.
        toolchain: the release that the image was made of, for GPU engines.
        memory: what the engine needs of a GPU.
        concurrency: longest requests that it shall answer at a time.
        account: what could be read of the tenancy.
    """

    name: str
    artifact: Artifact
    container: Container
    image: Image
    compute: Compute
    engine: Manifest | None = None
    toolchain: Toolchain | None = None
    memory: MemoryEstimate | None = None
    concurrency: int = 1
    account: Account = field(default_factory=Account)
