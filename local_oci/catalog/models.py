"""Projects and models as they travel and as they are stored (oci 2.189.0, data_science.models)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from local_oci.storage.records import NamedResource, Record, Tagged, WireModel

MODEL_TYPE = "datasciencemodel"
PROJECT_TYPE = "datascienceproject"


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


class Metadata(WireModel):
    """One item of a model's metadata."""

    key: str | None = None
    value: str | None = None
    description: str | None = None
    category: str | None = None
    keywords: tuple[str, ...] | None = None
    has_artifact: bool | None = None


class CreateModelDetails(Tagged):
    """Body of create_model."""

    compartment_id: str
    project_id: str
    display_name: str | None = None
    description: str | None = None
    custom_metadata_list: tuple[Metadata, ...] = ()
    defined_metadata_list: tuple[Metadata, ...] = ()
    input_schema: str | None = None
    output_schema: str | None = None
    version_label: str | None = None


class UpdateModelDetails(WireModel):
    """Body of update_model; a field that is absent stays as it is."""

    display_name: str | None = None
    description: str | None = None
    freeform_tags: dict[str, str] | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None
    custom_metadata_list: tuple[Metadata, ...] | None = None
    defined_metadata_list: tuple[Metadata, ...] | None = None
    version_label: str | None = None


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
    custom_metadata_list: tuple[Metadata, ...] = ()
    defined_metadata_list: tuple[Metadata, ...] = ()
    input_schema: str | None = None
    output_schema: str | None = None
    version_label: str | None = None
    category: Literal["USER"] = "USER"
    is_model_by_reference: Literal[False] = False
    provenance: Provenance | None = None


class Artifact(Record):
    """A model's artifact: one blob. Never on the wire as JSON.

    Its MD5 is not known where it came from an object that was uploaded in parts.
    """

    model_id: str
    blob: str
    size: int
    md5: str | None
    content_disposition: str
    last_modified: datetime


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
    destination_object_name: str
    destination_region: str


class ImportArtifactDetails(WireModel):
    """Body of import_model_artifact: from the catalog into a bucket."""

    artifact_import_details: ObjectStorageDestination
