import hashlib
import json
import os
import time
import zlib

import pytest

from falconry.digests import DigestCache, canonical_json, tree_files, value_digest


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def settle(path):
    """Makes a file old enough for its digest to be trusted."""
    past = time.time_ns() - 10**9
    os.utime(path, ns=(past, past))


@pytest.mark.parametrize("size", [0, 1, (256 << 10) - 1, 256 << 10, (1 << 20) + 1])
def test_digest_and_checksum_are_those_of_hashlib_and_zlib(tmp_path, size):
    file, content = tmp_path / "file", os.urandom(size)
    file.write_bytes(content)
    cache, read = DigestCache(tmp_path / "record"), []
    assert cache.crc32(file, read.append) == zlib.crc32(content)
    assert sum(read) == size
    assert cache.file(file) == sha256(content)


def test_an_unchanged_file_is_not_read_again_by_a_later_run(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    settle(file)
    first = DigestCache(tmp_path / "record")
    assert first.file(file) == sha256(b"one")
    first.save()
    read = []
    assert DigestCache(tmp_path / "record").crc32(file, read.append) == zlib.crc32(b"one")
    assert read == []


def test_hard_links_of_one_file_are_read_once(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"one")
    settle(file)
    os.link(file, link)
    cache = DigestCache(tmp_path / "record")
    cache.file(file)
    read = []
    assert cache.crc32(link, read.append) == zlib.crc32(b"one")
    assert read == []


def test_a_changed_file_of_the_same_size_is_noticed(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    settle(file)
    cache = DigestCache(tmp_path / "record")
    cache.file(file)
    file.write_bytes(b"two")
    assert cache.file(file) == sha256(b"two")


def test_a_file_as_new_as_its_record_is_not_trusted(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    future = time.time_ns() + 10**9
    os.utime(file, ns=(future, future))
    cache = DigestCache(tmp_path / "record")
    cache.file(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(future, future))
    assert cache.file(file) == sha256(b"two")


def test_what_a_caller_has_hashed_is_not_read_again(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    settle(file)
    first = DigestCache(tmp_path / "record")
    first.remember(file, sha256(b"not read"))
    first.save()
    cache, read = DigestCache(tmp_path / "record"), []
    assert cache.file(file) == sha256(b"not read")
    assert cache.crc32(file, read.append) == zlib.crc32(b"one")
    assert read == [3]


def test_a_record_of_an_earlier_version_is_of_use(tmp_path):
    file, record = tmp_path / "file", tmp_path / "record"
    file.write_bytes(b"one")
    settle(file)
    stat = file.stat()
    known = [3, stat.st_mtime_ns, time.time_ns(), sha256(b"not read")]
    record.write_text(json.dumps({f"{stat.st_dev}:{stat.st_ino}": known}))
    assert DigestCache(record).file(file) == sha256(b"not read")


def test_what_a_caller_has_hashed_is_read_when_it_changes_afterwards(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    settle(file)
    cache = DigestCache(tmp_path / "record")
    cache.remember(file, sha256(b"one"))
    file.write_bytes(b"two")
    assert cache.file(file) == sha256(b"two")


def test_what_a_caller_has_hashed_is_read_when_it_may_have_changed_since(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"two")
    future = time.time_ns() + 10**9
    os.utime(file, ns=(future, future))
    cache = DigestCache(tmp_path / "record")
    cache.remember(file, sha256(b"one"))
    assert cache.file(file) == sha256(b"two")


def test_a_damaged_record_costs_a_reading_and_nothing_else(tmp_path):
    file, record = tmp_path / "file", tmp_path / "record"
    file.write_bytes(b"one")
    for damage in (b"", b"{", b"[1]", b'{"1:2": [3]}', b'{"1:2": 3}'):
        record.write_bytes(damage)
        assert DigestCache(record).file(file) == sha256(b"one")


def test_the_order_of_keys_does_not_change_a_value_digest():
    assert value_digest({"a": 1, "b": [2]}) == value_digest({"b": [2], "a": 1})
    assert canonical_json({"b": "é", "a": 1}) == '{"a":1,"b":"é"}'.encode()


def test_a_tree_lists_its_files_sorted_and_without_bytecode(tmp_path):
    for name in ("b", "a/c", "a/__pycache__/c.pyc", "a/.hidden"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert tree_files(tmp_path) == ("a/.hidden", "a/c", "b")
