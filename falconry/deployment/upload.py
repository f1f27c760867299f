"""An artifact's way into the model catalog: a small one by itself, a large one by a bucket."""

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
from falconry.cloud.work_requests import Operation, Watch, wait_for
from falconry.deployment.multipart import (
    SEND_BYTES,
    MultipartUpload,
    ObjectRef,
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
# No run takes as long, and a failed one is repeated sooner: what is older is not wanted any more.
_LEFT_BEHIND_AFTER = timedelta(days=7)
_EXPORT_TIMEOUT_S = 4 * 3600.0
# How often another runner may remove the staged object before this one's copy of it is done.
_ROUNDS = 8
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED"})


def upload_artifact(
    session: Session, model_id: str, view: ArtifactView, settings: UploadSettings, report: Report
) -> None:
    """Makes an artifact a model's.

    Args:
        session: the way into the cloud.
        model_id: OCID of a model that has none yet.
        view: the artifact.
        settings: where it is staged, from what size on, and how fast it may go.
        report: called with the step, its rate and the time left, and the fraction sent.

    Raises:
        CloudError: refused, no answer for a while, or what arrived is not what was sent.
        RepositoryError: a file changed while it was sent.
    """
    upload = _ArtifactUpload(session, model_id, view, settings, report)
    report(_STEP, 0.0)
    if view.size <= settings.staged_above_mib << 20:
        upload.send()
    else:
        upload.stage_and_copy()


class _ArtifactUpload:
    """One artifact on its way to one model."""

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

    # --- alone ----------------------------------------------------------------------------

    def send(self) -> None:
        """One request with all of it."""
        with translate_cloud_errors(_STEP):
            md5 = self._send_body()
        with _advising("run again"), translate_cloud_errors(_STEP):
            self._check_arrived(md5)

    def _send_body(self) -> str:
        """Sends it; gives the Base64 of its MD5."""
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

    # --- by a bucket ----------------------------------------------------------------------

    def stage_and_copy(self) -> None:
        """An object in parts, and the catalog's copy of it."""
        with translate_cloud_errors("asking for the tenancy's namespace"):
            storage: Any = self._session.client(ObjectStorageClient)
            send_in_large_pieces(storage)
            namespace = str(storage.get_namespace().data)
        bucket = self._settings.bucket
        ensure_bucket(storage, namespace, bucket, self._session.compartment_id)
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
        """Lets the catalog copy the object, which stays whatever comes of it.

        Returns:
            Whether it was copied; otherwise another runner removed it meanwhile.

        Raises:
            CloudError: the copying failed for another reason, or nobody knows how it ended.
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
        """Whether a copying failed because another runner removed the object.

        While it may still go on, and where the cloud does not tell, it counts as not removed.
        """
        with (
            contextlib.suppress(CloudError),
            translate_cloud_errors("looking for the staged artifact"),
        ):
            ended = work_request_id is None or self._ended(work_request_id)
            return ended and not upload.is_present(etag)
        return False

    def _begin_copy(self, source: ObjectRef) -> str:
        """Oracle calls the way from a bucket into the catalog an export."""
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

    def _ended(self, work_request_id: str) -> bool:
        return self._catalog.get_work_request(work_request_id).data.status in _ENDED

    # --- both -----------------------------------------------------------------------------

    @property
    def _file_name(self) -> str:
        return f"{self._view.digest.removeprefix('sha256:')}.zip"

    def _check_arrived(self, md5: str | None) -> None:
        """Compares the catalog's artifact with what was sent.

        Args:
            md5: Base64 of its MD5 where it is known; the catalog need not tell its own.

        Raises:
            CloudError: it is something else.
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
    """Adds to a failure what a later run can make of what this one did."""
    try:
        yield
    except CloudError as error:
        remedy = advice if error.remedy is None else f"{error.remedy}; then {advice}"
        raise CloudError(
            error.problem, where=error.where, remedy=remedy, details=error.details
        ) from error


def _remove_stale(storage: Any, target: ObjectRef) -> None:
    """Removes what killed and failed runs left in the bucket long ago, if that is allowed."""
    oldest = datetime.now(UTC) - _LEFT_BEHIND_AFTER
    with contextlib.suppress(CloudError), translate_cloud_errors("tidying up the bucket"):
        uploads = all_records(storage.list_multipart_uploads, target.namespace, target.bucket)
        for upload in uploads:
            if upload.object.startswith(_PREFIX) and upload.time_created < oldest:
                storage.abort_multipart_upload(
                    *(target.namespace, target.bucket, upload.object, upload.upload_id)
                )
        objects = all_objects(
            storage.list_objects,
            *(target.namespace, target.bucket),
            prefix=_PREFIX,
            fields="timeCreated",
        )
        for found in objects:
            if found.time_created < oldest:
                storage.delete_object(target.namespace, target.bucket, found.name)
