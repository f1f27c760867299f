"""Attaching an artifact to a model, whatever way it came."""

from __future__ import annotations

from local_oci.http.errors import ServiceError, conflict
from local_oci.services.catalog.models import Artifact
from local_oci.services.cloud import Cloud
from local_oci.storage.blobs import Blob


def attach(cloud: Cloud, model_id: str, blob: Blob, content_disposition: str) -> Artifact:
    """Make a blob the artifact of a model.

    Artifacts are immutable: the same bytes again are no change, other bytes are refused.
    [inferred] from the catalog's documents, which call artifacts immutable by design.

    Raises:
        ServiceError: 409 Conflict, or 404 if the model was deleted meanwhile; the blob is gone.
    """
    try:
        return _attach(cloud, model_id, blob, content_disposition)
    except ServiceError:
        cloud.blobs.delete(blob.name)
        raise


def _attach(cloud: Cloud, model_id: str, blob: Blob, content_disposition: str) -> Artifact:
    cloud.catalog.model(model_id)
    present = cloud.catalog.artifacts.get(model_id)
    if present is None:
        return cloud.catalog.artifacts.put(
            Artifact(
                model_id=model_id,
                blob=blob.name,
                size=blob.size,
                md5=blob.md5,
                content_disposition=content_disposition,
            )
        )
    if not _same(cloud, present, blob):
        raise conflict(
            f"Model {model_id} has an artifact already, and artifacts are immutable. Create a new "
            "model for a new artifact."
        )
    cloud.blobs.delete(blob.name)
    return present


def _same(cloud: Cloud, present: Artifact, blob: Blob) -> bool:
    """Whether a blob is the artifact that is there; what came in parts has no MD5 of its own."""
    if present.size != blob.size:
        return False
    if present.md5 is None or blob.md5 is None:
        return cloud.blobs.same(present.blob, blob.name)
    return present.md5 == blob.md5
