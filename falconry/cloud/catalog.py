"""The model catalog: one model an artifact, found again by the artifact's digest."""

from __future__ import annotations

from typing import Any

import oci
from oci.data_science import DataScienceClient
from oci.data_science.models import CreateModelDetails, CreateProjectDetails

from falconry.artifact.view import ArtifactView
from falconry.cloud.artifact_upload import upload_artifact
from falconry.cloud.session import Session, cloud_errors_told
from falconry.pipeline import Report

ARTIFACT_TAG = "falconry-artifact"


class Catalog:
    """The project and the models of one profile."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._client: Any = session.client(DataScienceClient)

    def project(self) -> str:
        """The OCID of the project with the profile's name, made when there is none.

        Raises:
            CloudError: it can be neither found nor made.
        """
        name = self._session.settings.project
        compartment = self._session.compartment_id
        with cloud_errors_told(f"finding the project '{name}'"):
            found = oci.pagination.list_call_get_all_results(
                self._client.list_projects, compartment, display_name=name, lifecycle_state="ACTIVE"
            ).data
            if found:
                return str(found[0].id)
            details = CreateProjectDetails(compartment_id=compartment, display_name=name)
            return str(self._client.create_project(details).data.id)

    def find(self, artifact_digest: str) -> str | None:
        """The OCID of an active model that holds this artifact."""
        compartment = self._session.compartment_id
        with cloud_errors_told("looking through the model catalog"):
            models = oci.pagination.list_call_get_all_results(
                self._client.list_models, compartment, lifecycle_state="ACTIVE"
            ).data
            for model in models:
                tags = model.freeform_tags or {}
                if tags.get(ARTIFACT_TAG) == artifact_digest and self._has_artifact(model.id):
                    return str(model.id)
        return None

    def add(self, view: ArtifactView, name: str, report: Report) -> str:
        """Makes a model and uploads its artifact, whose digest is kept as a tag.

        Args:
            view: the artifact.
            name: the model's display name.
            report: called with what is being done and how much of it is.

        Returns:
            The model's OCID.

        Raises:
            CloudError: refused, or what arrived is not what was sent.
        """
        details = CreateModelDetails(
            compartment_id=self._session.compartment_id,
            project_id=self.project(),
            display_name=name,
            freeform_tags={ARTIFACT_TAG: view.digest},
        )
        with cloud_errors_told("creating the model"):
            model_id = str(self._client.create_model(details).data.id)
        upload_artifact(self._session, model_id, view, self._session.settings.upload, report)
        return model_id

    def _has_artifact(self, model_id: str) -> bool:
        """Whether the upload of a model was ever finished."""
        try:
            self._client.head_model_artifact(model_id)
        except oci.exceptions.ServiceError as error:
            if error.status == 404:
                return False
            raise
        return True
