"""The model catalog: one model an artifact, found again by the artifact's digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import oci
from oci.data_science import DataScienceClient
from oci.data_science.models import CreateModelDetails, CreateProjectDetails

from falconry.cloud.session import Session, cloud_errors_told
from falconry.errors import CloudError

ARTIFACT_TAG = "falconry-artifact"
_CHUNK = 1 << 20


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

    def add(
        self, artifact: Path, artifact_digest: str, name: str, report: Callable[[float], None]
    ) -> str:
        """Makes a model and uploads its artifact.

        Args:
            artifact: the zip.
            artifact_digest: `sha256:<hex>` of it, kept as a tag.
            name: the model's display name.
            report: called with the fraction uploaded.

        Returns:
            The model's OCID.

        Raises:
            CloudError: refused, or what arrived is not what was sent.
        """
        details = CreateModelDetails(
            compartment_id=self._session.compartment_id,
            project_id=self.project(),
            display_name=name,
            freeform_tags={ARTIFACT_TAG: artifact_digest},
        )
        size = artifact.stat().st_size
        with cloud_errors_told("creating the model"):
            model_id = str(self._client.create_model(details).data.id)
        with cloud_errors_told("uploading the artifact"), artifact.open("rb") as stream:
            self._client.create_model_artifact(
                model_id,
                _Reported(stream, size, report),
                content_length=size,
                content_disposition=f'attachment; filename="{artifact.name}"',
            )
        with cloud_errors_told("checking the uploaded artifact"):
            arrived = int(self._client.head_model_artifact(model_id).headers["content-length"])
        if arrived != size:
            raise CloudError(
                f"{size} bytes were sent and {arrived} arrived", where=model_id, remedy="run again"
            )
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


class _Reported:
    """A file that says how much of it has been read; seekable, so that a retry starts anew."""

    def __init__(self, stream: BinaryIO, size: int, report: Callable[[float], None]) -> None:
        self._stream = stream
        self._size = size
        self._report = report

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(_CHUNK if size is None or size < 0 else size)
        self._report(self._stream.tell() / max(self._size, 1))
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()
