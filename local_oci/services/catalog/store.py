"""The catalog's records, the lookups that refuse what is not there, and versions in a set."""

from __future__ import annotations

from typing import Any

from local_oci.http.errors import conflict, invalid_parameter, not_found, related_resource_not_found
from local_oci.services.catalog.models import (
    Artifact,
    MetadatumArtifact,
    Model,
    ModelState,
    Project,
    ProjectState,
    VersionSet,
    VersionSetState,
)
from local_oci.storage.database import Database
from local_oci.storage.records import Collection


class Catalog:
    """Projects, models, version sets and artifacts of one cloud."""

    def __init__(self, database: Database) -> None:
        self.projects = Collection(database, "project", Project, lambda record: record.id)
        self.models = Collection(database, "model", Model, lambda record: record.id)
        self.version_sets = Collection(
            database, "model_version_set", VersionSet, lambda record: record.id
        )
        self.metadatum_artifacts = Collection(
            database, "metadatum_artifact", MetadatumArtifact, lambda record: record.key
        )
        self.artifacts = Collection(database, "artifact", Artifact, lambda record: record.model_id)

    def project(self, project_id: str) -> Project:
        """A project named in a path; 404 if there is none."""
        project = self.projects.get(project_id)
        if project is None:
            raise not_found()
        return project

    def model(self, model_id: str) -> Model:
        """A model named in a path; 404 if there is none or it is deleted."""
        model = self.models.get(model_id)
        if model is None or model.lifecycle_state is ModelState.DELETED:
            raise not_found()
        return model

    def version_set(self, version_set_id: str) -> VersionSet:
        """A version set named in a path; 404 if there is none."""
        version_set = self.version_sets.get(version_set_id)
        if version_set is None:
            raise not_found()
        return version_set

    def named_version_set(self, version_set_id: str) -> VersionSet:
        """A version set named in a body; 400 if there is none or it is deleted."""
        version_set = self.version_sets.get(version_set_id)
        if version_set is None or version_set.lifecycle_state is not VersionSetState.ACTIVE:
            raise related_resource_not_found(f"model version set {version_set_id}")
        return version_set

    def models_of(self, version_set_id: str) -> list[Model]:
        """The models of a version set, deleted ones left out."""
        return [
            model
            for model in self.models.scan()
            if model.model_version_set_id == version_set_id
            and model.lifecycle_state is not ModelState.DELETED
        ]

    def blob_names(self) -> set[str]:
        """The blobs that are in use."""
        artifacts = {artifact.blob for artifact in self.artifacts.scan()}
        return artifacts | {artifact.blob for artifact in self.metadatum_artifacts.scan()}

    def artifact(self, model_id: str) -> Artifact:
        """The artifact of a model named in a path; 404 if it has none."""
        self.model(model_id)
        artifact = self.artifacts.get(model_id)
        if artifact is None:
            raise not_found()
        return artifact

    def check_project(self, project_id: str) -> None:
        """Refuse a body that names a project that is not there or deleted: 400."""
        project = self.projects.get(project_id)
        if project is None or project.lifecycle_state is not ProjectState.ACTIVE:
            raise related_resource_not_found(f"project {project_id}")


# --- versions ---------------------------------------------------------------------------------


def place(catalog: Catalog, model: Model) -> Model:
    """Give a model that names a set its place in it.

    Raises:
        ServiceError: 400 without such a set, 409 if the label is taken.
    """
    if model.model_version_set_id is None:
        return model
    version_set = catalog.named_version_set(model.model_version_set_id)
    _check_label(catalog, model)
    version_set = catalog.version_sets.change(version_set, versions=version_set.versions + 1)
    return model.model_copy(
        update={
            "model_version_set_name": version_set.name,
            "version_id": version_set.versions,
        }
    )


def updated(catalog: Catalog, model: Model, changed: dict[str, Any]) -> Model:
    """A model with some fields changed, in its place.

    Raises:
        ServiceError: 400 if it would change its set, or as in `place`.
    """
    target = model.model_copy(update=changed)
    if target.model_version_set_id != model.model_version_set_id:
        if model.model_version_set_id is not None:
            raise invalid_parameter("modelVersionSetId: a model cannot leave its version set.")
        return place(catalog, target)
    if target.model_version_set_id is not None and target.version_label != model.version_label:
        _check_label(catalog, target)
    return target


def _check_label(catalog: Catalog, model: Model) -> None:
    if model.version_label is None:
        return
    for other in catalog.models_of(str(model.model_version_set_id)):
        if other.version_label == model.version_label and other.id != model.id:
            raise conflict(
                f"versionLabel: '{model.version_label}' is the label of {other.id} already."
            )
