"""What the registry holds, read from its storage, and the repositories that the cloud knows of.

docker-registry's HTTP API shows neither which manifests have no tag nor when anything was pushed,
and its notifications arrive late and are lost with the process. The layout (v2) is the one
described in registry/storage/paths.go of Docker distribution; nothing is written there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from local_oci.http.errors import ServiceError, limit_exceeded, not_found
from local_oci.limits import MAX_REPOSITORIES
from local_oci.services.registry.models import (
    IMAGE_TYPE,
    Configuration,
    Image,
    Layer,
    Repository,
    Version,
    path_of,
)
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, derived_ocid

_LINK = "link"
_GIGABYTE = 2**30  # [inferred], and that it is rounded down


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
        time: when it came to the repository.
        pushed: when it was last pushed; pushing it again changes only this.
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
    """The repositories below one storage root; callers pass valid names only."""

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


# --- images and counts of the Artifacts service -----------------------------------------------


def counted(repository: Repository, contents: Contents) -> Repository:
    """A repository with what the registry holds of it now."""
    manifests = contents.manifests(path_of(repository.display_name))
    layers = {layer.digest: layer.size for manifest in manifests for layer in manifest.layers}
    size = sum(layers.values())
    return repository.model_copy(
        update={
            "image_count": len(manifests),
            "layer_count": len(layers),
            "layers_size_in_bytes": size,
            "billable_size_in_gbs": size // _GIGABYTE,
            "time_last_pushed": max((manifest.pushed for manifest in manifests), default=None),
        }
    )


def images_of(repository: Repository, contents: Contents) -> list[Image]:
    """The images of a repository, with tags or without."""
    return [
        _image(repository, manifest)
        for manifest in contents.manifests(path_of(repository.display_name))
    ]


def _image(repository: Repository, manifest: StoredManifest) -> Image:
    tags = manifest.tags
    return Image(
        id=derived_ocid(IMAGE_TYPE, f"{repository.id} {manifest.digest}"),
        etag=_etag(manifest),
        compartment_id=repository.compartment_id,
        repository_id=repository.id,
        repository_name=repository.display_name,
        digest=manifest.digest,
        display_name=_display_name(repository, manifest),
        created_by=repository.created_by,
        time_created=manifest.time,
        version=tags[0].name if tags else None,
        versions=tuple(
            Version(version=tag.name, created_by=repository.created_by, time_created=tag.time)
            for tag in tags
        ),
        layers=tuple(
            Layer(digest=layer.digest, size_in_bytes=layer.size, time_created=layer.time)
            for layer in manifest.layers
        ),
        layers_size_in_bytes=sum(layer.size for layer in manifest.layers),
        manifest_size_in_bytes=manifest.size,
    )


def _display_name(repository: Repository, manifest: StoredManifest) -> str:
    """As the SDK describes ContainerImage.display_name; the last known version is not known."""
    if manifest.tags:
        return f"{repository.display_name}:{manifest.tags[0].name}"
    return f"{repository.display_name}:unknown@{manifest.digest}"


def _etag(manifest: StoredManifest) -> str:
    """Another one whenever the image's tags are others."""
    state = [manifest.digest, *(f"{tag.name} {tag.time}" for tag in manifest.tags)]
    return hashlib.sha256("\n".join(state).encode()).hexdigest()


# --- the tenancy's repositories and their configuration ---------------------------------------


class Repositories:
    """All repositories, by name: it is unique in the tenancy, whatever the compartment.

    (Oracle's release note of 18 February 2021, "Support for repositories in compartments".)
    """

    def __init__(self, database: Database) -> None:
        self.records = Collection(
            database, "container_repository", Repository, lambda record: record.display_name
        )
        self._configurations = Collection(
            database, "container_configuration", Configuration, lambda _: Configuration.KEY
        )

    def named(self, name: str) -> Repository | None:
        """The repository with this name, if there is one."""
        return self.records.get(name)

    def repository(self, repository_id: str) -> Repository:
        """A repository named in a path; 404 if there is none."""
        for record in self.records.scan():
            if record.id == repository_id:
                return record
        raise not_found()

    def add(self, repository: Repository) -> Repository:
        """Store a new repository.

        Raises:
            ServiceError: 409 if the name is taken, 400 if there are too many.
        """
        if self.named(repository.display_name) is not None:
            # The code is remembered from users' reports, [inferred].
            raise ServiceError(
                409, "NAMESPACE_CONFLICT", f"Repository {repository.display_name} already exists."
            )
        if self.full:
            raise limit_exceeded(f"A tenancy can have {MAX_REPOSITORIES} container repositories.")
        return self.records.put(repository)

    @property
    def full(self) -> bool:
        """Whether there can be no more repositories."""
        return self.records.count() >= MAX_REPOSITORIES

    @property
    def configuration(self) -> Configuration:
        """The tenancy's configuration."""
        return self._configurations.get(Configuration.KEY) or Configuration(etag=Configuration.KEY)

    def configure(self, **fields: object) -> Configuration:
        """Change the tenancy's configuration."""
        return self._configurations.change(self.configuration, **fields)
