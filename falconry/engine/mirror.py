"""Engines in an Object Storage bucket, where one runner leaves what it built for the others.

An engine's files are `<prefix>/<key>/<SHA-256>/<name>`, and `<prefix>/<key>/manifest.json` is put
last, and only where there is none. So an engine is there when its manifest is, two runners that
push different builds of one key do not mix their files, and the first manifest stays. Its metadata
hold the build record.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import oci
import urllib3
from oci.object_storage import ObjectStorageClient, UploadManager
from pydantic import ValidationError

from falconry.cloud.buckets import ensure_bucket
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
# Large enough that a request's round trip and signature do not count, small enough that several
# fit into memory and that a broken connection costs little.
_RANGE_BYTES = 16 * _MIB
_PARALLEL = min(6, max(4, os.cpu_count() or 1))
# More than the threads fill, so that they go on while one is being hashed.
_BUFFERS = _PARALLEL + 2
# Received in one go: what a thread that is to stop still waits for.
_CHUNK_BYTES = 4 * _MIB
# Where O_DIRECT may begin and end on any usual file system.
_BLOCK_BYTES = 4096
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
        compartment = self._session.compartment_id
        ensure_bucket(self._client, self._namespace, self._bucket, compartment)
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


class _Output:
    """A file that is being written, and the digest of what has arrived without a gap.

    Args:
        file: what is to arrive.
        descriptor: the file, open for writing.
        direct: the same file, open for writing past the page cache; None where that cannot be.
    """

    def __init__(self, file: _Arriving, descriptor: int, direct: int | None) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self._descriptor = descriptor
        self._direct = direct

    def write(self, data: memoryview, offset: int) -> None:
        """Writes a range.

        Going past the page cache spares a copy, and the pages that would have to be found for it;
        and the disk works while the rest arrives, so that the flush at the end is short.

        Raises:
            OSError: it cannot be written.
        """
        if self._direct is not None and offset % _BLOCK_BYTES == 0:
            whole = len(data) - len(data) % _BLOCK_BYTES
            try:
                _write_at(self._direct, data[:whole], offset)
                data, offset = data[whole:], offset + whole
            except OSError as error:
                if error.errno != errno.EINVAL:  # which says that the blocks here are larger
                    raise
        _write_at(self._descriptor, data, offset)

    def check(self) -> None:
        """Compares what has arrived with the manifest.

        Raises:
            EngineError: it is something else.
        """
        if f"sha256:{self.digest.hexdigest()}" != self.file.expected.sha256:
            raise EngineError(
                "arrived from the mirror with another digest than its manifest's",
                where=self.file.path.name,
            )


@dataclass(frozen=True, slots=True)
class _Coming:
    """A range under way: `received` is done when its buffer is full and written."""

    output: _Output
    buffer: memoryview
    size: int
    received: Future[None]


class _Download:
    """Files that arrive range by range, several at a time.

    Threads receive each range into a buffer and write it from there; the caller's thread hashes the
    same buffers in the files' order, and each is then used for a later range. So nothing is read
    back, memory is bounded however fast the network is, and none of the threads holds Python's
    interpreter for long.
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
            outputs = [stack.enter_context(_opened(file)) for file in self._files]
            receivers = stack.enter_context(_threads(_PARALLEL))
            stack.callback(self._stopped.set)
            under_way: deque[_Coming] = deque()
            for output in outputs:
                for start, end in output.file.ranges():
                    full = len(under_way) == _BUFFERS
                    buffer = self._hash(under_way.popleft()) if full else _buffer(_RANGE_BYTES)
                    size = end - start
                    received = receivers.submit(self._receive, output, buffer[:size], start)
                    under_way.append(_Coming(output, buffer, size, received))
            while under_way:
                self._hash(under_way.popleft())
            for output in outputs:
                output.check()

    def _hash(self, coming: _Coming) -> memoryview:
        """Waits for the next range of a file, hashes it, and gives its buffer back."""
        while not wait([coming.received], _REPORT_INTERVAL_S).done:
            self._report(self._counter.fraction)
        coming.received.result()
        coming.output.digest.update(coming.buffer[: coming.size])
        self._report(self._counter.fraction)
        return coming.buffer

    def _receive(self, output: _Output, buffer: memoryview, start: int) -> None:
        self._fill(buffer, output.file, start)
        output.write(buffer, start)

    def _fill(self, buffer: memoryview, file: _Arriving, start: int) -> None:
        """Receives a range; a connection that breaks costs only what had not arrived."""
        size, count = len(buffer), 0
        for attempt in range(_ATTEMPTS):
            self._go_on()
            try:
                with contextlib.closing(file.read(start + count, start + size - 1)) as body:
                    while count < size and (
                        arrived := _receive_into(body, buffer[count : count + _CHUNK_BYTES])
                    ):
                        self._go_on()
                        count += arrived
                        self._counter.add(arrived)
                    if count == size:
                        body.release_conn()  # read to its end, so good for the next range
            except CloudError:
                if attempt == _ATTEMPTS - 1:
                    raise
            if count == size:
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
def _opened(file: _Arriving) -> Iterator[_Output]:
    """A new file with its whole size, so that a disk too small is known at once."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        descriptor = os.open(file.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        stack.callback(os.close, descriptor)
        if file.expected.size:
            os.posix_fallocate(descriptor, 0, file.expected.size)
        direct = None
        with contextlib.suppress(OSError):  # not every file system has it
            direct = os.open(file.path, os.O_WRONLY | os.O_DIRECT)
            stack.callback(os.close, direct)
        yield _Output(file, descriptor, direct)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _buffer(size: int) -> memoryview:
    """Memory that begins with a page, as O_DIRECT asks for; huge pages are fewer to find."""
    memory = mmap.mmap(-1, size)
    with contextlib.suppress(OSError):  # a kernel may be built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def _receive_into(body: Any, buffer: memoryview) -> int:
    """Receives up to a buffer's length, undecoded, and gives how much; 0 at the end.

    urllib3 2 reads into new memory each time, which then has to be copied: 0.4 s of a core for
    each 2 GiB. The http.client response below it does not.
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
