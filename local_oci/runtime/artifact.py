"""Unpacking a model artifact, and refusing it if it would write outside its directory."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from local_oci.limits import MAX_ARTIFACT_BYTES, MAX_ARTIFACT_FILES
from local_oci.storage.blobs import open_content

_UNIX_MODE_SHIFT = 16  # ZIP application note 4.5.7: upper half of the external attributes
_COPY_BYTES = 1 << 20
# A container's user is seldom the one who unpacks, whatever that one's umask is.
_DIRECTORY_MODE = _EXECUTABLE_MODE = 0o755
_FILE_MODE = 0o644


# ZIP application note 4.3.14 to 4.3.16: the end of an archive, and where it gives the size of the
# list of members; the record of ZIP64 and its locator come before it.
_END_SIGNATURE = b"PK\x05\x06"
_END_BYTES, _END_LIST_SIZE = 22, 12
_END64_BYTES, _END64_LIST_SIZE = 56, 40
_LOCATOR_BYTES = 20
_COMMENT_BYTES = 0xFFFF
_IN_ZIP64 = 0xFFFFFFFF
# A member in the list: 46 bytes, a name, and what Unix and ZIP64 add.
_LISTED_BYTES = 512
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


class ArtifactError(Exception):
    """An artifact that cannot be unpacked; the text says why."""


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """What an artifact may hold.

    Args:
        files: how many members.
        size: their bytes together.
    """

    files: int = MAX_ARTIFACT_FILES
    size: int = MAX_ARTIFACT_BYTES


LIMITS = UnpackLimits()


def unpack(archive: Path, target: Path, most: UnpackLimits = LIMITS) -> None:
    """Unpack a zip archive into a new directory. Blocks.

    Args:
        archive: the artifact, a file, or a directory for `open_content`.
        target: directory to make; removed again after a failure.
        most: what it may hold.

    Raises:
        ArtifactError: not a zip, damaged, too large, or with a member that leads outside.
    """
    target.mkdir()
    try:
        target.chmod(_DIRECTORY_MODE)
        with open_content(archive) as file:
            _check_directory_size(file, most.files)
            with zipfile.ZipFile(file) as package:
                members = package.infolist()
                _check_sizes(members, target, most)
                for member in members:
                    _unpack_member(package, member, target)
    except (zipfile.BadZipFile, EOFError, struct.error, zlib.error) as error:
        shutil.rmtree(target)
        raise ArtifactError(f"the artifact is not a valid zip archive ({error})") from error
    # OSError: a full disk, a name that is too long, a file where others need a directory.
    # IndexError: zipfile's, of a name without a character.
    except (OSError, ValueError, IndexError, RuntimeError, NotImplementedError) as error:
        shutil.rmtree(target)
        problem = error.strerror if isinstance(error, OSError) else error
        raise ArtifactError(f"the artifact cannot be unpacked ({problem})") from error
    except BaseException:
        shutil.rmtree(target)
        raise


def _check_directory_size(file: BinaryIO, most_files: int) -> None:
    """Refuse a list of members that is too long, before all of it is read into memory."""
    size = file.seek(0, os.SEEK_END)
    start = max(0, size - _END_BYTES - _COMMENT_BYTES)
    file.seek(start)
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or len(tail) - end < _END_BYTES:
        raise zipfile.BadZipFile("it has no list of its members")
    (listed,) = struct.unpack_from("<L", tail, end + _END_LIST_SIZE)
    zip64 = start + end - _LOCATOR_BYTES - _END64_BYTES
    if listed == _IN_ZIP64 and zip64 >= 0:
        file.seek(zip64)
        record = file.read(_END64_BYTES)
        (listed,) = struct.unpack_from("<Q", record, _END64_LIST_SIZE)
    if listed > most_files * _LISTED_BYTES:
        raise ArtifactError(f"the artifact lists its members in {listed} bytes, which is too much")


def _check_sizes(members: Sequence[zipfile.ZipInfo], target: Path, most: UnpackLimits) -> None:
    """Refuse too many members, and more bytes than are allowed or than the disk has left.

    zipfile gives no more bytes of a member than its size says.
    """
    if len(members) > most.files:
        raise ArtifactError(f"the artifact holds {len(members)} members, at most {most.files}")
    size = sum(member.file_size for member in members)
    if size > most.size:
        raise ArtifactError(f"the artifact holds {size} bytes, at most {most.size}")
    free = shutil.disk_usage(target).free
    if size > free:
        raise ArtifactError(f"the artifact holds {size} bytes, and the disk has {free} left")


def _unpack_member(package: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    path = target / _safe_path(member.filename)
    mode = member.external_attr >> _UNIX_MODE_SHIFT
    if stat.S_ISLNK(mode):
        raise ArtifactError(f"the artifact holds a symbolic link, {member.filename!r}")
    if member.compress_type not in _METHODS:  # zipfile unpacks others without bounds on memory
        raise ArtifactError(f"the artifact holds {member.filename!r}, which is not deflated")
    if member.is_dir():
        _make_directory(path)
        return
    _make_directory(path.parent)
    with package.open(member) as source, path.open("wb") as file:
        shutil.copyfileobj(source, file, _COPY_BYTES)
    path.chmod(_EXECUTABLE_MODE if mode & stat.S_IXUSR else _FILE_MODE)


def _make_directory(path: Path) -> None:
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir()
        path.chmod(_DIRECTORY_MODE)


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ArtifactError(f"the artifact holds a path that leads outside it, {name!r}")
    return path


def copy_unpacked(source: Path, target: Path) -> None:
    """Lay out a directory as if it came from an archive: links followed, usual modes. Blocks.

    Raises:
        OSError: something cannot be read; shutil.Error names all that cannot.
    """
    shutil.copytree(source, target)
    for path in [target, *target.rglob("*")]:
        executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
        path.chmod(_EXECUTABLE_MODE if executable else _FILE_MODE)


def make_read_only(directory: Path) -> None:
    """Take write permission from a directory and all it holds; root can write nevertheless."""
    for path in [*directory.rglob("*"), directory]:
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)


def remove_tree(directory: Path) -> None:
    """Remove a directory, also after `make_read_only`. Blocks."""
    if not directory.exists():
        return
    for path in [directory, *(path for path in directory.rglob("*") if path.is_dir())]:
        path.chmod(0o700)
    shutil.rmtree(directory)
