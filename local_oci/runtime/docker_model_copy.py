"""A copy of an artifact that a container may write to, and what was written.

It lies in a volume of the container's own, so it goes with the container, whoever owns its files.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from local_oci.limits import DEPLOYED_MODEL_PATH

if TYPE_CHECKING:
    from docker.models.containers import Container


class _State(NamedTuple):
    """What changes when a file is written to."""

    size: int
    modified: int


def fill(container: Container, model: Path) -> None:
    """Copy an artifact into a container that has not started. Blocks."""
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(model, arcname=".", filter=_writable)
        file.seek(0)
        container.put_archive(DEPLOYED_MODEL_PATH, file)


def written_files(container: Container, model: Path) -> list[str]:
    """Paths below the artifact's that are new, changed or gone, sorted. Blocks."""
    before = {
        str(path.relative_to(model)): _State(path.stat().st_size, int(path.stat().st_mtime))
        for path in model.rglob("*")
        if path.is_file()
    }
    after = _files(container)
    names = before.keys() | after.keys()
    return sorted(name for name in names if before.get(name) != after.get(name))


def _writable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mode |= 0o777 if member.isdir() else 0o666
    member.mtime = int(member.mtime)
    return member


def _files(container: Container) -> dict[str, _State]:
    stream, _ = container.get_archive(DEPLOYED_MODEL_PATH)
    found = {}
    with tempfile.TemporaryFile() as file:
        for chunk in stream:
            file.write(chunk)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                if member.isfile():
                    name = member.name.partition("/")[2]
                    found[name] = _State(member.size, int(member.mtime))
    return found
