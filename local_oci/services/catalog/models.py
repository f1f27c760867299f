"""Projects and models as they travel and as they are stored (oci 2.189.0, data_science.models)."""

from __future__ import annotations

import json
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field

from local_oci.limits import (
    METADATA_BYTES,
    METADATA_CATEGORIES,
    METADATA_DESCRIPTION_CHARACTERS,
    METADATA_VALUE_CHARACTERS,
)
from local_oci.services.object_storage.models import ObjectName
from local_oci.storage.records import (
    FreeformTags,
    NamedResource,
    Record,
    Resource,
    Tagged,
    WireModel,
    now,
)

MODEL_TYPE = "datasciencemodel"
PROJECT_TYPE = "datascienceproject"
VERSION_SET_TYPE = "datasciencemodelversionset"


class Metadata(WireModel):
    """One item of a model's metadata."""

    key: str | None = None
    value: str | None = None
    description: str | None = None
    category: str | None = None
    keywords: tuple[str, ...] | None = None
    has_artifact: bool | None = None


def _check_list(items: tuple[Metadata, ...]) -> tuple[Metadata, ...]:
    """Refuse keys that are absent or not unique [inferred], and too much in all."""
    keys = [item.key for item in items]
    if not all(keys) or len(set(keys)) < len(keys):
        raise ValueError("every item needs a key of its own")
    text = json.dumps([item.model_dump(by_alias=True, exclude_none=True) for item in items])
    if len(text.encode()) > METADATA_BYTES:
        raise ValueError(f"{len(text.encode())} bytes in all, at most {METADATA_BYTES}")
    return items


def _check_custom(items: tuple[Metadata, ...]) -> tuple[Metadata, ...]:
    for item in items:
        if len(item.value or "") > METADATA_VALUE_CHARACTERS:
            raise ValueError(
                f"'{item.key}': its value has more than {METADATA_VALUE_CHARACTERS} characters"
            )
        if len(item.description or "") > METADATA_DESCRIPTION_CHARACTERS:
            raise ValueError(
                f"'{item.key}': its description has more than "
                f"{METADATA_DESCRIPTION_CHARACTERS} characters"
            )
        if item.category is not None and item.category.lower() not in METADATA_CATEGORIES:
            raise ValueError(f"'{item.key}': '{item.category}' is not a category")
    return items


DefinedMetadata: TypeAlias = Annotated[tuple[Metadata, ...], AfterValidator(_check_list)]
CustomMetadata: TypeAlias = Annotated[DefinedMetadata, AfterValidator(_check_custom)]


class ProjectState(StrEnum):
    """Values of Project.lifecycleState."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"


class ModelState(StrEnum):
    """Values of Model.lifecycleState. There is no CREATING: the SDK would not know it."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    DELETED = "DELETED"


class CreateProjectDetails(Tagged):
    """Body of create_project."""

    compartment_id: str
    display_name: str | None = None
    description: str | None = None


class Project(NamedResource):
    """A project."""

    lifecycle_state: ProjectState = ProjectState.ACTIVE


class UpdateProjectDetails(WireModel):
    """Body of update_project; a field that is absent stays as it is."""

    display_name: str | None = None
    description: str | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class VersionSetState(StrEnum):
    """Values of ModelVersionSet.lifecycleState that are used here."""

    ACTIVE = "ACTIVE"
    DELETED = "DELETED"


class CreateVersionSetDetails(Tagged):
    """Body of create_model_version_set."""

    compartment_id: str
    project_id: str
    name: str = Field(min_length=1)
    description: str | None = None


class UpdateVersionSetDetails(WireModel):
    """Body of update_model_version_set; a field that is absent stays as it is."""

    description: str | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class VersionSet(Resource, Tagged):
    """A model version set: models that follow each other. Its name cannot change.

    `versions` counts the models that were ever in it.
    """

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "versions"})

    project_id: str
    name: str
    description: str | None = None
    lifecycle_state: VersionSetState = VersionSetState.ACTIVE
    created_by: str
    time_created: datetime = Field(default_factory=now)
    time_updated: datetime = Field(default_factory=now)
    category: Literal["USER"] = "USER"
    versions: int = 0


class CreateModelDetails(Tagged):
    """Body of create_model."""

    compartment_id: str
    project_id: str
    display_name: str | None = None
    description: str | None = None
    custom_metadata_list: CustomMetadata = ()
    defined_metadata_list: DefinedMetadata = ()
    input_schema: str | None = None
    output_schema: str | None = None
    model_version_set_id: str | None = None
    version_label: str | None = None
    retention_setting: dict[str, Any] | None = None
    backup_setting: dict[str, Any] | None = None


class UpdateModelDetails(WireModel):
    """Body of update_model; a field that is absent stays as it is."""

    display_name: str | None = None
    description: str | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None
    custom_metadata_list: CustomMetadata | None = None
    defined_metadata_list: DefinedMetadata | None = None
    model_version_set_id: str | None = None
    version_label: str | None = None
    retention_setting: dict[str, Any] | None = None
    backup_setting: dict[str, Any] | None = None


class Provenance(WireModel):
    """Where a model comes from."""

    repository_url: str | None = None
    git_branch: str | None = None
    git_commit: str | None = None
    script_dir: str | None = None
    training_script: str | None = None
    training_id: str | None = None


class Model(NamedResource):
    """A model in the catalog."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "provenance"})

    project_id: str
    lifecycle_state: ModelState = ModelState.ACTIVE
    custom_metadata_list: CustomMetadata = ()
    defined_metadata_list: DefinedMetadata = ()
    input_schema: str | None = None
    output_schema: str | None = None
    model_version_set_id: str | None = None
    model_version_set_name: str | None = None
    version_id: int | None = None
    version_label: str | None = None
    retention_setting: dict[str, Any] | None = None
    backup_setting: dict[str, Any] | None = None
    category: Literal["USER"] = "USER"
    is_model_by_reference: Literal[False] = False
    provenance: Provenance | None = None


class StoredFile(Record):
    """One blob with what HTTP says about it. Never on the wire as JSON.

    Its MD5 is not known where it came from an object that was uploaded in parts.
    """

    blob: str
    size: int
    md5: str | None
    content_disposition: str
    last_modified: datetime = Field(default_factory=now)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its content."""
        headers = {
            "etag": self.etag,
            "content-type": "application/octet-stream",
            "content-disposition": self.content_disposition,
            "last-modified": format_datetime(self.last_modified, usegmt=True),
        }
        return headers if self.md5 is None else {**headers, "content-md5": self.md5}


class Artifact(StoredFile):
    """A model's artifact."""

    model_id: str


class MetadatumArtifact(StoredFile):
    """The artifact of one item of a model's metadata.

    Args:
        kind: "custom" or "defined".
        metadatum: key of the item.
    """

    model_id: str
    kind: str
    metadatum: str

    @property
    def key(self) -> str:
        """Its key among all of them; a model's have a common beginning."""
        return f"{self.model_id}/{self.kind}/{self.metadatum}"


class ObjectStorageSource(WireModel):
    """ArtifactExportDetailsObjectStorage: the object that becomes an artifact."""

    artifact_source_type: Literal["ORACLE_OBJECT_STORAGE"]
    namespace: str
    source_bucket: str
    source_object_name: str
    source_region: str


class ExportArtifactDetails(WireModel):
    """Body of export_model_artifact: from a bucket into the catalog."""

    artifact_export_details: ObjectStorageSource


class ObjectStorageDestination(WireModel):
    """ArtifactImportDetailsObjectStorage: the object that an artifact becomes."""

    artifact_source_type: Literal["ORACLE_OBJECT_STORAGE"]
    namespace: str
    destination_bucket: str
    destination_object_name: ObjectName
    destination_region: str


class ImportArtifactDetails(WireModel):
    """Body of import_model_artifact: from the catalog into a bucket."""

    artifact_import_details: ObjectStorageDestination
