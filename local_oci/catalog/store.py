"""The catalog's records, and the lookups that refuse what is not there."""

from __future__ import annotations

from local_oci.catalog.models import (
    Artifact,
    Model,
    ModelState,
    ModelVersionSet,
    Project,
    ProjectState,
)
from local_oci.http.errors import not_found, related_resource_not_found
from local_oci.storage.database import Database
from local_oci.storage.records import Collection


class Catalog:
    """Projects, models and artifacts of one cloud."""

    def __init__(self, database: Database) -> None:
        self.projects = Collection(database, "project", Project, lambda record: record.id)
        self.models = Collection(database, "model", Model, lambda record: record.id)
        self.version_sets = Collection(
            database, "model_version_set", ModelVersionSet, lambda record: record.id
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

    def artifact(self, model_id: str) -> Artifact:
        """The artifact of a model named in a path; 404 if it has none."""
        self.model(model_id)
        artifact = self.artifacts.get(model_id)
        if artifact is None:
            raise not_found()
        return artifact

    def check_version_set(self, version_set_id: str | None) -> None:
        """Refuse a body that names a set of model versions that is not there: 400."""
        if version_set_id is not None and self.version_sets.get(version_set_id) is None:
            raise related_resource_not_found(f"model version set {version_set_id}")

    def check_project(self, project_id: str) -> None:
        """Refuse a body that names a project that is not there or deleted: 400."""
        project = self.projects.get(project_id)
        if project is None or project.lifecycle_state is not ProjectState.ACTIVE:
            raise related_resource_not_found(f"project {project_id}")
