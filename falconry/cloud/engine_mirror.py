"""Engines in an Object Storage bucket, where one runner leaves what it built for the others.

An engine's files are `<prefix>/<key>/<SHA-256>/<name>`, and `<prefix>/<key>/manifest.json` is put
last, and only where there is none. So an engine is there when its manifest is, two runners that
push different builds of one key do not mix their files, and the first manifest stays. Its metadata
hold the build record.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import oci
import urllib3
from oci.object_storage import ObjectStorageClient, UploadManager
from oci.object_storage.models import CreateBucketDetails
from pydantic import ValidationError

from falconry.cloud.session import Session, cloud_errors_told
from falconry.engine.builder import Report
from falconry.engine.manifest import (
    BUILD_RECORD,
    MANIFEST,
    BuildRecord,
    EngineFile,
    Manifest,
    read_manifest,
)
from falconry.errors import CloudError, EngineError
from falconry.settings import MirrorSettings

_MIB = 1 << 20
# Large enough that a request's round trip and signature do not count, small enough that hashing
# starts early and that a broken connection costs little.
_RANGE_BYTES = 32 * _MIB
_PARALLEL = min(8, max(2, os.cpu_count() or 1))
# What stays in a core's own cache between being received, written and hashed.
_CHUNK_BYTES = _MIB // 4
# Written out while the rest arrives, so that the flush at the end has little left to wait for.
_FLUSH_BYTES = 512 * _MIB
_ATTEMPTS = 4
_REPORT_INTERVAL_S = 0.5
# Metadata travel as headers, and this one is ASCII JSON of a few hundred bytes.
_RECORD = "build-record"
# Object Storage says the same of a bucket that may not be seen; then making it fails, and is told.
_ABSENT = ("ObjectNotFound", "BucketNotFound")


class ObjectStorageMirror:
    """The engines of one bucket below one prefix.

    Args:
        session: the profile's way into the cloud.
        settings: the bucket, which the first push makes when there is none, and the prefix.
    """

    def __init__(self, session: Session, settings: MirrorSettings) -> None:
        self._session = session
        self._bucket = settings.bucket
        self._prefix = settings.prefix.strip("/")
        self._known_client: Any = None
        self._known_namespace = ""
        # Entity tags of manifests whose files were found corrupt: they may be replaced.
        self._corrupt: dict[str, str] = {}

    def fetch(self, key: str, directory: Path, report: Report) -> bool:
        """Downloads an engine, several ranges at a time, and hashes it while it arrives.

        Args:
            key: the engine's key.
            directory: an empty directory to fill.
            report: called with the fraction that has arrived.

        Returns:
            Whether the bucket has the engine.

        Raises:
            CloudError: the bucket cannot be read.
            EngineError: what arrived is not what its manifest says; a later `push` replaces it.
            OSError: the directory cannot be written.
        """
        report("looking for the engine in the mirror", None)
        found = self._manifest(key)
        if found is None:
            return False
        try:
            manifest = found.parse(key)
            self._download(key, manifest, directory, report)
        except EngineError:
            self._corrupt[key] = found.etag
            raise
        (directory / MANIFEST).write_bytes(found.content)
        (directory / BUILD_RECORD).write_text(f"{found.record}\n", encoding="utf-8")
        return True

    def push(self, key: str, directory: Path, report: Report) -> None:
        """Uploads an engine unless the bucket has it, the manifest last.

        Args:
            key: the engine's key.
            directory: the finished engine.
            report: called with the fraction that has been sent.

        Raises:
            CloudError: the bucket cannot be written.
        """
        present = self._manifest(key)
        if present is not None and present.etag != self._corrupt.get(key):
            return
        self._make_bucket()
        manifest = read_manifest(directory)
        total = sum(file.size for file in manifest.files.values())
        reported = _Counter(total, lambda part: report("leaving the engine in the mirror", part))
        with cloud_errors_told("uploading the engine to the mirror"):
            manager = UploadManager(self._client, allow_parallel_uploads=True)
            for name, file in manifest.files.items():
                manager.upload_file(
                    *(self._namespace, self._bucket, self._object(key, name, file)),
                    str(directory / name),
                    progress_callback=reported.add,
                )
        if not self._put_manifest(key, directory, present):
            self._remove_unnamed(key, manifest)

    def _make_bucket(self) -> None:
        with cloud_errors_told(f"looking for the bucket '{self._bucket}'"):
            try:
                self._client.get_bucket(self._namespace, self._bucket)
                return
            except oci.exceptions.ServiceError as error:
                if error.status != 404:
                    raise
        details = CreateBucketDetails(
            name=self._bucket, compartment_id=self._session.compartment_id
        )
        with cloud_errors_told(f"making the bucket '{self._bucket}'"):
            try:
                self._client.create_bucket(self._namespace, details)
            except oci.exceptions.ServiceError as error:
                if error.code != "BucketAlreadyExists":  # another runner was as quick
                    raise

    # --- the manifest -----------------------------------------------------------------------

    def _manifest(self, key: str) -> _FoundManifest | None:
        with cloud_errors_told("asking the engine mirror"):
            try:
                answer = self._client.get_object(
                    self._namespace, self._bucket, self._path(key, MANIFEST)
                )
            except oci.exceptions.ServiceError as error:
                if error.status == 404 and error.code in _ABSENT:
                    return None
                raise
            with _broken_streams_told():
                return _FoundManifest(
                    content=bytes(answer.data.raw.read(decode_content=False)),
                    etag=answer.headers["etag"],
                    record=answer.headers.get(f"opc-meta-{_RECORD}", ""),
                )

    def _put_manifest(self, key: str, directory: Path, corrupt: _FoundManifest | None) -> bool:
        """Puts the manifest where there is none or a corrupt one; False when somebody was first."""
        condition = {"if_match": corrupt.etag} if corrupt else {"if_none_match": "*"}
        record = (directory / BUILD_RECORD).read_text(encoding="utf-8").strip()
        with cloud_errors_told("putting the manifest into the mirror"):
            try:
                self._client.put_object(
                    *(self._namespace, self._bucket, self._path(key, MANIFEST)),
                    (directory / MANIFEST).read_bytes(),
                    content_type="application/json",
                    opc_meta={_RECORD: record},
                    **condition,
                )
            except oci.exceptions.ServiceError as error:
                if error.status == 412:
                    return False
                raise
        return True

    def _remove_unnamed(self, key: str, manifest: Manifest) -> None:
        """Removes our files, except those that the manifest which was first names too."""
        first = self._manifest(key)
        named = first.parse(key).files if first else {}
        with cloud_errors_told("tidying up in the mirror"):
            for name, file in manifest.files.items():
                if named.get(name) != file:
                    path = self._object(key, name, file)
                    self._client.delete_object(self._namespace, self._bucket, path)

    # --- the files --------------------------------------------------------------------------

    def _download(self, key: str, manifest: Manifest, directory: Path, report: Report) -> None:
        arriving = [
            _Arriving(_inside(directory, name), file, self._reader(key, name, file))
            for name, file in manifest.files.items()
        ]
        total = sum(file.size for file in manifest.files.values())
        download = _Download(arriving, lambda part: report("fetching from the mirror", part), total)
        with cloud_errors_told("fetching the engine from the mirror"):
            download.run()

    def _reader(self, key: str, name: str, file: EngineFile) -> _Reader:
        """Opens the raw stream of a range of one object."""
        client, namespace, path = self._client, self._namespace, self._object(key, name, file)

        def read(first: int, last: int) -> Any:
            try:
                answer = client.get_object(
                    namespace, self._bucket, path, range=f"bytes={first}-{last}"
                )
            except oci.exceptions.ServiceError as error:
                if error.status in (404, 416):
                    raise EngineError(
                        "is absent from the mirror, or shorter than its manifest says", where=name
                    ) from error
                raise
            return answer.data.raw

        return read

    def _object(self, key: str, name: str, file: EngineFile) -> str:
        return self._path(key, file.sha256.removeprefix("sha256:"), name)

    def _path(self, *parts: str) -> str:
        return "/".join((self._prefix, *parts) if self._prefix else parts)

    @property
    def _client(self) -> Any:
        if self._known_client is None:
            self._known_client = self._session.client(ObjectStorageClient)
        return self._known_client

    @property
    def _namespace(self) -> str:
        if not self._known_namespace:
            self._known_namespace = str(self._client.get_namespace().data)
        return self._known_namespace


# Opens the raw stream of the bytes from the first to the last, both included.
_Reader = Callable[[int, int], Any]


@dataclass(frozen=True, slots=True)
class _FoundManifest:
    """A manifest as the bucket has it."""

    content: bytes
    etag: str
    record: str

    def parse(self, key: str) -> Manifest:
        """The manifest, when it and its record are valid and the engine's own."""
        try:
            manifest = Manifest.model_validate_json(self.content)
            BuildRecord.model_validate_json(self.record)
        except ValidationError as error:
            raise EngineError("is not an engine manifest in the mirror", where=key) from error
        if manifest.key != key:
            raise EngineError("is another engine's manifest in the mirror", where=key)
        return manifest


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A file that is to arrive."""

    path: Path
    expected: EngineFile
    read: _Reader

    def ranges(self) -> list[tuple[int, int]]:
        """First byte and end of each range."""
        size = self.expected.size
        return [(start, min(start + _RANGE_BYTES, size)) for start in range(0, size, _RANGE_BYTES)]


class _StoppedError(Exception):
    """Ends a thread whose work nobody wants any more."""


class _Download:
    """Files that arrive range by range, in order and several at a time.

    Threads of three kinds work side by side, none of them holding Python's interpreter for long:
    some receive ranges and write each in its place, one a file hashes what has arrived from its
    start without a gap, and one has the kernel write out what is hashed.
    """

    def __init__(self, files: list[_Arriving], report: Callable[[float], None], total: int) -> None:
        self._files = files
        self._counter = _Counter(total)
        self._report = report
        self._stopped = threading.Event()

    def run(self) -> None:
        """Downloads all files.

        Raises:
            EngineError: a file's digest is not the expected one.
            OSError: a file cannot be written.
        """
        with contextlib.ExitStack() as stack:
            opened = [(file, stack.enter_context(_sized(file))) for file in self._files]
            hashers, flusher, receivers = (
                stack.enter_context(_threads(count))
                for count in (os.cpu_count() or 1, 1, _PARALLEL)
            )
            stack.callback(self._stopped.set)
            hashed = [
                hashers.submit(
                    self._check,
                    *(file, descriptor),
                    {
                        end: receivers.submit(self._receive, file, descriptor, start, end)
                        for start, end in file.ranges()
                    },
                    flusher,
                )
                for file, descriptor in opened
            ]
            self._wait(hashed)

    def _wait(self, futures: list[Future[None]]) -> None:
        """Reports until all is done or something failed."""
        pending = set(futures)
        while pending:
            done, pending = wait(pending, _REPORT_INTERVAL_S, FIRST_EXCEPTION)
            for future in done:
                future.result()
            self._report(self._counter.fraction)

    def _check(
        self,
        file: _Arriving,
        descriptor: int,
        received: Mapping[int, Future[None]],
        flusher: ThreadPoolExecutor,
    ) -> None:
        """Hashes a file behind the ranges that have arrived, and has it flushed behind that."""
        digest = hashlib.sha256()
        buffer = bytearray(_CHUNK_BYTES)
        view, offset, flushes = memoryview(buffer), 0, []
        for end, range_received in received.items():
            range_received.result()
            while offset < end:
                self._go_on()
                count = os.preadv(descriptor, [view[: end - offset]], offset)
                digest.update(view[:count])
                offset += count
            if end % _FLUSH_BYTES == 0:
                flushes.append(flusher.submit(os.fdatasync, descriptor))
        if f"sha256:{digest.hexdigest()}" != file.expected.sha256:
            raise EngineError(
                "arrived from the mirror with another digest than its manifest's",
                where=file.path.name,
            )
        for flush in flushes:
            flush.result()

    def _receive(self, file: _Arriving, descriptor: int, start: int, end: int) -> None:
        """Receives a range; a connection that breaks costs only what had not arrived."""
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        offset = start
        for attempt in range(_ATTEMPTS):
            self._go_on()
            try:
                with contextlib.closing(file.read(offset, end - 1)) as body:
                    while offset < end and (count := _receive_into(body, buffer[: end - offset])):
                        self._go_on()
                        _write_at(descriptor, buffer[:count], offset)
                        offset += count
                        self._counter.add(count)
                    if offset == end:
                        body.release_conn()  # read to its end, so good for the next range
            except CloudError:
                if attempt == _ATTEMPTS - 1:
                    raise
            if offset == end:
                return
        raise CloudError("the mirror's answers kept ending too early", where=file.path.name)

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _Counter:
    """Counts bytes for several threads.

    Args:
        total: what there is to count.
        report: called with the fraction after each step.
    """

    def __init__(self, total: int, report: Callable[[float], None] | None = None) -> None:
        self._total = total
        self._report = report
        self._count = 0
        self._lock = threading.Lock()

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return self._count / max(self._total, 1)

    def add(self, count: int) -> None:
        """Counts some bytes more."""
        with self._lock:
            self._count += count
            if self._report:
                self._report(self.fraction)


@contextlib.contextmanager
def _sized(file: _Arriving) -> Iterator[int]:
    """A descriptor of a new file with its whole size, so that a disk too small is known at once."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        if file.expected.size:
            os.posix_fallocate(descriptor, 0, file.expected.size)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _receive_into(body: Any, buffer: memoryview) -> int:
    """Receives up to a buffer's length, undecoded, and gives how much; 0 at the end.

    urllib3 2 reads into new memory each time, which costs as much as the network itself; the
    http.client response below it does not.
    """
    with _broken_streams_told():
        return int(body._fp.readinto(buffer))


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _inside(directory: Path, name: str) -> Path:
    """Where a file of an engine goes.

    Raises:
        EngineError: the name leads out of the engine's directory.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name in ("", MANIFEST, BUILD_RECORD):
        raise EngineError("is no name for a file of an engine", where=repr(name))
    return directory / path


@contextlib.contextmanager
def _broken_streams_told() -> Iterator[None]:
    """Turns what is raised while a body is read into a `CloudError`.

    Raises:
        CloudError: the connection broke.
    """
    try:
        yield
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise CloudError(
            "the connection to the mirror broke", remedy="check the network and run again"
        ) from error
