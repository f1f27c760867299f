"""An artifact as an object of Object Storage, sent in parts that are each checked.

The object's name holds the artifact's digest, and an artifact's parts are the same everywhere. So
another run continues what a killed upload left, also on another machine, and two runners that send
one artifact at once work on one upload, of which the first commit counts.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
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
from falconry.errors import CloudError
from falconry.pipeline import Report
from falconry.progress import human_size

# Handed to the connection in one go: few enough calls that Python does not slow it down.
SEND_BYTES = 1 << 20
_MEGABYTE = 1_000_000
_LEAST_SEND_BYTES = 16 << 10
# A thread that was held up may send that much of a second's bytes at once, to make up for it.
_BURST_S = 0.25
_REPORT_INTERVAL_S = 0.5
_RATE_WINDOW_S = 10.0
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
# Far cheaper than MD5 for the sender, and the service checks it just as well.
_CHECKSUM = "CRC32C"
# How often another runner may end the upload that this one works on; each time it got further.
_ROUNDS = 8
# What an upload answers that another runner has committed, or whose parts it replaced. Oracle does
# not publish the codes: they are local_oci's, and the second is the one of a missing resource.
_SUPERSEDED = ("NoSuchUpload", "NotAuthorizedOrNotFound", "InvalidUploadPart")


# --- bytes on their way: rate, progress, reading ----------------------------------------------


class RateLimiter:
    """A token bucket that all threads of an upload draw from.

    Args:
        megabytes_per_second: the limit, in 10^6 bytes; None for none.
        now: the clock, in seconds.
        sleep: waits some seconds.
    """

    def __init__(
        self,
        megabytes_per_second: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = None if megabytes_per_second is None else megabytes_per_second * _MEGABYTE
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._spent_until = 0.0

    @property
    def piece_bytes(self) -> int:
        """How much to send at once: little where the limit is low, so that nothing stalls."""
        if self._rate is None:
            return SEND_BYTES
        return max(_LEAST_SEND_BYTES, min(SEND_BYTES, int(self._rate * _BURST_S)))

    def take(self, count: int) -> None:
        """Waits until that many bytes more may be sent."""
        if self._rate is None:
            return
        with self._lock:
            now = self._now()
            self._spent_until = max(self._spent_until, now - _BURST_S) + count / self._rate
            pause = self._spent_until - now
        if pause > 0:
            self._sleep(pause)


class TransferProgress:
    """Counts bytes for several threads, and reports the fraction, the rate and the time left.

    Args:
        step: what is being done.
        total: the bytes that there are.
        report: called by one thread at a time.
        now: the clock, in seconds.
    """

    def __init__(
        self, step: str, total: int, report: Report, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._step = step
        self._total = max(total, 1)
        self._report = report
        self._now = now
        self._lock = threading.Lock()
        self._count = 0
        self._reported = float("-inf")
        self._past: deque[tuple[float, int]] = deque([(now(), 0)])

    def skip(self, count: int) -> None:
        """Counts bytes that need not be sent, which says nothing about the rate."""
        with self._lock:
            self._count += count
            self._past = deque((time, before + count) for time, before in self._past)

    def add(self, count: int) -> None:
        """Counts bytes that were sent; less than 0 for those that have to be sent again."""
        with self._lock:
            self._count += count
            now = self._now()
            if now - self._reported >= _REPORT_INTERVAL_S or self._count >= self._total:
                self._reported = now
                self._report_at(now)

    def _report_at(self, now: float) -> None:
        while len(self._past) > 1 and now - self._past[0][0] > _RATE_WINDOW_S:
            self._past.popleft()
        since, before = self._past[0]
        self._past.append((now, self._count))
        words = [self._step]
        rate = (self._count - before) / (now - since) if now > since else 0.0
        if rate > 0 and self._count < self._total:
            left = _duration((self._total - self._count) / rate)
            words += [f"{human_size(int(rate))}/s", f"{left} left"]
        self._report(" · ".join(words), min(max(self._count, 0) / self._total, 1.0))


class UploadBody:
    """A request's body that is read in pieces and can be sent again.

    It is no iterator and has no file descriptor, so nothing copies it or looks up its size.

    Args:
        size: bytes in all.
        piece: gives up to a number of bytes from an offset on; the next call may use the memory
            again.
        limiter: how fast it may be read.
        progress: counts what was read.
        stopped: set when nobody wants the answer any more.
    """

    def __init__(
        self,
        size: int,
        piece: Callable[[int, int], Any],
        limiter: RateLimiter,
        progress: TransferProgress,
        stopped: threading.Event | None = None,
    ) -> None:
        self._size = size
        self._piece = piece
        self._limiter = limiter
        self._progress = progress
        self._stopped = stopped
        self._position = 0

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> Any:
        """The next piece; empty at the end."""
        self._check_wanted()
        left = self._size - self._position
        count = min(left, self._limiter.piece_bytes, size if size > 0 else left)
        if count == 0:
            return b""
        piece = self._piece(self._position, count)
        self._limiter.take(count)
        self._position += count
        self._progress.add(count)
        return piece

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Goes back, to be sent again from there."""
        self._check_wanted()
        self._progress.add(position - self._position)
        self._position = position

    def _check_wanted(self) -> None:
        if self._stopped is not None and self._stopped.is_set():
            raise CancelledError


def send_in_large_pieces(client: Any) -> None:
    """Lets a new client of the SDK read bodies a mebibyte at a time, not 16 KiB (urllib3 2.8)."""
    for adapter in client.base_client.session.adapters.values():
        adapter.poolmanager.connection_pool_kw["blocksize"] = SEND_BYTES


def _duration(seconds: float) -> str:
    """A time to wait, as people say it: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"


# --- uploads ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Names an object, whether it exists or not."""

    namespace: str
    bucket: str
    name: str

    def as_arguments(self) -> tuple[str, str, str]:
        """As the SDK's operations take it."""
        return self.namespace, self.bucket, self.name


@dataclass(frozen=True, slots=True)
class _Part:
    """A part to send: its number from 1 on, and which bytes of the artifact it is."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class _StoredPart:
    """A part as the service has it, with the MD5 that the service computed."""

    etag: str
    md5: str


class _SupersededError(Exception):
    """Another runner ended the upload, by its commit or otherwise.

    Args:
        refusal: what the service answered.
    """

    def __init__(self, refusal: oci.exceptions.ServiceError) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class MultipartUpload:
    """Sends an artifact to Object Storage, or what is missing there of it.

    Args:
        client: an Object Storage client, which sends again what fails for a while.
        target: the object to make.
        view: the artifact.
        limiter: how fast it may be sent.
        progress: counts what was sent.
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
            oci.exceptions.ServiceError: refused.
            oci.exceptions.RequestException: no answer.
        """
        for rounds_left in reversed(range(_ROUNDS)):
            try:
                return self._find_committed() or self._upload()
            except _SupersededError as superseded:
                if not rounds_left:
                    raise superseded.refusal from None
        raise AssertionError("the last round ends the loop")

    def is_present(self, etag: str) -> bool:
        """Whether the object is still the one with this entity tag."""
        head = self._head()
        return head is not None and head["etag"] == etag

    def remove(self, etag: str) -> None:
        """Removes the object, unless it is gone or another one by now."""
        try:
            self._client.delete_object(*self._target.as_arguments(), if_match=etag)
        except oci.exceptions.ServiceError as error:
            if error.status not in (404, 412):
                raise

    def _find_committed(self) -> str | None:
        """The entity tag of a committed object that is this artifact; another one is removed."""
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
        try:
            answer = self._client.head_object(*self._target.as_arguments())
        except oci.exceptions.ServiceError as error:
            if error.status == 404:
                return None
            raise
        headers: Mapping[str, str] = answer.headers
        return headers

    # --- an upload ------------------------------------------------------------------------

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
        for other in self._open_uploads():  # of a run that began when this one did
            self._abort(other)
        return etag

    def _open_upload(self) -> str:
        """The upload to continue: of several the oldest, which other runners choose as well."""
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
            # Another runner may have made one at the same time; ours may have been committed since.
            uploads = self._open_uploads() or [made]
        oldest = min(uploads, key=lambda upload: (upload.time_created, upload.upload_id))
        return str(oldest.upload_id)

    def _open_uploads(self) -> list[Any]:
        uploads = all_records(
            self._client.list_multipart_uploads, self._target.namespace, self._target.bucket
        )
        return [upload for upload in uploads if upload.object == self._target.name]

    def _abort(self, upload: Any) -> None:
        try:
            self._client.abort_multipart_upload(*self._target.as_arguments(), upload.upload_id)
        except oci.exceptions.ServiceError as error:
            if error.status != 404:
                raise

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

    # --- parts ----------------------------------------------------------------------------

    def _each_part(self, work: Callable[[_Part, memoryview], _Result]) -> list[_Result]:
        """Does something with each part's bytes, several parts at a time, in bounded memory."""
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
        """Sends a part, unless the service has just these bytes."""
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
    """Tells what another runner's end of the upload looks like from all other refusals.

    Raises:
        _SupersededError: the upload is gone, its parts are others, or the object is there.
    """
    try:
        yield
    except oci.exceptions.ServiceError as error:
        if error.code in _SUPERSEDED or error.status == 412:
            raise _SupersededError(error) from error
        raise


def _parts_of(size: int) -> list[_Part]:
    """The same parts for the same size everywhere."""
    least = -(-size // _MOST_PARTS)
    step = _PART_BYTES if least <= _PART_BYTES else -(-least // _MIB) * _MIB
    return [
        _Part(number, offset, min(step, size - offset))
        for number, offset in enumerate(range(0, size, step), start=1)
    ]


def _md5(content: memoryview) -> str:
    return _base64(hashlib.md5(content, usedforsecurity=False))


def _base64(checksum: Any) -> str:
    """A checksum as Object Storage writes it."""
    return base64.b64encode(checksum.digest()).decode()


def _multipart_md5(md5s: list[str]) -> str:
    """Object Storage's `opc-multipart-md5`: the MD5 of the parts' MD5 digests, and their number."""
    digests = b"".join(map(base64.b64decode, md5s))
    return f"{_base64(hashlib.md5(digests, usedforsecurity=False))}-{len(md5s)}"
