"""Uploads artifacts to the model catalog, large ones through a bucket."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from oci.data_science import DataScienceClient
from oci.data_science.models import ArtifactExportDetailsObjectStorage, ExportModelArtifactDetails
from oci.object_storage import ObjectStorageClient

from falconry.artifact.view import ArtifactView
from falconry.cloud.retries import all_objects, all_records
from falconry.cloud.session import Session, ensure_bucket, translate_cloud_errors
from falconry.cloud.work_requests import ENDED, Operation, Watch, wait_for
from falconry.deployment.multipart import MultipartUpload, ObjectRef
from falconry.deployment.transfer import (
    SEND_BYTES,
    RateLimiter,
    TransferProgress,
    UploadBody,
    send_in_large_pieces,
)
from falconry.errors import CloudError
from falconry.pipeline import Report
from falconry.settings import UploadSettings

_STEP = "uploading the artifact"
_PREFIX = "artifacts/"
# No run takes that long, and a failed one is repeated sooner: what is older is left over.
_LEFT_BEHIND_AFTER = timedelta(days=7)
_EXPORT_TIMEOUT_S = 4 * 3600.0
# How often another run may remove the staged object before this one has copied it.
_ROUNDS = 8


def upload_artifact(
    session: Session, model_id: str, view: ArtifactView, settings: UploadSettings, report: Report
) -> None:
    """Uploads an artifact to a model that has none yet.

    Raises:
        CloudError: refused, no answer for a while, or other bytes arrived than were sent.
        RepositoryError: a file changed while it was sent.
    """
    upload = _ArtifactUpload(session, model_id, view, settings, report)
    report(_STEP, 0.0)
    if view.size <= settings.staged_above_mib << 20:
        upload.send()
    else:
        upload.stage_and_copy()


class _ArtifactUpload:
    def __init__(
        self,
        session: Session,
        model_id: str,
        view: ArtifactView,
        settings: UploadSettings,
        report: Report,
    ) -> None:
        self._session = session
        self._model_id = model_id
        self._view = view
        self._settings = settings
        self._report = report
        self._catalog: Any = session.client(DataScienceClient)
        send_in_large_pieces(self._catalog)
        self._limiter = RateLimiter(settings.megabytes_per_second)

    def send(self) -> None:
        """Sends the artifact in one request."""
        with translate_cloud_errors(_STEP):
            md5 = self._send_body()
        with _advising("run again"), translate_cloud_errors(_STEP):
            self._check_arrived(md5)

    def _send_body(self) -> str:
        """Sends the artifact and returns the Base64 of its MD5."""
        digest = hashlib.md5(usedforsecurity=False)
        buffer = memoryview(bytearray(SEND_BYTES))

        def piece(offset: int, count: int) -> memoryview:
            nonlocal digest
            if offset == 0:  # also when it is sent again
                digest = hashlib.md5(usedforsecurity=False)
            self._view.read_into(buffer[:count], offset)
            digest.update(buffer[:count])
            return buffer[:count]

        progress = TransferProgress(_STEP, self._view.size, self._report)
        self._catalog.create_model_artifact(
            self._model_id,
            UploadBody(self._view.size, piece, self._limiter, progress),
            content_length=self._view.size,
            content_disposition=f'attachment; filename="{self._file_name}"',
        )
        return base64.b64encode(digest.digest()).decode()

    def stage_and_copy(self) -> None:
        """Uploads the artifact to a bucket, for the catalog to copy."""
        with translate_cloud_errors("asking for the tenancy's namespace"):
            storage: Any = self._session.client(ObjectStorageClient)
            send_in_large_pieces(storage)
            namespace = str(storage.get_namespace().data)
        bucket = self._settings.bucket
        ensure_bucket(self._session, storage, namespace, bucket)
        target = ObjectRef(namespace, bucket, f"{_PREFIX}{self._file_name}")
        kept = (
            f"run again, which sends nothing a second time: {bucket}/{target.name} is kept until"
            " the catalog has it"
        )
        for _ in range(_ROUNDS):
            progress = TransferProgress(_STEP, self._view.size, self._report)
            upload = MultipartUpload(storage, target, self._view, self._limiter, progress)
            with _advising("run again to send what is missing"), translate_cloud_errors(_STEP):
                etag = upload.send()
            with _advising(kept):
                if self._copied(upload, target, etag):
                    break
        else:
            raise CloudError(
                "other runs kept removing the staged artifact",
                where=f"{bucket}/{target.name}",
                remedy="run again when they are done",
            )
        with _advising(kept), translate_cloud_errors("checking the uploaded artifact"):
            self._check_arrived(None)
        with translate_cloud_errors("removing the staged artifact"):
            upload.remove(etag)
        _remove_stale(storage, target)

    def _copied(self, upload: MultipartUpload, target: ObjectRef, etag: str) -> bool:
        """Has the catalog copy the object, which stays in the bucket.

        Returns:
            Whether it was copied; if not, another run removed it meanwhile.

        Raises:
            CloudError: the copy failed for another reason, or its outcome is not known.
        """
        work_request_id = None
        try:
            with translate_cloud_errors("copying the artifact into the catalog"):
                work_request_id = self._begin_copy(target)
            copy = Operation(work_request_id, "copy of the artifact into the catalog")
            wait_for(self._catalog, copy, Watch(_EXPORT_TIMEOUT_S, self._report))
        except CloudError:
            if not self._was_removed(upload, etag, work_request_id):
                raise
            return False
        return True

    def _was_removed(self, upload: MultipartUpload, etag: str, work_request_id: str | None) -> bool:
        """Whether a copy failed because another run removed the object.

        False while the copy may still be running, and if the cloud does not answer.
        """
        with (
            contextlib.suppress(CloudError),
            translate_cloud_errors("looking for the staged artifact"),
        ):
            if work_request_id is not None:
                status = self._catalog.get_work_request(work_request_id).data.status
                if status not in ENDED:
                    return False
            return not upload.is_present(etag)
        return False

    def _begin_copy(self, source: ObjectRef) -> str:
        # Oracle calls the copy from a bucket into the catalog an export.
        details = ExportModelArtifactDetails(
            artifact_export_details=ArtifactExportDetailsObjectStorage(
                namespace=source.namespace,
                source_bucket=source.bucket,
                source_object_name=source.name,
                source_region=self._session.region,
            )
        )
        answer = self._catalog.export_model_artifact(self._model_id, details)
        return str(answer.headers["opc-work-request-id"])

    @property
    def _file_name(self) -> str:
        return f"{self._view.digest.removeprefix('sha256:')}.zip"

    def _check_arrived(self, md5: str | None) -> None:
        """Compares the catalog's artifact with what was sent.

        MD5s, in Base64, are compared if both are known: the catalog need not give its own.
        """
        headers = self._catalog.head_model_artifact(self._model_id).headers
        size, stored_md5 = int(headers["content-length"]), headers.get("content-md5")
        if size != self._view.size:
            problem = f"{self._view.size} bytes were sent and {size} arrived"
        elif md5 and stored_md5 and stored_md5 != md5:
            problem = f"other bytes arrived than were sent (MD5 {stored_md5}, not {md5})"
        else:
            return
        raise CloudError(problem, where=self._model_id)


@contextlib.contextmanager
def _advising(advice: str) -> Iterator[None]:
    """Adds advice about the next run to the remedy of a failure."""
    try:
        yield
    except CloudError as error:
        remedy = advice if error.remedy is None else f"{error.remedy}; then {advice}"
        raise CloudError(
            error.problem, where=error.where, remedy=remedy, details=error.details
        ) from error


def _remove_stale(storage: Any, target: ObjectRef) -> None:
    """Removes what earlier runs left in the bucket, if allowed."""
    oldest = datetime.now(UTC) - _LEFT_BEHIND_AFTER
    with contextlib.suppress(CloudError), translate_cloud_errors("tidying up the bucket"):
        bucket = (target.namespace, target.bucket)
        for upload in all_records(storage.list_multipart_uploads, *bucket):
            if upload.object.startswith(_PREFIX) and upload.time_created < oldest:
                storage.abort_multipart_upload(*bucket, upload.object, upload.upload_id)
        for found in all_objects(
            storage.list_objects, *bucket, prefix=_PREFIX, fields="timeCreated"
        ):
            if found.time_created < oldest:
                storage.delete_object(*bucket, found.name)
