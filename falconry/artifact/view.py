"""Any range of the artifact's bytes, without a zip on disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from falconry.artifact.contents import Contents, changed, packed_names
from falconry.artifact.zip_layout import Layout, local_header
from falconry.digests import DigestCache
from falconry.files import atomic_write
from falconry.pipeline import Report

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _Identity:
    """What changes when a file is replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> _Identity:
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class _Source:
    """A file of the repository as it was at the view's opening."""

    path: Path
    identity: _Identity


class ArtifactView:
    """A reproducible zip of a repository, computed where it is read.

    Several threads may read it. Each reading makes sure that the files it comes from are still what
    they were when the view was opened.

    Attributes:
        digest: `sha256:<hex>`, the artifact's identity.
    """

    def __init__(self, layout: Layout, sources: Sequence[_Source], digest: str) -> None:
        self._layout = layout
        self._sources = sources
        self.size = layout.size
        self.digest = digest

    @classmethod
    def open(cls, repository: Path, contents: Contents, digests: DigestCache) -> ArtifactView:
        """The view of a repository that holds what a list says.

        Raises:
            RepositoryError: it holds something else.
        """
        names = tuple(file.name for file in contents.files)
        for name in set(names) ^ set(packed_names(repository)):
            raise changed(repository / name)
        sources = []
        for file in contents.files:
            path = repository / file.name
            identity = _Identity.of(path.stat())
            if digests.file(path) != file.sha256 or identity != _Identity.of(path.stat()):
                raise changed(path)
            sources.append(_Source(path, identity))
        return cls(contents.layout(), sources, contents.digest)

    def read(self, offset: int, count: int) -> bytes:
        """A range as new bytes."""
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills a writable buffer with the bytes from an offset on.

        Raises:
            RepositoryError: a file changed.
            ValueError: the range is not within the zip.
        """
        if offset < 0 or offset + len(buffer) > self.size:
            raise ValueError(f"{len(buffer)} bytes at {offset} are not within {self.size}")
        while buffer:
            count = self._read_piece(buffer, offset)
            buffer, offset = buffer[count:], offset + count

    def write(self, path: Path, report: Report) -> None:
        """Writes the zip to a file atomically."""
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        with atomic_write(path) as output, output.open("wb", buffering=0) as stream:
            for offset in range(0, self.size, _CHUNK_BYTES):
                piece = buffer[: min(_CHUNK_BYTES, self.size - offset)]
                self.read_into(piece, offset)
                while piece:
                    piece = piece[stream.write(piece) :]
                report("writing the artifact", min((offset + _CHUNK_BYTES) / self.size, 1.0))

    def _read_piece(self, buffer: memoryview, offset: int) -> int:
        """Fills the buffer, at most to a header's, file's or directory's end."""
        layout = self._layout
        if offset >= layout.directory_start:
            return _copy(layout.directory, offset - layout.directory_start, buffer)
        index = layout.index_at(offset)
        entry, position = layout.entries[index], offset - layout.starts[index]
        header = local_header(entry)
        if position < len(header):
            return _copy(header, position, buffer)
        position -= len(header)
        return _read_file(self._sources[index], buffer[: entry.size - position], position)


def _copy(source: bytes, start: int, buffer: memoryview) -> int:
    count = min(len(buffer), len(source) - start)
    buffer[:count] = source[start : start + count]
    return count


def _read_file(file: _Source, buffer: memoryview, position: int) -> int:
    """Reads a range of a file that must not change meanwhile."""
    try:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise changed(file.path) from None
    try:
        _check(file, descriptor)
        left = buffer
        while left:
            count = os.preadv(descriptor, [left], position + len(buffer) - len(left))
            if count == 0:
                raise changed(file.path)
            left = left[count:]
        _check(file, descriptor)
    finally:
        os.close(descriptor)
    return len(buffer)


def _check(file: _Source, descriptor: int) -> None:
    if _Identity.of(os.fstat(descriptor)) != file.identity:
        raise changed(file.path)
