"""What an artifact holds: each file's name, size and digests. Its bytes follow from these alone.

So the SHA-256 of this list stands for the whole zip: two lists are equal when and only when the
zips are, and nothing has to be read again to know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from falconry.artifact.checksums import crc32_of
from falconry.artifact.layout import Entry, Layout
from falconry.artifact.names import ROOT, packed_names
from falconry.data_files import Table
from falconry.digests import DigestCache, bytes_digest, canonical_json
from falconry.errors import RepositoryError
from falconry.pipeline import Report

# Raised whenever the same files would give other bytes.
FORMAT: Literal[1] = 1


class PackedFile(Table):
    """A file, as it is in the artifact.

    Attributes:
        name: its path relative to the repository.
        size: bytes.
        sha256: `sha256:<hex>` of its content.
        crc32: of its content.
    """

    name: str
    size: int
    sha256: str
    crc32: int


class Contents(Table):
    """All files of an artifact, by name."""

    format: Literal[1] = FORMAT
    files: tuple[PackedFile, ...]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the list, the artifact's identity."""
        return bytes_digest(self.encoded())

    def encoded(self) -> bytes:
        """The list's canonical JSON."""
        return canonical_json(self.model_dump())

    def layout(self) -> Layout:
        """Where everything is in the artifact."""
        return Layout([Entry(f"{ROOT}/{file.name}", file.size, file.crc32) for file in self.files])

    @classmethod
    def read(cls, path: Path) -> Contents:
        """A list that was written to a file.

        Raises:
            RepositoryError: it cannot be read, or is none.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RepositoryError(
                "is not the list of an artifact's files", where=path, remedy="run: make artifact"
            ) from error


def describe(
    repository: Path, digests: DigestCache, known: Mapping[str, int], report: Report
) -> Contents:
    """Makes the list of a repository's files.

    Args:
        repository: the directory.
        digests: gives each file's SHA-256 without reading it, where it is remembered.
        known: CRC-32 by SHA-256, of files that need not be read for it.
        report: called with the fraction of the other files that has been read.

    Raises:
        RepositoryError: a file that an artifact cannot hold, or that changed meanwhile.
        OSError: a file cannot be read.
    """
    names = packed_names(repository)
    sha256 = digests.files(repository, names)
    unknown = {sha256[name]: repository / name for name in names if sha256[name] not in known}
    total, done = sum(path.stat().st_size for path in unknown.values()), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        report("computing checksums", min(done / max(total, 1), 1.0))

    crc32 = {**known, **dict(zip(unknown, crc32_of([*unknown.values()], read), strict=True))}
    # Looked at once more, so that sizes, digests and checksums are of the same bytes.
    files = [
        PackedFile(
            name=name, size=(repository / name).stat().st_size, sha256=digest, crc32=crc32[digest]
        )
        for name, digest in sha256.items()
    ]
    for name, digest in digests.files(repository, names).items():
        if digest != sha256[name]:
            raise changed(repository / name)
    return Contents(files=tuple(files))


def changed(path: Path) -> RepositoryError:
    """The error of a file that is not any more what it was."""
    return RepositoryError(
        "changed while it was being packed",
        where=path,
        remedy="run again when nobody writes to it any more",
    )
