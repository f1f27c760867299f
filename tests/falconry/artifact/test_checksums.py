import os
import zlib

import pytest

from falconry.artifact import zip_layout as checksums


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 12_345])
def test_a_file_read_in_ranges_has_zlibs_checksum(tmp_path, monkeypatch, size):
    monkeypatch.setattr(checksums, "_RANGE_BYTES", 1000)
    monkeypatch.setattr(checksums, "_CHUNK_BYTES", 300)
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    counts = []
    assert checksums.crc32_of([tmp_path / "file"], counts.append) == [zlib.crc32(content)]
    assert sum(counts) == size


def test_several_files_keep_their_order(tmp_path):
    contents = [os.urandom(size) for size in (5, 0, 70_000, 3)]
    paths = [tmp_path / f"{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert checksums.crc32_of(paths, lambda count: None) == [zlib.crc32(each) for each in contents]
