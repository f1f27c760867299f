"""Bytes in files: written under a temporary name, then renamed, never changed again.

A blob is a file, or a directory with links to the files of the blobs that it was joined of, named
by their order: joining copies nothing, however large the parts are.

Everything here blocks; the event loop calls it through threads.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import shutil
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer, override

from local_oci.home import Home, damaged

_CHUNK_BYTES = 1 << 20
_NAME_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Blob:
    """A content that is complete.

    Args:
        name: its name among the blobs.
        size: bytes.
        md5: Base64 of the MD5 digest, as Oracle writes it; None of what was put together.
    """

    name: str
    size: int
    md5: str | None


@dataclass(frozen=True, slots=True)
class WrittenBlob(Blob):
    """A blob that was written in one go, so that its MD5 is known."""

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

    def finish(self) -> WrittenBlob:
        """Make the blob visible, complete."""
        self._file.close()
        self._path.replace(self._blobs / self._name)
        md5 = base64.b64encode(self._digest.digest()).decode()
        return WrittenBlob(self._name, self._size, md5)

    def abandon(self) -> None:
        """Throw away what was written; after `finish` it does nothing."""
        with contextlib.suppress(OSError):  # what is still buffered may not fit on the disk
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
        """Where a blob is: a file or a directory, for `open_content`."""
        return self._home.blobs / name

    def open(self, name: str) -> BinaryIO:
        """Open a blob.

        Raises:
            StateError: it is not there.
        """
        try:
            return open_content(self.path(name))
        except FileNotFoundError as error:
            raise damaged(self.path(name), "it is missing") from error

    def join(self, names: Iterable[str], md5: str | None = None) -> Blob:
        """Make a new blob of several, one after the other; they may be deleted then.

        Args:
            names: the blobs.
            md5: Base64 of the MD5 of all bytes, where it is known.
        """
        name = uuid.uuid4().hex
        files = [file for part in names for file in _files_of(self.path(part))]
        temporary = self._home.uploads / name
        try:
            _link(files, temporary)
            temporary.rename(self.path(name))
        except OSError:
            _remove(temporary)
            raise
        return Blob(name, sum(file.stat().st_size for file in files), md5)

    def same(self, first: str, second: str) -> bool:
        """Whether two blobs are the same bytes; links to the same files are known to be."""
        ones, others = (_files_of(self.path(name)) for name in (first, second))
        if len(ones) == len(others) and all(map(Path.samefile, ones, others)):
            return True
        with self.open(first) as one, self.open(second) as other:
            while (data := one.read(_CHUNK_BYTES)) == other.read(_CHUNK_BYTES):
                if not data:
                    return True
        return False

    def delete(self, name: str) -> None:
        """Remove a blob."""
        _remove(self.path(name))

    def remove_unused(self, wanted: set[str]) -> None:
        """Remove unfinished uploads and every blob that nothing refers to."""
        shutil.rmtree(self._home.uploads)
        self._home.uploads.mkdir()
        for path in self._home.blobs.iterdir():
            if path.name not in wanted:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _files_of(content: Path) -> list[Path]:
    """The files of a content, in their order."""
    return sorted(content.iterdir()) if content.is_dir() else [content]


def _link(files: Sequence[Path], content: Path) -> None:
    """Make a content of one file or more, by links."""
    if len(files) == 1:
        content.hardlink_to(files[0])
        return
    content.mkdir()
    for number, file in enumerate(files):
        (content / f"{number:0{_NAME_DIGITS}}").hardlink_to(file)


def open_content(content: Path) -> BinaryIO:
    """Open a file, or a directory of files as if it were one file, for reading."""
    if not content.is_dir():
        return content.open("rb")
    return io.BufferedReader(_JoinedFiles(_files_of(content)), _CHUNK_BYTES)


class _JoinedFiles(io.RawIOBase):
    """Files read as one; one of them is open at a time."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._files = files
        sizes = [file.stat().st_size for file in files]
        self._starts = [0, *accumulate(sizes)]
        self._position = 0
        self._open: tuple[int, BinaryIO] | None = None

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}
        self._position = base[whence] + offset
        return self._position

    @override
    def tell(self) -> int:
        return self._position

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        if self._position >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._position) - 1
        start, end = self._starts[number : number + 2]
        view = memoryview(buffer).cast("B")[: end - self._position]
        count = os.preadv(self._file(number).fileno(), [view], self._position - start)
        self._position += count
        return count

    @override
    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()

    def _file(self, number: int) -> BinaryIO:
        if self._open is None or self._open[0] != number:
            if self._open is not None:
                self._open[1].close()
            self._open = (number, self._files[number].open("rb", buffering=0))
        return self._open[1]
