"""Unpacking a model artifact, and refusing one that would write outside its directory."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from local_oci.storage.blobs import open_content

_UNIX_MODE_SHIFT = 16  # ZIP application note 4.5.7: upper half of the external attributes
_COPY_BYTES = 1 << 20
# A container's user is seldom the one who unpacks, whatever that one's umask is.
_DIRECTORY_MODE = _EXECUTABLE_MODE = 0o755
_FILE_MODE = 0o644


class ArtifactError(Exception):
    """An artifact that cannot be unpacked; the text says why."""


def unpack(archive: Path, target: Path) -> None:
    """Unpack a zip archive into a new directory. Blocks.

    Args:
        archive: the artifact, a file, or a directory for `open_content`.
        target: directory to make; removed again after a failure.

    Raises:
        ArtifactError: not a zip, damaged, or with a member that leads outside.
    """
    target.mkdir()
    try:
        target.chmod(_DIRECTORY_MODE)
        with open_content(archive) as file, zipfile.ZipFile(file) as package:
            for member in package.infolist():
                _unpack_member(package, member, target)
    except (zipfile.BadZipFile, EOFError) as error:
        shutil.rmtree(target)
        raise ArtifactError(f"the artifact is not a valid zip archive ({error})") from error
    except (RuntimeError, NotImplementedError) as error:
        shutil.rmtree(target)
        raise ArtifactError(f"the artifact cannot be unpacked ({error})") from error
    except ArtifactError:
        shutil.rmtree(target)
        raise


def _unpack_member(package: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    path = target / _safe_path(member.filename)
    mode = member.external_attr >> _UNIX_MODE_SHIFT
    if stat.S_ISLNK(mode):
        raise ArtifactError(f"the artifact holds a symbolic link, {member.filename!r}")
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

    Args:
        source: what would be in the archive.
        target: directory to make.

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
    """Remove a directory, also one that `make_read_only` treated. Blocks."""
    if not directory.exists():
        return
    for path in [directory, *(path for path in directory.rglob("*") if path.is_dir())]:
        path.chmod(0o700)
    shutil.rmtree(directory)
