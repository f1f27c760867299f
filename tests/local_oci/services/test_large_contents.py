"""Large bodies, and contents that are several files."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import signal
import socket
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import oci
import pytest
import requests

from local_oci.home import Home
from local_oci.storage.blobs import Blobs
from tests.local_oci.support import LocalCloud, Sdk, ds, refusal, wait_until

NAMESPACE = "localoci"
os_models = oci.object_storage.models
LARGE = 5_000_011


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


@pytest.fixture
def storage(sdk: Sdk):
    return sdk.object_storage


@pytest.fixture
def bucket(sdk: Sdk, storage) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    details = os_models.CreateBucketDetails(name=name, compartment_id=sdk.compartment)
    storage.create_bucket(NAMESPACE, details)
    return name


# --- large bodies -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) + 1, (2 << 20) - 4096, LARGE])
def test_a_large_body_is_stored_whole(storage, bucket: str, size: int) -> None:
    content = os.urandom(size)
    put = storage.put_object(NAMESPACE, bucket, "large", content, content_md5=_md5(content))
    assert put.headers["opc-content-md5"] == _md5(content)
    assert storage.get_object(NAMESPACE, bucket, "large").data.content == content


def test_requests_go_on_after_a_large_body(storage, bucket: str) -> None:
    for number in range(3):
        storage.put_object(NAMESPACE, bucket, f"{number}", os.urandom(LARGE))
        assert storage.head_object(NAMESPACE, bucket, f"{number}").status == 200


def test_a_large_body_that_differs_from_its_md5_is_refused(storage, bucket: str) -> None:
    def call():
        return storage.put_object(
            NAMESPACE, bucket, "large", os.urandom(LARGE), content_md5=_md5(b"other")
        )

    assert refusal(call) == (400, "UnmatchedContentMD5")
    assert refusal(lambda: storage.head_object(NAMESPACE, bucket, "large"))[0] == 404


class Stalled:
    """A signed upload whose body stops in the middle."""

    def __init__(self, sdk: Sdk, bucket: str, sent: int) -> None:
        endpoint = urlsplit(sdk.cloud.endpoint)
        url = f"{sdk.cloud.endpoint}/n/{NAMESPACE}/b/{bucket}/o/stalled"
        request = requests.Request("PUT", url, headers={"content-length": str(LARGE)}).prepare()
        request.body = io.BytesIO()  # the SDK's signer leaves a stream's bytes alone
        sdk.signer.do_request_sign(request, enforce_content_headers=False)
        head = [f"PUT {request.path_url} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in request.headers.items()]
        self.connection = socket.create_connection((endpoint.hostname, endpoint.port))
        lines = "\r\n".join(line for line in head) + "\r\n\r\n"
        self.connection.sendall(lines.encode() + bytes(sent))


def _arriving(cloud: LocalCloud) -> list[str]:
    return os.listdir(cloud.directory / "uploads")


@pytest.mark.parametrize("sent", [0, 100, 3_000_000])
def test_a_client_that_goes_away_in_a_large_body_leaves_nothing(
    sdk: Sdk, shared_cloud: LocalCloud, storage, bucket: str, sent: int
) -> None:
    upload = Stalled(sdk, bucket, sent)
    wait_until(lambda: _arriving(shared_cloud))
    upload.connection.close()
    wait_until(lambda: not _arriving(shared_cloud))
    assert refusal(lambda: storage.head_object(NAMESPACE, bucket, "stalled"))[0] == 404


def test_a_stalled_body_keeps_nobody_from_stopping_the_cloud(
    new_cloud: Callable[..., LocalCloud],
) -> None:
    cloud = new_cloud()
    sdk = Sdk(cloud)
    details = os_models.CreateBucketDetails(name="b", compartment_id=sdk.compartment)
    sdk.object_storage.create_bucket(NAMESPACE, details)
    uploads = [Stalled(sdk, "b", 2_000_000) for _ in range(10)]
    wait_until(lambda: len(_arriving(cloud)) == len(uploads))
    assert sdk.object_storage.get_namespace().status == 200
    began = time.monotonic()
    cloud.signal(signal.SIGTERM)
    assert time.monotonic() - began < 10


def test_memory_is_bounded_whatever_the_size(new_cloud: Callable[..., LocalCloud]) -> None:
    cloud = new_cloud()
    sdk = Sdk(cloud)
    details = os_models.CreateBucketDetails(name="b", compartment_id=sdk.compartment)
    sdk.object_storage.create_bucket(NAMESPACE, details)
    before = _peak_bytes(cloud)
    content = os.urandom(96 << 20)
    sdk.object_storage.put_object(NAMESPACE, "b", "large", content)
    got = sdk.object_storage.get_object(NAMESPACE, "b", "large").data.content
    assert _md5(got) == _md5(content)
    assert _peak_bytes(cloud) - before < 32 << 20


def _peak_bytes(cloud: LocalCloud) -> int:
    """The most memory that the cloud's process has had."""
    process = (cloud.directory / "lock").read_text()
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) << 10


# --- contents in several files ------------------------------------------------------------------


def _put_in_parts(storage, bucket: str, content: bytes, part: int) -> None:
    manager = oci.object_storage.UploadManager(storage, allow_parallel_uploads=True)
    manager.upload_stream(NAMESPACE, bucket, "o", io.BytesIO(content), part_size=part)


def test_ranges_go_across_parts(storage, bucket: str) -> None:
    content, draw = os.urandom(1_000_000), random.Random(1)
    _put_in_parts(storage, bucket, content, 70_001)
    assert storage.get_object(NAMESPACE, bucket, "o").data.content == content
    for _ in range(30):
        first = draw.randrange(len(content))
        last = draw.randrange(first, len(content))
        got = storage.get_object(NAMESPACE, bucket, "o", range=f"bytes={first}-{last}")
        assert got.data.content == content[first : last + 1]


def test_parts_become_an_object_without_being_copied(
    shared_cloud: LocalCloud, storage, bucket: str
) -> None:
    upload = storage.create_multipart_upload(
        NAMESPACE, bucket, os_models.CreateMultipartUploadDetails(object="o")
    ).data.upload_id
    etags = [
        storage.upload_part(NAMESPACE, bucket, "o", upload, number, os.urandom(4096)).headers
        for number in (1, 2)
    ]
    before = _inodes(shared_cloud)
    parts = [
        os_models.CommitMultipartUploadPartDetails(part_num=number, etag=headers["etag"])
        for number, headers in enumerate(etags, start=1)
    ]
    details = os_models.CommitMultipartUploadDetails(parts_to_commit=parts)
    storage.commit_multipart_upload(NAMESPACE, bucket, "o", upload, details)
    assert _inodes(shared_cloud) <= before


def _inodes(cloud: LocalCloud) -> set[int]:
    paths = (cloud.directory / "blobs").rglob("*")
    return {path.stat().st_ino for path in paths if path.is_file()}


def _export(sdk: Sdk, model: str, bucket: str):
    details = ds.ExportModelArtifactDetails(
        artifact_export_details=ds.ArtifactExportDetailsObjectStorage(
            namespace=NAMESPACE, source_bucket=bucket, source_object_name="o", source_region="local"
        )
    )
    details.artifact_export_details.source_region = sdk.config["region"]
    answer = sdk.data_science.export_model_artifact(model, details)
    return sdk.finished(answer.headers["opc-work-request-id"])


def _empty_model(sdk: Sdk) -> str:
    details = ds.CreateModelDetails(compartment_id=sdk.compartment, project_id=sdk.project())
    return str(sdk.data_science.create_model(details).data.id)


def test_an_artifact_outlives_the_object_that_it_was_copied_from(
    sdk: Sdk, storage, bucket: str
) -> None:
    content, model = os.urandom(500_000), _empty_model(sdk)
    _put_in_parts(storage, bucket, content, 100_000)
    assert _export(sdk, model, bucket).status == "SUCCEEDED"
    storage.delete_object(NAMESPACE, bucket, "o")
    assert sdk.data_science.get_model_artifact_content(model).data.content == content
    sdk.data_science.delete_model(model)


def test_the_same_object_may_be_copied_again_and_no_other(sdk: Sdk, storage, bucket: str) -> None:
    content, model = os.urandom(500_000), _empty_model(sdk)
    for part in (100_000, 100_000, 30_000):
        _put_in_parts(storage, bucket, content, part)
        assert _export(sdk, model, bucket).status == "SUCCEEDED"
    _put_in_parts(storage, bucket, content[:-1] + bytes([content[-1] ^ 1]), 100_000)
    assert _export(sdk, model, bucket).status == "FAILED"
    assert sdk.data_science.get_model_artifact_content(model).data.content == content


def test_an_artifact_in_several_files_is_deployed(sdk: Sdk, storage, bucket: str) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("model_repository/echo/config.pbtxt", 'name: "echo"\n')
        package.writestr("model_repository/echo/weights", os.urandom(300_000))
    model = _empty_model(sdk)
    _put_in_parts(storage, bucket, archive.getvalue(), 50_000)
    assert _export(sdk, model, bucket).status == "SUCCEEDED"
    deployment = sdk.deploy(model)
    assert sdk.post(deployment.id).status_code == 200
    sdk.delete(deployment.id)


@pytest.mark.parametrize("sizes", [[5], [3, 4], [1, 0, 2, 10]])
def test_joined_blobs_are_read_as_one(tmp_path: Path, sizes: list[int]) -> None:
    home = Home(tmp_path)
    home.prepare()
    blobs, names, contents = Blobs(home), [], [os.urandom(size) for size in sizes]
    for content in contents:
        writer = blobs.writer()
        writer.write(content)
        names.append(writer.finish().name)
    joined = blobs.join(names)
    for name in names:
        blobs.delete(name)
    expected = b"".join(contents)
    assert joined.size == len(expected)
    with blobs.open(joined.name) as file:
        assert file.read() == expected
        for start in range(len(expected) + 1):
            file.seek(start)
            assert (file.read(3), file.tell()) == (
                expected[start : start + 3],
                min(start + 3, len(expected)),
            )
        file.seek(-2, os.SEEK_END)
        assert file.read() == expected[-2:]


# --- limits of parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_a_part_number_that_no_upload_has_is_refused(storage, bucket: str, number: int) -> None:
    details = os_models.CreateMultipartUploadDetails(object="o")
    upload = storage.create_multipart_upload(NAMESPACE, bucket, details).data.upload_id
    assert refusal(lambda: storage.upload_part(NAMESPACE, bucket, "o", upload, number, b"x")) == (
        400,
        "InvalidParameter",
    )


def test_a_part_of_more_than_50_gib_is_refused_before_it_is_sent(
    sdk: Sdk, storage, bucket: str
) -> None:
    details = os_models.CreateMultipartUploadDetails(object="o")
    upload = storage.create_multipart_upload(NAMESPACE, bucket, details).data.upload_id

    class Endless:
        def __len__(self) -> int:
            return (50 << 30) + 1

        def read(self, size: int) -> bytes:
            return b""

    # Of its own, because what it does not send leaves its connection useless.
    client = sdk.client(oci.object_storage.ObjectStorageClient)
    assert refusal(
        lambda: client.upload_part(
            *(NAMESPACE, bucket, "o", upload, 1, Endless()), content_length=len(Endless())
        )
    ) == (400, "InvalidParameter")


def test_parts_and_uploads_come_in_pages(storage, bucket: str) -> None:
    details = os_models.CreateMultipartUploadDetails(object="o")
    uploads = {
        storage.create_multipart_upload(NAMESPACE, bucket, details).data.upload_id for _ in range(5)
    }
    upload = min(uploads)
    for number in range(1, 6):
        storage.upload_part(NAMESPACE, bucket, "o", upload, number, f"{number}".encode())
    parts = _pages(storage.list_multipart_upload_parts, NAMESPACE, bucket, "o", upload)
    assert [[part.part_number for part in page] for page in parts] == [[1, 2], [3, 4], [5]]
    assert parts[0][1].md5 == _md5(b"2")
    assert parts[0][1].size == 1
    found = _pages(storage.list_multipart_uploads, NAMESPACE, bucket)
    assert [len(page) for page in found] == [2, 2, 1]
    assert {upload.upload_id for page in found for upload in page} == uploads


def _pages(operation, *arguments) -> list[list]:
    pages, page = [], None
    while True:
        answer = operation(*arguments, limit=2, **({"page": page} if page else {}))
        pages.append(answer.data)
        page = answer.next_page
        if not answer.has_next_page:
            return pages
