"""Images and counts of the Artifacts service, made from what the registry holds."""

from __future__ import annotations

import hashlib

from local_oci.services.registry.contents import Contents, StoredManifest
from local_oci.services.registry.models import IMAGE_TYPE, Image, Layer, Repository, Version
from local_oci.services.registry.names import path_of
from local_oci.storage.ids import derived_ocid

_GIGABYTE = 2**30  # [inferred], and that it is rounded down


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
