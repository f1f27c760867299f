import io
import tarfile
import tracemalloc

import pytest

from falconry.image.preflight.tar import ByteSource, DamagedError, Kind, entries
from tests.falconry.image.preflight.saved_images import chunks, tar


def read(data, size=32 << 10):
    source = ByteSource(chunks(data, size))
    return [(entry.path, entry.kind, b"".join(entry.pieces())) for entry in entries(source)]


FILES = [
    ("etc/", None),
    ("etc/passwd", b"root:x:0:0"),
    ("link", "etc/passwd"),
    ("empty", b""),
    ("d/" * 60 + "a-name-that-no-header-holds-" * 4, b"far away"),
    ("ünïcode", b"x" * 1000),
]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 511, 513, 1 << 20])
def test_an_archive_of_each_format_is_read_as_tarfile_wrote_it(form, size):
    files = FILES[:4] + FILES[5:] if form == tarfile.USTAR_FORMAT else FILES
    found = read(tar(files, format=form), size)
    kinds = {str: Kind.SYMBOLIC_LINK, bytes: Kind.FILE, type(None): Kind.OTHER}
    assert [(path.rstrip("/"), kind) for path, kind, _ in found] == [
        (name.rstrip("/"), kinds[type(content)]) for name, content in files
    ]
    assert [content for *_, content in found] == [
        content if isinstance(content, bytes) else b"" for _, content in files
    ]


def test_a_posix_prefix_is_put_before_the_name():
    name = "directory/" * 14 + "file"
    assert [path for path, *_ in read(tar([(name, b"")], format=tarfile.USTAR_FORMAT))] == [name]


def test_content_that_is_not_read_is_passed_over():
    data = tar([("a", b"a" * 5000), ("b", b"b" * 700), ("c", b"c")])
    assert [entry.path for entry in entries(ByteSource(chunks(data)))] == ["a", "b", "c"]


def test_names_that_lead_elsewhere_are_only_names():
    found = read(tar([("../../etc/shadow", b"1"), ("/abs", b"2"), ("./here", b"3")]))
    assert [path for path, *_ in found] == ["../../etc/shadow", "abs", "here"]


def test_a_hard_link_has_no_content_of_its_own():
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname, link.size = tarfile.LNKTYPE, "file", 4096
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("after"))
    assert [(path, kind) for path, kind, _ in read(output.getvalue())] == [
        ("file", Kind.FILE),
        ("link", Kind.HARD_LINK),
        ("after", Kind.FILE),
    ]


def sparse_header(archived, said):
    """GNU's old sparse format: little in the archive, much on the disk."""
    entry = tarfile.TarInfo("sparse")
    entry.size = len(archived)
    header = bytearray(entry.tobuf(format=tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[386:398] = b"%011o\0" % 0
    header[398:410] = b"%011o\0" % len(archived)
    header[483:495] = b"\x80" + said.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archived + bytes(-len(archived) % 512)


def test_a_sparse_file_is_read_as_archived_however_large_it_says_it_is():
    data = sparse_header(b"four", 1 << 60) + tar([("after", b"x")])
    tracemalloc.start()
    found = read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(path, content) for path, _, content in found] == [("sparse", b"four"), ("after", b"x")]
    assert peak < 1 << 20


@pytest.mark.parametrize("keep", [100, 512, 600, 1024 + 512 + 100])
def test_an_archive_that_ends_early_is_damaged(keep):
    with pytest.raises(DamagedError, match="ends early"):
        read(tar([("a", b"a" * 600), ("b", b"b" * 2000)])[:keep])


def test_an_archive_may_end_without_zero_blocks():
    data = tar([("a", b"a" * 512)])
    assert [path for path, *_ in read(data[:1024])] == ["a"]


def test_a_header_whose_sum_is_wrong_does_not_end_the_archive_silently():
    data = bytearray(tar([("a", b"a"), ("hidden", b"b")]))
    data[1024] ^= 1
    with pytest.raises(DamagedError, match="sum"):
        read(bytes(data))


def test_files_behind_a_single_zero_block_are_not_passed_over():
    data = tar([("a", b"a")])[:1024] + bytes(512) + tar([("hidden", b"b")])
    with pytest.raises(DamagedError, match="after its end"):
        read(data)


def test_a_long_name_of_gigabytes_is_refused_before_it_is_read():
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    with pytest.raises(DamagedError, match="extension"):
        read(entry.tobuf(format=tarfile.GNU_FORMAT) + bytes(1 << 16))


@pytest.mark.parametrize(
    "records", [b"7 path\n", b"99999999999999999999 path=a\n", b"0 path=a\n", b"x", b"9 size=-1\n"]
)
def test_a_pax_header_that_is_none_is_damage(records):
    entry = tarfile.TarInfo("pax")
    entry.type, entry.size = tarfile.XHDTYPE, len(records)
    data = entry.tobuf() + records + bytes(-len(records) % 512) + tar([("a", b"")])
    with pytest.raises(DamagedError, match="pax header"):
        read(data)


def test_what_is_no_archive_is_damaged():
    with pytest.raises(DamagedError):
        read(b"<html>" * 200)
