"""Resumable multipart uploads of an artifact to Object Storage, each part checked.

The object's name holds the artifact's digest, and an artifact's parts are the same everywhere. So
any run, also on another machine, continues an upload that was killed, and two runs that send one
artifact at the same time share an upload, of which the first commit counts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import oci
from crc32c import CRC32CHash
from oci.object_storage.models import (
    CommitMultipartUploadDetails,
    CommitMultipartUploadPartDetails,
    CreateMultipartUploadDetails,
)

from falconry.artifact.view import ArtifactView
from falconry.cloud.retries import all_records
from falconry.cloud.session import ignore_statuses
from falconry.deployment.transfer import RateLimiter, TransferProgress, UploadBody
from falconry.errors import CloudError

_Result = TypeVar("_Result")

_MIB = 1 << 20
# Large enough that a request's round trip and signature do not count, small enough that several
# fit into memory and that a broken connection costs little.
_PART_BYTES = 32 * _MIB
# Oracle, "Object Storage Service Limits": parts of one upload.
_MOST_PARTS = 10_000
# Parts are hashed and sent from memory, so that what is sent is what was hashed.
_BUFFERS_BYTES = 128 * _MIB
_MOST_PARALLEL = 4
# Far cheaper than MD5 for the sender; the service checks it just as well.
_CHECKSUM = "CRC32C"
# How often another run may end the upload that this one works on; each time it got further.
_ROUNDS = 8
# Codes of an upload that another run has committed, or whose parts it replaced. Oracle does not
# publish them: they are local_oci's, and the second is that of a missing resource.
_SUPERSEDED = ("NoSuchUpload", "NotAuthorizedOrNotFound", "InvalidUploadPart")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The name of an object, whether it exists or not."""

    namespace: str
    bucket: str
    name: str

    def as_arguments(self) -> tuple[str, str, str]:
        """Returns the arguments of the SDK's operations."""
        return self.namespace, self.bucket, self.name


@dataclass(frozen=True, slots=True)
class _Part:
    """A part to send: its number from 1 on, and its bytes."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _StoredPart:
    """A part in the service, with the MD5 that the service computed."""

    etag: str
    md5: str


class _SupersededError(Exception):
    """Another run committed or aborted the upload."""

    def __init__(self, refusal: oci.exceptions.ServiceError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class MultipartUpload:
    """Sends an artifact to Object Storage, or what is missing there.

    Args:
        client: an Object Storage client that retries transient errors.
        target: the object to create.
    """

    def __init__(
        self,
        client: Any,
        target: ObjectRef,
        view: ArtifactView,
        limiter: RateLimiter,
        progress: TransferProgress,
    ) -> None:
        self._client = client
        self._target = target
        self._view = view
        self._limiter = limiter
        self._progress = progress
        self._parts = _parts_of(view.size)
        self._stopped = threading.Event()

    def send(self) -> str:
        """Sends what is missing.

        Returns:
            The object's entity tag.

        Raises:
            CloudError: the service stored something else than was sent.
            RepositoryError: a file changed.
            oci.exceptions.ServiceError, oci.exceptions.RequestException: refused, or no answer.
        """
        for rounds_left in reversed(range(_ROUNDS)):
            try:
                return self._find_committed() or self._upload()
            except _SupersededError as superseded:
                if not rounds_left:
                    raise superseded.refusal from None
        raise AssertionError("the last round ends the loop")

    def is_present(self, etag: str) -> bool:
        """Whether the object still has this entity tag."""
        head = self._head()
        return head is not None and head["etag"] == etag

    def remove(self, etag: str) -> None:
        """Removes the object unless it is gone or was replaced."""
        with ignore_statuses(404, 412):
            self._client.delete_object(*self._target.as_arguments(), if_match=etag)

    def _find_committed(self) -> str | None:
        """Returns the entity tag of this artifact; removes any other object."""
        head = self._head()
        if head is None:
            return None
        etag = str(head["etag"])
        if int(head["content-length"]) == self._view.size:
            md5s = self._each_part(lambda part, content: _md5(content))
            if head.get("opc-multipart-md5") == _multipart_md5(md5s):
                self._progress.skip(self._view.size)
                return etag
        self.remove(etag)
        return None

    def _head(self) -> Mapping[str, str] | None:
        with ignore_statuses(404):
            headers: Mapping[str, str]
            headers = self._client.head_object(*self._target.as_arguments()).headers
            return headers
        return None

    def _upload(self) -> str:
        upload_id = self._open_upload()
        with _translate_superseded_errors():
            listed = all_records(
                self._client.list_multipart_upload_parts, *self._target.as_arguments(), upload_id
            )
        present = {part.part_number: part for part in listed}
        stored = self._each_part(
            lambda part, content: self._send_part(
                upload_id, part, present.get(part.number), content
            )
        )
        etag = self._commit(upload_id, stored, present.keys() - {p.number for p in self._parts})
        for other in self._open_uploads():  # of runs that began at the same time
            with ignore_statuses(404):
                self._client.abort_multipart_upload(*self._target.as_arguments(), other.upload_id)
        return etag

    def _open_upload(self) -> str:
        """Returns the oldest upload, which other runs continue as well."""
        uploads = self._open_uploads()
        if not uploads:
            details = CreateMultipartUploadDetails(
                object=self._target.name, content_type="application/zip"
            )
            made = self._client.create_multipart_upload(
                self._target.namespace,
                self._target.bucket,
                details,
                opc_checksum_algorithm=_CHECKSUM,
            ).data
            # Another run may have made one at the same time; ours may have been committed since.
            uploads = self._open_uploads() or [made]
        oldest = min(uploads, key=lambda upload: (upload.time_created, upload.upload_id))
        return str(oldest.upload_id)

    def _open_uploads(self) -> list[Any]:
        uploads = all_records(
            self._client.list_multipart_uploads, self._target.namespace, self._target.bucket
        )
        return [upload for upload in uploads if upload.object == self._target.name]

    def _commit(self, upload_id: str, stored: list[_StoredPart], excluded: set[int]) -> str:
        details = CommitMultipartUploadDetails(
            parts_to_commit=[
                CommitMultipartUploadPartDetails(part_num=part.number, etag=each.etag)
                for part, each in zip(self._parts, stored, strict=True)
            ],
            parts_to_exclude=sorted(excluded) or None,
        )
        with _translate_superseded_errors():
            headers = self._client.commit_multipart_upload(
                *self._target.as_arguments(), upload_id, details, if_none_match="*"
            ).headers
        etag = str(headers["etag"])
        md5 = _multipart_md5([each.md5 for each in stored])
        if headers["opc-multipart-md5"] != md5:
            self.remove(etag)
            raise self._corrupt("MD5", headers["opc-multipart-md5"], md5)
        return etag

    def _each_part(self, work: Callable[[_Part, memoryview], _Result]) -> list[_Result]:
        """Works on the bytes of several parts at once, in bounded memory."""
        largest = self._parts[0].size
        parallel = max(1, min(_MOST_PARALLEL, _BUFFERS_BYTES // largest, len(self._parts)))
        own = threading.local()
        self._stopped.clear()

        def make_buffer() -> None:
            own.buffer = memoryview(bytearray(largest))

        def read_and_work(part: _Part) -> _Result:
            content: memoryview = own.buffer[: part.size]
            self._view.read_into(content, part.offset)
            return work(part, content)

        with ThreadPoolExecutor(parallel, initializer=make_buffer) as pool:
            try:
                return list(pool.map(read_and_work, self._parts))
            finally:
                self._stopped.set()

    def _send_part(
        self, upload_id: str, part: _Part, present: Any, content: memoryview
    ) -> _StoredPart:
        """Sends a part unless the service has these bytes."""
        if present is not None and (present.size, present.md5) == (part.size, _md5(content)):
            self._progress.skip(part.size)
            return _StoredPart(str(present.etag), str(present.md5))
        checksum = _base64(CRC32CHash(content))

        def read(offset: int, count: int) -> memoryview:
            return content[offset : offset + count]

        with _translate_superseded_errors():
            headers = self._client.upload_part(
                *self._target.as_arguments(),
                upload_id,
                part.number,
                UploadBody(part.size, read, self._limiter, self._progress, self._stopped),
                content_length=part.size,
                opc_checksum_algorithm=_CHECKSUM,
                opc_content_crc32c=checksum,
            ).headers
        if headers["opc-content-crc32c"] != checksum:
            raise self._corrupt(_CHECKSUM, headers["opc-content-crc32c"], checksum)
        return _StoredPart(str(headers["etag"]), str(headers["opc-content-md5"]))

    def _corrupt(self, algorithm: str, stored: str, sent: str) -> CloudError:
        return CloudError(
            f"Object Storage received other bytes than were sent ({algorithm} {stored}, not"
            f" {sent})",
            where=self._target.name,
            remedy="run again",
        )


@contextlib.contextmanager
def _translate_superseded_errors() -> Iterator[None]:
    """Tells the refusals that another run caused from all others.

    Raises:
        _SupersededError: the upload is gone, its parts were replaced, or the object exists.
    """
    try:
        yield
    except oci.exceptions.ServiceError as error:
        if error.code in _SUPERSEDED or error.status == 412:
            raise _SupersededError(error) from error
        raise


def _parts_of(size: int) -> list[_Part]:
    """Divides a size into parts, the same way everywhere."""
    least = -(-size // _MOST_PARTS)
    step = _PART_BYTES if least <= _PART_BYTES else -(-least // _MIB) * _MIB
    return [
        _Part(number, offset, min(step, size - offset))
        for number, offset in enumerate(range(0, size, step), start=1)
    ]


def _md5(content: memoryview) -> str:
    return _base64(hashlib.md5(content, usedforsecurity=False))


def _base64(checksum: Any) -> str:
    """Returns a checksum as Object Storage writes it."""
    return base64.b64encode(checksum.digest()).decode()


def _multipart_md5(md5s: list[str]) -> str:
    """Computes `opc-multipart-md5`: the MD5 of the parts' MD5 digests, and their number."""
    digests = b"".join(map(base64.b64decode, md5s))
    return f"{_base64(hashlib.md5(digests, usedforsecurity=False))}-{len(md5s)}"
