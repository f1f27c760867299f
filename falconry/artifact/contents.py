"""Which files an artifact holds: each one's name, size and digests.

An artifact's bytes follow from this list alone. So the list's SHA-256 identifies the zip, and
nothing has to be read again to compare two. Names that differ in case only are accepted: the
artifact is unpacked on Linux, where they are two files, and Triton serves models so named.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from falconry.artifact.zip_layout import MAX_NAME_BYTES, Entry, Layout
from falconry.data_files import Table
from falconry.digests import DigestCache, bytes_digest, canonical_json
from falconry.errors import RepositoryError
from falconry.pipeline import Report

# Where the repository is in the artifact. OCI unzips it at /opt/ds/model/deployed_model, so the
# server's command has --model-repository=/opt/ds/model/deployed_model/model_repository.
ROOT = "model_repository"
# Raised whenever the same files would give other bytes.
FORMAT: Literal[1] = 1


def packed_names(repository: Path) -> tuple[str, ...]:
    """The files to pack, as sorted POSIX paths relative to the repository.

    Python's bytecode caches are left out: they are made by running, not by us.

    Raises:
        RepositoryError: a file that an artifact cannot hold.
    """
    names = sorted(_walk(repository, repository.resolve(), ""))
    for name in names:
        _check_name(repository, name)
    return tuple(names)


def _walk(directory: Path, root: Path, prefix: str) -> Iterator[str]:
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        path, name = Path(entry.path), prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _walk(path, root, f"{name}/")
            continue
        if entry.is_symlink():
            _check_link(path, root)
        elif not entry.is_file():
            raise RepositoryError("is neither a file nor a directory", where=path, remedy="move it")
        yield name


def _check_link(path: Path, root: Path) -> None:
    """Refuses a link that leads to no file of the repository."""
    target = path.resolve()
    if not target.is_relative_to(root):
        reason = "is a symbolic link that leads out of the repository"
    elif not target.exists():
        reason = "is a symbolic link that leads nowhere"
    elif not stat.S_ISREG(target.stat().st_mode):
        reason = "is a symbolic link to what is not a file"
    else:
        return
    raise RepositoryError(reason, where=path, remedy="replace it with what it leads to")


def _check_name(repository: Path, name: str) -> None:
    reason = None
    try:
        encoded = f"{ROOT}/{name}".encode()
    except UnicodeEncodeError:
        reason = "is not UTF-8"
    else:
        if len(encoded) > MAX_NAME_BYTES:
            reason = f"has more than {MAX_NAME_BYTES} bytes"
        elif "\\" in name:
            reason = "holds a backslash, which some programs take for a directory separator"
        elif any(unicodedata.category(character) == "Cc" for character in name):
            reason = "holds a control character"
    if reason:
        raise RepositoryError(
            f"the name {name!a} {reason}, so an artifact cannot hold it",
            where=repository,
            remedy="rename it",
        )


class PackedFile(Table):
    """A file, as it is in the artifact.

    Attributes:
        name: its path relative to the repository.
        sha256: `sha256:<hex>` of its content.
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
        """A list that was written to a file."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise RepositoryError(
                "is not the list of an artifact's files", where=path, remedy="run: make artifact"
            ) from error


def describe(repository: Path, digests: DigestCache, report: Report) -> Contents:
    """Makes the list of a repository's files; reads those whose checksum is not known.

    Raises:
        RepositoryError: a file that an artifact cannot hold, or that changed meanwhile.
    """
    names = packed_names(repository)
    sizes = {name: (repository / name).stat().st_size for name in names}
    total, done = sum(sizes.values()), 0

    def read(count: int) -> None:
        nonlocal done
        done += count
        report("computing checksums", min(done / max(total, 1), 1.0))

    files = [
        PackedFile(
            name=name,
            size=size,
            sha256=digests.file(repository / name),
            crc32=digests.crc32(repository / name, read),
        )
        for name, size in sizes.items()
    ]
    # Checked once more, so that sizes, digests and checksums are of the same bytes.
    for file in files:
        path = repository / file.name
        if digests.file(path) != file.sha256 or path.stat().st_size != file.size:
            raise changed(path)
    return Contents(files=tuple(files))


def changed(path: Path) -> RepositoryError:
    """The error for a file that changed meanwhile."""
    return RepositoryError(
        "changed while it was being packed",
        where=path,
        remedy="run again when no program writes to it any more",
    )
