"""What the registry holds, read from its storage.

Its HTTP API tells neither which manifests have no tag nor when anything was pushed, and its
notifications arrive late and are lost with the process. The layout (v2) is the one described in
registry/storage/paths.go of Docker distribution; nothing is written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_LINK = "link"


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer of an image: its digest, its compressed size, and when it was first pushed."""

    digest: str
    size: int
    time: datetime


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag, and when it was last set."""

    name: str
    time: datetime


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest.

    Args:
        digest: its name.
        size: in bytes.
        time: when it came to the repository.
        pushed: when it was last pushed; whoever pushes what is there renews only this.
        layers: by digest; none if it is a list of manifests.
        tags: the last one first.
    """

    digest: str
    size: int
    time: datetime
    pushed: datetime
    layers: tuple[StoredLayer, ...]
    tags: tuple[StoredTag, ...]


@dataclass(frozen=True, slots=True)
class _Link:
    """A file that names a blob, when it was made, and when it was last written."""

    digest: str
    made: datetime
    written: datetime


class Contents:
    """The repositories below one storage root; callers pass valid names only.

    Args:
        root: `rootdirectory` of the registry's filesystem driver.
    """

    def __init__(self, root: Path) -> None:
        self._blobs = root / "docker/registry/v2/blobs"
        self._repositories = root / "docker/registry/v2/repositories"

    def manifests(self, path: str) -> list[StoredManifest]:
        """All manifests of a repository, in no particular order.

        Args:
            path: the repository's name, namespace included.
        """
        tags: dict[str, list[StoredTag]] = {}
        for file in self._manifests(path).glob(f"tags/*/current/{_LINK}"):
            if link := _read_link(file):
                tag = StoredTag(file.parent.parent.name, link.written)
                tags.setdefault(link.digest, []).append(tag)
        return [
            self._manifest(link, tags.get(link.digest, []))
            for file in self._manifests(path).glob(f"revisions/sha256/*/{_LINK}")
            if (link := _read_link(file))
        ]

    def tagged(self, path: str, tag: str) -> str | None:
        """The digest of a tag."""
        link = _read_link(self._manifests(path) / "tags" / tag / "current" / _LINK)
        return link.digest if link is not None and self.holds(path, link.digest) else None

    def holds(self, path: str, digest: str) -> bool:
        """Whether a repository has the manifest of this digest."""
        algorithm, _, value = digest.partition(":")
        link = _read_link(self._manifests(path) / "revisions" / algorithm / value / _LINK)
        return link is not None and link.digest == digest

    def _manifests(self, path: str) -> Path:
        return self._repositories / path / "_manifests"

    def _manifest(self, link: _Link, tags: list[StoredTag]) -> StoredManifest:
        content = self._blob(link.digest).read_bytes()
        return StoredManifest(
            digest=link.digest,
            size=len(content),
            time=link.made,
            pushed=link.written,
            layers=tuple(self._layers(content, link.made)),
            tags=tuple(sorted(tags, key=lambda tag: (tag.time, tag.name), reverse=True)),
        )

    def _layers(self, manifest: bytes, pushed: datetime) -> Iterator[StoredLayer]:
        layers = {layer["digest"]: layer for layer in json.loads(manifest).get("layers", [])}
        for digest, layer in sorted(layers.items()):
            blob = self._blob(digest)
            # A layer that lies elsewhere (it has `urls`) is not here.
            yield StoredLayer(digest, layer["size"], _time(blob) if blob.exists() else pushed)

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self._blobs / algorithm / value[:2] / value / "data"


def _read_link(file: Path) -> _Link | None:
    """A link; None if it is not there, or is being written or deleted just now."""
    try:
        # Writing over a file leaves its directory's time alone.
        link = _Link(file.read_text(), made=_time(file.parent), written=_time(file))
    except FileNotFoundError:
        return None
    return link if link.digest else None


def _time(file: Path) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)
