"""HTTP of copies and new names of objects, and of the work requests of copies."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.errors import invalid_parameter, not_found
from local_oci.http.messages import (
    WORK_REQUEST_HEADER,
    empty_response,
    read_details,
    record_response,
    required_query,
)
from local_oci.http.pages import entries_response, list_response
from local_oci.identity import REGION
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.object_storage.errors import (
    bucket_not_found,
    if_match_failed,
    if_none_match_failed,
    namespace_not_found,
    object_not_found,
)
from local_oci.services.object_storage.models import (
    NAMESPACE,
    Bucket,
    CopyObjectDetails,
    CopyResource,
    CopyWorkRequest,
    RenameObjectDetails,
    StoredObject,
)
from local_oci.services.object_storage.routes import version_headers
from local_oci.services.work_requests.models import LogEntry
from local_oci.storage.records import new_ocid


async def copy_object(request: Request) -> Response:
    """Copy an object within the region; it is done when the work request is accepted."""
    details = await read_details(request, CopyObjectDetails)
    cloud, bucket = _bucket(request)
    if details.destination_region != REGION:
        raise invalid_parameter(
            f"destinationRegion: this cloud has the one region '{REGION}', not "
            f"'{details.destination_region}'."
        )
    source = _object(cloud, bucket.name, details.source_object_name)
    _check_version(source, details.source_object_if_match_e_tag)
    if details.destination_namespace != NAMESPACE:
        raise namespace_not_found(details.destination_namespace)
    target = cloud.buckets.get(details.destination_bucket)
    if target is None:
        raise bucket_not_found(details.destination_bucket)
    _check_target(
        cloud.objects.find(target.name, details.destination_object_name),
        details.destination_object_if_match_e_tag,
        details.destination_object_if_none_match_e_tag,
    )
    headers = source.headers
    if details.destination_object_metadata is not None:
        headers = headers.model_copy(update={"metadata": details.destination_object_metadata})
    blob = await asyncio.to_thread(cloud.blobs.join, [source.blob], source.md5)
    name = details.destination_object_name
    cloud.objects.store(target.name, name, blob, headers, source.multipart_md5)
    work_request = CopyWorkRequest(
        id=new_ocid("objectstorageworkrequest"),
        compartment_id=bucket.compartment_id,
        resources=(
            _resource("READ", bucket.name, source.name),
            _resource("WRITTEN", target.name, name),
        ),
    )
    cloud.objects.copies.put(work_request)
    return empty_response(202, {WORK_REQUEST_HEADER: work_request.id})


async def rename_object(request: Request) -> Response:
    """Give an object another name in its bucket."""
    details = await read_details(request, RenameObjectDetails)
    cloud, bucket = _bucket(request)
    source = _object(cloud, bucket.name, details.source_name)
    _check_version(source, details.src_obj_if_match_e_tag)
    if details.new_name == source.name:
        raise invalid_parameter("newName: it is the name that the object has.")
    _check_target(
        cloud.objects.find(bucket.name, details.new_name),
        details.new_obj_if_match_e_tag,
        details.new_obj_if_none_match_e_tag,
    )
    with cloud.database.transaction():
        renamed = cloud.objects.rename(source, details.new_name)
    return empty_response(200, version_headers(renamed))


async def get_work_request(request: Request) -> Response:
    """The work request of a copy."""
    return record_response(_work_request(request))


async def list_work_requests(request: Request) -> Response:
    """The work requests of a compartment's copies."""
    required_query(request, "compartmentId")
    return list_response(
        request,
        cloud_of(request).objects.copies.scan(),
        filters={"compartmentId": lambda record: record.compartment_id},
        sort_fields={"timeAccepted": lambda record: record.time_accepted.isoformat()},
    )


async def list_work_request_logs(request: Request) -> Response:
    """What a work request did, in one line."""
    record = _work_request(request)
    return entries_response(request, [LogEntry(message="Copied", timestamp=record.time_finished)])


async def list_work_request_errors(request: Request) -> Response:
    """There are none."""
    _work_request(request)
    return entries_response(request, [])


def _bucket(request: Request) -> tuple[Cloud, Bucket]:
    cloud, path = cloud_of(request), request.path_params
    if path["namespace"] != NAMESPACE:
        raise namespace_not_found(path["namespace"])
    bucket = cloud.buckets.get(path["bucket"])
    if bucket is None:
        raise bucket_not_found(path["bucket"])
    return cloud, bucket


def _object(cloud: Cloud, bucket: str, name: str) -> StoredObject:
    stored = cloud.objects.find(bucket, name)
    if stored is None:
        raise object_not_found(name, bucket)
    return stored


def _check_version(stored: StoredObject, etag: str | None) -> None:
    if etag not in (None, "*", stored.etag):
        raise if_match_failed()


def _check_target(present: StoredObject | None, match: str | None, none_match: str | None) -> None:
    if match is not None and (present is None or match not in ("*", present.etag)):
        raise if_match_failed()
    if none_match == "*" and present is not None:
        raise if_none_match_failed()


def _resource(action: str, bucket: str, name: str) -> CopyResource:
    return CopyResource.model_validate(
        {
            "action_type": action,
            "identifier": name,
            "entity_uri": f"/n/{NAMESPACE}/b/{bucket}/o/{name}",
            "metadata": {"REGION": REGION, "BUCKET": bucket, "NAMESPACE": NAMESPACE},
        }
    )


def _work_request(request: Request) -> CopyWorkRequest:
    record = cloud_of(request).objects.copies.get(request.path_params["work_request_id"])
    if record is None:
        raise not_found()
    return record


_ACTIONS = "/n/{namespace}/b/{bucket}/actions"
_WORK_REQUEST = "/workRequests/{work_request_id}"
ROUTES = [
    Route(f"{_ACTIONS}/copyObject", copy_object, methods=["POST"]),
    Route(f"{_ACTIONS}/renameObject", rename_object, methods=["POST"]),
    Route("/workRequests", list_work_requests, methods=["GET"]),
    Route(_WORK_REQUEST, get_work_request, methods=["GET"]),
    Route(f"{_WORK_REQUEST}/logs", list_work_request_logs, methods=["GET"]),
    Route(f"{_WORK_REQUEST}/errors", list_work_request_errors, methods=["GET"]),
]
