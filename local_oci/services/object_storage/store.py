"""The objects and multipart uploads of one cloud: records that point to blobs."""

from __future__ import annotations

from collections.abc import Iterator

from local_oci.services.object_storage.models import (
    CopyWorkRequest,
    ObjectHeaders,
    Part,
    StoredObject,
    Upload,
)
from local_oci.storage.blobs import Blob, Blobs, WrittenBlob
from local_oci.storage.database import Database
from local_oci.storage.records import Collection, new_etag, now

# A bucket's name cannot hold it, so a key is unambiguous.
_SEPARATOR = "/"
_PART_DIGITS = 5  # part numbers go up to 10000


class Objects:
    """Objects by bucket and name.

    Attributes:
        copies: the work requests of copies.
    """

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._blobs = blobs
        self.copies = Collection(
            database, "copy_work_request", CopyWorkRequest, lambda record: record.id
        )
        self._records = Collection(
            database, "object", StoredObject, lambda record: _key(record.bucket, record.name)
        )

    def find(self, bucket: str, name: str) -> StoredObject | None:
        """An object, if it is there."""
        return self._records.get(_key(bucket, name))

    def store(
        self,
        bucket: str,
        name: str,
        blob: Blob,
        headers: ObjectHeaders | None = None,
        multipart_md5: str | None = None,
    ) -> StoredObject:
        """Make a blob an object; it replaces an earlier one of the same name.

        Args:
            bucket: bucket name.
            name: object name.
            blob: the content.
            headers: what the uploader said about it.
            multipart_md5: digest over the parts, for an object that was uploaded in parts.
        """
        earlier = self.find(bucket, name)
        time = now()
        stored = self._records.put(
            StoredObject(
                bucket=bucket,
                name=name,
                blob=blob.name,
                size=blob.size,
                md5=None if multipart_md5 else blob.md5,
                multipart_md5=multipart_md5,
                headers=headers or ObjectHeaders(),
                time_created=earlier.time_created if earlier else time,
                time_modified=time,
            )
        )
        if earlier is not None:
            self._blobs.delete(earlier.blob)
        return stored

    def rename(self, stored: StoredObject, name: str) -> StoredObject:
        """Give an object another name; it replaces an earlier one of that name."""
        earlier = self.find(stored.bucket, name)
        if earlier is not None:
            self.delete(earlier)
        self._records.delete(_key(stored.bucket, stored.name))
        return self._records.put(
            stored.model_copy(update={"name": name, "etag": new_etag(), "time_modified": now()})
        )

    def move(self, bucket: str, renamed: str) -> None:
        """Give all objects of a bucket its new name."""
        for stored in list(self.in_bucket(bucket)):
            self._records.delete(_key(bucket, stored.name))
            self._records.put(stored.model_copy(update={"bucket": renamed}))

    def delete(self, stored: StoredObject) -> None:
        """Delete an object and its content."""
        self._records.delete(_key(stored.bucket, stored.name))
        self._blobs.delete(stored.blob)

    def in_bucket(self, bucket: str, start: str = "", prefix: str = "") -> Iterator[StoredObject]:
        """Objects of a bucket by name: those at or after `start`, with a prefix."""
        for stored in self._records.scan(
            _key(bucket, max(start, prefix)), _key(bucket, "\U0010ffff")
        ):
            if not stored.name.startswith(prefix):
                return
            yield stored

    def blob_names(self) -> Iterator[str]:
        """The blobs that objects are made of."""
        return (stored.blob for stored in self._records.scan())


class Uploads:
    """Multipart uploads with their parts."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._blobs = blobs
        self._uploads = Collection(
            database, "multipart_upload", Upload, lambda record: record.upload_id
        )
        self._parts = Collection(
            database, "part", Part, lambda record: _part_key(record.upload_id, record.part_number)
        )

    def find(self, upload_id: str) -> Upload | None:
        """An upload, if it is open."""
        return self._uploads.get(upload_id)

    def begin(self, upload: Upload) -> Upload:
        """Open an upload."""
        return self._uploads.put(upload)

    def in_bucket(self, bucket: str) -> list[Upload]:
        """The open uploads of a bucket."""
        return [upload for upload in self._uploads.scan() if upload.bucket == bucket]

    def move(self, bucket: str, renamed: str) -> None:
        """Give the open uploads of a bucket its new name."""
        for upload in self.in_bucket(bucket):
            self._uploads.put(upload.model_copy(update={"bucket": renamed}))

    def add_part(self, upload: Upload, number: int, blob: WrittenBlob) -> Part:
        """Store a part; it replaces an earlier one with the same number."""
        earlier = self._parts.get(_part_key(upload.upload_id, number))
        part = self._parts.put(
            Part(
                upload_id=upload.upload_id,
                part_number=number,
                blob=blob.name,
                size=blob.size,
                md5=blob.md5,
            )
        )
        if earlier is not None:
            self._blobs.delete(earlier.blob)
        return part

    def parts(self, upload: Upload) -> list[Part]:
        """The parts of an upload, by number."""
        return list(self._parts.below(upload.upload_id + _SEPARATOR))

    def end(self, upload: Upload) -> None:
        """Forget an upload and its parts."""
        for part in self.parts(upload):
            self._parts.delete(_part_key(part.upload_id, part.part_number))
            self._blobs.delete(part.blob)
        self._uploads.delete(upload.upload_id)

    def blob_names(self) -> Iterator[str]:
        """The blobs that parts are made of."""
        return (part.blob for part in self._parts.scan())


def _key(bucket: str, name: str) -> str:
    return f"{bucket}{_SEPARATOR}{name}"


def _part_key(upload_id: str, number: int) -> str:
    return f"{upload_id}{_SEPARATOR}{number:0{_PART_DIGITS}}"
