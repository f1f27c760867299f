"""The model catalog: one model for each artifact; pruning of old models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import oci
from oci.data_science import DataScienceClient
from oci.data_science import models as oci_models

from falconry.artifact.view import ArtifactView
from falconry.cloud.retries import all_records, create_idempotent
from falconry.cloud.session import Session, ignore_statuses, translate_cloud_errors
from falconry.deployment.provenance import ModelEntry
from falconry.deployment.target import ARTIFACT_TAG, MODEL_TAG
from falconry.deployment.upload import upload_artifact
from falconry.errors import CloudError
from falconry.pipeline import Report

# Categories of custom metadata (oci 2.189.0, data_science.models.Metadata.category).
_ENVIRONMENT, _OTHER = "Training Environment", "other"
_USABLE = ("ACTIVE", "INACTIVE")
_GONE = "DELETED"

Outcome = Literal["kept", "in use", "deactivated", "deleted"]
"""What pruning did with a model."""


class Catalog:
    """The project and the models of one profile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)
        self._project: str | None = None

    def project(self) -> str:
        """Returns the OCID of the profile's project; creates it if missing."""
        self._project = self._project or self.find_project() or self._make_project()
        return self._project

    def find_project(self) -> str | None:
        """Finds the OCID of the profile's project."""
        name = self._session.settings.project
        with translate_cloud_errors(f"finding the project '{name}'"):
            found = all_records(
                self._client.list_projects,
                self._session.compartment_id,
                display_name=name,
                lifecycle_state="ACTIVE",
            )
        oldest = min(found, key=_age, default=None)
        return str(oldest.id) if oldest else None

    def models(self) -> list[Any]:
        """Lists summaries of the project's models that Falconry made, oldest first."""
        self._project = self._project or self.find_project()
        if self._project is None:
            return []
        with translate_cloud_errors("looking through the model catalog"):
            found = all_records(
                self._client.list_models, self._session.compartment_id, project_id=self._project
            )
        ours = (model for model in found if ARTIFACT_TAG in (model.freeform_tags or {}))
        return sorted((each for each in ours if each.lifecycle_state in _USABLE), key=_age)

    def ensure(self, entry: ModelEntry, artifact: ArtifactView, report: Report) -> str:
        """Returns the OCID of an artifact's model; creates it if missing.

        Continues a model that another run has begun to fill, and activates a deactivated model.

        Raises:
            CloudError: refused, or other bytes arrived than were sent.
        """
        size = artifact.size
        known = [
            model
            for model in self.models()
            if model.freeform_tags[ARTIFACT_TAG] == entry.artifact_digest
        ]
        sizes = {model.id: self.artifact_size(model.id) for model in known}
        complete = [model for model in known if sizes[model.id] == size]
        if complete:
            model_id = self._activated(complete)
        else:
            unfinished = [model.id for model in known if sizes[model.id] is None]
            damaged = [model.id for model in known if sizes[model.id] not in (None, size)]
            model_id = unfinished[0] if unfinished else self._create(entry, damaged)
            self._fill(model_id, artifact, report)
        self._write_provenance(model_id, entry)
        return model_id

    def artifact_size(self, model_id: str) -> int | None:
        """Reads the size of a model's artifact in bytes, if it exists."""
        with translate_cloud_errors("looking at the model's artifact"), ignore_statuses(404):
            return int(self._client.head_model_artifact(model_id).headers["content-length"])
        return None

    def _make_project(self) -> str:
        name, compartment = self._session.settings.project, self._session.compartment_id
        details = oci_models.CreateProjectDetails(
            compartment_id=compartment, display_name=name, freeform_tags=self._session.tags
        )

        def create(token: str) -> str:
            return str(self._client.create_project(details, opc_retry_token=token).data.id)

        def exists(project: str) -> bool:
            return bool(self._client.get_project(project).data.lifecycle_state == "ACTIVE")

        with translate_cloud_errors(f"making the project '{name}'"):
            made = create_idempotent(
                ("project", compartment, name), create, exists, self.find_project
            )
        return str(made)

    def _create(self, entry: ModelEntry, damaged: Iterable[str]) -> str:
        """Creates an empty model; never returns one of the `damaged` models."""
        project, compartment = self.project(), self._session.compartment_id
        refused = set(damaged)
        details = oci_models.CreateModelDetails(
            compartment_id=compartment,
            project_id=project,
            display_name=entry.name,
            description=entry.description,
            custom_metadata_list=_metadata(entry),
            freeform_tags={**self._session.tags, ARTIFACT_TAG: entry.artifact_digest},
            model_version_set_id=self._version_set(project),
            version_label=entry.version_label if self._session.settings.model_version_set else None,
        )

        def create(token: str) -> str:
            return str(self._client.create_model(details, opc_retry_token=token).data.id)

        def find() -> str | None:
            same = (
                str(model.id)
                for model in self.models()
                if model.freeform_tags[ARTIFACT_TAG] == entry.artifact_digest
            )
            return next((model for model in same if model not in refused), None)

        def exists(model: str) -> bool:
            if model in refused:
                return False
            # Without a policy to read models, a new one may be listed and not readable.
            return self._is_there(model) or any(each.id == model for each in self.models())

        parts = ("model", compartment, project, entry.artifact_digest)
        with translate_cloud_errors("creating the model"):
            return str(create_idempotent(parts, create, exists, find))

    def _is_there(self, model_id: str) -> bool:
        with ignore_statuses(404):
            return self._client.get_model(model_id).data.lifecycle_state in _USABLE
        return False

    def _version_set(self, project: str) -> str | None:
        """Returns the profile's model version set; creates it if missing."""
        name, compartment = self._session.settings.model_version_set, self._session.compartment_id
        if name is None:
            return None
        details = oci_models.CreateModelVersionSetDetails(
            compartment_id=compartment,
            project_id=project,
            name=name,
            freeform_tags=self._session.tags,
        )

        def find() -> str | None:
            found = all_records(self._client.list_model_version_sets, compartment, name=name)
            return next((each.id for each in found if each.lifecycle_state == "ACTIVE"), None)

        with translate_cloud_errors(f"finding the model version set '{name}'"):
            if known := find():
                return str(known)
        with translate_cloud_errors(f"making the model version set '{name}'"):
            try:
                return str(self._client.create_model_version_set(details).data.id)
            except oci.exceptions.ServiceError as error:
                # Names are unique: another run created it meanwhile.
                known = find() if error.status == 409 else None
                if known is None:
                    raise
                return str(known)

    def _fill(self, model_id: str, artifact: ArtifactView, report: Report) -> None:
        """Uploads a model's artifact and checks that it arrived."""
        settings = self._session.settings.upload
        try:
            upload_artifact(self._session, model_id, artifact, settings, report)
        except CloudError:
            # Another run may have uploaded the same bytes meanwhile: artifacts never change.
            if self.artifact_size(model_id) != artifact.size:
                raise
        arrived = self.artifact_size(model_id)
        if arrived != artifact.size:
            raise CloudError(
                f"{artifact.size} bytes were sent and {arrived} arrived",
                where=model_id,
                remedy="run again",
            )

    def _activated(self, models: list[Any]) -> str:
        """Returns the OCID of an active model; activates one if needed."""
        active = next((model for model in models if model.lifecycle_state == "ACTIVE"), None)
        if active is None:
            with translate_cloud_errors("activating the model"):
                try:
                    self._client.activate_model(models[0].id)
                except oci.exceptions.ServiceError as error:
                    # Another run may have activated it, or a request without an answer.
                    state = self._client.get_model(models[0].id).data.lifecycle_state
                    if error.status != 409 or state != "ACTIVE":
                        raise
        return str((active or models[0]).id)

    def _write_provenance(self, model_id: str, entry: ModelEntry) -> None:
        """Writes where a model was first made, unless it is written."""
        provenance = entry.provenance
        if provenance.commit is None:
            return
        details = oci_models.CreateModelProvenanceDetails(
            repository_url=provenance.repository_url,
            git_branch=provenance.branch,
            git_commit=provenance.commit,
        )
        with translate_cloud_errors("writing the model's provenance"):
            with ignore_statuses(404):
                self._client.get_model_provenance(model_id)
                return
            self._client.create_model_provenance(model_id, details)


def _metadata(entry: ModelEntry) -> list[Any]:
    items = [(entry.environment, _ENVIRONMENT), (entry.facts, _OTHER)]
    return [
        oci_models.Metadata(key=name, value=value, category=category)
        for values, category in items
        for name, value in values.items()
    ]


def _age(resource: Any) -> tuple[Any, str]:
    """Sorts resources from the oldest on, always in the same order."""
    return resource.time_created, resource.id


# --- pruning of old models --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrunedModel:
    """The outcome of pruning for a model."""

    id: str
    made: str  # in ISO 8601
    outcome: Outcome


def prune_models(session: Session, name: str, keep: int, *, delete: bool) -> list[PrunedModel]:
    """Deactivates a name's models but the newest and those in use.

    With `delete` it deletes them instead, with their artifacts. The name is that of the deployment.

    Returns:
        Every model, the newest first.
    """
    models = [each for each in Catalog(session).models() if each.display_name == name][::-1]
    pruning = _ModelPruner(session, delete=delete)
    used = pruning.models_in_use()
    return [
        PrunedModel(
            str(model.id),
            f"{model.time_created:%Y-%m-%dT%H:%M:%SZ}",
            "kept" if rank < keep else pruning.outcome_of(model, used),
        )
        for rank, model in enumerate(models)
    ]


class _ModelPruner:
    def __init__(self, session: Session, *, delete: bool) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)
        self._delete = delete

    def models_in_use(self) -> set[str]:
        """Lists the models of the compartment's deployments and of their rollbacks."""
        with translate_cloud_errors("looking for the models in use"):
            deployments = all_records(
                self._client.list_model_deployments, self._session.compartment_id
            )
        used = set()
        for deployment in deployments:
            if deployment.lifecycle_state != _GONE:
                details = deployment.model_deployment_configuration_details
                used.add(details.model_configuration_details.model_id)
                used.add((deployment.freeform_tags or {}).get(MODEL_TAG))
        return used

    def outcome_of(self, model: Any, used: set[str]) -> Outcome:
        if model.id in used:
            return "in use"
        if self._delete:
            return self._deleted(model)
        return "deactivated" if self._deactivated(model) else "in use"

    def _deleted(self, model: Any) -> Outcome:
        with translate_cloud_errors("deleting the model"):
            try:
                self._client.delete_model(model.id)
            except oci.exceptions.ServiceError as error:
                # 409: a new deployment uses it; 404: it is gone, perhaps by this request, repeated.
                if error.status == 409:
                    return "in use"
                if error.status != 404:
                    raise
        return "deleted"

    def _deactivated(self, model: Any) -> bool:
        """Deactivates a model, unless a new deployment uses it."""
        with translate_cloud_errors("deactivating the model"):
            if model.lifecycle_state == "ACTIVE":
                try:
                    self._client.deactivate_model(model.id)
                except oci.exceptions.ServiceError as error:
                    if self._client.get_model(model.id).data.lifecycle_state != "INACTIVE":
                        if error.status == 409:
                            return False
                        raise
            if model.id not in self.models_in_use():
                return True
            self._client.activate_model(model.id)
        return False
