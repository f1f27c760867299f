"""What takes time in the catalog: artifacts from and to Object Storage, and deletions.

The names are Oracle's: "export" brings an object into the catalog, "import" takes an artifact out
of it (oci 2.189.0, export_model_artifact and import_model_artifact).
"""

from __future__ import annotations

import asyncio
import json

from local_oci.http.errors import (
    ServiceError,
    conflict,
    invalid_parameter,
    related_resource_not_found,
)
from local_oci.http.messages import attachment
from local_oci.identity import REGION
from local_oci.services.catalog.models import (
    MODEL_TYPE,
    Artifact,
    Model,
    ModelState,
    ObjectStorageDestination,
    ObjectStorageSource,
)
from local_oci.services.cloud import Cloud
from local_oci.services.deployments.models import uses_model
from local_oci.services.object_storage.models import NAMESPACE
from local_oci.services.work_requests.engine import Work, WorkError
from local_oci.services.work_requests.models import Operation, WorkRequest
from local_oci.storage.blobs import Blob


def accept_export(cloud: Cloud, model: Model, source: ObjectStorageSource) -> WorkRequest:
    """Queue the copy of an object into the catalog, after checking that it is there."""
    _check_location(source.namespace, source.source_region, "sourceRegion")
    if cloud.objects.find(source.source_bucket, source.source_object_name) is None:
        missing = f"object {source.source_object_name} in bucket {source.source_bucket}"
        raise related_resource_not_found(missing)
    return _accept(cloud, Operation.EXPORT_ARTIFACT, model, source.model_dump_json())


def accept_import(cloud: Cloud, model: Model, destination: ObjectStorageDestination) -> WorkRequest:
    """Queue the copy of an artifact into a bucket, after checking that both are there."""
    _check_location(destination.namespace, destination.destination_region, "destinationRegion")
    cloud.catalog.artifact(model.id)
    if cloud.buckets.get(destination.destination_bucket) is None:
        raise related_resource_not_found(f"bucket {destination.destination_bucket}")
    return _accept(cloud, Operation.IMPORT_ARTIFACT, model, destination.model_dump_json())


async def export_artifact(cloud: Cloud, work: Work) -> None:
    """Copy an object into the catalog."""
    source = ObjectStorageSource.model_validate(json.loads(work.record.parameters))
    work.step(f"Copying {source.source_object_name} from {source.source_bucket}", 10)
    stored = cloud.objects.find(source.source_bucket, source.source_object_name)
    if stored is None:
        raise WorkError("ObjectNotFound", f"{source.source_object_name} was deleted meanwhile.")
    blob = await asyncio.to_thread(cloud.blobs.join, [stored.blob], stored.md5)
    if blob.size != stored.size:
        cloud.blobs.delete(blob.name)
        raise WorkError("InternalServerError", f"{source.source_object_name} is damaged.")
    file_name = source.source_object_name.rpartition("/")[2]
    try:
        attach_artifact(cloud, work.record.subject, blob, attachment(file_name))
    except ServiceError as error:
        raise WorkError(error.code, error.message) from error
    work.step("The artifact is in the model catalog", 100)


async def import_artifact(cloud: Cloud, work: Work) -> None:
    """Copy an artifact into a bucket."""
    destination = ObjectStorageDestination.model_validate(json.loads(work.record.parameters))
    work.step(f"Copying the artifact to {destination.destination_bucket}", 10)
    artifact = cloud.catalog.artifacts.get(work.record.subject)
    if artifact is None:
        raise WorkError("ArtifactNotFound", "The model was deleted meanwhile.")
    blob = await asyncio.to_thread(cloud.blobs.join, [artifact.blob], artifact.md5)
    cloud.objects.store(destination.destination_bucket, destination.destination_object_name, blob)
    work.step("The artifact is in Object Storage", 100)


async def delete_models_of_version_set(cloud: Cloud, work: Work) -> None:
    """The work of a version set's end."""
    models = cloud.catalog.models_of(work.record.subject)
    for model in models:
        await remove_model(cloud, model)
    work.step(f"Deleted with {len(models)} models", 100)


def _accept(cloud: Cloud, operation: Operation, model: Model, parameters: str) -> WorkRequest:
    return cloud.work_requests.accept(operation, model, MODEL_TYPE, "models", parameters=parameters)


def _check_location(namespace: str, region: str, name: str) -> None:
    if namespace != NAMESPACE:
        raise related_resource_not_found(f"namespace {namespace}")
    if region != REGION:
        raise invalid_parameter(f"{name}: this cloud has the one region '{REGION}'.")


# --- attaching an artifact to a model ---------------------------------------------------------


def attach_artifact(cloud: Cloud, model_id: str, blob: Blob, content_disposition: str) -> Artifact:
    """Make a blob the artifact of a model.

    Artifacts are immutable: the same bytes again are no change, other bytes are refused.
    [inferred] from the catalog's documents, which call artifacts immutable by design.

    Raises:
        ServiceError: 409 Conflict, or 404 if the model was deleted meanwhile; the blob is gone.
    """
    try:
        return _attach_artifact(cloud, model_id, blob, content_disposition)
    except ServiceError:
        cloud.blobs.delete(blob.name)
        raise


def _attach_artifact(cloud: Cloud, model_id: str, blob: Blob, content_disposition: str) -> Artifact:
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


# --- deleting models with all that belongs to them --------------------------------------------


def check_unused(cloud: Cloud, model: Model) -> None:
    """Refuse to delete a model that a deployment uses: 409."""
    if any(uses_model(deployment, model.id) for deployment in cloud.deployments.scan()):
        raise conflict("A model deployment uses the model; delete the deployment first.")


async def remove_model(cloud: Cloud, model: Model) -> None:
    """Delete a model, its artifact and those of its metadata."""
    catalog = cloud.catalog
    artifact = catalog.artifacts.get(model.id)
    extras = list(catalog.metadatum_artifacts.below(f"{model.id}/"))
    catalog.models.change(model, lifecycle_state=ModelState.DELETED)
    catalog.artifacts.delete(model.id)
    for extra in extras:
        catalog.metadatum_artifacts.delete(extra.key)
    for stored in ([] if artifact is None else [artifact]) + extras:
        await asyncio.to_thread(cloud.blobs.delete, stored.blob)
