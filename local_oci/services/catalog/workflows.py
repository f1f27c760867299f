"""What takes time in the catalog: artifacts from and to Object Storage, and a version set's end.

The names are Oracle's: "export" brings an object into the catalog, "import" takes an artifact out
of it (oci 2.189.0, export_model_artifact and import_model_artifact).
"""

from __future__ import annotations

import asyncio
import json

from local_oci.http.errors import ServiceError, invalid_parameter, related_resource_not_found
from local_oci.identity import REGION
from local_oci.services.catalog.artifacts import attach
from local_oci.services.catalog.deletion import delete
from local_oci.services.catalog.models import (
    MODEL_TYPE,
    Model,
    ObjectStorageDestination,
    ObjectStorageSource,
)
from local_oci.services.cloud import Cloud
from local_oci.services.object_storage.models import NAMESPACE
from local_oci.services.work_requests.engine import Work, WorkError
from local_oci.services.work_requests.models import Operation, WorkRequest, WorkRequestResource


def accept_export(cloud: Cloud, model: Model, source: ObjectStorageSource) -> WorkRequest:
    """Queue the copy of an object into the catalog, after checking that it is there."""
    _check_place(source.namespace, source.source_region, "sourceRegion")
    if cloud.objects.find(source.source_bucket, source.source_object_name) is None:
        place = f"object {source.source_object_name} in bucket {source.source_bucket}"
        raise related_resource_not_found(place)
    return _accept(cloud, Operation.EXPORT_ARTIFACT, model, source.model_dump_json())


def accept_import(cloud: Cloud, model: Model, destination: ObjectStorageDestination) -> WorkRequest:
    """Queue the copy of an artifact into a bucket, after checking that both are there."""
    _check_place(destination.namespace, destination.destination_region, "destinationRegion")
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
        attach(cloud, work.record.subject, blob, f'attachment; filename="{file_name}"')
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
        await delete(cloud, model)
    work.step(f"Deleted with {len(models)} models", 100)


def _accept(cloud: Cloud, operation: Operation, model: Model, parameters: str) -> WorkRequest:
    resource = WorkRequestResource(
        action_type="IN_PROGRESS",
        entity_type=MODEL_TYPE,
        identifier=model.id,
        entity_uri=f"/20190101/models/{model.id}",
    )
    return cloud.work_requests.accept(operation, model.compartment_id, [resource], parameters)


def _check_place(namespace: str, region: str, name: str) -> None:
    if namespace != NAMESPACE:
        raise related_resource_not_found(f"namespace {namespace}")
    if region != REGION:
        raise invalid_parameter(f"{name}: this cloud has the one region '{REGION}'.")
