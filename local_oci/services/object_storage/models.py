"""Buckets, objects and uploads as they travel and are stored (oci 2.189.0, object_storage.models).

Error codes and texts of this service are from memory of docs.oracle.com/en-us/iaas/Content/API/
References/apierrors.htm and from cameritelabs/oci-emulator; the statuses are what the SDK reads.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from local_oci.storage.records import Record, Tagged, WireModel, now

# A tenancy has one namespace; this cloud has one tenancy.
NAMESPACE: Literal["localoci"] = "localoci"


class CreateBucketDetails(Tagged):
    """Body of create_bucket."""

    name: str
    compartment_id: str
    metadata: dict[str, str] = Field(default_factory=dict)
    public_access_type: Literal["NoPublicAccess"] = "NoPublicAccess"
    storage_tier: Literal["Standard", "Archive"] = "Standard"
    object_events_enabled: bool = False
    versioning: Literal["Disabled"] = "Disabled"


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

    content_type: str = "application/octet-stream"
    content_language: str | None = None
    content_encoding: str | None = None
    content_disposition: str | None = None
    cache_control: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)

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


class CreateMultipartUploadDetails(ObjectHeaders):
    """Body of create_multipart_upload."""

    object: str


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

    part_num: int
    etag: str


class CommitDetails(WireModel):
    """Body of commit_multipart_upload."""

    parts_to_commit: tuple[PartToCommit, ...]
    parts_to_exclude: tuple[int, ...] | None = None
