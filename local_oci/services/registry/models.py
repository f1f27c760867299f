"""Container repositories and images as they travel and are stored (oci 2.189.0, artifacts)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from local_oci.services.object_storage.models import NAMESPACE
from local_oci.storage.records import Record, Resource, Tagged, WireModel, now

# Of a complete name, namespace included (reference.NameTotalLengthMax).
_NAME_CHARACTERS = 255
_REFERENCE_CHARACTERS = _NAME_CHARACTERS + len(":") + 128 + len("@sha256:") + 64

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"{NAMESPACE}/(?P<repository>{_NAME})(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>{_DIGEST}))?",
    re.ASCII,
)
REPOSITORY_TYPE = "containerrepo"
IMAGE_TYPE = "containerimage"


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image in this tenancy's namespace.

    Args:
        repository: name of its repository, without the namespace.
        tag: its tag, if it is named by one.
        digest: its digest, if it is named by one; it decides, as with Docker.
    """

    repository: str
    tag: str | None
    digest: str | None


def parse_image_name(text: str) -> ImageName | None:
    """Read `<namespace>/<repository>[:<tag>][@<digest>]`; None if it is not of this namespace."""
    match = _REFERENCE.fullmatch(text) if len(text) <= _REFERENCE_CHARACTERS else None
    if match is None or len(path_of(match["repository"])) > _NAME_CHARACTERS:
        return None
    return ImageName(match["repository"], match["tag"], match["digest"])


def is_repository_name(text: str) -> bool:
    """Whether a repository can have this name."""
    return parse_image_name(path_of(text)) == ImageName(text, None, None)


def path_of(repository: str) -> str:
    """The repository's name in the registry, where the namespace is a part of it."""
    return f"{NAMESPACE}/{repository}"


class State(StrEnum):
    """Values of lifecycleState; what is deleted is gone."""

    AVAILABLE = "AVAILABLE"


class Readme(WireModel):
    """ContainerRepositoryReadme."""

    content: str
    format: Literal["TEXT_MARKDOWN", "TEXT_PLAIN"]


class CreateRepositoryDetails(Tagged):
    """Body of create_container_repository."""

    compartment_id: str
    display_name: str
    is_immutable: bool = False
    is_public: bool = False
    readme: Readme | None = None


class UpdateRepositoryDetails(WireModel):
    """Body of update_container_repository; a field that is absent stays as it is."""

    is_immutable: bool | None = None
    is_public: bool | None = None
    readme: Readme | None = None
    freeform_tags: dict[str, str] | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class RepositorySummary(Resource, Tagged):
    """ContainerRepositorySummary. What the registry holds is counted on request."""

    display_name: str
    is_public: bool
    image_count: int = 0
    layer_count: int = 0
    layers_size_in_bytes: int = 0
    billable_size_in_gbs: int = Field(default=0, alias="billableSizeInGBs")
    lifecycle_state: State = State.AVAILABLE
    namespace: Literal["localoci"] = NAMESPACE
    time_created: datetime = Field(default_factory=now)


class Repository(RepositorySummary):
    """ContainerRepository."""

    created_by: str
    is_immutable: bool
    readme: Readme | None = None
    time_last_pushed: datetime | None = None

    def summary(self) -> RepositorySummary:
        """What a list shows of it."""
        return RepositorySummary.model_validate(self.model_dump())


class Layer(WireModel):
    """ContainerImageLayer."""

    digest: str
    size_in_bytes: int
    time_created: datetime


class Version(WireModel):
    """ContainerVersion: a tag."""

    version: str
    created_by: str
    time_created: datetime


class ImageSummary(Resource, Tagged):
    """ContainerImageSummary."""

    digest: str
    display_name: str
    lifecycle_state: State = State.AVAILABLE
    repository_id: str
    repository_name: str
    time_created: datetime
    version: str | None


class Image(ImageSummary):
    """ContainerImage. It is never stored: the registry knows what it holds."""

    created_by: str
    layers: tuple[Layer, ...]
    layers_size_in_bytes: int
    manifest_size_in_bytes: int
    pull_count: int = 0
    versions: tuple[Version, ...]

    def summary(self) -> ImageSummary:
        """What a list shows of it."""
        return ImageSummary.model_validate(self.model_dump())


class LookupImageByUriDetails(WireModel):
    """Body of lookup_container_image_by_uri."""

    image_uri: str


class UpdateConfigurationDetails(WireModel):
    """Body of update_container_configuration."""

    is_repository_created_on_first_push: bool | None = None


class Configuration(Record):
    """ContainerConfiguration, one for the tenancy; repositories are made by a push [inferred]."""

    KEY: ClassVar[str] = "configuration"

    is_repository_created_on_first_push: bool = True
    namespace: Literal["localoci"] = NAMESPACE
