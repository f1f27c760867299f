"""Buckets, objects and uploads as they travel and are stored (oci 2.189.0, object_storage.models).

Error codes and texts of this service are from memory of docs.oracle.com/en-us/iaas/Content/API/
References/apierrors.htm and from cameritelabs/oci-emulator; the statuses are what the SDK reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from local_oci.limits import BUCKET_NAME, OBJECT_NAME_BYTES
from local_oci.storage.records import (
    FreeformTags,
    HeaderValue,
    Int32,
    Record,
    Resource,
    Tagged,
    WireModel,
    now,
)

# A tenancy has one namespace; this cloud has one tenancy.
NAMESPACE: Literal["localoci"] = "localoci"


def check_bucket_name(name: str) -> str:
    """Refuse what cannot be the name of a bucket, with a ValueError."""
    if not BUCKET_NAME.fullmatch(name):
        raise ValueError(
            f"'{name[:300]}' is not a valid bucket name: 1 to 256 letters, digits, hyphens, "
            "underscores and periods"
        )
    return name


def check_object_name(name: str) -> str:
    """Refuse what cannot be the name of an object, with a ValueError."""
    if not 0 < len(name.encode()) <= OBJECT_NAME_BYTES or set(name) & {"\n", "\r", "\0"}:
        raise ValueError(
            f"it is not a valid object name: 1 to {OBJECT_NAME_BYTES} bytes of UTF-8 without line "
            "feed, carriage return and NUL"
        )
    return name


BucketName = Annotated[str, AfterValidator(check_bucket_name)]
ObjectName = Annotated[str, AfterValidator(check_object_name)]
MetadataName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")]


class CreateBucketDetails(Tagged):
    """Body of create_bucket."""

    name: BucketName
    compartment_id: str
    metadata: dict[str, str] = Field(default_factory=dict)
    public_access_type: Literal["NoPublicAccess"] = "NoPublicAccess"
    storage_tier: Literal["Standard", "Archive"] = "Standard"
    object_events_enabled: bool = False
    versioning: Literal["Disabled"] = "Disabled"


class UpdateBucketDetails(WireModel):
    """Body of update_bucket; what it does not name stays."""

    name: BucketName | None = None
    compartment_id: str | None = None
    metadata: dict[str, str] | None = None
    public_access_type: Literal["NoPublicAccess"] | None = None
    object_events_enabled: bool | None = None
    versioning: Literal["Disabled"] | None = None
    freeform_tags: FreeformTags | None = None
    defined_tags: dict[str, dict[str, Any]] | None = None


class Bucket(Record, Tagged):
    """A bucket. Its etag travels in the body as well."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset()

    id: str
    namespace: Literal["localoci"] = NAMESPACE
    name: str
    compartment_id: str
    metadata: dict[str, str] = Field(default_factory=dict)
    created_by: str
    time_created: datetime = Field(default_factory=now)
    public_access_type: Literal["NoPublicAccess"] = "NoPublicAccess"
    storage_tier: Literal["Standard", "Archive"] = "Standard"
    object_events_enabled: bool = False
    versioning: Literal["Disabled"] = "Disabled"


class ObjectHeaders(WireModel):
    """What an uploader says about an object and every reader gets back as headers."""

    content_type: HeaderValue = "application/octet-stream"
    content_language: HeaderValue | None = None
    content_encoding: HeaderValue | None = None
    content_disposition: HeaderValue | None = None
    cache_control: HeaderValue | None = None
    metadata: dict[MetadataName, HeaderValue] = Field(default_factory=dict)

    def as_headers(self) -> dict[str, str]:
        """The headers of a response with the object."""
        named = {
            "content-type": self.content_type,
            "content-language": self.content_language,
            "content-encoding": self.content_encoding,
            "content-disposition": self.content_disposition,
            "cache-control": self.cache_control,
        }
        present = {name: value for name, value in named.items() if value is not None}
        return present | {f"opc-meta-{name}": value for name, value in self.metadata.items()}


class StoredObject(Record):
    """An object: one blob."""

    bucket: str
    name: str
    blob: str
    size: int
    md5: str | None
    multipart_md5: str | None = None
    headers: ObjectHeaders = ObjectHeaders()
    time_created: datetime = Field(default_factory=now)
    time_modified: datetime = Field(default_factory=now)


class CopyObjectDetails(WireModel):
    """Body of copy_object."""

    source_object_name: str
    source_object_if_match_e_tag: str | None = None
    destination_region: str
    destination_namespace: str
    destination_bucket: str
    destination_object_name: ObjectName
    destination_object_if_match_e_tag: str | None = None
    destination_object_if_none_match_e_tag: Literal["*"] | None = None
    destination_object_metadata: dict[MetadataName, HeaderValue] | None = None


class RenameObjectDetails(WireModel):
    """Body of rename_object."""

    source_name: str
    new_name: ObjectName
    src_obj_if_match_e_tag: str | None = None
    new_obj_if_match_e_tag: str | None = None
    new_obj_if_none_match_e_tag: Literal["*"] | None = None


class CopyResource(WireModel):
    """WorkRequestResource: the source is read, the destination is written."""

    action_type: Literal["READ", "WRITTEN"]
    entity_type: Literal["object"] = "object"
    identifier: str
    entity_uri: str
    metadata: dict[str, str]


class CopyWorkRequest(Resource):
    """WorkRequest of a copy, which is complete before it is seen."""

    operation_type: Literal["COPY_OBJECT"] = "COPY_OBJECT"
    status: Literal["COMPLETED"] = "COMPLETED"
    percent_complete: float = 100.0
    resources: tuple[CopyResource, ...]
    time_accepted: datetime = Field(default_factory=now)
    time_started: datetime = Field(default_factory=now)
    time_finished: datetime = Field(default_factory=now)


class CreateMultipartUploadDetails(ObjectHeaders):
    """Body of create_multipart_upload."""

    object: ObjectName


class Upload(Record):
    """A multipart upload that is neither committed nor aborted."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"etag", "headers"})

    upload_id: str
    namespace: Literal["localoci"] = NAMESPACE
    bucket: str
    object: str
    headers: ObjectHeaders
    time_created: datetime = Field(default_factory=now)
    storage_tier: Literal["Standard"] = "Standard"


class Part(Record):
    """A part of a multipart upload."""

    INTERNAL: ClassVar[frozenset[str]] = frozenset({"upload_id", "blob"})

    upload_id: str
    part_number: int
    blob: str
    size: int
    md5: str


class PartToCommit(WireModel):
    """One part of the object to be."""

    part_num: Int32
    etag: str


class CommitDetails(WireModel):
    """Body of commit_multipart_upload."""

    parts_to_commit: tuple[PartToCommit, ...]
    parts_to_exclude: tuple[Int32, ...] | None = None
