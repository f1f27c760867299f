"""Which files of a repository go into its artifact, and which repositories no zip can hold.

Two names that differ in case only are let through: the artifact is unpacked on Linux, where they
are two files, and Triton serves models so named.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from falconry.artifact.zip_layout import MAX_NAME_BYTES
from falconry.errors import RepositoryError

# Where the repository is in the artifact. OCI unzips it at /opt/ds/model/deployed_model, so the
# server's command has --model-repository=/opt/ds/model/deployed_model/model_repository.
ROOT = "model_repository"


def packed_names(repository: Path) -> tuple[str, ...]:
    """The files to pack, as sorted POSIX paths relative to the repository.

    Python's bytecode caches are left out: they are made by running, not by us.

    Raises:
        RepositoryError: a file that an artifact cannot hold.
        OSError: a directory cannot be read.
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
    """A link is packed as the file that it leads to, which has to be in the repository itself.

    Raises:
        RepositoryError: it leads elsewhere, nowhere, or to a directory.
    """
    target = path.resolve()
    if not target.is_relative_to(root):
        reason = "is a symbolic link that leads out of the repository"
    elif not target.exists():
        reason = "is a symbolic link that leads nowhere"
    elif not stat.S_ISREG(target.stat().st_mode):
        reason = "is a symbolic link to what is not a file"
    else:
        return
    raise RepositoryError(reason, where=path, remedy="put what it leads to in its place")


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
            reason = "holds a backslash, which some programs take for a directory's"
        elif any(unicodedata.category(character) == "Cc" for character in name):
            reason = "holds a control character"
    if reason:
        raise RepositoryError(
            f"the name {name!a} {reason}, so an artifact cannot hold it",
            where=repository,
            remedy="rename it",
        )
