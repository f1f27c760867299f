"""A hub checkpoint without its weights: all that is read of one which another machine fetches.

The weights' files have their headers and their full size, and no content: what reads configuration,
tensors' shapes and tokenizer takes the directory for the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from falconry.checkpoint.hub_names import HubCheckpoint
from falconry.checkpoint.source import RemoteFile, file_url, read_remote, remote_files
from falconry.errors import CheckpointError
from falconry.files import atomic_write
from falconry.pipeline import Report

_WEIGHTS = ".safetensors"
_LENGTH_BYTES = 8
# safetensors 0.6, MAX_HEADER_SIZE.
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that a job fetches from the hub; it has one of the digests."""

    url: str
    size: int
    sha256: str | None
    git_sha1: str


@dataclass(frozen=True, slots=True)
class Outline:
    """A checkpoint's outline.

    Attributes:
        weights: the files without content, by their path.
    """

    directory: Path
    weights: Mapping[Path, HubFile]


def fetch_outline(hub: HubCheckpoint, parent: Path, report: Report) -> Outline:
    """Makes the outline below a directory, unless it is there.

    Raises:
        CheckpointError: the hub refuses, or a file is not what it should be.
        MachineError: the hub cannot be reached.
    """
    report("asking the hub", None)
    files = remote_files(hub)
    directory = parent / f"{hub.repository.replace('/', '--')}@{hub.revision}"
    if not directory.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(directory, directory=True) as output:
            for name, file in files.items():
                _fetch(hub, name, file, output / name)
    weights = {
        (directory / name).resolve(): HubFile(
            file_url(hub, name), file.size, file.lfs_sha256, file.git_sha1
        )
        for name, file in files.items()
        if name.endswith(_WEIGHTS)
    }
    return Outline(directory, weights)


def _fetch(hub: HubCheckpoint, name: str, file: RemoteFile, path: Path) -> None:
    with path.open("wb") as output, read_remote(hub, name) as content:
        if name.endswith(_WEIGHTS):
            output.write(_header(content, name))
            output.truncate(file.size)
            return
        for data in content:
            output.write(data)
    if not file.is_in(path, lambda _: None):
        raise CheckpointError(
            f"{name} arrived with another digest than the hub's", where=hub.text, remedy="run again"
        )


def _header(content: Iterator[bytes], name: str) -> bytes:
    """The length and the header of a safetensors file, by the beginning of its content."""
    found = bytearray()
    wanted = _LENGTH_BYTES
    for data in content:
        found += data
        if len(found) >= _LENGTH_BYTES:
            wanted = _LENGTH_BYTES + int.from_bytes(found[:_LENGTH_BYTES], "little")
        if wanted > _LONGEST_HEADER:
            break
        if len(found) >= wanted > _LENGTH_BYTES:
            return bytes(found[:wanted])
    raise CheckpointError("is not a safetensors file", where=name)
