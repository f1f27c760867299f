"""The engine store, with a directory in the place of the mirror's bucket."""

import errno
import json
import multiprocessing
import os
import shutil
import time
from datetime import UTC, datetime

import pytest

from falconry.digests import DigestCache
from falconry.engine.manifest import BuildRecord, write_manifest
from falconry.engine.store import EngineStore
from falconry.errors import CloudError, EngineError, MachineError
from falconry.files import file_lock
from tests.engine_manifests import manifest_of

KEY, OTHER = "a" * 64, "b" * 64


def fill(directory, files):
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)


def builder(key, files=None):
    files = files or {"rank0.engine": key.encode(), "config.json": b"{}"}

    def build(output):
        fill(output, files)
        return manifest_of(key, files)

    return build


def refused_build(output):
    raise AssertionError("it was built")


class StandInMirror:
    """A mirror whose bucket is a directory, and which can be told to fail."""

    def __init__(self, directory):
        self.directory = directory
        self.fetch_error = self.push_error = None

    def fetch(self, key, directory, report):
        if self.fetch_error:
            (directory / "half").write_bytes(b"half")
            raise self.fetch_error
        if not (self.directory / key).exists():
            return False
        shutil.copytree(self.directory / key, directory, dirs_exist_ok=True)
        return True

    def push(self, key, directory, report):
        if self.push_error:
            raise self.push_error
        shutil.copytree(directory, self.directory / key)


@pytest.fixture
def mirror(tmp_path):
    return StandInMirror(tmp_path / "bucket")


@pytest.fixture
def open_store(tmp_path):
    def make(mirror=None, name="store"):
        return EngineStore(tmp_path / name, DigestCache(tmp_path / "digests.json"), mirror)

    return make


@pytest.fixture
def store(open_store):
    return open_store()


def add(store, key=KEY, build=None, said=None):
    return store.add(
        key,
        build or builder(key),
        lambda holder: None,
        lambda step, fraction: said.append(step) if said is not None else None,
    )


def age(store, key, built_at):
    """Lets an entry have been built at another time."""
    place = store.entry(key) / "build.json"
    place.chmod(0o644)
    place.write_text(json.dumps({"built_at": built_at, "seconds": 1.0, "host": "there"}))


def names(directory):
    return {name for name in os.listdir(directory) if name != ".locks"}


# --- the store alone --------------------------------------------------------------------------


def test_an_engine_is_built_once(store):
    built = add(store)
    assert add(store, build=refused_build) == built == store.find(KEY)


def test_an_entry_with_another_keys_manifest_is_not_handed_out(store):
    add(store)
    store.entry(KEY).rename(store.entry(OTHER))
    assert store.find(OTHER) is None


def test_a_full_disk_is_told_and_leaves_nothing(store, tmp_path):
    def build(output):
        (output / "rank0.engine").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MachineError, match=r"no space left on device.*free some disk space"):
        add(store, build=build)
    assert names(tmp_path / "store") == set()


# --- listing and pruning ----------------------------------------------------------------------


def test_an_empty_store_has_no_entries(store):
    assert store.entries() == []
    assert store.prune(0) == []


def test_entries_are_listed_from_the_newest(store):
    for key, built_at in ((KEY, "2026-01-01T00:00:00+00:00"), (OTHER, "2026-02-01T00:00:00+00:00")):
        add(store, key)
        age(store, key, built_at)
    newest, oldest = store.entries()
    assert (newest.key, oldest.key) == (OTHER, KEY)
    assert newest.built_at == datetime(2026, 2, 1, tzinfo=UTC)
    assert newest.manifest.description == "an engine of the tests"
    assert newest.size == sum(
        path.stat().st_size for path in store.entry(OTHER).iterdir() if path.is_file()
    )


def test_an_entry_is_told_in_a_line_and_as_plain_values(store):
    add(store)
    age(store, KEY, "2026-01-01T00:00:00+00:00")
    (entry,) = store.entries()
    assert str(entry).startswith("aaaaaaaaaaaa  2026-01-01 00:00 UTC")
    assert str(entry).endswith("an engine of the tests")
    assert json.loads(json.dumps(entry.facts()))["built_at"] == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("damage", ["changed", "missing", "no manifest", "added"])
def test_a_damaged_entry_is_flagged(store, damage):
    add(store)
    engine = store.entry(KEY) / "rank0.engine"
    match damage:
        case "changed":
            engine.chmod(0o644)
            engine.write_bytes(b"B" * engine.stat().st_size)
        case "missing":
            engine.unlink()
        case "no manifest":
            (store.entry(KEY) / "manifest.json").unlink()
        case "added":
            (store.entry(KEY) / "more").touch()
    (entry,) = store.entries()
    assert entry.damaged
    assert str(store.entry(KEY)) in entry.problem


def test_pruning_keeps_the_newest_and_what_is_protected(store):
    keys = [letter * 64 for letter in "abcd"]
    for month, key in enumerate(keys, 1):
        add(store, key)
        age(store, key, f"2026-0{month}-01T00:00:00+00:00")
    removed = store.prune(1, protect={keys[0]})
    assert {engine.key for engine in removed} == {keys[1], keys[2]}
    assert {engine.key for engine in store.entries()} == {keys[0], keys[3]}


def test_pruning_removes_damaged_entries_first(store):
    add(store, KEY)
    add(store, OTHER)
    (store.entry(OTHER) / "rank0.engine").unlink()
    assert [engine.key for engine in store.prune(1)] == [OTHER]
    assert store.find(KEY)


def hold(path, held, release):
    with file_lock(path, lambda holder: None):
        held.set()
        release.wait(30)


def test_an_entry_that_is_being_built_is_not_pruned(store, tmp_path):
    add(store)
    held, release = multiprocessing.Event(), multiprocessing.Event()
    lock = tmp_path / "store" / ".locks" / KEY
    holder = multiprocessing.Process(target=hold, args=(lock, held, release))
    holder.start()
    held.wait(30)
    assert store.prune(0) == []
    assert store.find(KEY)
    release.set()
    holder.join()
    assert [engine.key for engine in store.prune(0)] == [KEY]


# --- the mirror -------------------------------------------------------------------------------


def test_what_one_store_built_another_takes_from_the_mirror(open_store, mirror):
    built = add(open_store(mirror))
    second = open_store(mirror, "second")
    assert add(second, build=refused_build) == built
    assert second.find(KEY) == built
    entry = second.entry(KEY)
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in entry.iterdir())


def test_what_the_mirror_has_hashed_is_not_read_again(tmp_path, mirror, open_store, monkeypatch):
    built = add(open_store(mirror))
    digests = DigestCache(tmp_path / "second.json")
    second = EngineStore(tmp_path / "second", digests, mirror)
    past = time.time_ns() - 10**9
    for path in (mirror.directory / KEY).iterdir():
        os.utime(path, ns=(past, past))
    add(second, build=refused_build)
    digests.save()
    monkeypatch.setattr("falconry.digests._read_once", None)
    later = EngineStore(tmp_path / "second", DigestCache(tmp_path / "second.json"))
    assert later.find(KEY) == built


def test_what_the_mirror_lacks_is_built_and_left_there(open_store, mirror, tmp_path):
    assert add(open_store(mirror)).key == KEY
    assert (tmp_path / "bucket" / KEY / "manifest.json").exists()


def test_a_mirror_that_cannot_be_asked_is_said_and_the_engine_built(open_store, mirror, tmp_path):
    mirror.fetch_error = CloudError("asking the mirror got no answer")
    store, said = open_store(mirror), []
    assert add(store, said=said).key == KEY
    assert "got no answer" in said[0]
    assert names(tmp_path / "store") == {KEY}
    assert not (store.entry(KEY) / "half").exists()


@pytest.mark.parametrize("error", [CloudError("pushing was refused"), OSError(errno.EIO, "I/O")])
def test_a_mirror_that_takes_nothing_does_not_fail_a_build(open_store, mirror, error):
    mirror.push_error = error
    store, said = open_store(mirror), []
    assert add(store, said=said) == store.find(KEY)
    assert "did not take it" in said[-1]


def test_a_corrupt_engine_in_the_mirror_is_said_and_built_again(open_store, mirror):
    mirror.fetch_error = EngineError("differs from its manifest's digest", where="rank0.engine")
    said = []
    assert add(open_store(mirror), said=said).key == KEY
    assert "differs from its manifest's digest" in said[0]


@pytest.mark.parametrize("fault", ["other key", "other size", "no manifest"])
def test_what_the_mirror_gives_is_not_believed_unseen(open_store, mirror, tmp_path, fault):
    place = tmp_path / "bucket" / KEY
    files = {"rank0.engine": b"engine"}
    fill(place, files)
    record = BuildRecord(built_at="2026-01-01T00:00:00+00:00", seconds=1, host="there")
    if fault != "no manifest":
        write_manifest(place, manifest_of(OTHER if fault == "other key" else KEY, files), record)
    if fault == "other size":
        (place / "rank0.engine").write_bytes(b"engin")
    mirror.push_error = CloudError("not now")
    said, store = [], open_store(mirror)
    add(store, said=said)
    assert "so it is built here" in said[0]
    assert (store.entry(KEY) / "rank0.engine").read_bytes() == KEY.encode()


def test_a_disk_that_fills_while_the_mirror_delivers_ends_the_run(open_store, mirror, tmp_path):
    mirror.fetch_error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(MachineError, match="no space left on device"):
        add(open_store(mirror), build=refused_build)
    assert names(tmp_path / "store") == set()
