"""The catalog's records, and the lookups that refuse what is not there."""

from __future__ import annotations

from local_oci.http.errors import not_found, related_resource_not_found
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
