"""The engine mirror in a bucket of a running local_oci."""

import errno
import os
import uuid
from concurrent.futures import ThreadPoolExecutor

import oci
import pytest

from falconry.digests import DigestCache
from falconry.engine import mirror as mirror_module
from falconry.engine.manifest import BuildRecord, write_manifest
from falconry.engine.mirror import ObjectStorageMirror
from falconry.engine.store import EngineStore
from falconry.engine_settings import MirrorSettings
from falconry.errors import CloudError, EngineError, MachineError
from tests.engine_manifests import manifest_of

KEY = "a" * 64
NAMESPACE = "localoci"
RECORD = BuildRecord(built_at="2026-01-01T00:00:00+00:00", seconds=1.5, host="there")


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch, cloud):
    """Ranges so small that a file of the tests' has many; and no fault is left behind."""
    monkeypatch.setattr(mirror_module, "_RANGE_BYTES", 100_000)
    yield
    cloud.forget_faults()


@pytest.fixture
def bucket():
    return f"engines-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def open_mirror(session, bucket):
    def make(**settings):
        return ObjectStorageMirror(session, MirrorSettings(bucket=bucket, **settings))

    return make


@pytest.fixture
def mirror(open_mirror):
    return open_mirror()


@pytest.fixture
def storage(session):
    return session.client(oci.object_storage.ObjectStorageClient)


@pytest.fixture
def make_engine(tmp_path):
    def make(name="engine", key=KEY, weights=None):
        files = {
            "rank0.engine": os.urandom(1_234_567) if weights is None else weights,
            "tokenizer/config.json": b"{}",
            "empty": b"",
        }
        directory = tmp_path / name
        for path, content in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(content)
        write_manifest(directory, manifest_of(key, files), RECORD)
        return directory

    return make


def silent(step, fraction):
    pass


def content(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def fetch(mirror, tmp_path, name="fetched", report=silent):
    directory = tmp_path / name
    directory.mkdir()
    assert mirror.fetch(KEY, directory, report)
    return content(directory)


def objects(storage, bucket):
    return [found.name for found in storage.list_objects(NAMESPACE, bucket).data.objects]


def weights_object(storage, bucket):
    return next(name for name in objects(storage, bucket) if name.endswith("/rank0.engine"))


def test_an_engine_comes_back_as_it_was_pushed(mirror, make_engine, tmp_path):
    engine, said = make_engine(), []
    mirror.push(KEY, engine, silent)
    arrived = fetch(mirror, tmp_path, report=lambda step, fraction: said.append(fraction))
    assert arrived == content(engine)
    assert said[-1] == 1.0


def test_a_bucket_that_nobody_made_holds_no_engine(mirror, tmp_path):
    assert mirror.fetch(KEY, tmp_path, silent) is False
    assert content(tmp_path) == {}


def test_engines_stand_below_the_prefix_by_key(open_mirror, make_engine, storage, bucket):
    open_mirror(prefix="team/a/").push(KEY, make_engine(), silent)
    assert f"team/a/{KEY}/manifest.json" in objects(storage, bucket)
    assert all(name.startswith(f"team/a/{KEY}/") for name in objects(storage, bucket))


def test_an_engine_without_a_manifest_is_not_there_yet(
    mirror, make_engine, storage, bucket, tmp_path
):
    mirror.push(KEY, make_engine(), silent)
    storage.delete_object(NAMESPACE, bucket, f"engines/{KEY}/manifest.json")
    assert mirror.fetch(KEY, tmp_path, silent) is False


def test_what_is_there_is_not_pushed_again(mirror, make_engine, storage, bucket, cloud):
    mirror.push(KEY, make_engine(), silent)
    cloud.fault(kind="status", operation="put_object", status=400, times=50)
    mirror.push(KEY, make_engine("again"), silent)


def test_two_runners_that_push_different_builds_leave_one_good_engine(
    open_mirror, make_engine, storage, bucket, tmp_path
):
    engines = [make_engine(f"engine{number}") for number in range(4)]
    mirrors = [open_mirror() for _ in engines]
    with ThreadPoolExecutor(len(engines)) as pool:
        list(pool.map(lambda mirror, engine: mirror.push(KEY, engine, silent), mirrors, engines))
    arrived = fetch(open_mirror(), tmp_path)
    assert arrived in [content(engine) for engine in engines]
    # What the others sent is gone: three files and the manifest are left.
    assert len(objects(storage, bucket)) == 4


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_corrupt_engine_is_noticed_and_replaced(
    mirror, open_mirror, make_engine, storage, bucket, tmp_path, damage
):
    mirror.push(KEY, make_engine(), silent)
    name = weights_object(storage, bucket)
    size = int(storage.head_object(NAMESPACE, bucket, name).headers["content-length"])
    if damage == "gone":
        storage.delete_object(NAMESPACE, bucket, name)
    else:
        storage.put_object(NAMESPACE, bucket, name, bytes(size - (damage == "shorter")))
    (tmp_path / "bad").mkdir()
    with pytest.raises((EngineError, CloudError), match=r"rank0\.engine"):
        mirror.fetch(KEY, tmp_path / "bad", silent)
    built = make_engine("built")
    mirror.push(KEY, built, silent)
    assert fetch(open_mirror(), tmp_path) == content(built)


@pytest.mark.parametrize("name", ["../outside", "/outside", "manifest.json"])
def test_a_name_that_leads_elsewhere_is_refused(
    mirror, make_engine, storage, bucket, name, tmp_path
):
    mirror.push(KEY, make_engine(), silent)
    evil = manifest_of(KEY, {name: b"x"}).model_dump_json().encode()
    storage.put_object(
        *(NAMESPACE, bucket, f"engines/{KEY}/manifest.json", evil),
        opc_meta={"build-record": RECORD.model_dump_json()},
    )
    (tmp_path / "in").mkdir()
    with pytest.raises(EngineError, match="not the name of an engine"):
        mirror.fetch(KEY, tmp_path / "in", silent)
    assert content(tmp_path / "in") == {}


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503, "times": 1},
        {"kind": "cut_response", "afterBytes": 30_000, "times": 2, "skip": 1},
    ],
)
def test_a_download_that_breaks_arrives_whole(mirror, make_engine, cloud, tmp_path, fault):
    engine = make_engine()
    mirror.push(KEY, engine, silent)
    cloud.fault(operation="get_object", **fault)
    assert fetch(mirror, tmp_path) == content(engine)


def test_a_download_that_keeps_breaking_ends(mirror, make_engine, cloud, tmp_path):
    mirror.push(KEY, make_engine(), silent)
    cloud.fault(kind="cut_response", operation="get_object", afterBytes=10, skip=1, times=500)
    with pytest.raises(CloudError, match="kept ending too early"):
        mirror.fetch(KEY, tmp_path, silent)


def test_an_upload_that_is_refused_leaves_no_manifest(mirror, make_engine, cloud, storage, bucket):
    mirror.push("b" * 64, make_engine("other", "b" * 64), silent)
    cloud.fault(kind="status", operation="put_object", status=400, times=1)
    with pytest.raises(CloudError, match="400"):
        mirror.push(KEY, make_engine(), silent)
    assert f"engines/{KEY}/manifest.json" not in objects(storage, bucket)


def test_a_full_disk_is_the_machines_fault(open_mirror, make_engine, tmp_path, monkeypatch):
    open_mirror().push(KEY, make_engine(), silent)

    def full(descriptor, offset, length):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = EngineStore(tmp_path / "store", DigestCache(tmp_path / "d.json"), open_mirror())
    with pytest.raises(MachineError, match="no space left on device"):
        store.add(KEY, None, silent)
    assert set(os.listdir(tmp_path / "store")) == {".locks"}


def test_what_one_runner_built_another_downloads(open_mirror, tmp_path):
    weights = os.urandom(500_000)

    def build(output):
        (output / "rank0.engine").write_bytes(weights)
        return manifest_of(KEY, {"rank0.engine": weights})

    first, second = (
        EngineStore(tmp_path / name, DigestCache(tmp_path / f"{name}.json"), open_mirror())
        for name in ("first", "second")
    )
    built = first.add(KEY, build, silent)
    assert second.add(KEY, None, silent) == built == second.find(KEY)
