"""HTTP of Object Storage, whose base path is empty."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import uuid
from email.utils import format_datetime
from typing import Any

from crc32c import CRC32CHash
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local_oci.http.bodies import blob_response, receive_blob
from local_oci.http.errors import ServiceError, invalid_parameter
from local_oci.http.messages import (
    check_if_match,
    empty_response,
    given_fields,
    json_response,
    natural_number,
    read_details,
    record_response,
    required_query,
    validate_details,
)
from local_oci.http.middleware import UnsignedBody
from local_oci.http.pages import page_response
from local_oci.limits import MAX_PART_BYTES, MAX_PART_NUMBER
from local_oci.services.cloud import Cloud, cloud_of
from local_oci.services.object_storage.errors import (
    bucket_exists,
    bucket_not_empty,
    bucket_not_found,
    if_match_failed,
    if_none_match_failed,
    invalid_part,
    namespace_not_found,
    no_such_upload,
    object_not_found,
    unmatched_crc32c,
)
from local_oci.services.object_storage.listing import list_page, read_listing
from local_oci.services.object_storage.models import (
    NAMESPACE,
    Bucket,
    CommitDetails,
    CreateBucketDetails,
    CreateMultipartUploadDetails,
    ObjectHeaders,
    Part,
    StoredObject,
    UpdateBucketDetails,
    Upload,
    check_object_name,
)
from local_oci.storage.blobs import Blobs, WrittenBlob
from local_oci.storage.records import new_ocid

UNSIGNED_BODIES = [UnsignedBody("PUT", re.compile(r"/n/[^/]+/b/[^/]+/[ou]/.+", re.DOTALL))]

_META = "opc-meta-"
_NAMED = (
    *("content-type", "content-language", "content-encoding", "content-disposition"),
    "cache-control",
)
_CHUNK_BYTES = 1 << 20


# --- namespace and buckets --------------------------------------------------------------------


async def get_namespace(request: Request) -> Response:
    """The name of the tenancy's namespace, as a JSON string."""
    return json_response(NAMESPACE)


async def get_namespace_metadata(request: Request) -> Response:
    """Where buckets of the S3 and Swift APIs are made; both are in the root."""
    tenancy = _cloud(request).identity.tenancy
    return json_response(
        {
            "namespace": NAMESPACE,
            "defaultS3CompartmentId": tenancy,
            "defaultSwiftCompartmentId": tenancy,
        }
    )


async def create_bucket(request: Request) -> Response:
    """Make a bucket."""
    details = await read_details(request, CreateBucketDetails)
    cloud = _cloud(request)
    if cloud.buckets.get(details.name) is not None:
        raise bucket_exists(details.name)
    bucket = Bucket(**details.model_dump(), id=new_ocid("bucket"), created_by=cloud.identity.user)
    return record_response(cloud.buckets.put(bucket))


async def get_bucket(request: Request) -> Response:
    """One bucket, with the number and size of its objects where they are wanted."""
    bucket = _bucket(request)
    if "approximate" not in request.query_params.get("fields", ""):
        return record_response(bucket)
    sizes = [stored.size for stored in cloud_of(request).objects.in_bucket(bucket.name)]
    content = {**bucket.wire(), "approximateCount": len(sizes), "approximateSize": sum(sizes)}
    return json_response(content, headers={"etag": bucket.etag})


async def list_nothing(request: Request) -> Response:
    """What a bucket has none of here: replication policies, retention rules and the like."""
    _bucket(request)
    return json_response([])


async def list_no_items(request: Request) -> Response:
    """The same, of lists that are collections."""
    _bucket(request)
    return json_response({"items": []})


async def update_bucket(request: Request) -> Response:
    """Change a bucket's name, compartment, metadata and tags."""
    details = await read_details(request, UpdateBucketDetails)
    cloud = _cloud(request)
    bucket = _bucket(request)
    check_if_match(request, bucket)
    changed = bucket.model_copy(update=given_fields(details))
    if changed.name == bucket.name:
        return record_response(cloud.buckets.change(bucket, **given_fields(details)))
    if cloud.buckets.get(changed.name) is not None:
        raise bucket_exists(changed.name)
    with cloud.database.transaction():
        cloud.objects.move(bucket.name, changed.name)
        cloud.uploads.move(bucket.name, changed.name)
        cloud.buckets.delete(bucket.name)
        return record_response(cloud.buckets.put(changed))


async def list_buckets(request: Request) -> Response:
    """Buckets of a compartment, by name."""
    cloud = _cloud(request)
    compartment = required_query(request, "compartmentId")
    buckets = [bucket for bucket in cloud.buckets.scan() if bucket.compartment_id == compartment]
    return page_response(request, buckets, key=lambda bucket: (bucket.name, ""))


async def delete_bucket(request: Request) -> Response:
    """Delete an empty bucket."""
    cloud = _cloud(request)
    bucket = _bucket(request)
    check_if_match(request, bucket)
    holds_objects = next(cloud.objects.in_bucket(bucket.name), None) is not None
    if holds_objects or cloud.uploads.in_bucket(bucket.name):
        raise bucket_not_empty(bucket.name)
    cloud.buckets.delete(bucket.name)
    return empty_response()


def _cloud(request: Request) -> Cloud:
    namespace = request.path_params["namespace"]
    if namespace != NAMESPACE:
        raise namespace_not_found(namespace)
    return cloud_of(request)


def _bucket(request: Request) -> Bucket:
    name = request.path_params["bucket"]
    bucket = _cloud(request).buckets.get(name)
    if bucket is None:
        raise bucket_not_found(name)
    return bucket


# --- objects ----------------------------------------------------------------------------------


async def put_object(request: Request) -> Response:
    """Store an object as it arrives."""
    cloud, bucket, name = _cloud(request), _bucket(request), request.path_params["object"]
    try:
        check_object_name(name)
    except ValueError as error:
        raise invalid_parameter(f"objectName: {error}.") from error
    headers = _headers_of(request)
    _check_preconditions(request, cloud.objects.find(bucket.name, name))
    blob, checksums = await _receive_checked(request, cloud.blobs)
    try:
        _check_preconditions(request, cloud.objects.find(bucket.name, name))
    except ServiceError:
        cloud.blobs.delete(blob.name)
        raise
    stored = cloud.objects.store(bucket.name, name, blob, headers)
    return empty_response(200, {**checksums, **version_headers(stored)})


async def get_object(request: Request) -> Response:
    """Send an object or a range of it; a HEAD gets the headers only."""
    stored = _stored(request)
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted not in ("*", stored.etag):
        raise if_match_failed()
    headers = {
        **stored.headers.as_headers(),
        **version_headers(stored),
        "storage-tier": "Standard",
    }
    if request.headers.get("if-none-match") in ("*", stored.etag):
        return empty_response(304, headers)
    if stored.multipart_md5 is not None:
        headers["opc-multipart-md5"] = stored.multipart_md5
    if stored.md5 is not None:
        headers["content-md5"] = stored.md5
    return blob_response(request, cloud_of(request).blobs, stored.blob, stored.size, headers)


async def delete_object(request: Request) -> Response:
    """Delete an object."""
    stored = _stored(request)
    wanted = request.headers.get("if-match")
    if wanted is not None and wanted not in ("*", stored.etag):
        raise if_match_failed()
    cloud_of(request).objects.delete(stored)
    return empty_response()


async def list_objects(request: Request) -> Response:
    """Objects of a bucket, by name."""
    cloud, bucket = _cloud(request), _bucket(request)
    listing = read_listing(request)
    objects = cloud.objects.in_bucket(bucket.name, listing.start, listing.prefix)
    return json_response(list_page(objects, listing))


def _stored(request: Request) -> StoredObject:
    cloud, bucket, name = _cloud(request), _bucket(request), request.path_params["object"]
    stored = cloud.objects.find(bucket.name, name)
    if stored is None:
        raise object_not_found(name, bucket.name)
    return stored


async def _receive_checked(request: Request, blobs: Blobs) -> tuple[WrittenBlob, dict[str, str]]:
    """Store a body that has the checksums of its headers; give the response's headers for them.

    The CRC32C is computed only where the request chooses it (oci 2.189.0, put_object).
    """
    blob = await receive_blob(request, blobs)
    checksums = {"opc-content-md5": blob.md5}
    if request.headers.get("opc-checksum-algorithm") == "CRC32C":
        computed = await asyncio.to_thread(_crc32c, blobs, blob.name)
        expected = request.headers.get("opc-content-crc32c", computed)
        if computed != expected:
            blobs.delete(blob.name)
            raise unmatched_crc32c(computed, expected)
        checksums["opc-content-crc32c"] = computed
    return blob, checksums


def _crc32c(blobs: Blobs, name: str) -> str:
    """Base64 of the CRC32C of a blob, big end first."""
    checksum = CRC32CHash()
    with blobs.open(name) as file:
        while data := file.read(_CHUNK_BYTES):
            checksum.update(data)
    return base64.b64encode(checksum.digest()).decode()


def _check_preconditions(request: Request, present: StoredObject | None) -> None:
    wanted = request.headers.get("if-match")
    if wanted is not None and (present is None or wanted not in ("*", present.etag)):
        raise if_match_failed()
    if request.headers.get("if-none-match") == "*" and present is not None:
        raise if_none_match_failed()


def _headers_of(request: Request) -> ObjectHeaders:
    headers = request.headers
    given: dict[str, Any] = {name: headers[name] for name in _NAMED if name in headers}
    metadata = {
        name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
    }
    fields = {name.replace("-", "_"): value for name, value in given.items()}
    return validate_details(ObjectHeaders, {**fields, "metadata": metadata})


def version_headers(stored: StoredObject) -> dict[str, str]:
    """The headers that tell an object's version."""
    return {
        "etag": stored.etag,
        "last-modified": format_datetime(stored.time_modified, usegmt=True),
    }


# --- multipart uploads ------------------------------------------------------------------------


async def create_multipart_upload(request: Request) -> Response:
    """Begin an upload in parts."""
    details = await read_details(request, CreateMultipartUploadDetails)
    cloud, bucket = _cloud(request), _bucket(request)
    _check_preconditions(request, cloud.objects.find(bucket.name, details.object))
    headers = ObjectHeaders(**details.model_dump(exclude={"object"}))
    metadata = {name.removeprefix(_META): value for name, value in headers.metadata.items()}
    upload = Upload(
        upload_id=str(uuid.uuid4()),
        bucket=bucket.name,
        object=details.object,
        headers=headers.model_copy(update={"metadata": metadata}),
    )
    return json_response(cloud.uploads.begin(upload).wire())


async def list_multipart_uploads(request: Request) -> Response:
    """Open uploads of a bucket."""
    cloud, bucket = _cloud(request), _bucket(request)
    uploads = sorted(cloud.uploads.in_bucket(bucket.name), key=lambda upload: upload.upload_id)
    return page_response(request, uploads, key=lambda upload: (upload.upload_id, ""))


async def upload_part(request: Request) -> Response:
    """Store a part. The SDK's UploadManager needs exactly 200, `etag` and `opc-content-md5`."""
    cloud, upload = _cloud(request), _upload(request)
    text = request.query_params.get("uploadPartNum", "")
    number = natural_number(text) or 0
    if not 1 <= number <= MAX_PART_NUMBER:
        raise invalid_parameter(f"uploadPartNum: '{text}' is not in 1 to {MAX_PART_NUMBER}.")
    length = natural_number(request.headers.get("content-length", "0"))
    if length is None or length > MAX_PART_BYTES:
        raise invalid_parameter(f"content-length: a part of {length} bytes is too large.")
    blob, checksums = await _receive_checked(request, cloud.blobs)
    if cloud.uploads.find(upload.upload_id) is None:  # ended while the part was on its way
        cloud.blobs.delete(blob.name)
        raise no_such_upload(upload.upload_id)
    part = cloud.uploads.add_part(upload, number, blob)
    return empty_response(200, {"etag": part.etag, **checksums})


async def list_multipart_upload_parts(request: Request) -> Response:
    """Parts of an open upload, by number."""
    parts = _cloud(request).uploads.parts(_upload(request))
    return page_response(request, parts, key=lambda part: (f"{part.part_number:05}", ""))


async def commit_multipart_upload(request: Request) -> Response:
    """Make an object of the parts."""
    details = await read_details(request, CommitDetails)
    cloud, upload = _cloud(request), _upload(request)
    _check_preconditions(request, cloud.objects.find(upload.bucket, upload.object))
    chosen = _chosen_parts(cloud.uploads.parts(upload), details)
    blob = await asyncio.to_thread(cloud.blobs.join, [part.blob for part in chosen])
    if cloud.uploads.find(upload.upload_id) is None:  # ended while the parts were joined
        cloud.blobs.delete(blob.name)
        raise no_such_upload(upload.upload_id)
    digest = _multipart_md5(chosen)
    stored = cloud.objects.store(upload.bucket, upload.object, blob, upload.headers, digest)
    cloud.uploads.end(upload)
    return empty_response(200, {"opc-multipart-md5": digest, **version_headers(stored)})


async def abort_multipart_upload(request: Request) -> Response:
    """Forget an upload and its parts."""
    _cloud(request).uploads.end(_upload(request))
    return empty_response()


def _upload(request: Request) -> Upload:
    upload_id = required_query(request, "uploadId")
    bucket, name = _bucket(request), request.path_params["object"]
    upload = cloud_of(request).uploads.find(upload_id)
    if upload is None or (upload.bucket, upload.object) != (bucket.name, name):
        raise no_such_upload(upload_id)
    return upload


def _chosen_parts(parts: list[Part], details: CommitDetails) -> list[Part]:
    """The parts to commit, by number; each must be there, and none may be left over."""
    present = {part.part_number: part for part in parts}
    chosen = []
    for wanted in sorted(details.parts_to_commit, key=lambda part: part.part_num):
        part = present.pop(wanted.part_num, None)
        if part is None or part.etag != wanted.etag:
            raise invalid_part(f"Part {wanted.part_num} with etag {wanted.etag} was not uploaded")
        chosen.append(part)
    left_over = sorted(present.keys() - set(details.parts_to_exclude or ()))
    if left_over:
        raise invalid_part(f"Part {left_over[0]} is neither committed nor excluded")
    if not chosen:
        raise invalid_part("There are no parts to commit")
    return chosen


def _multipart_md5(parts: list[Part]) -> str:
    """Base64 of the MD5 over the parts' MD5 digests, and the number of parts."""
    digests = b"".join(base64.b64decode(part.md5) for part in parts)
    digest = hashlib.md5(digests, usedforsecurity=False).digest()
    return f"{base64.b64encode(digest).decode()}-{len(parts)}"


_BUCKETS = "/n/{namespace}/b"
_BUCKET = f"{_BUCKETS}/{{bucket}}"
_OBJECT = f"{_BUCKET}/o/{{object:path}}"
_UPLOAD = f"{_BUCKET}/u/{{object:path}}"
ROUTES = [
    Route("/n", get_namespace, methods=["GET"]),
    Route("/n/{namespace}", get_namespace_metadata, methods=["GET"]),
    Route(_BUCKETS, create_bucket, methods=["POST"]),
    Route(_BUCKETS, list_buckets, methods=["GET"]),
    Route(_BUCKET, get_bucket, methods=["GET", "HEAD"]),
    Route(_BUCKET, update_bucket, methods=["POST"]),
    Route(_BUCKET, delete_bucket, methods=["DELETE"]),
    Route(f"{_BUCKET}/p", list_nothing, methods=["GET"]),
    Route(f"{_BUCKET}/replicationPolicies", list_nothing, methods=["GET"]),
    Route(f"{_BUCKET}/replicationSources", list_nothing, methods=["GET"]),
    Route(f"{_BUCKET}/retentionRules", list_no_items, methods=["GET"]),
    Route(f"{_BUCKET}/o", list_objects, methods=["GET"]),
    Route(f"{_BUCKET}/u", create_multipart_upload, methods=["POST"]),
    Route(f"{_BUCKET}/u", list_multipart_uploads, methods=["GET"]),
    Route(_OBJECT, put_object, methods=["PUT"]),
    Route(_OBJECT, get_object, methods=["GET", "HEAD"]),
    Route(_OBJECT, delete_object, methods=["DELETE"]),
    Route(_UPLOAD, upload_part, methods=["PUT"]),
    Route(_UPLOAD, list_multipart_upload_parts, methods=["GET"]),
    Route(_UPLOAD, commit_multipart_upload, methods=["POST"]),
    Route(_UPLOAD, abort_multipart_upload, methods=["DELETE"]),
]
