"""The bucket between this machine and a job: what the job needs, and what it left."""

from __future__ import annotations

from typing import Any

from oci.object_storage import ObjectStorageClient, UploadManager
from pydantic import ValidationError

from falconry.cloud.session import (
    Session,
    ensure_bucket,
    ignore_statuses,
    translate_cloud_errors,
)
from falconry.engine_settings import MirrorSettings
from falconry.errors import EngineError
from falconry.jobs.request import JobRequest, JobResult, Upload
from falconry.pipeline import Report

_STEP = "handing the checkpoint over"


class JobBucket:
    """The bucket of the engine mirror."""

    def __init__(self, session: Session, settings: MirrorSettings) -> None:
        self._session = session
        self._client: Any = session.client(ObjectStorageClient)
        self.bucket = settings.bucket
        with translate_cloud_errors("asking for the tenancy's namespace"):
            self.namespace = str(self._client.get_namespace().data)

    def hand_over(self, request: JobRequest, report: Report) -> None:
        """Uploads what the bucket does not hold yet, the request last."""
        report(_STEP, 0.0)
        ensure_bucket(self._session, self._client, self.namespace, self.bucket)
        with translate_cloud_errors("handing the build's files over"):
            absent = [each for each in request.uploads if not self._has(each)]
            total, done = max(sum(each.size for each in absent), 1), 0

            def count(size: int) -> None:
                nonlocal done
                done += size
                report(_STEP, done / total)

            manager = UploadManager(self._client, allow_parallel_uploads=True)
            for each in absent:
                location = (self.namespace, self.bucket, each.name)
                if isinstance(each.content, bytes):
                    self._client.put_object(*location, each.content)
                    count(each.size)
                else:
                    manager.upload_file(*location, str(each.content), progress_callback=count)
            self._client.put_object(self.namespace, self.bucket, request.name, request.document)

    def result(self, request: JobRequest) -> JobResult | None:
        """What a job left for this request, if one did."""
        with translate_cloud_errors("looking for the job's result"), ignore_statuses(404):
            answer = self._client.get_object(self.namespace, self.bucket, request.result_name)
            try:
                result = JobResult.model_validate_json(answer.data.content)
            except ValidationError as error:
                raise EngineError(
                    "the job's result is not valid", where=request.result_name
                ) from error
            if result.key != request.key:
                raise EngineError("is another engine's result", where=request.result_name)
            return result
        return None

    def discard(self, request: JobRequest) -> None:
        """Removes a result that is not what it should be, so that the next run builds anew."""
        with translate_cloud_errors("removing the job's result"), ignore_statuses(404):
            self._client.delete_object(self.namespace, self.bucket, request.result_name)

    def _has(self, upload: Upload) -> bool:
        with ignore_statuses(404):
            head = self._client.head_object(self.namespace, self.bucket, upload.name)
            return int(head.headers["content-length"]) == upload.size
        return False
