"""Zips too large to write: their headers, read by Python's zipfile from a sparse stand-in."""

import os
import zipfile
import zlib

import pytest

from falconry.artifact.zip_layout import Entry, Layout, local_header

GIB = 1 << 30


def hole(name, size):
    """A file of zeros; the checksum of one that no test reads to its end is left out."""
    return Entry(name, size, zlib.crc32(bytes(size)) if size < 100 else 0)


@pytest.fixture
def read(tmp_path):
    """What zipfile finds in a layout whose files are holes."""

    def read_(layout):
        path = tmp_path / "sparse.zip"
        with path.open("wb") as stream:
            os.truncate(path, layout.directory_start)
            for entry, start in zip(layout.entries, layout.starts, strict=True):
                stream.seek(start)
                stream.write(local_header(entry))
            stream.seek(layout.directory_start)
            stream.write(layout.directory)
        assert path.stat().st_size == layout.size
        return zipfile.ZipFile(path)

    return read_


def check(archive, layout):
    """That sizes and offsets are found, and that local headers say the same as the directory."""
    found = archive.infolist()
    assert [entry.filename for entry in found] == [entry.name for entry in layout.entries]
    assert [entry.file_size for entry in found] == [entry.size for entry in layout.entries]
    assert [entry.header_offset for entry in found] == layout.starts
    for entry in found[:3] + found[-3:]:
        with archive.open(entry) as stream:  # compares the name in the local header
            assert stream.read(16) == bytes(min(16, entry.file_size))


@pytest.mark.parametrize(
    "sizes",
    [
        [4 * GIB - 2, 10],
        [4 * GIB - 1, 10],
        [4 * GIB, 10],
        [5 * GIB, 6 * GIB, 10],
        [3 * GIB, 3 * GIB, 10],
        [10] * 4,
    ],
)
def test_sizes_and_offsets_beyond_32_bits_are_read(read, sizes):
    layout = Layout([hole(f"{number}", size) for number, size in enumerate(sizes)])
    with read(layout) as archive:
        check(archive, layout)


@pytest.mark.parametrize(
    ("sizes", "zip64"),
    [([4 * GIB - 2], True), ([4 * GIB - 200], False), ([4 * GIB], True), ([10], False)],
)
def test_zip64_is_there_where_it_is_needed_only(sizes, zip64):
    layout = Layout([Entry(f"{number}", size, 0) for number, size in enumerate(sizes)])
    assert (b"PK\6\6" in layout.directory) is zip64


@pytest.mark.parametrize(("count", "zip64"), [(65534, False), (65535, True), (70000, True)])
def test_more_entries_than_16_bits_can_count_are_read(read, count, zip64):
    layout = Layout([Entry(f"{number:06}", 0, 0) for number in range(count)])
    assert (b"PK\6\6" in layout.directory) is zip64
    with read(layout) as archive:
        check(archive, layout)


def test_an_offset_belongs_to_the_entry_whose_header_or_bytes_it_is_in():
    layout = Layout([Entry("a", 5, 0), Entry("b", 0, 0), Entry("c", 1, 0)])
    found = [layout.index_at(offset) for offset in range(layout.directory_start)]
    assert found == [0] * (31 + 5) + [1] * 31 + [2] * (31 + 1)
