"""Bytes in files: written under a temporary name, then renamed, never changed again.

Everything here blocks; the event loop calls it through `asyncio.to_thread`.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from local_oci.home import Home

_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that is complete.

    Args:
        name: its name among the blobs.
        size: bytes.
        md5: Base64 of the MD5 digest, as Oracle writes it.
    """

    name: str
    size: int
    md5: str


class BlobWriter:
    """A blob in the making; it exists for others only after `finish`."""

    def __init__(self, home: Home) -> None:
        self._blobs = home.blobs
        self._name = uuid.uuid4().hex
        self._path = home.uploads / self._name
        self._file: BinaryIO = self._path.open("wb")
        self._digest = hashlib.md5(usedforsecurity=False)
        self._size = 0

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self._size += len(data)

    def finish(self) -> Blob:
        """Make the blob whole and visible."""
        self._file.close()
        self._path.replace(self._blobs / self._name)
        return Blob(self._name, self._size, base64.b64encode(self._digest.digest()).decode())

    def abandon(self) -> None:
        """Throw away what was written; after `finish` it does nothing."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Blobs:
    """The blobs of one cloud."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def writer(self) -> BlobWriter:
        """Begin a new blob."""
        return BlobWriter(self._home)

    def path(self, name: str) -> Path:
        """Where a blob's bytes are."""
        return self._home.blobs / name

    def open(self, name: str) -> BinaryIO:
        """Open a blob; its bytes stay readable although it be deleted meanwhile."""
        return self.path(name).open("rb")

    def join(self, names: Iterable[str]) -> Blob:
        """Write several blobs, one after the other, into a new one."""
        writer = self.writer()
        try:
            for name in names:
                with self.open(name) as part:
                    while data := part.read(_COPY_BYTES):
                        writer.write(data)
            return writer.finish()
        finally:
            writer.abandon()

    def delete(self, name: str) -> None:
        """Remove a blob."""
        self.path(name).unlink(missing_ok=True)

    def sweep(self, wanted: set[str]) -> None:
        """Remove unfinished uploads and every blob that nothing refers to."""
        shutil.rmtree(self._home.uploads)
        self._home.uploads.mkdir()
        for path in self._home.blobs.iterdir():
            if path.name not in wanted:
                path.unlink()
