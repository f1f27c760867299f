"""Object Storage: buckets, objects, listings, uploads in parts."""

from __future__ import annotations

import base64
import hashlib
import io
import uuid
from pathlib import Path

import oci
import pytest
from crc32c import CRC32CHash

from tests.local_oci.support import refusal

os_models = oci.object_storage.models
NAMESPACE = "localoci"


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def _crc32c(content: bytes) -> str:
    return base64.b64encode(CRC32CHash(content).digest()).decode()


@pytest.fixture
def storage(sdk):
    return sdk.object_storage


@pytest.fixture
def bucket(sdk, storage) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    storage.create_bucket(
        NAMESPACE, os_models.CreateBucketDetails(name=name, compartment_id=sdk.compartment)
    )
    return name


# --- namespace and buckets --------------------------------------------------------------------


def test_a_bucket_is_updated_and_keeps_its_objects_under_a_new_name(sdk, storage, bucket) -> None:
    storage.put_object(NAMESPACE, bucket, "a/b", b"content")
    details = os_models.UpdateBucketDetails(metadata={"a": "b"}, freeform_tags={"c": "d"})
    changed = storage.update_bucket(NAMESPACE, bucket, details).data
    assert (changed.metadata, changed.freeform_tags) == ({"a": "b"}, {"c": "d"})
    renamed = f"{bucket}-renamed"
    storage.update_bucket(NAMESPACE, bucket, os_models.UpdateBucketDetails(name=renamed))
    assert refusal(lambda: storage.get_bucket(NAMESPACE, bucket)) == (404, "BucketNotFound")
    assert storage.get_object(NAMESPACE, renamed, "a/b").data.content == b"content"
    assert storage.get_bucket(NAMESPACE, renamed).data.metadata == {"a": "b"}
    other = os_models.CreateBucketDetails(name=bucket, compartment_id=sdk.compartment)
    storage.create_bucket(NAMESPACE, other)
    taken = os_models.UpdateBucketDetails(name=renamed)
    assert refusal(lambda: storage.update_bucket(NAMESPACE, bucket, taken)) == (
        409,
        "BucketAlreadyExists",
    )


def _copy(bucket: str, name: str, **changes) -> object:
    return os_models.CopyObjectDetails(
        **{
            "source_object_name": "a",
            "destination_region": "local_oci",
            "destination_namespace": NAMESPACE,
            "destination_bucket": bucket,
            "destination_object_name": name,
            **changes,
        }
    )


def test_an_object_is_copied_with_its_checksum_and_metadata(storage, bucket) -> None:
    storage.put_object(NAMESPACE, bucket, "a", b"content", opc_meta={"k": "v"})
    answer = storage.copy_object(NAMESPACE, bucket, _copy(bucket, "b"))
    done = storage.get_work_request(answer.headers["opc-work-request-id"]).data
    assert (done.status, done.operation_type) == ("COMPLETED", "COPY_OBJECT")
    assert [each.action_type for each in done.resources] == ["READ", "WRITTEN"]
    copy, source = (storage.head_object(NAMESPACE, bucket, name).headers for name in "ba")
    assert copy["content-md5"] == source["content-md5"] == _md5(b"content")
    assert copy["opc-meta-k"] == "v"
    storage.delete_object(NAMESPACE, bucket, "a")
    assert storage.get_object(NAMESPACE, bucket, "b").data.content == b"content"


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"source_object_name": "none"}, (404, "ObjectNotFound")),
        ({"destination_bucket": "none"}, (404, "BucketNotFound")),
        ({"destination_region": "us-ashburn-1"}, (400, "InvalidParameter")),
        ({"destination_object_if_none_match_e_tag": "*"}, (412, "IfNoneMatchFailed")),
        ({"source_object_if_match_e_tag": "other"}, (412, "IfMatchFailed")),
    ],
    ids=["source", "bucket", "region", "present", "version"],
)
def test_a_copy_that_cannot_be_made_is_refused(storage, bucket, changes, refused) -> None:
    storage.put_object(NAMESPACE, bucket, "a", b"content")
    details = _copy(bucket, "a", **changes)
    assert refusal(lambda: storage.copy_object(NAMESPACE, bucket, details)) == refused


def test_an_object_is_renamed_over_another(storage, bucket) -> None:
    for name, content in (("a", b"first"), ("b", b"second")):
        storage.put_object(NAMESPACE, bucket, name, content)
    protected = os_models.RenameObjectDetails(
        source_name="a", new_name="b", new_obj_if_none_match_e_tag="*"
    )
    assert refusal(lambda: storage.rename_object(NAMESPACE, bucket, protected)) == (
        412,
        "IfNoneMatchFailed",
    )
    details = os_models.RenameObjectDetails(source_name="a", new_name="b")
    answer = storage.rename_object(NAMESPACE, bucket, details)
    assert answer.headers["etag"] == storage.head_object(NAMESPACE, bucket, "b").headers["etag"]
    assert storage.get_object(NAMESPACE, bucket, "b").data.content == b"first"
    assert refusal(lambda: storage.rename_object(NAMESPACE, bucket, details)) == (
        404,
        "ObjectNotFound",
    )


def test_the_namespace_is_a_name(storage) -> None:
    assert storage.get_namespace().data == NAMESPACE


def test_a_namespace_of_others_is_not_found(storage) -> None:
    def call():
        return storage.get_bucket("elsewhere", "b")

    assert refusal(call) == (404, "NamespaceNotFound")


def test_a_bucket_is_what_it_was_created_as(sdk, storage, bucket: str) -> None:
    read = storage.get_bucket(NAMESPACE, bucket).data
    assert (read.name, read.namespace, read.storage_tier) == (bucket, NAMESPACE, "Standard")
    assert read.public_access_type == "NoPublicAccess"
    listed = storage.list_buckets(NAMESPACE, sdk.compartment).data
    assert bucket in [found.name for found in listed]
    assert storage.head_bucket(NAMESPACE, bucket).status == 200


def test_a_bucket_that_exists_is_not_created_again(sdk, storage, bucket: str) -> None:
    details = os_models.CreateBucketDetails(name=bucket, compartment_id=sdk.compartment)
    assert refusal(lambda: storage.create_bucket(NAMESPACE, details)) == (
        409,
        "BucketAlreadyExists",
    )


def test_only_an_empty_bucket_is_deleted(storage, bucket: str) -> None:
    storage.put_object(NAMESPACE, bucket, "a", b"")
    assert refusal(lambda: storage.delete_bucket(NAMESPACE, bucket)) == (409, "BucketNotEmpty")
    storage.delete_object(NAMESPACE, bucket, "a")
    storage.delete_bucket(NAMESPACE, bucket)
    assert refusal(lambda: storage.get_bucket(NAMESPACE, bucket)) == (404, "BucketNotFound")


# --- objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "models/a b/ü%2F.zip", "x?y=z#w"])
def test_an_object_comes_back_as_it_was_put(storage, bucket: str, name: str) -> None:
    put = storage.put_object(
        NAMESPACE,
        bucket,
        name,
        b"content",
        content_type="application/zip",
        opc_meta={"digest": "sha256:1"},
    )
    assert put.headers["opc-content-md5"] == _md5(b"content")
    got = storage.get_object(NAMESPACE, bucket, name)
    assert got.data.content == b"content"
    assert got.headers["content-type"] == "application/zip"
    assert got.headers["opc-meta-digest"] == "sha256:1"
    assert got.headers["etag"] == put.headers["etag"]
    head = storage.head_object(NAMESPACE, bucket, name)
    assert head.headers["content-length"] == "7"


def test_an_empty_object_is_an_object(storage, bucket: str) -> None:
    storage.put_object(NAMESPACE, bucket, "empty", b"")
    assert storage.get_object(NAMESPACE, bucket, "empty").data.content == b""


def test_a_stream_without_a_known_end_is_stored_whole(storage, bucket: str) -> None:
    content = bytes(range(256)) * 30_000
    storage.put_object(NAMESPACE, bucket, "large", io.BytesIO(content))
    assert storage.get_object(NAMESPACE, bucket, "large").data.content == content


def test_ranges_are_sent_alone(storage, bucket: str) -> None:
    storage.put_object(NAMESPACE, bucket, "a", b"0123456789")
    for asked, content in (("bytes=0-0", b"0"), ("bytes=7-", b"789"), ("bytes=-2", b"89")):
        got = storage.get_object(NAMESPACE, bucket, "a", range=asked)
        assert (got.status, got.data.content) == (206, content)


def test_a_body_that_differs_from_its_md5_is_refused(storage, bucket: str) -> None:
    def call():
        return storage.put_object(NAMESPACE, bucket, "a", b"content", content_md5=_md5(b"other"))

    assert refusal(call) == (400, "UnmatchedContentMD5")
    assert refusal(lambda: storage.head_object(NAMESPACE, bucket, "a"))[0] == 404


@pytest.mark.parametrize("size", [7, 3_000_000])
def test_a_body_that_differs_from_its_crc32c_is_refused(storage, bucket: str, size: int) -> None:
    content = bytes(range(7)) * (size // 7)

    def put(checksum, **named):
        return storage.put_object(
            NAMESPACE, bucket, "a", content, opc_content_crc32c=checksum, **named
        )

    chosen = {"opc_checksum_algorithm": "CRC32C"}
    assert refusal(lambda: put(_crc32c(b"other"), **chosen)) == (400, "UnmatchedContentCRC32C")
    assert refusal(lambda: storage.head_object(NAMESPACE, bucket, "a"))[0] == 404
    stored = put(_crc32c(content), **chosen)
    assert stored.headers["opc-content-crc32c"] == _crc32c(content)
    # Oracle: "Applicable only if CRC32C is specified in the opc-checksum-algorithm request header."
    assert "opc-content-crc32c" not in put(_crc32c(b"other")).headers


def test_the_crc32c_is_written_as_oracle_writes_it(storage, bucket: str) -> None:
    # RFC 3720, B.4: thirty-two bytes of zeros; Base64 of its four bytes, the highest first.
    stored = storage.put_object(NAMESPACE, bucket, "a", bytes(32), opc_checksum_algorithm="CRC32C")
    assert (
        stored.headers["opc-content-crc32c"] == base64.b64encode(bytes.fromhex("8a9136aa")).decode()
    )


def test_if_none_match_protects_an_object_that_is_there(storage, bucket: str) -> None:
    def put():
        return storage.put_object(NAMESPACE, bucket, "a", b"1", if_none_match="*")

    put()
    assert refusal(put) == (412, "IfNoneMatchFailed")


def test_if_match_protects_an_object_that_changed(storage, bucket: str) -> None:
    etag = storage.put_object(NAMESPACE, bucket, "a", b"1").headers["etag"]

    def put():
        return storage.put_object(NAMESPACE, bucket, "a", b"2", if_match=etag)

    put()
    assert refusal(put) == (412, "IfMatchFailed")

    def delete():
        return storage.delete_object(NAMESPACE, bucket, "a", if_match=etag)

    assert refusal(delete) == (412, "IfMatchFailed")


def test_what_is_not_there_is_named(storage, bucket: str) -> None:
    assert refusal(lambda: storage.get_object(NAMESPACE, bucket, "no")) == (404, "ObjectNotFound")
    assert refusal(lambda: storage.get_object(NAMESPACE, "no", "no")) == (404, "BucketNotFound")


# --- listings ---------------------------------------------------------------------------------


@pytest.fixture
def tree(storage, bucket: str) -> str:
    for name in ("a", "b/1", "b/2", "b/c/3", "d"):
        storage.put_object(NAMESPACE, bucket, name, name.encode())
    return bucket


def _names(listing) -> list[str]:
    return [found.name for found in listing.data.objects]


def test_objects_are_listed_by_name_and_prefix(storage, tree: str) -> None:
    assert _names(storage.list_objects(NAMESPACE, tree)) == ["a", "b/1", "b/2", "b/c/3", "d"]
    assert _names(storage.list_objects(NAMESPACE, tree, prefix="b/")) == ["b/1", "b/2", "b/c/3"]
    assert _names(storage.list_objects(NAMESPACE, tree, start="b/2", end="d")) == ["b/2", "b/c/3"]
    assert _names(storage.list_objects(NAMESPACE, tree, start_after="b/2")) == ["b/c/3", "d"]


def test_a_delimiter_folds_folders(storage, tree: str) -> None:
    top = storage.list_objects(NAMESPACE, tree, delimiter="/")
    assert (_names(top), top.data.prefixes) == (["a", "d"], ["b/"])
    below = storage.list_objects(NAMESPACE, tree, prefix="b/", delimiter="/")
    assert (_names(below), below.data.prefixes) == (["b/1", "b/2"], ["b/c/"])


def test_a_listing_goes_on_where_it_says(storage, tree: str) -> None:
    names, start = [], None
    while True:
        page = storage.list_objects(NAMESPACE, tree, limit=2, **({"start": start} if start else {}))
        assert len(page.data.objects) <= 2
        names += _names(page)
        start = page.data.next_start_with
        if start is None:
            break
    assert names == ["a", "b/1", "b/2", "b/c/3", "d"]


def test_fields_are_given_when_asked_for(storage, tree: str) -> None:
    plain = storage.list_objects(NAMESPACE, tree, prefix="a").data.objects[0]
    assert (plain.size, plain.md5) == (None, None)
    full = storage.list_objects(
        NAMESPACE, tree, prefix="a", fields="size,md5,etag,timeCreated,storageTier"
    ).data.objects[0]
    assert (full.size, full.md5, full.storage_tier) == (1, _md5(b"a"), "Standard")


# --- uploads in parts -------------------------------------------------------------------------


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(bytes(range(251)) * 12_000)
    return path


def test_the_upload_manager_uploads_a_file_in_parts(storage, bucket: str, large_file: Path) -> None:
    manager = oci.object_storage.UploadManager(storage, allow_parallel_uploads=True)
    manager.upload_file(
        NAMESPACE, bucket, "large", str(large_file), part_size=300_000, metadata={"digest": "1"}
    )
    got = storage.get_object(NAMESPACE, bucket, "large")
    assert got.data.content == large_file.read_bytes()
    assert got.headers["opc-multipart-md5"].endswith("-11")
    assert got.headers["opc-meta-digest"] == "1"
    assert storage.list_multipart_uploads(NAMESPACE, bucket).data == []


def test_the_upload_manager_uploads_a_stream(storage, bucket: str, large_file: Path) -> None:
    manager = oci.object_storage.UploadManager(storage)
    with large_file.open("rb") as stream:
        manager.upload_stream(NAMESPACE, bucket, "large", stream, part_size=500_000)
    assert storage.get_object(NAMESPACE, bucket, "large").data.content == large_file.read_bytes()


def test_an_upload_goes_on_after_a_part_was_cut_off(
    storage, shared_cloud, bucket: str, large_file: Path
) -> None:
    shared_cloud.fault(
        kind="cut_request", operation="upload_part", after_bytes=1000, skip=2, times=50
    )
    manager = oci.object_storage.UploadManager(storage, allow_parallel_uploads=False)
    with pytest.raises(oci.exceptions.RequestException):
        manager.upload_file(NAMESPACE, bucket, "large", str(large_file), part_size=1_000_000)
    upload = storage.list_multipart_uploads(NAMESPACE, bucket).data[0].upload_id
    present = storage.list_multipart_upload_parts(NAMESPACE, bucket, "large", upload).data
    assert [part.part_number for part in present] == [1, 2]
    shared_cloud.forget_faults()
    manager.resume_upload_file(
        NAMESPACE, bucket, "large", str(large_file), upload, part_size=1_000_000
    )
    assert storage.get_object(NAMESPACE, bucket, "large").data.content == large_file.read_bytes()


def _begin(storage, bucket: str) -> str:
    details = os_models.CreateMultipartUploadDetails(object="o")
    return storage.create_multipart_upload(NAMESPACE, bucket, details).data.upload_id


def _commit(storage, bucket: str, upload: str, parts, exclude=None):
    details = os_models.CommitMultipartUploadDetails(
        parts_to_commit=[
            os_models.CommitMultipartUploadPartDetails(part_num=number, etag=etag)
            for number, etag in parts
        ],
        parts_to_exclude=exclude,
    )
    return storage.commit_multipart_upload(NAMESPACE, bucket, "o", upload, details)


def test_parts_may_come_in_any_order_and_again(storage, bucket: str) -> None:
    upload = _begin(storage, bucket)

    def part(number, content):
        return storage.upload_part(NAMESPACE, bucket, "o", upload, number, content).headers["etag"]

    second, _, first = part(2, b"two"), part(1, b"wrong"), part(1, b"one")
    _commit(storage, bucket, upload, [(2, second), (1, first)])
    assert storage.get_object(NAMESPACE, bucket, "o").data.content == b"onetwo"


def test_a_commit_of_a_part_that_is_not_there_is_refused(storage, bucket: str) -> None:
    upload = _begin(storage, bucket)
    etag = storage.upload_part(NAMESPACE, bucket, "o", upload, 1, b"one").headers["etag"]

    def commit(parts, exclude=None):
        return _commit(storage, bucket, upload, parts, exclude)

    assert refusal(lambda: commit([(1, "other")])) == (400, "InvalidUploadPart")
    assert refusal(lambda: commit([(1, etag), (2, etag)])) == (400, "InvalidUploadPart")
    assert refusal(lambda: commit([], [1])) == (400, "InvalidUploadPart")
    commit([(1, etag)])


def test_a_part_that_differs_from_its_crc32c_is_refused(storage, bucket: str) -> None:
    upload = _begin(storage, bucket)

    def part(checksum):
        return storage.upload_part(
            *(NAMESPACE, bucket, "o", upload, 1, b"one"),
            opc_checksum_algorithm="CRC32C",
            opc_content_crc32c=checksum,
        )

    assert refusal(lambda: part(_crc32c(b"other"))) == (400, "UnmatchedContentCRC32C")
    assert storage.list_multipart_upload_parts(NAMESPACE, bucket, "o", upload).data == []
    assert part(_crc32c(b"one")).headers["opc-content-crc32c"] == _crc32c(b"one")


def test_an_aborted_upload_is_gone(storage, bucket: str) -> None:
    upload = _begin(storage, bucket)
    storage.abort_multipart_upload(NAMESPACE, bucket, "o", upload)

    def call():
        return storage.upload_part(NAMESPACE, bucket, "o", upload, 1, b"x")

    assert refusal(call) == (404, "NoSuchUpload")
    assert storage.list_multipart_uploads(NAMESPACE, bucket).data == []
