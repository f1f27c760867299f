"""Engines in an Object Storage bucket, shared between machines.

An engine's files are `<prefix>/<key>/<SHA-256>/<name>`, and `<prefix>/<key>/manifest.json` is put
last, and only where there is none. So an engine exists when its manifest does, two machines that
push different builds of one key do not mix their files, and the first manifest stays. Its metadata
hold the build record.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import oci
import urllib3
from oci.object_storage import ObjectStorageClient, UploadManager
from pydantic import ValidationError

from falconry.cloud.session import (
    Session,
    ensure_bucket,
    ignore_statuses,
    translate_cloud_errors,
)
from falconry.engine.manifest import (
    BUILD_RECORD,
    MANIFEST,
    BuildRecord,
    EngineFile,
    Manifest,
    read_manifest,
)
from falconry.engine_settings import MirrorSettings
from falconry.errors import CloudError, EngineError
from falconry.pipeline import Report

_MIB = 1 << 20
# Large enough that a request's round trip and signature do not count, small enough that several
# fit into memory and that a broken connection costs little.
_RANGE_BYTES = 16 * _MIB
# Ranges that are on their way or wait to be hashed; all of them may be in memory.
_WINDOW = 8
_PARALLEL = min(_WINDOW, max(4, os.cpu_count() or 1))
# Received at once, and what a thread that is to stop still waits for. It is copied, so it should
# fit into a processor's cache.
_CHUNK_BYTES = 256 << 10
_ATTEMPTS = 4
_REPORT_INTERVAL_S = 0.5
# Metadata travel as headers, and this one is ASCII JSON of a few hundred bytes.
_RECORD = "build-record"
# Object Storage says the same of a bucket that may not be seen; then making it fails.
_ABSENT = ("ObjectNotFound", "BucketNotFound")


class ObjectStorageMirror:
    """The engines of one bucket, which the first push makes if missing."""

    def __init__(self, session: Session, settings: MirrorSettings) -> None:
        self._session = session
        self._bucket = settings.bucket
        self._prefix = settings.prefix.strip("/")
        self._known_client: Any = None
        self._known_namespace = ""
        # Entity tags of manifests whose files were found corrupt: they may be replaced.
        self._corrupt: dict[str, str] = {}

    def fetch(self, key: str, directory: Path, report: Report) -> bool:
        """Downloads an engine in parallel ranges, and hashes it while it arrives.

        False when the bucket lacks it.

        Raises:
            EngineError: what arrived is not what its manifest says; a later `push` replaces it.
        """
        report("looking for the engine in the mirror", None)
        found = self._manifest(key)
        if found is None:
            return False
        try:
            manifest = found.parse(key)
            self._download(key, manifest.files, directory, report)
        except EngineError:
            self._corrupt[key] = found.etag
            raise
        (directory / MANIFEST).write_bytes(found.content)
        (directory / BUILD_RECORD).write_text(f"{found.record}\n", encoding="utf-8")
        return True

    def fetch_files(
        self, key: str, files: Mapping[str, EngineFile], directory: Path, report: Report
    ) -> None:
        """Downloads files of an engine that has no manifest yet, as a job left them.

        Raises:
            EngineError: what arrived is not what was announced.
        """
        self._download(key, files, directory, report)

    def push(self, key: str, directory: Path, report: Report) -> None:
        """Uploads an engine unless the bucket has it, the manifest last."""
        present = self._manifest(key)
        if present is not None and present.etag != self._corrupt.get(key):
            return
        ensure_bucket(self._session, self._client, self._namespace, self._bucket)
        manifest = read_manifest(directory)
        total = sum(file.size for file in manifest.files.values())
        reported = _Counter(total, lambda part: report("leaving the engine in the mirror", part))
        with translate_cloud_errors("uploading the engine to the mirror"):
            manager = UploadManager(self._client, allow_parallel_uploads=True)
            for name, file in manifest.files.items():
                path = self._object(key, name, file)
                if key not in self._corrupt and self._has(path, file.size):  # a job left it
                    reported.add(file.size)
                    continue
                manager.upload_file(
                    *(self._namespace, self._bucket, path),
                    str(directory / name),
                    progress_callback=reported.add,
                )
        if not self._put_manifest(key, directory, present):
            self._remove_unnamed(key, manifest)

    def _manifest(self, key: str) -> _FoundManifest | None:
        with translate_cloud_errors("asking the engine mirror"):
            try:
                answer = self._client.get_object(
                    self._namespace, self._bucket, self._path(key, MANIFEST)
                )
            except oci.exceptions.ServiceError as error:
                if error.status == 404 and error.code in _ABSENT:
                    return None
                raise
            with _translate_stream_errors():
                return _FoundManifest(
                    content=bytes(answer.data.raw.read(decode_content=False)),
                    etag=answer.headers["etag"],
                    record=answer.headers.get(f"opc-meta-{_RECORD}", ""),
                )

    def _put_manifest(self, key: str, directory: Path, corrupt: _FoundManifest | None) -> bool:
        """Puts the manifest; False when another push has put a valid one."""
        condition = {"if_match": corrupt.etag} if corrupt else {"if_none_match": "*"}
        record = (directory / BUILD_RECORD).read_text(encoding="utf-8").strip()
        with translate_cloud_errors("putting the manifest into the mirror"):
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
        """Removes our files, except those that the first manifest names too."""
        first = self._manifest(key)
        named = first.parse(key).files if first else {}
        with translate_cloud_errors("tidying up in the mirror"):
            for name, file in manifest.files.items():
                if named.get(name) != file:
                    path = self._object(key, name, file)
                    self._client.delete_object(self._namespace, self._bucket, path)

    def _has(self, path: str, size: int) -> bool:
        """Whether an object of this size exists; its name has its content's digest."""
        with ignore_statuses(404):
            head = self._client.head_object(self._namespace, self._bucket, path)
            return int(head.headers["content-length"]) == size
        return False

    def _download(
        self, key: str, files: Mapping[str, EngineFile], directory: Path, report: Report
    ) -> None:
        downloads = [
            _Download(_inside(directory, name), file, self._range_opener(key, name, file))
            for name, file in files.items()
        ]
        total = sum(file.size for file in files.values())
        with translate_cloud_errors("fetching the engine from the mirror"):
            _Downloader(lambda part: report("fetching from the mirror", part), total).run(downloads)

    def _range_opener(self, key: str, name: str, file: EngineFile) -> _OpenRange:
        """A function that opens the raw stream of an object's range."""
        client, namespace, path = self._client, self._namespace, self._object(key, name, file)

        def open_range(first: int, last: int) -> Any:
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

        return open_range

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
_OpenRange = Callable[[int, int], Any]


@dataclass(frozen=True, slots=True)
class _FoundManifest:
    """A manifest as the bucket has it."""

    content: bytes
    etag: str
    record: str

    def parse(self, key: str) -> Manifest:
        """The manifest, if it and its record are valid and this engine's."""
        try:
            manifest = Manifest.model_validate_json(self.content)
            BuildRecord.model_validate_json(self.record)
        except ValidationError as error:
            raise EngineError("is not an engine manifest in the mirror", where=key) from error
        if manifest.key != key:
            raise EngineError("is another engine's manifest in the mirror", where=key)
        return manifest


@dataclass(frozen=True, slots=True)
class _Download:
    """A file to download: where it goes and what it must be.

    Attributes:
        digest: of what has arrived without a gap.
    """

    path: Path
    expected: EngineFile
    open_range: _OpenRange
    digest: Any = field(default_factory=hashlib.sha256)

    def create(self) -> None:
        """Makes the file in full size, so a full disk shows early."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("xb") as file:
            if self.expected.size:
                os.posix_fallocate(file.fileno(), 0, self.expected.size)

    def ranges(self) -> list[tuple[int, int]]:
        """First byte and end of each range."""
        size = self.expected.size
        return [(start, min(start + _RANGE_BYTES, size)) for start in range(0, size, _RANGE_BYTES)]

    def write(self, content: memoryview, offset: int) -> None:
        """Writes a range."""
        with self.path.open("r+b", buffering=0) as file:
            while content:
                written = os.pwrite(file.fileno(), content, offset)
                content, offset = content[written:], offset + written

    def check_digest(self) -> None:
        """Compares what has arrived with the manifest."""
        if f"sha256:{self.digest.hexdigest()}" != self.expected.sha256:
            raise EngineError(
                "arrived from the mirror with another digest than its manifest's",
                where=self.path.name,
            )


class _Downloader:
    """Downloads files range by range, several ranges at a time.

    Threads receive ranges and write each where it belongs; the caller's thread hashes the same
    bytes in the files' order. So nothing is read back, and memory is bounded however fast the
    network is.
    """

    def __init__(self, report: Callable[[float], None], total: int) -> None:
        self._report = report
        self._counter = _Counter(total)
        self._stopped = threading.Event()

    def run(self, downloads: list[_Download]) -> None:
        """Downloads all files."""
        for download in downloads:
            download.create()
        pool = ThreadPoolExecutor(_PARALLEL)
        window: deque[tuple[_Download, memoryview, Future[None]]] = deque()
        try:
            for download in downloads:
                for start, end in download.ranges():
                    full = len(window) == _WINDOW
                    # Used again: finding new memory takes longer than receiving into it.
                    memory = self._hash(*window.popleft()) if full else bytearray(_RANGE_BYTES)
                    content = memoryview(memory)[: end - start]
                    received = pool.submit(self._receive, download, content, start)
                    window.append((download, content, received))
            while window:
                self._hash(*window.popleft())
        finally:
            self._stopped.set()
            pool.shutdown(cancel_futures=True)
        for download in downloads:
            download.check_digest()

    def _hash(self, download: _Download, content: memoryview, received: Future[None]) -> Any:
        """Waits for a file's next range, hashes it, and returns its memory."""
        while not wait([received], _REPORT_INTERVAL_S).done:
            self._report(self._counter.fraction)
        received.result()
        download.digest.update(content)
        self._report(self._counter.fraction)
        return content.obj

    def _receive(self, download: _Download, content: memoryview, start: int) -> None:
        """Receives and writes a range, resuming after broken connections."""
        size, count = len(content), 0
        broken: CloudError | None = None
        for _ in range(_ATTEMPTS):
            try:
                with contextlib.closing(
                    download.open_range(start + count, start + size - 1)
                ) as body:
                    while count < size and (
                        arrived := _read_into(body, content[count : count + _CHUNK_BYTES])
                    ):
                        count += arrived
                        self._counter.add(arrived)
                        if self._stopped.is_set():
                            raise CancelledError
            except CloudError as error:
                broken = error
            if count == size:
                download.write(content, start)
                return
        raise CloudError(
            "the mirror's answers kept ending too early",
            where=download.path.name,
            remedy=broken.remedy if broken else None,
        ) from broken


class _Counter:
    """Counts bytes for several threads."""

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


def _read_into(body: Any, buffer: memoryview) -> int:
    """Receives a response into a buffer; gives 0 at its end."""
    with _translate_stream_errors():
        return int(body.readinto(buffer))


def _inside(directory: Path, name: str) -> Path:
    """Where a file of an engine goes."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name in ("", MANIFEST, BUILD_RECORD):
        raise EngineError("is not the name of an engine's file", where=repr(name))
    return directory / path


@contextlib.contextmanager
def _translate_stream_errors() -> Iterator[None]:
    """Turns what is raised while a body is read into a `CloudError`."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        raise CloudError(
            "the connection to the mirror broke", remedy="check the network and run again"
        ) from error
