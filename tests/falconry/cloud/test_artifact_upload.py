"""Artifacts on their way into the catalog of a running local_oci, undisturbed and disturbed."""

import contextlib
import dataclasses
import os
import random
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import oci
import pytest
from oci.data_science import DataScienceClient
from oci.data_science.models import CreateModelDetails
from oci.object_storage import ObjectStorageClient
from oci.object_storage.models import (
    CommitMultipartUploadDetails,
    CommitMultipartUploadPartDetails,
    CreateMultipartUploadDetails,
)

from falconry.artifact.contents import describe
from falconry.artifact.view import ArtifactView
from falconry.cloud import session as session_module
from falconry.cloud.session import Session
from falconry.deployment import multipart, transfer
from falconry.deployment import upload as artifact_upload
from falconry.deployment.catalog import Catalog
from falconry.deployment.upload import upload_artifact
from falconry.digests import DigestCache
from falconry.errors import CloudError, RepositoryError
from falconry.settings import UploadSettings
from tests.falconry.cloud.conftest import ROOT

NAMESPACE = "localoci"
PART_BYTES = 100_000
WEIGHTS = 750_000


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch, cloud):
    """Many parts, short pauses and timeouts; and no fault is left behind."""
    monkeypatch.setattr(multipart, "_PART_BYTES", PART_BYTES)
    quick = dataclasses.replace(session_module._RETRIES, first_pause_s=0.02, budget_s=20.0)
    monkeypatch.setattr(session_module, "_RETRIES", quick)
    monkeypatch.setattr(artifact_upload, "_EXPORT_TIMEOUT_S", 2.0)
    monkeypatch.setattr(session_module, "_TIMEOUT_S", (5.0, 1.0))
    yield
    cloud.forget_faults()


@pytest.fixture
def short_retries(monkeypatch, settings):
    """A context with a session of its own, in which what lasts is given up soon."""

    @contextlib.contextmanager
    def short_retries():
        with monkeypatch.context() as patch:
            policy = dataclasses.replace(session_module._RETRIES, budget_s=0.2)
            patch.setattr(session_module, "_RETRIES", policy)
            patch.setattr(artifact_upload, "_EXPORT_TIMEOUT_S", 0.3)
            yield Session(settings.cloud)

    return short_retries


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "repository"
    (root / "falcon" / "1").mkdir(parents=True)
    (root / "falcon" / "config.pbtxt").write_text('name: "falcon"\n')
    (root / "falcon" / "1" / "weights").write_bytes(os.urandom(WEIGHTS))
    return root


def silent(step, fraction):
    pass


def open_view(repository):
    digests = DigestCache(repository.parent / "digests.json")
    contents = describe(repository, digests, silent)
    return ArtifactView.open(repository, contents, digests)


@pytest.fixture
def view(repository):
    return open_view(repository)


@pytest.fixture
def content(view):
    return view.read(0, view.size)


@pytest.fixture
def staged():
    """Settings with a bucket of the test's own, where every artifact is staged."""
    return UploadSettings(bucket=f"staging-{uuid.uuid4().hex[:8]}", staged_above_mib=0)


@pytest.fixture
def catalog(session):
    return session.client(DataScienceClient)


@pytest.fixture
def storage(session):
    return session.client(ObjectStorageClient)


@pytest.fixture
def make_model(session, catalog):
    project = Catalog(session).project()

    def make():
        details = CreateModelDetails(compartment_id=session.compartment_id, project_id=project)
        return catalog.create_model(details).data.id

    return make


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def requests_of(cloud):
    """Counts the requests of an operation, by a fault that does nothing."""

    def watch(operation):
        cloud.fault(kind="delay", seconds=0, operation=operation, times=1000)

        def count():
            faults = cloud.local("GET", "faults").json()
            left = [fault["times"] for fault in faults if fault["operation"] == operation]
            return 1000 - left[-1]

        return count

    return watch


def stored(catalog, model):
    """The artifact in the catalog, or None."""
    try:
        return catalog.get_model_artifact_content(model).data.content
    except oci.exceptions.ServiceError as error:
        assert error.status == 404
        return None


def left_behind(storage, settings):
    """Names of objects and open uploads in the bucket."""
    objects = storage.list_objects(NAMESPACE, settings.bucket).data.objects
    uploads = storage.list_multipart_uploads(NAMESPACE, settings.bucket).data
    return [found.name for found in objects] + [upload.object for upload in uploads]


def clear_faults(cloud):
    cloud.forget_faults()


# --- undisturbed --------------------------------------------------------------------------------


def test_a_small_artifact_is_sent_by_itself(
    session, model, view, content, catalog, requests_of, staged
):
    direct, parts = requests_of("create_model_artifact"), requests_of("upload_part")
    upload_artifact(session, model, view, UploadSettings(), silent)
    assert stored(catalog, model) == content
    assert (direct(), parts()) == (1, 0)


def test_a_large_artifact_goes_by_a_bucket_which_is_empty_afterwards(
    session, model, view, content, catalog, storage, staged, requests_of
):
    direct, parts = requests_of("create_model_artifact"), requests_of("upload_part")
    upload_artifact(session, model, view, staged, silent)
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []
    assert (direct(), parts()) == (0, -(-view.size // PART_BYTES))


def test_an_artifact_as_large_as_the_limit_is_sent_by_itself(
    session, model, view, requests_of, staged
):
    (limit,) = [1]
    direct = requests_of("create_model_artifact")
    assert view.size < limit << 20
    at_limit = staged.model_copy(update={"staged_above_mib": limit})
    upload_artifact(session, model, view, at_limit, silent)
    assert direct() == 1


@pytest.mark.parametrize("above", [0, 2048])
def test_progress_ends_at_one_and_tells_rate_and_time_left(
    session, model, view, staged, above, monkeypatch
):
    monkeypatch.setattr(transfer, "_REPORT_INTERVAL_S", 0.0)
    said = []
    settings = staged.model_copy(update={"staged_above_mib": above, "megabytes_per_second": 2.0})
    upload_artifact(session, model, view, settings, lambda *words: said.append(words))
    sending = [words for words in said if words[0].startswith("uploading the artifact")]
    assert sending[0] == ("uploading the artifact", 0.0)
    assert sending[-1][1] == 1.0
    fractions = [fraction for _, fraction in sending]
    assert fractions == sorted(fractions)
    assert any("MB/s" in step and "s left" in step for step, _ in sending)


def test_the_artifacts_digest_is_in_the_staged_objects_name(
    session, model, view, staged, storage, cloud
):
    cloud.fault(kind="status", operation="commit_multipart_upload", status=400, times=50)
    with pytest.raises(CloudError):
        upload_artifact(session, model, view, staged, silent)
    (name,) = set(left_behind(storage, staged))
    assert view.digest.removeprefix("sha256:") in name


# --- faults -------------------------------------------------------------------------------------

STAGED_OPERATIONS = [
    "get_namespace",
    "get_bucket",
    "create_bucket",
    "head_object",
    "get_object",
    "list_multipart_uploads",
    "create_multipart_upload",
    "list_multipart_upload_parts",
    "upload_part",
    "commit_multipart_upload",
    "export_model_artifact",
    "get_work_request",
    "list_work_request_logs",
    "get_model_artifact_content",
    "delete_object",
    "list_objects",
]
FAULTS = {
    "429": {"kind": "status", "status": 429, "code": "TooManyRequests"},
    "503": {"kind": "status", "status": 503, "code": "ServiceUnavailable"},
    "request-cut": {"kind": "cut_request", "afterBytes": 20},
    "answer-cut": {"kind": "cut_response", "afterBytes": 0},
    "timeout": {"kind": "delay", "seconds": 1.5},
}


def every_fault():
    """Every fault at every call; all but two faults a call are left to `-m long`.

    What is tried again after each of them: test_retries.py.
    """
    for number, operation in enumerate(STAGED_OPERATIONS):
        for turn, fault in enumerate(FAULTS):
            usual = (turn - number) % len(FAULTS) < 2 or operation == "upload_part"
            yield pytest.param(operation, fault, marks=() if usual else pytest.mark.long)


@pytest.mark.parametrize(("operation", "fault"), [*every_fault()])
def test_one_fault_at_any_call_is_outlasted(
    session, model, view, content, catalog, storage, staged, cloud, operation, fault
):
    cloud.fault(operation=operation, times=1, **FAULTS[fault])
    upload_artifact(session, model, view, staged, silent)
    clear_faults(cloud)
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_of_a_small_artifact_is_outlasted(
    session, model, view, content, catalog, cloud, fault
):
    cloud.fault(operation="create_model_artifact", times=1, **FAULTS[fault])
    upload_artifact(session, model, view, UploadSettings(), silent)
    assert stored(catalog, model) == content


@pytest.mark.parametrize("fault", ["503"])
@pytest.mark.parametrize("operation", STAGED_OPERATIONS)
def test_a_fault_that_stays_is_one_error_and_never_a_wrong_artifact(
    session,
    make_model,
    view,
    content,
    catalog,
    storage,
    staged,
    cloud,
    short_retries,
    operation,
    fault,
):
    first = make_model()
    cloud.fault(operation=operation, times=1000, **FAULTS[fault])
    with short_retries() as impatient:
        try:
            upload_artifact(impatient, first, view, staged, silent)
        except CloudError as error:
            assert "\n" not in str(error)
            assert error.problem
    clear_faults(cloud)
    assert stored(catalog, first) in (None, content)
    second = make_model()
    upload_artifact(session, second, view, staged, silent)
    assert stored(catalog, second) == content
    assert left_behind(storage, staged) == []


def test_a_fault_that_stays_tells_what_was_attempted_and_that_the_rest_can_follow(
    model, view, staged, cloud, short_retries
):
    cloud.fault(operation="upload_part", times=1000, skip=3, **FAULTS["503"])
    with short_retries() as session, pytest.raises(CloudError) as failure:
        upload_artifact(session, model, view, staged, silent)
    assert "uploading the artifact was refused: 503" in str(failure.value)
    assert "run again to send what is missing" in str(failure.value)


COPIES_THAT_FAIL = {
    "refused": {"kind": "status", "operation": "export_model_artifact", "status": 400},
    "no-policy": {"kind": "policy", "operation": "export_model_artifact"},
    "unreachable": {"kind": "cut_response", "operation": "export_model_artifact"},
    "outcome-unknown": {"kind": "status", "operation": "get_work_request", "status": 503},
    "not-looked-at": {"kind": "policy", "path": "*/artifact/content"},
}


@pytest.fixture
def fail_to_copy(make_model, view, staged, cloud, short_retries):
    """Uploads the artifact to its bucket, from where the catalog does not take it; the error."""

    def fail(fault):
        cloud.fault(times=1000, **COPIES_THAT_FAIL[fault])
        with short_retries() as session, pytest.raises(CloudError) as failure:
            upload_artifact(session, make_model(), view, staged, silent)
        clear_faults(cloud)
        return failure.value

    return fail


@pytest.mark.parametrize("fault", COPIES_THAT_FAIL)
def test_after_a_copy_that_fails_the_next_run_sends_nothing_again(
    settings,
    fail_to_copy,
    make_model,
    view,
    content,
    staged,
    storage,
    catalog,
    requests_of,
    fault,
):
    failure = fail_to_copy(fault)
    (kept,) = left_behind(storage, staged)
    assert view.digest.removeprefix("sha256:") in kept
    told = f"which sends nothing a second time: {staged.bucket}/{kept} is kept"
    assert told in failure.remedy
    sent, second = requests_of("upload_part"), make_model()
    upload_artifact(Session(settings.cloud), second, view, staged, silent)
    assert sent() == 0
    assert stored(catalog, second) == content
    assert left_behind(storage, staged) == []


def test_a_copy_that_the_catalog_fails_is_told_with_its_reason_and_what_is_kept(
    session, model, make_model, view, content, staged, storage, catalog, requests_of
):
    catalog.create_model_artifact(model, b"another artifact")
    with pytest.raises(CloudError, match="artifacts are immutable") as failure:
        upload_artifact(session, model, view, staged, silent)
    assert "which sends nothing a second time" in str(failure.value)
    sent, second = requests_of("upload_part"), make_model()
    upload_artifact(session, second, view, staged, silent)
    assert sent() == 0
    assert stored(catalog, second) == content
    assert left_behind(storage, staged) == []


def test_what_a_failed_run_kept_is_sent_again_when_the_repository_has_changed(
    session, fail_to_copy, make_model, repository, staged, catalog
):
    fail_to_copy("refused")
    (repository / "falcon" / "1" / "weights").write_bytes(os.urandom(WEIGHTS))
    other, second = open_view(repository), make_model()
    upload_artifact(session, second, other, staged, silent)
    assert stored(catalog, second) == other.read(0, other.size)


def test_a_staged_artifact_with_other_bytes_of_the_same_size_is_sent_again(
    session, fail_to_copy, make_model, view, content, staged, storage, catalog
):
    fail_to_copy("refused")
    (kept,) = left_behind(storage, staged)
    storage.delete_object(NAMESPACE, staged.bucket, kept)
    details = CreateMultipartUploadDetails(object=kept)
    upload = storage.create_multipart_upload(NAMESPACE, staged.bucket, details).data
    part = storage.upload_part(
        NAMESPACE, staged.bucket, kept, upload.upload_id, 1, bytes(view.size)
    )
    wanted = CommitMultipartUploadPartDetails(part_num=1, etag=part.headers["etag"])
    storage.commit_multipart_upload(
        *(NAMESPACE, staged.bucket, kept, upload.upload_id),
        CommitMultipartUploadDetails(parts_to_commit=[wanted]),
    )
    second = make_model()
    upload_artifact(session, second, view, staged, silent)
    assert stored(catalog, second) == content
    assert left_behind(storage, staged) == []


def test_what_a_failed_run_kept_is_swept_away_when_nobody_came_for_it(
    session, fail_to_copy, make_model, repository, staged, storage, monkeypatch
):
    fail_to_copy("refused")
    (repository / "falcon" / "1" / "weights").write_bytes(os.urandom(WEIGHTS))
    other = open_view(repository)
    upload_artifact(session, make_model(), other, staged, silent)
    assert len(left_behind(storage, staged)) == 1
    monkeypatch.setattr(artifact_upload, "_LEFT_BEHIND_AFTER", -artifact_upload._LEFT_BEHIND_AFTER)
    upload_artifact(session, make_model(), other, staged, silent)
    assert left_behind(storage, staged) == []


def test_a_file_that_changes_is_an_error_of_its_own(
    session, model, view, repository, staged, catalog
):
    with (repository / "falcon" / "1" / "weights").open("ab") as stream:
        stream.write(b"x")
    for settings in (staged, UploadSettings()):
        with pytest.raises(RepositoryError, match="weights: changed while it was being packed"):
            upload_artifact(session, model, view, settings, silent)
    assert stored(catalog, model) is None


def test_a_part_that_the_service_stored_otherwise_is_noticed(
    session, model, view, staged, monkeypatch, catalog
):
    send = ObjectStorageClient.upload_part

    def damaged(self, *arguments, **named):
        answer = send(self, *arguments, **named)
        answer.headers["opc-content-crc32c"] = "AAAAAA=="
        return answer

    monkeypatch.setattr(ObjectStorageClient, "upload_part", damaged)
    with pytest.raises(CloudError, match="received other bytes than were sent"):
        upload_artifact(session, model, view, staged, silent)
    assert stored(catalog, model) is None


def test_an_object_that_was_committed_of_other_parts_is_removed(
    session, model, view, staged, storage, monkeypatch, catalog
):
    commit = ObjectStorageClient.commit_multipart_upload

    def damaged(self, *arguments, **named):
        answer = commit(self, *arguments, **named)
        answer.headers["opc-multipart-md5"] = "AAAAAAAAAAAAAAAAAAAAAA==-9"
        return answer

    monkeypatch.setattr(ObjectStorageClient, "commit_multipart_upload", damaged)
    with pytest.raises(CloudError, match="received other bytes than were sent"):
        upload_artifact(session, model, view, staged, silent)
    assert stored(catalog, model) is None
    assert left_behind(storage, staged) == []


def test_a_part_that_changes_on_its_way_is_refused_and_sent_again(
    session, model, view, content, staged, monkeypatch, catalog
):
    kind = oci.base_client.BaseClient
    send, damaged = kind.call_api, []

    def damages_the_first(self, *arguments, **named):
        if named["operation_name"] == "upload_part" and not damaged:
            damaged.append(True)
            named["body"] = bytes(len(named["body"]))
        return send(self, *arguments, **named)

    monkeypatch.setattr(kind, "call_api", damages_the_first)
    upload_artifact(session, model, view, staged, silent)
    assert damaged
    assert stored(catalog, model) == content


# --- going on -----------------------------------------------------------------------------------


def test_a_broken_upload_goes_on_from_another_machine_with_what_is_missing(
    session, settings, model, view, content, staged, repository, tmp_path, cloud, storage, catalog,
    requests_of,
):  # fmt: skip
    cloud.fault(operation="upload_part", kind="status", status=403, times=1000, skip=5)
    with pytest.raises(CloudError):
        upload_artifact(session, model, view, staged, silent)
    clear_faults(cloud)
    upload = storage.list_multipart_uploads(NAMESPACE, staged.bucket).data[0]
    there = storage.list_multipart_upload_parts(
        NAMESPACE, staged.bucket, upload.object, upload.upload_id
    ).data
    assert there
    elsewhere = open_view(shutil.copytree(repository, tmp_path / "elsewhere" / "r"))
    sent = requests_of("upload_part")
    upload_artifact(Session(settings.cloud), model, elsewhere, staged, silent)
    assert sent() == -(-view.size // PART_BYTES) - len(there)
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


def begin(session, storage, staged, view):
    """An upload of the artifact's name that somebody left behind."""
    artifact_upload.ensure_bucket(session, storage, NAMESPACE, staged.bucket)
    name = f"artifacts/{view.digest.removeprefix('sha256:')}.zip"
    details = CreateMultipartUploadDetails(object=name)
    return name, storage.create_multipart_upload(NAMESPACE, staged.bucket, details).data.upload_id


def test_parts_that_are_there_with_other_bytes_are_sent_again(
    session, model, view, content, staged, storage, catalog
):
    name, upload_id = begin(session, storage, staged, view)
    for number, part in ((1, bytes(PART_BYTES)), (2, b"short"), (99, b"none of ours")):
        storage.upload_part(NAMESPACE, staged.bucket, name, upload_id, number, part)
    upload_artifact(session, model, view, staged, silent)
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


def test_more_uploads_and_parts_than_a_page_holds_are_seen(
    session, model, view, content, staged, storage, catalog, monkeypatch, requests_of
):
    monkeypatch.setattr(multipart, "_PART_BYTES", 5_000)
    for _ in range(3):
        name, _ = begin(session, storage, staged, view)
    oldest = min(
        oci.pagination.list_call_get_all_results(
            storage.list_multipart_uploads, NAMESPACE, staged.bucket
        ).data,
        key=lambda upload: (upload.time_created, upload.upload_id),
    )
    for number in range(1, 121):
        piece = content[(number - 1) * 5_000 : number * 5_000]
        storage.upload_part(NAMESPACE, staged.bucket, name, oldest.upload_id, number, piece)
    sent = requests_of("upload_part")
    upload_artifact(session, model, view, staged, silent)
    assert sent() == -(-view.size // 5_000) - 120
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


def test_a_staged_artifact_that_a_killed_run_left_is_not_sent_again(
    session, model, view, content, staged, storage, catalog, requests_of, monkeypatch
):
    monkeypatch.setattr(artifact_upload._ArtifactUpload, "_begin_copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        upload_artifact(session, model, view, staged, silent)
    monkeypatch.undo()
    monkeypatch.setattr(multipart, "_PART_BYTES", PART_BYTES)
    assert len(left_behind(storage, staged)) == 1
    sent = requests_of("upload_part")
    upload_artifact(session, model, view, staged, silent)
    assert sent() == 0
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


def interrupted(self, place):
    raise KeyboardInterrupt


def test_another_object_in_the_staged_artifacts_place_is_replaced(
    session, model, view, content, staged, storage, catalog
):
    name, _ = begin(session, storage, staged, view)
    storage.put_object(NAMESPACE, staged.bucket, name, bytes(view.size))
    upload_artifact(session, model, view, staged, silent)
    assert stored(catalog, model) == content


def test_two_runners_that_upload_one_artifact_end_with_two_right_models(
    settings, make_model, view, content, staged, storage, catalog
):
    models = [make_model() for _ in range(3)]
    with ThreadPoolExecutor(len(models)) as pool:
        sessions = [Session(settings.cloud) for _ in models]
        list(
            pool.map(
                lambda session, model: upload_artifact(session, model, view, staged, silent),
                *(sessions, models),
            )
        )
    assert [stored(catalog, model) for model in models] == [content] * len(models)
    assert left_behind(storage, staged) == []


def test_what_killed_runs_left_long_ago_is_swept_away(
    session, model, view, staged, storage, monkeypatch
):
    artifact_upload.ensure_bucket(session, storage, NAMESPACE, staged.bucket)
    for name in ("artifacts/old.zip", "not-ours"):
        storage.put_object(NAMESPACE, staged.bucket, name, b"left")
        details = CreateMultipartUploadDetails(object=name)
        storage.create_multipart_upload(NAMESPACE, staged.bucket, details)
    upload_artifact(session, model, view, staged, silent)
    assert sorted(left_behind(storage, staged)) == [
        *("artifacts/old.zip", "artifacts/old.zip", "not-ours", "not-ours")
    ]
    monkeypatch.setattr(artifact_upload, "_LEFT_BEHIND_AFTER", -artifact_upload._LEFT_BEHIND_AFTER)
    upload_artifact(session, model, view, staged, silent)
    assert left_behind(storage, staged) == ["not-ours", "not-ours"]


# --- processes ----------------------------------------------------------------------------------


def start(cloud, repository, model, part_bytes, settings):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.falconry.cloud.upload_process"),
            *(cloud.directory, repository, model, str(part_bytes), settings.model_dump_json()),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_an_upload_killed_five_times_arrives_whole(
    cloud, repository, model, content, staged, storage, catalog, seed
):
    # Slow enough that most kills come between the first part and the last.
    slow = staged.model_copy(update={"megabytes_per_second": 0.5})
    draw = random.Random(seed)
    for _ in range(5):
        process = start(cloud, repository, model, 20_000, slow)
        assert process.stdout.readline() == "uploading\n"
        try:
            process.wait(draw.uniform(0.0, 0.7))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    last = start(cloud, repository, model, 20_000, staged)
    last.communicate(timeout=60)
    assert last.returncode == 0
    assert stored(catalog, model) == content
    assert left_behind(storage, staged) == []


@pytest.fixture
def peak_memory(cloud, tmp_path, make_model, staged, catalog):
    """Uploads so many bytes in parts of a size; gives the most MiB that the program held."""

    def upload(size, part_bytes):
        weights = tmp_path / f"large-{size}" / "m" / "weights"
        weights.parent.mkdir(parents=True)
        weights.touch()
        os.truncate(weights, size)
        model = make_model()
        process = start(cloud, weights.parents[1], model, part_bytes, staged)
        told, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert int(catalog.head_model_artifact(model).headers["content-length"]) > size
        catalog.delete_model(model)
        return int(told.split()[-1]) / 1024

    return upload


def test_memory_is_bounded_whatever_the_size(peak_memory):
    small, large = (peak_memory(size, 4 << 20) for size in (24_000_000, 224_000_000))
    # A twentieth of what the one has more than the other.
    assert large - small <= 10


def test_memory_has_room_for_parts_of_the_usual_size(peak_memory):
    assert peak_memory(140_000_000, 32 << 20) <= 300
